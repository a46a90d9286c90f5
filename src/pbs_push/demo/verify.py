"""Verify the files of a target datastore against those of the source they were pushed from.

Nothing here is shared with the push: files are read and decoded by ``disk_formats``. Both sides
must be on this machine's disks, and idle.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pbs_push.demo.disk_formats import (
    DiskKey,
    read_blob,
    read_index,
    read_manifest,
)

_TYPES: Final = ("ct", "host", "vm")
_MANIFEST: Final = "index.json.blob"
_LOG: Final = "client.log.blob"
_FILE_KEYS: Final = ("filename", "crypt-mode", "size", "csum")
_OF_THE_SOURCE: Final = ("verify_state", "chunk_upload_stats")
"""What a push must not copy (protocol/push.md, "The pushed manifest")."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was compared, and every difference, in words with its place.

    ``chunks`` are distinct; ``unverifiable_chunks`` of them are encrypted and no key was given, so
    just their CRC-32 was checked. ``extra_snapshots`` are at the target only.
    """

    snapshots: int
    extra_snapshots: int
    indexes: int
    blobs: int
    chunks: int
    unverifiable_chunks: int
    encoded_bytes: int
    plain_bytes: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.problems


def verify_target(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    source_ns: str = "",
    target_ns: str = "",
    enc_key: bytes | None = None,
    all_snapshots: bool = True,
) -> VerifyReport:
    """Compare the datastore directory ``target`` with ``source``, each from a namespace on down.

    ``enc_key``: 32 bytes; with it encrypted chunks are checked as well. ``all_snapshots``: whether
    each finished snapshot of the source must be at the target, or only those that are there count.
    Raises OSError where a directory cannot be read; all else is in the report.
    """
    key = None if enc_key is None else DiskKey(enc_key)
    run = _Verification(Path(target) / ".chunks", key)
    wanted = _snapshots(Path(source) / _namespace_path(source_ns))
    found = _snapshots(Path(target) / _namespace_path(target_ns))
    for place, source_folder in wanted.items():
        target_folder = found.pop(place, None)
        if target_folder is not None:
            run.compare(place, source_folder, target_folder)
        elif all_snapshots:
            run.problem(place, "not at the target")
    return run.report(extra_snapshots=len(found))


def _namespace_path(namespace: str) -> str:
    return "/".join(f"ns/{name}" for name in namespace.split("/") if name)


def _snapshots(base: Path) -> dict[str, Path]:
    """The finished snapshots at and below a namespace's folder, by their path below it."""
    found = {}
    for namespace in _namespace_folders(base):
        for backup_type in _TYPES:
            for manifest in sorted(namespace.glob(f"{backup_type}/*/*/{_MANIFEST}")):
                folder = manifest.parent
                if (folder.parent / "owner").is_file():
                    found[str(folder.relative_to(base))] = folder
    return found


def _namespace_folders(base: Path) -> Iterator[Path]:
    yield base
    for below in sorted(base.glob("ns/*/")):
        yield from _namespace_folders(below)


@dataclass(slots=True)
class _Verification:
    """A run: the target's chunks looked at so far, and what was found."""

    chunk_folder: Path
    key: DiskKey | None
    chunks: dict[bytes, tuple[bool, int | None]] = field(default_factory=dict)
    """Of each chunk: whether it is encrypted, and its plain size where that is known."""
    problems: list[str] = field(default_factory=list)
    snapshots: int = 0
    indexes: int = 0
    blobs: int = 0
    unverifiable: int = 0
    encoded_bytes: int = 0
    plain_bytes: int = 0

    def problem(self, place: str, what: str) -> None:
        self.problems.append(f"{place}: {what}")

    def report(self, *, extra_snapshots: int) -> VerifyReport:
        return VerifyReport(
            snapshots=self.snapshots,
            extra_snapshots=extra_snapshots,
            indexes=self.indexes,
            blobs=self.blobs,
            chunks=len(self.chunks),
            unverifiable_chunks=self.unverifiable,
            encoded_bytes=self.encoded_bytes,
            plain_bytes=self.plain_bytes,
            problems=tuple(self.problems),
        )

    @contextmanager
    def _noting(self, place: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError) as error:
            self.problem(place, f"{type(error).__name__}: {error}")
        except OSError as error:
            self.problem(place, f"{error.strerror}: {error.filename}")

    def compare(self, place: str, source: Path, target: Path) -> None:
        """One snapshot that both sides have."""
        self.snapshots += 1
        with self._noting(place):
            ours = read_manifest((source / _MANIFEST).read_bytes())
            theirs = read_manifest((target / _MANIFEST).read_bytes())
            self._compare_manifests(place, ours, theirs)
            for entry in ours["files"]:
                self._compare_file(f"{place}/{entry['filename']}", entry, source, target)
            self._compare_logs(place, source, target)
            self._look_for_strangers(place, {entry["filename"] for entry in ours["files"]}, target)

    def _compare_manifests(self, place: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        for name in ("backup-type", "backup-id", "backup-time"):
            if ours[name] != theirs.get(name):
                self.problem(place, f"the manifests differ in {name}")
        if ours.get("signature") != theirs.get("signature"):
            self.problem(place, "the manifests' signatures differ")
        if _file_list(ours) != _file_list(theirs):
            self.problem(place, "the manifests' file lists differ")
        kept, arrived = ours.get("unprotected") or {}, theirs.get("unprotected") or {}
        for name in kept.keys() - _OF_THE_SOURCE:
            if kept[name] != arrived.get(name):
                self.problem(place, f"'{name}' of the manifest did not arrive as it was")
        if "verify_state" in arrived:
            self.problem(place, "the target claims a verification that it never made")

    def _compare_file(self, place: str, entry: dict[str, Any], source: Path, target: Path) -> None:
        with self._noting(place):
            name = entry["filename"]
            ours, theirs = (source / name).read_bytes(), (target / name).read_bytes()
            if name.endswith(".blob"):
                self._compare_blobs(place, entry, ours, theirs)
            else:
                self._compare_indexes(place, entry, ours, theirs)

    def _compare_blobs(self, place: str, entry: dict[str, Any], ours: bytes, theirs: bytes) -> None:
        self.blobs += 1
        if ours != theirs:
            self.problem(place, "the blobs differ")
        if (len(theirs), _sha256(theirs)) != (entry["size"], entry["csum"]):
            self.problem(place, "size or checksum of the blob is not the manifest's")
        read_blob(theirs, self.key)

    def _compare_indexes(
        self, place: str, entry: dict[str, Any], ours: bytes, theirs: bytes
    ) -> None:
        self.indexes += 1
        wanted, found = read_index(ours), read_index(theirs)
        if (wanted.kind, wanted.chunk_size, wanted.entries) != (
            found.kind,
            found.chunk_size,
            found.entries,
        ):
            self.problem(place, "the indexes differ")
        if found.header_csum != found.csum:
            self.problem(place, "the csum in the index's header is not that of its entries")
        for side, index in (("source", wanted), ("target", found)):
            if (index.size, index.csum.hex()) != (entry["size"], entry["csum"]):
                self.problem(place, f"size or csum of the {side}'s index is not the manifest's")
        encrypted = entry.get("crypt-mode") == "encrypt"
        for digest, size in found.chunks():
            self._check_chunk(place, digest, size, encrypted=encrypted)

    def _check_chunk(self, place: str, digest: bytes, size: int, *, encrypted: bool) -> None:
        with self._noting(f"{place}: chunk {digest.hex()}"):
            if digest not in self.chunks:
                self.chunks[digest] = self._read_chunk(digest)
            is_encrypted, plain_size = self.chunks[digest]
            if is_encrypted is not encrypted:
                raise ValueError("is encrypted, or is not, against what the manifest says")
            if plain_size not in (None, size):
                raise ValueError(f"has {plain_size} bytes, the index says {size}")

    def _read_chunk(self, digest: bytes) -> tuple[bool, int | None]:
        """Read a chunk of the target, check its content; see ``chunks``."""
        digest_hex = digest.hex()
        data = (self.chunk_folder / digest_hex[:4] / digest_hex).read_bytes()
        blob = read_blob(data, self.key)
        self.encoded_bytes += len(data)
        if blob.content is None:
            self.unverifiable += 1
            return True, blob.plain_size
        self.plain_bytes += len(blob.content)
        if blob.encrypted and self.key is not None:
            computed = self.key.digest(blob.content)
        else:
            computed = hashlib.sha256(blob.content).digest()
        if computed != digest:
            raise ValueError(f"its content has digest {computed.hex()}")
        return blob.encrypted, blob.plain_size

    def _compare_logs(self, place: str, source: Path, target: Path) -> None:
        if not (source / _LOG).exists():
            return
        self.blobs += 1
        if (source / _LOG).read_bytes() != (target / _LOG).read_bytes():
            self.problem(place, "the client logs differ")

    def _look_for_strangers(self, place: str, listed: set[str], target: Path) -> None:
        for name in sorted(path.name for path in target.iterdir()):
            if name not in listed | {_MANIFEST, _LOG, ".protected"}:
                self.problem(place, f"the target has a file {name} that nothing lists")


def _file_list(manifest: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The four keys of each file, in order; an old manifest may lack the crypt-mode."""
    return [tuple(entry.get(name, "none") for name in _FILE_KEYS) for entry in manifest["files"]]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
