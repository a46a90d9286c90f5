"""One backup session: the state behind the backup protocol, without HTTP (protocol/backup.md).

A session owns the locks, the new snapshot's folder, the writers and the chunks known on this
connection. Whoever owns the session calls `end` when the connection is over: an unfinished snapshot
then goes.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from pbs_push.formats.index import FIXED_CHUNK_SIZE
from pbs_push.names import INDEX_SUFFIXES, MANIFEST_NAME, Namespace, Snapshot
from pbs_push.target import manifests
from pbs_push.target.answers import bad_request
from pbs_push.target.blobs import check_uploaded_blob, check_uploaded_chunk
from pbs_push.target.locks import DirectoryLock
from pbs_push.target.store import Store, replace_file
from pbs_push.target.stored_files import index_chunks, open_stored_index, read_stored_file
from pbs_push.target.writers import DynamicWriter, FixedWriter, UploadStatistics, Writer

_ACTIVE: Final = 0
_FINISHING: Final = 1
_FINISHED: Final = 2


ChunkCheck = Callable[[bytearray, str, int], None]
"""Checks a chunk against its digest and plain size, as ``check_uploaded_chunk`` does."""


class Turn(NamedTuple):
    """When a request was made, told by answers: they are numbered in the order they are sent.

    ``seen``: the last answer that the client can have seen when it sent the request. ``answer``:
    the number that this request's own answer will have. What an answer tells may be relied on by
    requests whose ``seen`` is not below it.
    """

    seen: int
    answer: int


class KnownChunk(NamedTuple):
    """A chunk that may be appended: its length in bytes, and the answer that told so."""

    size: int
    answer: int


@dataclass(slots=True)
class Place:
    """Where a session writes, and what it holds there."""

    store: Store
    namespace: Namespace
    snapshot: Snapshot
    previous: Snapshot | None
    locks: list[DirectoryLock] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """Folder of the new snapshot."""
        return self.store.snapshot_path(self.namespace, self.snapshot)

    def previous_file(self, name: str) -> Path | None:
        """Path of a file of the previous snapshot; None if there is no previous one."""
        if self.previous is None:
            return None
        return self.store.snapshot_path(self.namespace, self.previous) / name

    def release(self) -> None:
        """Give back all locks."""
        while self.locks:
            self.locks.pop().release()

    def abandon(self) -> None:
        """Remove the unfinished snapshot, and its group if that is empty; then unlock.

        The manifest goes first: without it nobody takes for whole what is being removed.
        """
        with suppress(OSError):
            (self.path / MANIFEST_NAME).unlink()
        shutil.rmtree(self.path, ignore_errors=True)
        group = self.store.group_path(self.namespace, self.snapshot.group)
        with self.store.creating_group:  # nobody is about to lock it
            if group.is_dir() and all(entry.name == "owner" for entry in group.iterdir()):
                shutil.rmtree(group, ignore_errors=True)
        self.release()


class BackupSession:
    """The state of one connection that writes one snapshot.

    All methods raise Refusal, most may raise OSError. ``before_chunk`` is called with each chunk's
    digest (hex) before it is stored. ``compares_manifest``: as in `TargetOptions`. ``on_finished``
    gives back the locks of a finished snapshot.
    """

    def __init__(
        self,
        place: Place,
        before_chunk: Callable[[str], None] | None = None,
        *,
        compares_manifest: bool = True,
        on_finished: Callable[[Place], None] = Place.release,
    ) -> None:
        self.place = place
        self._before_chunk = before_chunk
        self._compares_manifest = compares_manifest
        self._on_finished = on_finished
        self._uploaded: dict[str, str] = {}
        self._state = _ACTIVE
        self._writers: dict[int, Writer] = {}
        self._last_wid = 0
        self._known: dict[bytes, KnownChunk] = {}
        self._files = 0
        self._uploads = UploadStatistics()
        self._last_change = 0

    @property
    def finished(self) -> bool:
        """Whether `finish` succeeded."""
        return self._state == _FINISHED

    def previous_time(self) -> int | None:
        """The previous snapshot's time in epoch seconds."""
        previous = self.place.previous
        return None if previous is None else previous.backup_time

    def previous_file(self, name: str, turn: Turn) -> bytes:
        """A file of the previous snapshot; the chunks of an index become known."""
        path = self.place.previous_file(name)
        if path is None:
            raise bad_request("no valid previous backup")
        if name.endswith(INDEX_SUFFIXES):
            self._check_unfinished()
            with open_stored_index(path) as index:
                for digest, size in index_chunks(index):
                    self._know(digest, size, turn)
        return read_stored_file(path)

    def create_fixed(self, name: str, size: int | None, reuse_csum: str | None) -> int:
        """A writer for a fixed index; returns its id."""
        self._check_unfinished()
        _check_extension(name, ".fidx")
        base = None if reuse_csum is None else self._reusable_entries(name, size, reuse_csum)
        return self._add_writer(FixedWriter(name, size, base))

    def create_dynamic(self, name: str) -> int:
        """A writer for a dynamic index; returns its id."""
        self._check_unfinished()
        _check_extension(name, ".didx")
        return self._add_writer(DynamicWriter(name))

    def upload_chunk(
        self,
        kind: type[Writer],
        wid: int,
        digest: str,
        size: int,
        blob: bytearray,
        *,
        turn: Turn,
        check: ChunkCheck = check_uploaded_chunk,
    ) -> bool:
        """Check and store a chunk; it is known from this request's answer on. False: was there."""
        self._check_unfinished()
        check(blob, digest, size)
        if self._before_chunk is not None:
            self._before_chunk(digest)
        new = self.place.store.insert_chunk(digest, memoryview(blob))
        writer = self._writer(kind, wid)
        writer.register_upload(wid, size)
        writer.uploads.add_chunk(size, len(blob), duplicate=not new)
        self._know(bytes.fromhex(digest), size, turn)
        return new

    def append(
        self, kind: type[Writer], wid: int, digests: list[str], offsets: list[int], turn: Turn
    ) -> None:
        """Append entries, one by one: those before a refused one stay."""
        if len(offsets) != len(digests):
            raise bad_request(f"offset list has wrong length ({len(offsets)} != {len(digests)})")
        for digest, offset in zip(digests, offsets, strict=True):
            raw = bytes.fromhex(digest)
            known = self._known.get(raw)
            if known is None or known.answer > turn.seen:
                raise bad_request(f"no such chunk {digest}")
            self._check_unfinished()
            writer = self._writer(kind, wid)
            if isinstance(writer, DynamicWriter):
                self._check_order(writer, "append chunk", turn)
            writer.append(raw, offset, known.size)
        if digests:
            self._writer(kind, wid).last_append = turn.answer
            self._last_change = turn.answer

    def close(
        self, kind: type[Writer], wid: int, chunk_count: int, size: int, csum: str, *, turn: Turn
    ) -> None:
        """Close a writer: check, and write its index."""
        self._check_unfinished()
        raw = _parse_csum(csum)
        writer = self._writer(kind, wid)
        self._check_order(writer, "close", turn)
        writer.close(self.place.path / writer.name, chunk_count, size, raw)
        del self._writers[wid]
        self._uploaded[writer.name] = raw.hex()
        self._files += 1
        self._uploads.add(writer.uploads)
        self._last_change = turn.answer

    def upload_blob(self, name: str, encoded_size: int, blob: bytearray, turn: Turn) -> None:
        """Check and store a blob file; also after `finish`, as a real server does."""
        if not name.endswith(".blob"):
            raise bad_request(f"wrong blob file extension: '{name}'")
        if len(blob) != encoded_size:
            raise bad_request(f"got blob with unexpected length ({encoded_size} != {len(blob)})")
        check_uploaded_blob(blob)
        replace_file(self.place.path / name, memoryview(blob))
        self._uploaded[name] = hashlib.sha256(blob).hexdigest()
        self._files += 1
        self._last_change = turn.answer

    def finish(self, turn: Turn) -> None:
        """End the backup: check that all is complete, complete the manifest, free the locks."""
        self._check_unfinished()
        if self._last_change > turn.seen:
            raise bad_request(
                "finish came before the answers to earlier requests: the order is not certain"
            )
        if self._writers:
            raise bad_request("found open index writer - unable to finish backup")
        if not self._files:
            raise bad_request("backup does not contain valid files (file count == 0)")
        self._state = _FINISHING
        manifest = manifests.load(self.place.path)
        self._compare(manifest)
        statistics = {"chunk_upload_stats": self._uploads.as_json()}
        manifests.save(self.place.path, manifest.with_unprotected(statistics))
        self._check_base()
        self._state = _FINISHED
        self._on_finished(self.place)

    def end(self) -> None:
        """The connection is over: remove what was not finished, with its locks."""
        if not self.finished:
            self.place.abandon()

    def _compare(self, manifest: manifests.StoredManifest) -> None:
        """Ask that what the manifest names was uploaded here, and is what it says."""
        for file in manifest.files if self._compares_manifest else ():
            name, csum = file["filename"], file["csum"]
            found = self._uploaded.get(str(name))
            if found is None:
                raise bad_request(f"manifest names '{name}', which this backup did not upload")
            if found != csum:
                raise bad_request(
                    f"manifest has csum {csum} for '{name}', uploaded was one with {found}"
                )

    def _check_unfinished(self) -> None:
        if self._state == _FINISHING:
            raise bad_request("backup is already in the process of finishing.")
        if self._state == _FINISHED:
            raise bad_request("backup already marked as finished.")

    def _check_base(self) -> None:
        path = self.place.previous_file(MANIFEST_NAME)
        if path is not None and not path.exists():
            raise bad_request(
                f"base snapshot {self.place.previous} was removed during backup, "
                "cannot finish as chunks might be missing"
            )

    def _add_writer(self, writer: Writer) -> int:
        self._last_wid += 1
        self.place.path.joinpath(writer.name).with_suffix(writer.unfinished_suffix).touch()
        self._writers[self._last_wid] = writer
        return self._last_wid

    def _writer(self, kind: type[Writer], wid: int) -> Writer:
        writer = self._writers.get(wid)
        if not isinstance(writer, kind):
            raise bad_request(f"{kind.kind} writer '{wid}' not registered")
        return writer

    def _check_order(self, writer: Writer, action: str, turn: Turn) -> None:
        """A real server handles requests side by side: without waiting, this one may come first."""
        if writer.last_append > turn.seen:
            raise writer.refused(
                f"{action} failed - sent before the last append was answered: "
                "the order is not certain"
            )

    def _know(self, digest: bytes, size: int, turn: Turn) -> None:
        """A chunk is known from the first answer on, with the size that was told last."""
        known = self._known.get(digest)
        self._known[digest] = KnownChunk(size, turn.answer if known is None else known.answer)

    def _reusable_entries(self, name: str, size: int | None, csum: str) -> bytes:
        if size is None:
            raise bad_request("size is required for incremental backups")
        path = self.place.previous_file(name)
        if path is None:
            raise bad_request("cannot reuse index - no valid previous backup exists")
        if not path.is_file():
            raise bad_request("cannot reuse index - no previous backup exists for archive")
        with open_stored_index(path) as index:
            actual = index.csum().hex()
            if csum != actual:
                raise bad_request(
                    f"expected csum ({csum}) doesn't match last backup's ({actual}), "
                    "cannot do incremental backup"
                )
            expected = -(-size // FIXED_CHUNK_SIZE)
            if expected != len(index):
                raise bad_request(
                    f"cannot reuse index - index sizes not equal ({expected} != {len(index)})"
                )
            return index.digests.tobytes()


def _check_extension(name: str, extension: str) -> None:
    if not name.endswith(extension):
        raise bad_request(f"wrong archive extension: '{name}'")


def _parse_csum(text: str) -> bytes:
    if len(text) != 64:  # noqa: PLR2004
        raise bad_request("Invalid string length")
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise bad_request("Invalid character in checksum") from None
