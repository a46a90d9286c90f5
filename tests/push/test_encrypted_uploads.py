"""What encrypting on the way costs, in counts: reads, decodes, bytes in memory, threads at work."""

from __future__ import annotations

import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import zstandard

from pbs_push._native.transport import Transport
from pbs_push.demo.pieces import Piece
from pbs_push.errors import ChunkError
from pbs_push.formats.blob import BlobKind, decode_blob, encode_blob
from pbs_push.formats.keys import CryptKey
from pbs_push.formats.sealing import PieceDecoder
from pbs_push.push import encrypted_uploads
from pbs_push.push import run as run_module
from pbs_push.push.encryption import Sealer, Sealers
from pbs_push.push.room import Room
from pbs_push.push.schedule import BUFFERS_TOGETHER
from pbs_push.remote.target import Target

from .world import World, whole

KEY = CryptKey(bytes(range(32)))
CHUNK = 4 << 20
SMALL = 5000
"""Plain bytes of a piece that is named by a text alone."""
IMAGE = "disk.img.fidx"
HEADS = 1024
"""More than the head of a chunk's upload and what its blob grows by."""


@dataclass
class Work:
    """What was done to chunks: the plain sizes decoded, and the bodies encrypted."""

    decoded: list[int] = field(default_factory=list)
    sealed: list[int] = field(default_factory=list)

    def forget(self) -> None:
        self.decoded.clear()
        self.sealed.clear()


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    done = Work()
    pieces, seal = PieceDecoder.pieces, encrypted_uploads.seal

    def decoding(self: PieceDecoder, blob: memoryview) -> Iterator[memoryview]:
        size = 0
        for piece in pieces(self, blob):
            size += len(piece)
            yield piece
        done.decoded.append(size)

    def sealing(memory: memoryview, key: CryptKey) -> None:
        done.sealed.append(len(memory))
        seal(memory, key)

    monkeypatch.setattr(PieceDecoder, "pieces", decoding)
    monkeypatch.setattr(encrypted_uploads, "seal", sealing)
    return done


@pytest.fixture
def transports(monkeypatch: pytest.MonkeyPatch) -> list[Transport]:
    """Those of all sessions, which tell what was in memory also once they are closed."""
    made: list[Transport] = []
    transport = Target.transport

    def noted(self: Target) -> Transport:
        made.append(transport(self))
        return made[-1]

    monkeypatch.setattr(Target, "transport", noted)
    return made


def test_each_chunk_is_decoded_and_encrypted_once(world: World, work: Work) -> None:
    pieces = [whole(f"piece {number % 6}") for number in range(9)]
    world.source.add("vm/1", 1, archives={IMAGE: pieces, "root.pxar.didx": ("a", "b", "a")})
    assert world.push(encryption_key=KEY).report.exit_status == 0
    assert sorted(work.decoded) == [SMALL, SMALL, *[CHUNK] * 6]
    assert len(work.sealed) == 8


def test_what_the_previous_snapshot_tells_is_not_decoded(world: World, work: Work) -> None:
    pieces = [whole(f"piece {number}") for number in range(9)]
    world.source.add("vm/1", 1, archives={IMAGE: pieces})
    world.push(encryption_key=KEY)
    work.forget()
    world.source.add("vm/1", 2, archives={IMAGE: [*pieces[:4], whole("new"), *pieces[5:]]})
    assert world.push(encryption_key=KEY).report.stats.sent_chunks == 1
    assert (work.decoded, len(work.sealed)) == ([CHUNK], 1)


def test_what_the_target_has_is_not_encrypted(world: World, work: Work) -> None:
    """Where the source lost its copy of the previous snapshot, chunks are read for digests only."""
    pieces = [f"piece {number}" for number in range(9)]
    folder = world.source.add("host/1", 1, archives={"root.pxar.didx": pieces})
    world.push(encryption_key=KEY)
    shutil.rmtree(folder)
    work.forget()
    world.source.add("host/1", 2, archives={"root.pxar.didx": [*pieces, "new"]})
    pushed = world.push(encryption_key=KEY)
    assert len(work.decoded) == 10
    assert len(work.sealed) == 1
    stats = pushed.report.stats
    assert (stats.sent_chunks, stats.sent_plain_bytes) == (1, SMALL)
    assert stats.sent_bytes == sum(work.sealed)


@pytest.mark.parametrize("buffer_bytes", [1, 10 << 20, None])
def test_no_more_is_in_memory_than_may_be(
    world: World, transports: list[Transport], buffer_bytes: int | None
) -> None:
    """Or one chunk, which may need more by itself; memory is free again once that is sent."""
    pieces = [Piece(f"noise {number}", CHUNK, CHUNK) for number in range(12)]
    world.source.add("vm/1", 1, archives={IMAGE: pieces})
    pushed = world.push(encryption_key=KEY, buffer_bytes=buffer_bytes)
    assert pushed.report.stats.sent_chunks == 12
    most = max(transport.most_chunk_bytes for transport in transports)
    assert CHUNK <= most <= max(CHUNK + HEADS, buffer_bytes or BUFFERS_TOGETHER)


def test_groups_share_what_may_be_in_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds no room waits until another group has sent its chunks."""
    held = most = 0
    take, give_back = Room._take, Room._give_back
    lock = threading.Lock()

    def taken(self: Room, size: int, *, first: bool) -> bool:
        nonlocal held, most
        with lock:
            got = take(self, size, first=first)
            held += size if got else 0
            most = max(most, held)
        return got

    def given_back(self: Room, size: int) -> None:
        nonlocal held
        with lock:
            give_back(self, size)
            held -= size

    monkeypatch.setattr(Room, "_take", taken)
    monkeypatch.setattr(Room, "_give_back", given_back)
    monkeypatch.setattr(run_module, "BUFFERS_TOGETHER", 20 << 20)
    for number in range(4):
        pieces = [whole(f"{number} {piece}") for piece in range(5)]
        world.source.add(f"vm/{number}", 1, archives={IMAGE: pieces})
    pushed = world.push(encryption_key=KEY, parallel=4)
    assert pushed.report.stats.sent_chunks == 20
    assert (8 << 20) <= most <= (20 << 20)
    assert held == 0


def test_no_more_threads_compute_than_there_are_cores(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of groups, and of threads that read for each."""
    busy = most = 0
    lock = threading.Lock()
    keyed_digest = Sealer.keyed_digest

    def counted(self: Sealer, *args: Any) -> bytes:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.002)
        try:
            return keyed_digest(self, *args)
        finally:
            with lock:
                busy -= 1

    monkeypatch.setattr(Sealer, "keyed_digest", counted)
    monkeypatch.setattr(run_module, "Sealers", lambda _most: Sealers(3))
    for number in range(4):
        pieces = [f"{number}/{piece}" for piece in range(20)]
        world.source.add(f"host/{number}", 1, archives={"root.pxar.didx": pieces})
    pushed = world.push(encryption_key=KEY, parallel=4, read_ahead=6)
    assert pushed.report.stats.sent_chunks == 80
    assert most == 3


def zstd_blob(frame: bytes) -> bytes:
    return BlobKind.ZSTD.value + zlib.crc32(frame).to_bytes(4, "little") + frame


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "other content": lambda content: encode_blob(content[:-1] + b"?"),
    "too little content": lambda content: encode_blob(content[:-1]),
    "a frame without its end": lambda content: zstd_blob(with_checksum(content)[:-4]),
    "bytes behind the frame": lambda content: zstd_blob(with_checksum(content) + b"\0"),
    "not a frame": zstd_blob,
    "encrypted": lambda content: encode_blob(content, key=KEY),
    "of unknown magic": lambda content: b"MAGICAL!" + encode_blob(content)[8:],
}


def with_checksum(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(content)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_chunk_that_is_not_what_it_should_be_ends_all_of_it(
    world: World, transports: list[Transport], damage: Callable[[bytes], bytes]
) -> None:
    pieces = [f"piece {number}" for number in range(40)]
    world.source.add("host/1", 1, archives={"root.pxar.didx": pieces})
    path = world.source.chunk_of("piece 21")
    good = path.read_bytes()
    path.write_bytes(damage(decode_blob(good)))
    pushed = world.push(encryption_key=KEY)
    (outcome,) = pushed.report.outcomes
    assert isinstance(outcome.error, ChunkError)
    assert outcome.error.damage
    assert path.name in str(outcome.error)
    assert world.there.snapshots() == set()
    for transport in transports:
        with pytest.raises(ValueError, match="closed"):
            transport.answers()
    path.write_bytes(good)
    assert world.push(encryption_key=KEY).report.stats.sent_chunks == 40


def test_threads_end_with_their_snapshot(world: World) -> None:
    world.source.add("host/1", 1, 2, archives={"root.pxar.didx": [f"{n}" for n in range(40)]})
    world.push(encryption_key=KEY)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("encrypt")]
