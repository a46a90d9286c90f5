"""Writing chunks and snapshots of a datastore to disk (protocol/datastore.md), for samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from pbs_push.demo.pieces import Piece, SampleBytes
from pbs_push.formats.blob import encode_blob
from pbs_push.formats.index_writer import write_dynamic_index, write_fixed_index
from pbs_push.formats.keys import CryptKey
from pbs_push.formats.manifest import CryptMode, FileInfo, Manifest
from pbs_push.formats.strict_json import JsonValue
from pbs_push.names import (
    CLIENT_LOG_NAME,
    MANIFEST_NAME,
    Namespace,
    Snapshot,
    format_fingerprint,
)

CHUNK_FOLDERS: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk of an archive: its digest, its plain size, and what it takes on disk."""

    digest: bytes
    size: int
    encoded_size: int


@dataclass(frozen=True, slots=True)
class SampleSnapshot:
    """A snapshot to be written. Archives by file name: chunks in order; blobs: plain contents."""

    namespace: Namespace
    snapshot: Snapshot
    archives: Mapping[str, Sequence[Chunk]]
    blobs: Mapping[str, bytes]
    key: CryptKey | None = None
    unprotected: Mapping[str, JsonValue] = field(default_factory=dict)
    client_log: bytes | None = None
    protected: bool = False


class StoreWriter:
    """Writes below the base directory of a datastore. Not for use by two threads at once."""

    def __init__(self, base: Path, source: SampleBytes) -> None:
        self._base = base
        self._source = source
        self._known: dict[tuple[Piece, CryptKey | None], Chunk] = {}
        self.new_chunks: dict[bytes, Chunk] = {}
        """The chunks that were not in the datastore before, by digest."""

    def create(self, *, all_chunk_folders: bool) -> None:
        """Make the folders of an empty datastore."""
        chunks = self._base / ".chunks"
        chunks.mkdir(mode=0o750, parents=True)
        (self._base / ".lock").touch()
        for prefix in range(CHUNK_FOLDERS if all_chunk_folders else 0):
            (chunks / f"{prefix:04x}").mkdir(mode=0o750)

    def chunks(self, pieces: Iterable[Piece], key: CryptKey | None = None) -> list[Chunk]:
        """Write pieces as chunks, each once, and return them in order."""
        return [self._chunk(piece, key) for piece in pieces]

    def _chunk(self, piece: Piece, key: CryptKey | None) -> Chunk:
        known = self._known.get((piece, key))
        if known is not None:
            return known
        content = self._source.content(piece)
        digest = hashlib.sha256(content).digest() if key is None else key.digest(content)
        blob = self._encode(content, key, label=piece.label)
        chunk = Chunk(digest, piece.size, len(blob))
        path = self._base / ".chunks" / digest.hex()[:4] / digest.hex()
        if not path.exists():
            path.parent.mkdir(mode=0o750, exist_ok=True)
            path.write_bytes(blob)
            self.new_chunks[digest] = chunk
        self._known[piece, key] = chunk
        return chunk

    def _encode(self, content: bytes, key: CryptKey | None, *, label: str) -> bytes:
        iv = None if key is None else self._source.noise(f"iv of {label}", 16)
        return encode_blob(content, key=key, iv=iv)

    def group(self, namespace: Namespace, group: str, owner: str, notes: str | None) -> None:
        """Make a group's folder with its owner and notes."""
        folder = self._base / namespace.disk_path / group
        folder.mkdir(parents=True)
        (folder / "owner").write_text(f"{owner}\n", encoding="utf-8")
        if notes is not None:
            (folder / "notes").write_text(notes, encoding="utf-8")

    def snapshot(self, item: SampleSnapshot) -> None:
        """Write a snapshot's folder into its group; the chunks are there already."""
        folder = self._base / item.namespace.disk_path / str(item.snapshot)
        folder.mkdir()
        files = [self._index(folder, item, name) for name in item.archives]
        files += [self._blob(folder, item, name) for name in item.blobs]
        if item.client_log is not None:
            label = f"{item.namespace}/{item.snapshot}/{CLIENT_LOG_NAME}"
            log = self._encode(item.client_log, item.key, label=label)
            (folder / CLIENT_LOG_NAME).write_bytes(log)
        if item.protected:
            (folder / ".protected").touch()
        (folder / MANIFEST_NAME).write_bytes(_manifest(item, files).encode())

    def _index(self, folder: Path, item: SampleSnapshot, name: str) -> FileInfo:
        chunks = item.archives[name]
        digests = b"".join(chunk.digest for chunk in chunks)
        ends = np.cumsum([chunk.size for chunk in chunks], dtype=np.uint64)
        size, ctime = int(ends[-1]), item.snapshot.backup_time
        uuid = self._source.noise(f"uuid of {item.namespace}/{item.snapshot}/{name}", 16)
        if name.endswith(".fidx"):
            csum = write_fixed_index(folder / name, digests, size, uuid=uuid, ctime=ctime)
        else:
            csum = write_dynamic_index(folder / name, ends, digests, uuid=uuid, ctime=ctime)
        return FileInfo(name, _crypt_mode(item), size, csum)

    def _blob(self, folder: Path, item: SampleSnapshot, name: str) -> FileInfo:
        blob = self._encode(
            item.blobs[name], item.key, label=f"{item.namespace}/{item.snapshot}/{name}"
        )
        (folder / name).write_bytes(blob)
        return FileInfo(name, _crypt_mode(item), len(blob), hashlib.sha256(blob).digest())


def _crypt_mode(item: SampleSnapshot) -> CryptMode:
    return CryptMode.NONE if item.key is None else CryptMode.ENCRYPT


def _manifest(item: SampleSnapshot, files: list[FileInfo]) -> Manifest:
    chunks = {chunk.digest: chunk for archive in item.archives.values() for chunk in archive}
    entries = sum(len(archive) for archive in item.archives.values())
    unprotected: dict[str, JsonValue] = {
        **item.unprotected,
        "chunk_upload_stats": {
            "compressed_size": sum(chunk.encoded_size for chunk in chunks.values()),
            "count": entries,
            "duplicates": entries - len(chunks),
            "size": sum(chunk.size for chunk in chunks.values()),
        },
    }
    if item.key is None:
        return Manifest(item.snapshot, tuple(files), unprotected)
    unprotected["key-fingerprint"] = format_fingerprint(item.key.fingerprint)
    unsigned = Manifest(item.snapshot, tuple(files), unprotected)
    return Manifest(item.snapshot, tuple(files), unprotected, unsigned.sign(item.key))
