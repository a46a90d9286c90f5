"""Index writers of one backup session: what was appended, and whether it may be closed.

Entries are collected in memory and written by `formats.index_writer` when the writer is closed.
Checks, their order and their texts are those of a real server (protocol/backup.md; recordings
``put-fixed-index-*``, ``fixed-close-*``, ``dynamic-*``).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numpy as np

from pbs_push.formats.index import FIXED_CHUNK_SIZE
from pbs_push.formats.index_writer import write_dynamic_index, write_fixed_index
from pbs_push.target.answers import bad_request

DIGEST_SIZE: Final = 32
_MAX_INDEX_SIZE: Final = 512 << 20
"""An image of 64 TiB; entries are kept in memory."""
_DYNAMIC_ENTRY: Final = np.dtype([("end", "<u8"), ("digest", "V32")])


class UploadStatistics:
    """Counts of a writer's chunk uploads; they end up in the manifest. Sizes in bytes."""

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        self.compressed_size = 0
        self.duplicates = 0

    def add_chunk(self, size: int, compressed_size: int, *, duplicate: bool) -> None:
        """Count one upload."""
        self.count += 1
        self.size += size
        self.compressed_size += compressed_size
        self.duplicates += duplicate

    def add(self, other: UploadStatistics) -> None:
        """Add another writer's counts."""
        self.count += other.count
        self.size += other.size
        self.compressed_size += other.compressed_size
        self.duplicates += other.duplicates

    def as_json(self) -> dict[str, int]:
        """The form in a manifest."""
        return dict(vars(self))


class _Writer:
    """What both kinds of writer have.

    ``kind`` is the word in messages, ``unfinished_suffix`` that of the file until it is closed.
    """

    kind: str
    unfinished_suffix: str

    def __init__(self, name: str) -> None:
        self.name = name
        self.uploads = UploadStatistics()
        self.last_append = 0
        """The answer (see `session.Turn`) that told of the last append."""
        self._closed = False

    def check_open(self, action: str) -> None:
        """Raises Refusal once a wrong checksum has closed the writer for good."""
        if self._closed:
            raise self.refused(f"{action} - already closed")

    def refused(self, reason: str) -> Exception:
        """A refusal that names this writer."""
        return bad_request(f"{self.kind} writer '{self.name}' {reason}")

    def _check_csum(self, actual: bytes, given: bytes) -> None:
        self._closed = True
        if actual != given:
            raise self.refused("close failed - got unexpected checksum")


class FixedWriter(_Writer):
    """Writes a ``.fidx``.

    ``size`` is the image's length in bytes, None for an index that grows. ``base`` are the entries
    of the previous index where it is reused: then only changes are appended and counted.
    """

    kind = "fixed"
    unfinished_suffix = ".tmp_fidx"

    def __init__(self, name: str, size: int | None, base: bytes | None = None) -> None:
        super().__init__(name)
        self.size = size or 0
        self._grows = size is None
        self._incremental = base is not None
        self._entries = bytearray(base or b"")
        self._appended = 0
        self._small_chunks = 0

    def register_upload(self, wid: int, size: int) -> None:
        """Check an uploaded chunk's length in bytes: just one short chunk is allowed."""
        self.check_open("register chunk failed")
        if size > FIXED_CHUNK_SIZE:
            raise bad_request(
                f"fixed writer '{self.name}' - got large chunk ({size} > {FIXED_CHUNK_SIZE}"
            )
        if size < FIXED_CHUNK_SIZE:
            if self._small_chunks:
                raise bad_request(
                    f"fixed writer '{wid}' - detected multiple end chunks (chunk size too small)"
                )
            self._small_chunks += 1

    def append(self, digest: bytes, start_offset: int, size: int) -> None:
        """Set the entry at ``start_offset``; a later one at the same place wins, both count."""
        self.check_open("append chunk failed")
        end = start_offset + size
        if end > self.size:
            self._grow(end)
        if size != FIXED_CHUNK_SIZE and end != self.size:
            raise bad_request(f"chunk with unexpected length ({size} != {FIXED_CHUNK_SIZE}")
        if start_offset % FIXED_CHUNK_SIZE:
            raise bad_request(f"got unaligned chunk (pos = {start_offset})")
        at = start_offset // FIXED_CHUNK_SIZE * DIGEST_SIZE
        self._fill(at)
        self._entries[at : at + DIGEST_SIZE] = digest
        self._appended += 1

    def close(self, path: Path, chunk_count: int, size: int, csum: bytes) -> int:
        """Check and write the index to ``path``; returns the image's length in bytes."""
        self.check_open("close failed")
        if chunk_count != self._appended:
            raise self.refused(
                f"close failed - received wrong number of chunk ({self._appended} != {chunk_count})"
            )
        expected = -(-self.size // FIXED_CHUNK_SIZE)
        if not self._incremental:
            if chunk_count != expected:
                raise self.refused(
                    f"close failed - unexpected chunk count ({expected} != {chunk_count})"
                )
            if size != self.size:
                raise self.refused(f"close failed - unexpected file size ({self.size} != {size})")
        self._fill(expected * DIGEST_SIZE)
        self._check_csum(hashlib.sha256(self._entries).digest(), csum)
        temporary = path.with_suffix(self.unfinished_suffix)
        write_fixed_index(temporary, self._entries, self.size)
        temporary.replace(path)
        return self.size

    def _grow(self, end: int) -> None:
        if not self._grows or self.size % FIXED_CHUNK_SIZE:
            raise bad_request(f"refusing to resize from {self.size} to {end}")
        self.size = end

    def _fill(self, length: int) -> None:
        """Zeros up to ``length``: a hole is an entry of zeros."""
        if length > _MAX_INDEX_SIZE:
            raise bad_request(f"fixed writer '{self.name}' - index too large ({length} bytes)")
        self._entries.extend(bytes(max(0, length - len(self._entries))))


class DynamicWriter(_Writer):
    """Writes a ``.didx``; entries are appended in order and without a gap."""

    kind = "dynamic"
    unfinished_suffix = ".tmp_didx"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._digests = bytearray()
        self._ends: list[int] = []

    @property
    def size(self) -> int:
        """Length of what was appended so far, in bytes."""
        return self._ends[-1] if self._ends else 0

    def register_upload(self, _wid: int, _size: int) -> None:
        """Chunks of any length may be uploaded."""
        self.check_open("register chunk failed")

    def append(self, digest: bytes, start_offset: int, size: int) -> None:
        """Append an entry that starts where the last one ended."""
        self.check_open("append chunk failed")
        if start_offset != self.size:
            raise self.refused(
                f"append chunk failed - got strange chunk offset ({self.size} != {start_offset})"
            )
        self._digests += digest
        self._ends.append(start_offset + size)

    def close(self, path: Path, chunk_count: int, size: int, csum: bytes) -> int:
        """Check and write the index to ``path``; returns the archive's length in bytes."""
        self.check_open("close failed")
        if chunk_count != len(self._ends):
            raise self.refused(
                f"close failed - unexpected chunk count ({len(self._ends)} != {chunk_count})"
            )
        if size != self.size:
            raise self.refused(f"close failed - unexpected file size ({self.size} != {size})")
        self._check_csum(self._csum(), csum)
        temporary = path.with_suffix(self.unfinished_suffix)
        write_dynamic_index(temporary, np.array(self._ends, dtype=np.uint64), self._digests)
        temporary.replace(path)
        return self.size

    def _csum(self) -> bytes:
        entries = np.empty(len(self._ends), dtype=_DYNAMIC_ENTRY)
        entries["end"] = self._ends
        entries["digest"] = np.frombuffer(self._digests, dtype="V32")
        return hashlib.sha256(entries.tobytes()).digest()


Writer = FixedWriter | DynamicWriter
