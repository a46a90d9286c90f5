"""Reading single chunks: what lies there, or a reason why not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pbs_push.errors import ChunkError
from pbs_push.formats.blob import MAX_PROTOCOL_BLOB, decode_blob

from .small_store import SmallStore


@pytest.fixture
def digest(store: SmallStore) -> bytes:
    with (
        store.open().open_snapshot(store.first()) as opened,
        opened.open_index("disk.img.fidx") as index,
    ):
        return bytes(index.digests[0])


@pytest.fixture
def chunk(store: SmallStore, digest: bytes) -> Path:
    return store.open().chunk_path_of(digest)


def test_a_sound_chunk(store: SmallStore, digest: bytes, chunk: Path) -> None:
    assert chunk == store.path / ".chunks" / digest.hex()[:4] / digest.hex()
    data = store.open().read_chunk(digest)
    assert data == chunk.read_bytes()
    assert hashlib.sha256(decode_blob(data)).digest() == digest


def put_a_link(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


def put_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def put_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.parent.rename(path.parent.with_name("gone")), "missing"),
        (lambda path: path.rename(path.with_name(f"{path.name}.0.bad")), r"renamed it to \.bad"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(b"x" * 50), "magic"),
        (lambda path: os.truncate(path, 11), "length"),
        (lambda path: os.truncate(path, path.stat().st_size - 1), "CRC-32"),
        (lambda path: os.truncate(path, MAX_PROTOCOL_BLOB + 1), "larger than the format"),
        (put_a_link, "not a regular file"),
        (put_a_folder, "not a regular file"),
        (put_a_fifo, "not a regular file"),
    ],
)
def test_missing_and_corrupt_chunks(
    store: SmallStore, digest: bytes, chunk: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(chunk)
    with pytest.raises(ChunkError, match=reason) as caught:
        store.open().read_chunk(digest)
    assert caught.value.digest_hex == digest.hex()
    assert caught.value.path == str(chunk)
    assert digest.hex() in str(caught.value)


def test_every_flipped_bit_is_noticed(store: SmallStore, digest: bytes, chunk: Path) -> None:
    sound = chunk.read_bytes()
    for position in range(0, len(sound), 7):
        chunk.write_bytes(
            sound[:position] + bytes((sound[position] ^ 0x10,)) + sound[position + 1 :]
        )
        with pytest.raises(ChunkError):
            store.open().read_chunk(digest)
