"""The archives of a snapshot, opened and checked (protocol/push.md, "Opening a snapshot")."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pbs_push._native.digests import DigestSet
from pbs_push.closing import Closing
from pbs_push.errors import FormatError, PbsPushError
from pbs_push.formats.blob import MAX_CHUNK_SIZE, MAX_PROTOCOL_BLOB
from pbs_push.formats.index import FIXED_CHUNK_SIZE
from pbs_push.formats.manifest import CryptMode, FileInfo, Manifest
from pbs_push.names import INDEX_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    import numpy as np

    from pbs_push.formats.index import Index
    from pbs_push.source.snapshot import OpenSnapshot

MAX_INDEXES: Final = 256
"""Writer ids that requests take (protocol/backup.md, "Writer ids")."""


@dataclass(frozen=True, slots=True)
class IndexArchive:
    """An index that is what its manifest says."""

    info: FileInfo
    index: Index

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
        starts = ends[positions[positions > 0] - 1]
        return int(ends[positions].sum()) - int(starts.sum())


@dataclass(frozen=True, slots=True)
class BlobArchive:
    """A blob file that is what its manifest says."""

    info: FileInfo
    data: bytes


class Archives(Closing):
    """The archives of a snapshot, in the manifest's order: ``indexes`` by name, and ``blobs``.

    Made by ``load`` or ``load_indexes``. Close it, or use it in ``with``.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.manifest: Final = manifest
        self.indexes: Final[dict[str, IndexArchive]] = {}
        self.blobs: Final[list[BlobArchive]] = []
        self._open = ExitStack()

    @classmethod
    def load(cls, snapshot: OpenSnapshot) -> Self:
        """Open and check everything.

        Raises FormatError or SourceError, naming the file, for the first that cannot be pushed.
        """
        archives = cls(snapshot.manifest)
        try:
            for info in archives.manifest.files:
                if info.filename.endswith(".blob"):
                    archives.blobs.append(_load_blob(snapshot, info))
                else:
                    archive = archives._load_index(snapshot, info)
                    _check_protocol_limits(archive.index, info)
            _check_number(len(archives.indexes))
        except BaseException:
            archives.close()
            raise
        return archives

    @classmethod
    def load_indexes(cls, snapshot: OpenSnapshot) -> Self:
        """Open the indexes that are what the manifest says; others are left out.

        For the source's own copy of the target's previous snapshot, which only saves work. So what
        is lacking to open all of them (descriptors, say) is not an error either.
        """
        archives = cls(snapshot.manifest)
        for info in archives.manifest.files:
            if info.filename.endswith(INDEX_SUFFIXES):
                with suppress(PbsPushError):
                    archives._load_index(snapshot, info)
        return archives

    @classmethod
    def made(cls, manifest: Manifest, indexes: Iterable[IndexArchive]) -> Self:
        """Of indexes that lie on no disk; they are closed with it."""
        archives = cls(manifest)
        for archive in indexes:
            archives._open.callback(archive.index.close)
            archives.indexes[archive.info.filename] = archive
        return archives

    def close(self) -> None:
        """Close the indexes."""
        self._open.close()

    def needing(self, digest: bytes) -> list[str]:
        """Names of the indexes that hold this chunk (32 bytes)."""
        wanted = DigestSet(1)
        wanted.insert(memoryview(digest).cast("B", (1, 32)))
        return [
            name
            for name, archive in self.indexes.items()
            if wanted.contains(archive.index.digests).any()
        ]

    def check_unchanged(self) -> None:
        """Raise IndexFormatError if an index lost bytes while it was mapped."""
        for archive in self.indexes.values():
            archive.index.check_unchanged()

    def _load_index(self, snapshot: OpenSnapshot, info: FileInfo) -> IndexArchive:
        index = self._open.enter_context(snapshot.open_index(info.filename))
        if index.size != info.size:
            raise FormatError(
                f"{info.filename}: the index describes {index.size} bytes, "
                f"the manifest says {info.size}"
            )
        check_csum(index, info)
        archive = IndexArchive(info, index)
        self.indexes[info.filename] = archive
        return archive


def check_csum(index: Index, info: FileInfo) -> None:
    """Compare the csum of the entries with the manifest's. Raises FormatError."""
    csum = index.csum()
    if csum != info.csum:
        raise FormatError(
            f"{info.filename}: the index is damaged: its csum is {csum.hex()}, "
            f"the manifest says {info.csum.hex()}"
        )


def _check_number(indexes: int) -> None:
    if indexes > MAX_INDEXES:
        raise FormatError(
            f"the snapshot has {indexes} indexes; a backup session can write {MAX_INDEXES}"
        )


def _check_protocol_limits(index: Index, info: FileInfo) -> None:
    """Refuse what the backup protocol cannot carry (protocol/push.md, "Odd sources")."""
    if not len(index) or not index.size:
        raise FormatError(f"{info.filename}: an index without entries cannot be uploaded")
    if index.kind == "fixed":
        if index.chunk_size != FIXED_CHUNK_SIZE:
            raise FormatError(
                f"{info.filename}: its chunk size is {index.chunk_size} bytes; "
                f"the backup protocol carries only {FIXED_CHUNK_SIZE}"
            )
        return
    if index.largest_chunk > MAX_CHUNK_SIZE:
        raise FormatError(
            f"{info.filename}: it has a chunk of {index.largest_chunk} bytes; "
            f"at most {MAX_CHUNK_SIZE} can be uploaded"
        )


def _load_blob(snapshot: OpenSnapshot, info: FileInfo) -> BlobArchive:
    data = snapshot.read_blob(info.filename, limit_bytes=MAX_PROTOCOL_BLOB)
    if len(data) != info.size or hashlib.sha256(data).digest() != info.csum:
        raise FormatError(f"{info.filename}: the blob is not the one that the manifest describes")
    return BlobArchive(info, data)
