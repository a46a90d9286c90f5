"""What is said of a chunk file that is missing, and that reading one leaves nothing open."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pbs_push._native.chunk_errors import chunk_error
from pbs_push._native.status import Status
from pbs_push.errors import ChunkError
from pbs_push.formats.blob import encode_blob
from pbs_push.formats.chunk_files import (
    CHUNK_FILE_MAX,
    chunk_path,
    read_chunk,
    read_chunk_into,
)
from pbs_push.source.directories import directory

DIGEST = bytes.fromhex("ab" * 32)


def refused(chunks: Path) -> ChunkError:
    with directory(chunks.parent, chunks.name) as chunks_fd, pytest.raises(ChunkError) as caught:
        read_chunk(chunks_fd, DIGEST, str(chunks))
    return caught.value


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_a_chunk_that_a_verification_set_aside(tmp_path: Path) -> None:
    path = Path(chunk_path(str(tmp_path), DIGEST))
    assert path == tmp_path / "abab" / ("ab" * 32)
    path.parent.mkdir()
    assert "missing: no such file" in str(refused(tmp_path))
    path.with_name(f"{path.name}.0.bad").touch()
    assert "renamed it to .bad" in str(refused(tmp_path))


def test_without_a_free_descriptor_the_chunk_is_unreadable_not_missing(
    tmp_path: Path, no_free_descriptor: Callable[[], AbstractContextManager[None]]
) -> None:
    with (
        directory(tmp_path.parent, tmp_path.name) as chunks_fd,
        no_free_descriptor(),
        pytest.raises(ChunkError, match="Too many open files"),
    ):
        read_chunk(chunks_fd, DIGEST, str(tmp_path))


def test_no_memory_is_no_damage() -> None:
    error = chunk_error(Status.NOMEM, DIGEST, "/store/.chunks", 0)
    assert isinstance(error, MemoryError)
    assert f"/store/.chunks/abab/{DIGEST.hex()}" in str(error)


def test_no_descriptor_is_left_by_reads_that_fail(tmp_path: Path) -> None:
    path = Path(chunk_path(str(tmp_path), DIGEST))
    path.parent.mkdir()
    path.write_bytes(b"no blob at all")
    before = descriptors()
    for _ in range(20):
        refused(tmp_path)
    assert descriptors() == before


@pytest.mark.parametrize("length", [0, 31, 33])
def test_what_is_not_a_digest(tmp_path: Path, length: int) -> None:
    with (
        directory(tmp_path.parent, tmp_path.name) as chunks_fd,
        pytest.raises(ValueError, match="32 bytes"),
    ):
        read_chunk(chunks_fd, bytes(length), str(tmp_path))


def test_reading_into_memory_that_is_used_again(tmp_path: Path) -> None:
    path = Path(chunk_path(str(tmp_path), DIGEST))
    path.parent.mkdir()
    memory = bytearray(CHUNK_FILE_MAX)
    before = descriptors()
    with directory(tmp_path.parent, tmp_path.name) as chunks_fd:
        for content in (b"long " * 100, b"short"):
            path.write_bytes(encode_blob(content))
            length = read_chunk_into(chunks_fd, DIGEST, str(tmp_path), memory)
            assert memory[:length] == path.read_bytes()
        path.write_bytes(b"no blob at all")
        with pytest.raises(ChunkError, match="magic") as caught:
            read_chunk_into(chunks_fd, DIGEST, str(tmp_path), memory)
        assert caught.value.fault == "format"
        with pytest.raises(ValueError, match="32 bytes"):
            read_chunk_into(chunks_fd, b"", str(tmp_path), memory)
        with pytest.raises(ValueError, match="a chunk file may have"):
            read_chunk_into(chunks_fd, DIGEST, str(tmp_path), memory[:-1])
    assert descriptors() == before
