"""The archives of a source snapshot, opened and checked before anything of it is sent (spec 05)."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from pbs_push._native.transport import EntryTable
from pbs_push.errors import FormatError, SourceError
from pbs_push.formats.blob import MAX_CHUNK_SIZE, MAX_PROTOCOL_BLOB
from pbs_push.formats.manifest import CryptMode, FileInfo, Manifest

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from pbs_push.formats.index import Index
    from pbs_push.source.snapshot import OpenSnapshot

FIXED_CHUNK_SIZE: Final = 4 << 20
"""The only one that the protocol can write (spec 01)."""


@dataclass(frozen=True, slots=True)
class IndexArchive:
    """An index that is what its manifest says."""

    info: FileInfo
    index: Index
    table: EntryTable

    @property
    def kind(self) -> str:
        """``fixed`` or ``dynamic``."""
        return self.index.kind

    @property
    def encrypted(self) -> bool:
        """Whether its chunks must be encrypted ones."""
        return self.info.crypt_mode is CryptMode.ENCRYPT

    def plain_size(self, positions: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> int:
        """Plain bytes of the entries at these positions together."""
        if not len(positions):
            return 0
        if self.kind == "fixed":
            total = len(positions) * self.index.chunk_size
            if int(positions.max()) == len(self.index) - 1:
                total -= len(self.index) * self.index.chunk_size - self.index.size
            return total
        ends = self.index.end_offsets
        starts = np.where(positions > 0, ends[np.maximum(positions, 1) - 1], 0)
        return int(ends[positions].sum() - starts.sum())


@dataclass(frozen=True, slots=True)
class BlobArchive:
    """A blob file that is what its manifest says."""

    info: FileInfo
    data: bytes


class Archives:
    """All archives of an open snapshot, in the manifest's order. Close it, or use it in ``with``.

    Raises FormatError or SourceError, naming the file, for the first one that cannot be pushed.
    """

    def __init__(self, snapshot: OpenSnapshot) -> None:
        self.manifest: Final[Manifest] = snapshot.manifest
        self.indexes: list[IndexArchive] = []
        self.blobs: list[BlobArchive] = []
        self._open = ExitStack()
        try:
            for info in self.manifest.files:
                if info.filename.endswith(".blob"):
                    self.blobs.append(_load_blob(snapshot, info))
                else:
                    self.indexes.append(self._load_index(snapshot, info))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the indexes."""
        self._open.close()

    def check_unchanged(self) -> None:
        """Raise IndexFormatError if an index lost bytes while it was mapped."""
        for archive in self.indexes:
            archive.index.check_unchanged()

    def _load_index(self, snapshot: OpenSnapshot, info: FileInfo) -> IndexArchive:
        index = self._open.enter_context(snapshot.open_index(info.filename))
        wanted = "fixed" if info.filename.endswith(".fidx") else "dynamic"
        if index.kind != wanted:
            raise FormatError(
                f"{info.filename}: the file is a {index.kind} index, not a {wanted} one"
            )
        if index.size != info.size:
            raise FormatError(
                f"{info.filename}: the index describes {index.size} bytes, "
                f"the manifest says {info.size}"
            )
        check_csum(index, info)
        _check_protocol_limits(index, info)
        return IndexArchive(info, index, EntryTable(index))


def check_csum(index: Index, info: FileInfo) -> None:
    """Compare the csum of the entries with the manifest's. Raises FormatError."""
    csum = index.csum()
    if csum != info.csum:
        raise FormatError(
            f"{info.filename}: the index is damaged: its csum is {csum.hex()}, "
            f"the manifest says {info.csum.hex()}"
        )


def _check_protocol_limits(index: Index, info: FileInfo) -> None:
    """Refuse what the backup protocol cannot carry (spec 05, "Odd sources")."""
    if not len(index) or not index.size:
        raise FormatError(f"{info.filename}: an index without entries cannot be uploaded")
    if index.kind == "fixed":
        if index.chunk_size != FIXED_CHUNK_SIZE:
            raise FormatError(
                f"{info.filename}: its chunk size is {index.chunk_size} bytes; "
                f"the backup protocol carries only {FIXED_CHUNK_SIZE}"
            )
        return
    ends = index.end_offsets
    largest = max(int(ends[0]), int(np.diff(ends).max(initial=0)))
    if largest > MAX_CHUNK_SIZE:
        raise FormatError(
            f"{info.filename}: it has a chunk of {largest} bytes; at most {MAX_CHUNK_SIZE} "
            "can be uploaded"
        )


def _load_blob(snapshot: OpenSnapshot, info: FileInfo) -> BlobArchive:
    data = snapshot.read_blob(info.filename, limit_bytes=MAX_PROTOCOL_BLOB)
    if len(data) != info.size or hashlib.sha256(data).digest() != info.csum:
        raise FormatError(f"{info.filename}: the blob is not the one that the manifest describes")
    return BlobArchive(info, data)


class PreviousArchives:
    """The indexes of the source's own copy of the target's previous snapshot.

    What cannot be read, or is not what its manifest says, is left out: it only saves work. Close
    it, or use it in ``with``.
    """

    def __init__(self, snapshot: OpenSnapshot) -> None:
        self.manifest: Final[Manifest] = snapshot.manifest
        self.indexes: dict[str, IndexArchive] = {}
        self._open = ExitStack()
        for info in self.manifest.files:
            if info.filename.endswith((".fidx", ".didx")):
                try:
                    index = self._open.enter_context(snapshot.open_index(info.filename))
                    check_csum(index, info)
                    self.indexes[info.filename] = IndexArchive(info, index, EntryTable(index))
                except (FormatError, SourceError):
                    continue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the indexes."""
        self._open.close()
