"""What a datastore's folder holds, and what two of them must have in common: the oracle.

It trusts no report, and knows nothing of how a push works.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pbs_push.demo.verify import verify_target
from pbs_push.errors import PbsPushError
from pbs_push.formats.blob import decode_blob
from pbs_push.formats.index import open_index
from pbs_push.formats.manifest import Manifest
from pbs_push.names import BACKUP_TYPES, INDEX_SUFFIXES, MANIFEST_NAME
from pbs_push.target.locks import try_lock

PIECE: Final = "*.tmp*"


def half_snapshots(store: Path, *, chunks: bool = True) -> list[str]:
    """What has a manifest, and not all that it names, with its csum, down to the chunks.

    A target that lives may be removing a snapshot meanwhile: then its manifest went first.
    """
    found: list[str] = []
    known: dict[bytes, str | None] = {}
    manifests = [
        Path(at) / MANIFEST_NAME for at, _, files in os.walk(store) if MANIFEST_NAME in files
    ]
    for path in manifests:  # os.walk takes folders that vanish under it, rglob does not
        try:
            manifest = Manifest.decode(path.read_bytes())
        except FileNotFoundError:
            continue
        except PbsPushError as error:
            found.append(f"{path.parent.name}: {error}")
            continue
        place = path.parent.relative_to(store)
        problems = [f"{place}: {what}" for what in _differing(path.parent, manifest)]
        if chunks and not problems:
            problems = [f"{place}: {what}" for what in _lost(store, path.parent, manifest, known)]
        found += problems if path.exists() else []
    return found


def _differing(folder: Path, manifest: Manifest) -> Iterator[str]:
    for info in manifest.files:
        file = folder / info.filename
        try:
            if not file.name.endswith(INDEX_SUFFIXES):
                same = hashlib.sha256(file.read_bytes()).digest() == info.csum
            else:
                with open_index(file) as index:
                    same = (index.csum(), index.size) == (info.csum, info.size)
        except (FileNotFoundError, PbsPushError) as error:
            yield f"{info.filename}: {error}"
        else:
            if not same:
                yield f"{info.filename} is another"


def _lost(
    store: Path, folder: Path, manifest: Manifest, known: dict[bytes, str | None]
) -> Iterator[str]:
    """Chunks that an index names and that are not there, or are others."""
    for info in manifest.files:
        if not info.filename.endswith(INDEX_SUFFIXES):
            continue
        with open_index(folder / info.filename) as index:
            digests = {bytes(row) for row in index.digests}
        for digest in digests:
            if digest not in known:
                known[digest] = _why_unreadable(store, digest)
            if known[digest] is not None:
                yield f"{info.filename}: chunk {digest.hex()[:12]}: {known[digest]}"


def _why_unreadable(store: Path, digest: bytes) -> str | None:
    name = digest.hex()
    try:
        content = (store / ".chunks" / name[:4] / name).read_bytes()
        plain = decode_blob(content)
    except OSError as error:
        return str(error.strerror)
    except PbsPushError as error:
        return None if "encrypt" in str(error) else str(error)
    return None if hashlib.sha256(plain).digest() == digest else "its content is another"


def unequal(source: Path, target: Path) -> list[str]:
    """How two stores differ that should hold the same, notes and protection included."""
    report = verify_target(source, target)
    found = list(report.problems)
    here, there = groups_of(source), groups_of(target)
    found += [f"{name}: only at the source" for name in sorted(here - there)]
    found += [f"{name}: only at the target" for name in sorted(there - here)]
    if report.extra_snapshots:
        found.append(f"{report.extra_snapshots} snapshots more at the target")
    for name in sorted(here & there):
        for path in sorted((source / name).glob(f"*Z/{MANIFEST_NAME}")):
            copy = target / name / path.parent.name
            if (path.parent / ".protected").exists() != (copy / ".protected").exists():
                found.append(f"{name}/{path.parent.name}: protected at one side alone")
        if _text(source / name / "notes") != _text(target / name / "notes"):
            found.append(f"{name}: other notes")
    return found


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def groups_of(store: Path) -> set[str]:
    """Groups that have an owner, and namespaces, by their paths."""
    found = set()
    for at, folders, files in os.walk(store):
        if ".chunks" in folders:
            folders.remove(".chunks")
        path = Path(at).relative_to(store)
        if "owner" in files:
            found.add(str(path))
            folders.clear()
        elif path.parent.name == "ns":
            found.add(str(path))
    return found


def snapshots_of(store: Path) -> set[str]:
    """Finished snapshots, by their paths."""
    walk = os.walk(store)
    return {str(Path(at).relative_to(store)) for at, _, files in walk if MANIFEST_NAME in files}


def pieces_left(store: Path) -> list[str]:
    """Temporary files, and folders of snapshots that were never finished."""
    found = [str(path.relative_to(store)) for path in store.rglob(PIECE)]
    for at, folders, files in os.walk(store):
        if ".chunks" in folders:
            folders.remove(".chunks")
        if at.endswith("Z") and MANIFEST_NAME not in files:
            found.append(str(Path(at).relative_to(store)))
    return found


def tidy(store: Path) -> None:
    """Remove what a real server leaves as well when it is killed, and no push can mend.

    A group's folder that has no owner yet, and the temporary files of a manifest that was being
    completed, and of chunks that were being written.
    """
    for path in (*store.rglob(f"{MANIFEST_NAME}.tmp_*"), *store.glob(".chunks/*/*.tmp_*")):
        path.unlink(missing_ok=True)
    for kind in BACKUP_TYPES:
        for group in store.rglob(f"{kind}/*"):
            if not (group / "owner").exists() and not list(group.glob("*Z")):
                shutil.rmtree(group)


def locked(store: Path) -> list[str]:
    """Folders of groups and snapshots that somebody still holds a lock on."""
    found = []
    for at, folders, files in os.walk(store):
        if ".chunks" in folders:
            folders.remove(".chunks")
        if "owner" in files or MANIFEST_NAME in files:
            lock = try_lock(Path(at), exclusive=True)
            if lock is None:
                found.append(at)
            else:
                lock.release()
    return found


def tree(store: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of all files: what may not change where a push only reads."""
    found = {}
    for at, _, files in os.walk(store):
        for name in files:
            info = (Path(at) / name).lstat()
            found[str(Path(at) / name)] = (info.st_size, info.st_mtime_ns)
    return found
