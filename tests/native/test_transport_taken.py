"""Chunks that threads of the caller's read and change on their way, where they lie in memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pbs_push._native.transport import UPLOAD_TAG, TakenChunk, Transport
from pbs_push.errors import ChunkError, ConnectError
from pbs_push.formats.blob import encode_blob
from pbs_push.formats.index import Index
from pbs_push.formats.keys import CryptKey

from .h2_peer import CHUNKS_PATH, ChunkFolder, Peer, all_of, plain_blob, positions

MARGIN = 32
CONTENTS = [b"one", b"two!", b"three", bytes(100_000), b"five five"]


class Taken:
    """A transport whose chunks are taken here, and the other side."""

    def __init__(self, folder: ChunkFolder, fd: int, *, buffer_bytes: int = 1 << 20) -> None:
        self.folder = folder
        self.fd = fd
        self.table: Index = folder.dynamic(CONTENTS)
        self.transport = Transport("target:8007")
        self.transport.attach_uploads(fd, readers=3, buffer_bytes=buffer_bytes)
        self.transport.take_over(margin=MARGIN, first_bytes=buffer_bytes)
        self.peer = Peer(self.transport)

    def add(self) -> None:
        added = self.transport.add_chunks(
            self.table, all_of(self.table), writer_id=1, encrypted=False
        )
        assert added == len(CONTENTS)

    def take(self) -> TakenChunk:
        chunk = self.transport.take_chunk()
        assert chunk is not None
        return chunk

    def read(self) -> TakenChunk:
        chunk = self.take()
        assert chunk.read(self.fd, chunk.digest, CHUNKS_PATH)
        return chunk


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[Taken]:
    folder = ChunkFolder(tmp_path)
    fd = os.open(folder.path, os.O_RDONLY)
    taken = Taken(folder, fd)
    yield taken
    taken.transport.close()
    os.close(fd)


def test_what_is_sent_is_what_was_made_of_it(taken: Taken) -> None:
    taken.add()
    for number, content in enumerate(CONTENTS):
        chunk = taken.read()
        assert (chunk.job, chunk.size) == (number, len(content))
        assert taken.folder.contents[chunk.digest] == content
        with memoryview(chunk) as memory:
            assert not memory.readonly
            assert memory[MARGIN:] == plain_blob(content)
            memory[:] = bytes([number]) * len(memory)
        chunk.give(bytes([number]) * 32)
    transport = taken.transport
    taken.peer.serve(lambda _: (200, b""), lambda: transport.chunks_acknowledged == len(CONTENTS))
    for request in taken.peer.requests.values():
        number = bytes.fromhex(request.params["digest"])[0]
        size = len(plain_blob(CONTENTS[number])) + MARGIN
        assert request.params == {
            "wid": "1",
            "digest": f"{number:02x}" * 32,
            "size": str(len(CONTENTS[number])),
            "encoded-size": str(size),
        }
        assert bytes(request.body) == bytes([number]) * size
    state = transport.state()
    assert (state.uploads_done, state.requests) == (len(CONTENTS), len(CONTENTS))
    most = transport.most_chunk_bytes
    assert 100_000 < most < 110_000
    transport.close()
    assert transport.most_chunk_bytes == most


def test_what_is_dropped_counts_as_acknowledged(taken: Taken) -> None:
    taken.add()
    first, *others = [taken.read() for _ in CONTENTS]
    for chunk in others:
        chunk.drop()
    assert taken.transport.chunks_acknowledged == 0, "the first of them is under way"
    first.drop()
    assert taken.transport.chunks_acknowledged == len(CONTENTS)
    taken.peer.settle()
    assert not taken.peer.requests


def test_refused_uploads_are_taken_again(taken: Taken) -> None:
    taken.transport.add_chunks(taken.table, positions(2), writer_id=1, encrypted=False)
    for digest in (b"a" * 32, b"b" * 32):
        chunk = taken.read()
        assert chunk.job == 0
        chunk.give(digest)
        taken.peer.settle()
        (request,) = taken.peer.open_requests
        assert request.params["digest"] == digest.hex()
        if digest[:1] == b"a":
            taken.peer.reset(request)
            taken.peer.settle()
    taken.peer.answer(request)
    taken.peer.settle()
    assert taken.transport.chunks_acknowledged == 1


def test_an_upload_that_fails_is_told_with_the_digest_in_the_store(taken: Taken) -> None:
    taken.transport.add_chunks(taken.table, positions(1), writer_id=1, encrypted=False)
    chunk = taken.read()
    chunk.give(bytes(32))
    taken.peer.serve(lambda _: (400, b"no"), lambda: bool(taken.peer.answers))
    (answer,) = taken.peer.answers
    assert (answer.tag, answer.status, answer.digest) == (UPLOAD_TAG, 400, chunk.digest)


def test_memory_that_is_looked_at_stays(taken: Taken) -> None:
    taken.add()
    chunk = taken.read()
    with memoryview(chunk) as memory:
        part = memory[3:]
        for use in (lambda: chunk.give(bytes(32)), chunk.drop):
            with pytest.raises(BufferError, match="still in use"):
                use()
        with pytest.raises(BufferError, match="looked at"):
            taken.transport.close()
    with pytest.raises(BufferError, match="still in use"):
        chunk.drop()
    part.release()
    chunk.drop()
    for use in (lambda: chunk.give(bytes(32)), chunk.drop):
        with pytest.raises(ValueError, match="not in memory"):
            use()
    with pytest.raises(BufferError, match="not in memory"):
        memoryview(chunk)


def test_who_waits_is_told_when_there_is_no_more(taken: Taken) -> None:
    got: list[TakenChunk | None] = []
    waiting = threading.Thread(target=lambda: got.append(taken.transport.take_chunk()))
    waiting.start()
    taken.transport.stop_chunks()
    waiting.join()
    assert got == [None]
    taken.add()
    assert taken.transport.take_chunk() is None
    taken.transport.close()
    taken.transport.stop_chunks()


def test_what_waits_for_room_is_of_no_use_once_stopped(tmp_path: Path) -> None:
    folder = ChunkFolder(tmp_path)
    fd = os.open(folder.path, os.O_RDONLY)
    taken = Taken(folder, fd, buffer_bytes=1)
    try:
        taken.add()
        taken.read()  # there is no room for another
        chunk = taken.take()
        result: list[bool] = []
        waiting = threading.Thread(
            target=lambda: result.append(chunk.read(fd, chunk.digest, CHUNKS_PATH))
        )
        waiting.start()
        taken.transport.stop_chunks()
        waiting.join()
        assert result == [False]
    finally:
        taken.transport.close()
        os.close(fd)


def test_a_chunk_that_cannot_be_read_is_an_error_where_it_is_read(taken: Taken) -> None:
    taken.add()
    missing, corrupt, encrypted = (taken.take() for _ in range(3))
    taken.folder.file(missing.digest).unlink()
    taken.folder.file(corrupt.digest).write_bytes(plain_blob(b"two!")[:-1] + b"?")
    taken.folder.file(encrypted.digest).write_bytes(encode_blob(b"three", key=CryptKey(bytes(32))))
    for chunk, reason in ((missing, "missing"), (corrupt, "CRC"), (encrypted, "encrypted")):
        with pytest.raises(ChunkError, match=reason) as error:
            chunk.read(taken.fd, chunk.digest, CHUNKS_PATH)
        assert error.value.digest_hex == chunk.digest.hex()
    taken.transport.check_source(CHUNKS_PATH)  # does not know of it
    taken.read().drop()


def test_bad_uses_are_refused(taken: Taken) -> None:
    other = Transport("target:8007")
    for use in (other.take_chunk, lambda: other.take_over(margin=0, first_bytes=1)):
        with pytest.raises(ValueError, match="no uploads"):
            use()
    assert other.most_chunk_bytes == 0
    other.stop_chunks()
    taken.add()
    with pytest.raises(ValueError, match="under way"):
        taken.transport.take_over(margin=0, first_bytes=1)
    chunk = taken.take()
    with pytest.raises(ValueError, match="another chunk"):
        chunk.read(taken.fd, bytes(32), CHUNKS_PATH)
    assert chunk.read(taken.fd, chunk.digest, CHUNKS_PATH)
    with pytest.raises(ValueError, match="32 bytes"):
        chunk.give(b"short")
    taken.transport.close()
    for closed in (taken.transport.take_chunk, chunk.drop, lambda: chunk.give(bytes(32))):
        with pytest.raises((ValueError, ConnectError), match="closed"):
            closed()
