"""Datastores of an exact shape for benchmarks: few bytes on disk where only numbers matter."""

from __future__ import annotations

import hashlib
import shutil
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import zstandard

from pbs_push.demo.pieces import SampleBytes
from pbs_push.demo.store_writer import Chunk, SampleSnapshot, StoreWriter
from pbs_push.formats.blob import BlobKind, encode_blob
from pbs_push.formats.index_writer import write_dynamic_index, write_fixed_index
from pbs_push.formats.manifest import CryptMode, FileInfo, Manifest
from pbs_push.names import MANIFEST_NAME, Group, Namespace, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FIXED: Final = 4 << 20
OWNER: Final = "root@pam"
FIRST_TIME: Final = 1_780_000_000
DAY: Final = 86_400
ROOT: Final = Namespace()
_COUNTER: Final = struct.Struct(">Q")


class Store:
    """A source datastore being written."""

    def __init__(self, path: Path, seed: int = 1) -> None:
        self.path = path
        self._bytes = SampleBytes(seed)
        self._writer = StoreWriter(path, self._bytes)
        self._writer.create(all_chunk_folders=False)
        self._sparse = SparseChunks()

    def group(self, group: str, namespace: Namespace = ROOT) -> None:
        """Make a group."""
        self._writer.group(namespace, group, OWNER, None)

    def snapshot(
        self,
        group: str,
        day: int,
        archives: Mapping[str, Sequence[Chunk]],
        blobs: Mapping[str, bytes] | None = None,
        namespace: Namespace = ROOT,
    ) -> None:
        """Write a snapshot of that group and day, counted from 0."""
        kind, _, name = group.partition("/")
        snapshot = Snapshot(Group(kind, name), FIRST_TIME + day * DAY)
        self._writer.snapshot(SampleSnapshot(namespace, snapshot, archives, blobs or {}))

    def noise(self, label: str, size: int) -> Chunk:
        """A chunk that does not compress."""
        content = self._bytes.noise(label, size)
        return self._put(hashlib.sha256(content).digest(), size, encode_blob(content))

    def sparse(self, number: int) -> Chunk:
        """A chunk of 4 MiB, another for each number, that takes less than 200 bytes on disk."""
        digest, blob = self._sparse.chunk(number)
        return self._put(digest, FIXED, blob)

    def _put(self, digest: bytes, size: int, blob: bytes) -> Chunk:
        path = chunk_path(self.path, digest)
        if not path.exists():
            path.parent.mkdir(mode=0o750, exist_ok=True)
            path.write_bytes(blob)
        return Chunk(digest, size, len(blob))


class SparseChunks:
    """4 MiB of zeros that end in a number, compressed.

    Hashing and compressing thousands of these would take minutes: the hash goes on from that of the
    zeros, and the number stands in the frame as it is.
    """

    def __init__(self) -> None:
        zeros = bytes(FIXED - _COUNTER.size)
        self._hash = hashlib.sha256(zeros)
        marker = b"\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8"
        self._frame = zstandard.ZstdCompressor(level=1).compress(zeros + marker)
        self._at = self._frame.find(marker)
        if self._at < 0 or zstandard.decompress(self._numbered(7)) != zeros + _COUNTER.pack(7):
            raise RuntimeError("this zstd does not leave the end of a chunk as it is")

    def _numbered(self, number: int) -> bytes:
        end = self._at + _COUNTER.size
        return self._frame[: self._at] + _COUNTER.pack(number) + self._frame[end:]

    def chunk(self, number: int) -> tuple[bytes, bytes]:
        """Digest and blob of a chunk."""
        hashed = self._hash.copy()
        hashed.update(_COUNTER.pack(number))
        data = self._numbered(number)
        crc = zlib.crc32(data)
        return hashed.digest(), BlobKind.ZSTD.value + crc.to_bytes(4, "little") + data


def chunk_path(store: Path, digest: bytes) -> Path:
    """Where a chunk lies."""
    name = digest.hex()
    return store / ".chunks" / name[:4] / name


def chunk_files(store: Path, chunks: Iterable[Chunk]) -> list[Path]:
    """The files of these chunks, in order."""
    return [chunk_path(store, chunk.digest) for chunk in chunks]


def read_all(files: Iterable[Path]) -> None:
    """Bring files into the page cache."""
    for file in files:
        file.read_bytes()


def write_index_alone(store: Path, group: str, day: int, suffix: str, digests: bytes) -> None:
    """A snapshot with one index of these digests, whose chunks need not exist.

    For indexes of millions of entries, all of them of 4 MiB.
    """
    kind, _, name = group.partition("/")
    snapshot = Snapshot(Group(kind, name), FIRST_TIME + day * DAY)
    folder = store / str(snapshot)
    folder.mkdir(parents=True)
    (folder.parent / "owner").write_text(f"{OWNER}\n", encoding="utf-8")
    size = len(digests) // 32 * FIXED
    file = f"drive-scsi0.img{suffix}" if suffix == ".fidx" else f"root.pxar{suffix}"
    if suffix == ".fidx":
        csum = write_fixed_index(folder / file, digests, size)
    else:
        ends = np.arange(FIXED, size + 1, FIXED, dtype=np.uint64)
        csum = write_dynamic_index(folder / file, ends, digests)
    manifest = Manifest(snapshot, (FileInfo(file, CryptMode.NONE, size, csum),), {})
    (folder / MANIFEST_NAME).write_bytes(manifest.encode())


def copy_datastore(source: Path, target: Path, owner: str) -> None:
    """Give a target, an empty datastore, what pushing all of ``source`` would give it.

    Chunks are linked, not copied.
    """
    for folder in sorted((source / ".chunks").iterdir()):
        made = target / ".chunks" / folder.name
        made.mkdir(mode=0o750, exist_ok=True)
        for chunk in folder.iterdir():
            (made / chunk.name).hardlink_to(chunk)
    for owner_file in sorted(source.glob("*/*/owner")):
        group = owner_file.parent
        copied = target / group.relative_to(source)
        copied.mkdir(parents=True)
        (copied / "owner").write_text(f"{owner}\n", encoding="utf-8")
        for snapshot in (path for path in group.iterdir() if path.is_dir()):
            shutil.copytree(snapshot, copied / snapshot.name)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was in a directory at one moment; ``restore`` removes what came later."""

    directory: Path
    paths: frozenset[Path]

    @classmethod
    def of(cls, directory: Path) -> Checkpoint:
        """Remember what is there now."""
        return cls(directory, frozenset(directory.rglob("*")))

    def restore(self) -> None:
        """Remove all else."""
        for path in sorted(self.directory.rglob("*"), reverse=True):
            if path in self.paths:
                continue
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
