"""Uploads and calls through a transport, joined in memory with an `h2` server that is strict."""

from __future__ import annotations

import gc
import itertools
import os
import random
import select
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pbs_push._native.transport import DISCARD, DOWNLOAD, UPLOAD_TAG, Answer, Transport
from pbs_push.errors import ChunkError, ConnectError, FormatError
from pbs_push.formats.blob import encode_blob
from pbs_push.formats.index import Index
from pbs_push.formats.keys import CryptKey

from .h2_peer import LARGEST, PATIENCE_MS, ChunkFolder, Peer, Request, all_of, plain_blob, positions

AUTHORITY = "target.example:8007"


@dataclass
class World:
    """A chunk folder, and transports that read it; all are closed at the end."""

    folder: ChunkFolder
    transports: list[Transport]
    fd: int

    def transport(self, *, readers: int = 3, delay_s: float = 0.0, **sizes: int) -> Transport:
        transport = Transport(AUTHORITY, **sizes)
        self.transports.append(transport)
        transport.attach_uploads(self.fd, readers=readers, buffer_bytes=0, open_delay_s=delay_s)
        return transport


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    folder = ChunkFolder(tmp_path)
    fd = os.open(folder.path, os.O_RDONLY)
    world = World(folder, [], fd)
    yield world
    for transport in world.transports:
        transport.close()
    os.close(fd)


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311  (the same ones in each run)


def check_upload(request: Request, folder: ChunkFolder, kind: str, wid: int) -> None:
    """The request is for one of the folder's chunks, and its body is that chunk's file."""
    content = folder.contents[bytes.fromhex(request.params["digest"])]
    assert request.method == "POST"
    assert request.path.startswith(f"/{kind}_chunk?")
    assert request.headers[":authority"] == AUTHORITY
    assert request.headers[":scheme"] == "https"
    assert request.headers["content-type"] == "application/octet-stream"
    assert bytes(request.body) == plain_blob(content)
    assert request.params == {
        "wid": str(wid),
        "digest": request.params["digest"],
        "size": str(len(content)),
        "encoded-size": str(len(content) + 12),
    }


def upload_all(world: World, transport: Transport, peer: Peer, table: Index, wid: int = 3) -> None:
    added = transport.add_chunks(table, all_of(table), writer_id=wid, encrypted=False)
    assert added == len(table) == transport.chunks_added
    peer.serve(lambda _: (200, b""), lambda: transport.chunks_acknowledged == added)


@pytest.mark.parametrize("streams", [1, 2, 3, 200])
@pytest.mark.parametrize("frame", [16384, 100_000, 4 << 20])
@pytest.mark.parametrize("window", [1, 7, 100, 16384, 65535, 1 << 20, 32 << 20])
def test_chunks_arrive_whole(world: World, window: int, frame: int, streams: int) -> None:
    largest = min(max(4 * window, 30), 150_000)
    contents = [noise(1 + i * 7919 % largest, i) for i in range(15)]
    transport = world.transport()
    peer = Peer(transport, window=window, frame=frame, streams=streams)
    upload_all(world, transport, peer, world.folder.dynamic(contents))
    for request in peer.requests.values():
        check_upload(request, world.folder, "dynamic", 3)
    state = transport.state()
    total = sum(len(content) + 12 for content in contents)
    assert (state.uploads_done, state.uploads_bytes, state.sent_bytes) == (15, total, total)
    assert (state.open_streams, state.requests, state.refused) == (0, 15, 0)
    assert (state.peer_max_streams, state.peer_frame_size) == (streams, frame)
    assert transport.answers() == []


@pytest.mark.parametrize("sizes", [(1, 1), (1, 1 << 20), (16384, 1), (4 << 20, 32 << 20)])
def test_our_own_sizes_bound_frames_and_spans(world: World, sizes: tuple[int, int]) -> None:
    transport = world.transport(frame_size=sizes[0], span_size=sizes[1])
    peer = Peer(transport, window=1 << 20, frame=1 << 20)
    table = world.folder.fixed([noise(512, i) for i in range(7)] + [b"end"], 512)
    upload_all(world, transport, peer, table)
    for request in peer.requests.values():
        check_upload(request, world.folder, "fixed", 3)


def test_small_chunks_leave_in_one_output(world: World) -> None:
    transport = world.transport(readers=1)
    peer = Peer(transport)
    table = world.folder.dynamic(noise(100, i) for i in range(50))
    transport.add_chunks(table, all_of(table), writer_id=1, encrypted=False)
    outputs = 0
    while len(peer.requests) < 50:
        time.sleep(0.005)  # for the reader to be ahead; without merging that would not help
        outputs += peer.take_output(1)
    assert outputs < 50


def test_large_chunks_go_round_the_buffer(world: World) -> None:
    """More than the read-ahead's memory, most of it compressed or encrypted."""
    key = CryptKey(bytes(32))
    table = world.folder.dynamic(noise(3 << 20, i) for i in range(12))
    for digest, content in world.folder.contents.items():
        world.folder.file(digest).write_bytes(encode_blob(content, key=key))
    transport = world.transport()
    peer = Peer(transport, window=LARGEST, frame=4 << 20)
    peer.open_window(LARGEST - 65535)
    added = transport.add_chunks(table, all_of(table), writer_id=9, encrypted=True)
    peer.serve(lambda _: (200, b"{}"), lambda: transport.chunks_acknowledged == added)
    for request in peer.requests.values():
        file = world.folder.file(bytes.fromhex(request.params["digest"]))
        assert bytes(request.body) == file.read_bytes()


def test_an_upload_that_fails_is_told_with_its_digest(world: World) -> None:
    table = world.folder.dynamic([b"one", b"two", b"three"])
    transport = world.transport()
    peer = Peer(transport)
    transport.add_chunks(table, all_of(table), writer_id=1, encrypted=False)
    peer.serve(
        lambda r: (400, b"bad chunk") if r.params["size"] == "5" else (200, b'{"data":null}'),
        lambda: bool(peer.answers),
    )
    digest = next(d for d, content in world.folder.contents.items() if content == b"three")
    (answer,) = peer.answers
    assert answer == Answer(UPLOAD_TAG, 400, b"bad chunk", 0, False, digest)
    peer.serve(lambda _: (200, b""), lambda: transport.chunks_acknowledged == 2)
    assert transport.state().uploads_done == 2


def test_the_acknowledged_prefix_waits_for_the_first(world: World) -> None:
    table = world.folder.dynamic([b"one", b"two", b"three"])
    transport = world.transport(readers=1)
    peer = Peer(transport)
    assert transport.add_chunks(table, positions(2, 0, 1), writer_id=1, encrypted=False) == 3
    while sum(request.ended for request in peer.requests.values()) < 3:
        peer.settle()
    by_size = {r.params["size"]: r for r in peer.requests.values()}
    seen = []
    for request in (by_size["3"], *peer.open_requests):
        if request.open:
            peer.answer(request)
            peer.settle()
            seen.append(transport.chunks_acknowledged)
    assert seen[-1] == 3
    assert seen[0] == 0  # positions 0 and 1 are of three bytes, and not the first
    assert transport.chunks_added == 3


# -- any interleaving --

CALL_BODIES = st.sampled_from([0, 0, 1, 5, 100, 20_000, 70_000])
STEP = st.one_of(
    st.tuples(
        st.just("settings"),
        st.sampled_from([0, 1, 7, 100, 16384, 65535, 1 << 20, 1 << 29]),
        st.sampled_from([16384, 16385, 65536, 4 << 20]),
        st.sampled_from([0, 1, 2, 3, 200]),
    ),
    st.tuples(st.just("window"), st.integers(0, 30), st.sampled_from([1, 2, 100, 50_000, 1 << 20])),
    st.tuples(st.just("connection"), st.sampled_from([1, 100, 50_000, 1 << 20])),
    st.tuples(st.just("refuse"), st.integers(0, 30)),
    st.tuples(st.just("answer"), st.integers(0, 30), st.sampled_from([200, 200, 404, 500])),
    st.tuples(st.just("ping")),
    st.tuples(st.just("call"), CALL_BODIES),
    st.tuples(st.just("give"), st.lists(st.integers(1, 40), max_size=5)),
    st.tuples(st.just("take"), st.integers(1, 5)),
)


CHOOSING = ("window", "refuse", "answer")


class Conversation:
    """Random steps of a server; requests are answered by their bodies' length at the end."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.folder = ChunkFolder(folder)
        self.fd = os.open(self.folder.path, os.O_RDONLY)
        self.transport = Transport(AUTHORITY, frame_size=50_000, span_size=100_000)
        self.transport.attach_uploads(self.fd, readers=2, buffer_bytes=0)
        self.peer = Peer(self.transport)
        self.peer.grants = False
        sizes = [1, 3000, 90_000, 20, 500, 60_000, 7, 16373]
        self.table = self.folder.dynamic(noise(size, i) for i, size in enumerate(sizes))
        self.calls = 0
        self.failed_uploads = 0
        self.transport.add_chunks(self.table, all_of(self.table), writer_id=1, encrypted=False)

    def step(self, kind: str, *args: Any) -> None:
        peer = self.peer
        some = peer.open_requests
        chosen = some[args[0] % len(some)] if some and kind in CHOOSING else None
        if kind == "settings":
            peer.change(*args)
        elif kind == "window" and chosen:
            peer.open_window(args[1], chosen)
        elif kind == "connection":
            peer.open_window(args[0])
        elif kind == "refuse" and chosen:
            peer.reset(chosen)
        elif kind == "answer" and chosen:
            self.failed_uploads += "_chunk" in chosen.path and args[1] != 200
            peer.answer(chosen, args[1])
        elif kind == "ping":
            peer.h2.ping(b"pingping")
        elif kind == "call":
            self.transport.call(self.calls, "POST", "/call", body=noise(args[0], args[0]))
            self.calls += 1
        elif kind == "give":
            peer.give_input(args[0])
        elif kind == "take":
            peer.take_output(args[0])

    def end(self) -> None:
        """Let everything through, and answer what was not answered yet."""
        peer = self.peer
        peer.settle()
        peer.change(1 << 29, 1 << 20, 200)
        peer.settle()
        wanted = len(self.table)
        peer.open_window(1 << 24)
        peer.serve(
            lambda _: (200, b""),
            lambda: (
                self.transport.state().uploads_done + self.failed_uploads == wanted
                and len(peer.answers) == self.calls + self.failed_uploads
            ),
        )

    def check(self) -> None:
        tags = sorted(answer.tag for answer in self.peer.answers)
        assert tags == [UPLOAD_TAG] * self.failed_uploads + list(range(self.calls))
        assert all(answer.status for answer in self.peer.answers)
        for request in self.peer.requests.values():
            if not request.ended:
                continue
            if "_chunk" in request.path:
                check_upload(request, self.folder, "dynamic", 1)
            else:
                assert bytes(request.body) == noise(len(request.body), len(request.body))
        state = self.transport.state()
        assert (state.open_streams, state.calls_waiting) == (0, 0)

    def close(self) -> None:
        self.transport.close()
        os.close(self.fd)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEP, max_size=60))
def test_everything_arrives_in_any_interleaving(
    steps: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    conversation = Conversation(tmp_path / "store")
    try:
        for step in steps:
            conversation.step(*step)
        conversation.end()
        conversation.check()
    finally:
        conversation.close()


# -- chunks that cannot be read --


def unreadable(world: World, change: str) -> bytes:
    digest = world.folder.add(b"content")
    file = world.folder.file(digest)
    if change == "missing":
        file.unlink()
    elif change == "folder":
        file.unlink()
        file.mkdir()
    elif change == "empty":
        file.write_bytes(b"")
    elif change == "short":
        file.write_bytes(file.read_bytes()[:12])
    elif change == "flipped":
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    elif change == "no blob":
        file.write_bytes(b"x" * 100)
    elif change == "other length":
        file.write_bytes(plain_blob(b"contents"))
    elif change == "encrypted":
        file.write_bytes(encode_blob(b"content", key=CryptKey(bytes(32))))
    elif change == "too large":
        os.truncate(file, 16_777_261)
    return digest


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("missing", "no such file"),
        ("folder", "not a regular file"),
        ("empty", "empty"),
        ("short", "length"),
        ("flipped", "CRC"),
        ("no blob", "magic"),
        ("other length", "length"),
        ("encrypted", "encrypted"),
        ("too large", "larger"),
    ],
)
def test_a_chunk_that_cannot_be_read_is_named(world: World, change: str, reason: str) -> None:
    table = world.folder.dynamic([b"fine", b"content"])
    digest = unreadable(world, change)
    transport = world.transport()
    peer = Peer(transport)
    transport.check_source("")
    transport.add_chunks(table, all_of(table), writer_id=1, encrypted=False)
    with pytest.raises(ChunkError, match=reason) as caught:
        peer.serve(lambda _: (200, b""), lambda: False)
    assert caught.value.digest_hex == digest.hex()
    assert caught.value.path == f"/store/.chunks/{digest.hex()[:4]}/{digest.hex()}"
    assert reason in caught.value.reason


def test_a_chunk_folder_that_cannot_be_read_says_why(world: World) -> None:
    table = world.folder.dynamic([b"fine"])
    transport = Transport(AUTHORITY)
    reading, writing = os.pipe()
    try:
        transport.attach_uploads(reading, readers=1, buffer_bytes=0)
        transport.add_chunks(table, all_of(table), writer_id=1, encrypted=False)
        with pytest.raises(ChunkError):
            Peer(transport).serve(lambda _: (200, b""), lambda: False)
    finally:
        transport.close()
        os.close(reading)
        os.close(writing)


# -- life and death --


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_readers_are_started_as_they_are_needed(world: World) -> None:
    """As many as there is work for, and never more than were asked for."""
    table = world.folder.dynamic(noise(10, i) for i in range(20))
    before = threads()
    transport = world.transport(readers=5, delay_s=0.02)
    counts = [threads()]
    transport.add_chunks(table, positions(0), writer_id=1, encrypted=False)
    counts.append(threads())
    transport.add_chunks(table, all_of(table), writer_id=1, encrypted=False)
    counts.append(threads())
    peer = Peer(transport)

    def answered(_request: Request) -> tuple[int, bytes]:
        counts.append(threads())
        return 200, b""

    peer.serve(answered, lambda: transport.chunks_acknowledged == 21)
    assert [count - before for count in counts[:2]] == [0, 1]
    assert max(counts) == before + 5
    transport.close()
    assert threads() == before


def test_an_output_carries_no_more_than_is_asked_for(world: World) -> None:
    """For a rate limit: bodies of calls, parts of large chunks, and small chunks back to back."""
    sizes = [20_000, 300, 300, 300, 700]
    table = world.folder.dynamic(noise(size, i) for i, size in enumerate(sizes))
    transport = world.transport(readers=1)
    transport.call(1, "POST", "/blob", body=bytes(10_000))
    transport.add_chunks(table, all_of(table), writer_id=1, encrypted=False)
    poll = select.poll()
    poll.register(transport.event_fd, select.POLLIN)
    sent = [0]
    while sent[-1] < 10_000 + sum(sizes) + 12 * len(sizes):
        span = transport.send(1000)
        if span is None:
            assert poll.poll(PATIENCE_MS)
        else:
            span.release()
            sent.append(transport.state().sent_bytes)
    assert max(after - before for before, after in itertools.pairwise(sent)) == 1000
    with pytest.raises(ValueError, match="invalid"):
        transport.send(0)


def test_freed_with_uploads_in_flight(world: World) -> None:
    """Many times: by close, or by garbage collection, with readers busy and streams open."""
    table = world.folder.dynamic(noise(200_000, i) for i in range(100))
    gc.collect()
    before = threads(), len(list(Path("/proc/self/fd").iterdir()))
    for round_number in range(40):
        transport = Transport(AUTHORITY)
        transport.attach_uploads(
            world.fd, readers=4, buffer_bytes=0, open_delay_s=0.001 * (round_number % 2)
        )
        transport.add_chunks(table, all_of(table), writer_id=1, encrypted=False)
        peer = Peer(transport)
        for _ in range(round_number % 5):
            peer.settle()
        if round_number % 3:
            transport.close()
        del transport, peer
        gc.collect(0)
    gc.collect()
    assert (threads(), len(list(Path("/proc/self/fd").iterdir()))) == before


def test_a_closed_transport_keeps_its_counts_only(world: World) -> None:
    table = world.folder.dynamic([b"one", b"two"])
    transport = world.transport()
    peer = Peer(transport)
    upload_all(world, transport, peer, table)
    state = transport.state()
    transport.close()
    transport.close()
    assert transport.state() == state
    assert (transport.chunks_added, transport.chunks_acknowledged) == (2, 2)
    assert transport.event_fd == -1
    transport.check_source("")
    for use in (
        transport.send,
        transport.answers,
        lambda: transport.receive(b"x"),
        lambda: transport.call(1, "GET", "/"),
        lambda: transport.add_chunks(table, positions(0), writer_id=1, encrypted=False),
        lambda: transport.put_entries(1, "/", table, writer_id=1, limit=999, count=1),
        lambda: transport.attach_uploads(0, readers=1, buffer_bytes=0),
    ):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_nothing_moves_while_a_view_is_out() -> None:
    transport = Transport(AUTHORITY)
    with pytest.raises(BufferError):
        memoryview(transport)  # type: ignore[arg-type]
    view = transport.send()
    assert view is not None
    part = view[3:]
    view.release()
    for use in (transport.send, lambda: transport.receive(b"x"), transport.close):
        with pytest.raises(BufferError, match="still in use"):
            use()
    part.release()
    transport.close()


def test_a_view_keeps_its_memory() -> None:
    view = Transport(AUTHORITY).send()
    gc.collect()
    assert view is not None
    with view:
        assert view.readonly
        assert bytes(view[:24]) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def test_bad_arguments_are_refused(world: World) -> None:
    table = world.folder.dynamic([b"one"])
    transport = world.transport()
    with pytest.raises(ValueError, match="attached already"):
        transport.attach_uploads(world.fd, readers=1, buffer_bytes=0)
    with pytest.raises(ValueError, match="adding chunks"):
        transport.add_chunks(table, positions(1), writer_id=1, encrypted=False)
    assert transport.add_chunks(table, positions(), writer_id=1, encrypted=False) == 0
    other = Transport(AUTHORITY)
    with pytest.raises(ValueError, match="no uploads"):
        other.add_chunks(table, positions(0), writer_id=1, encrypted=False)
    assert (other.event_fd, other.chunks_added, other.chunks_acknowledged) == (-1, 0, 0)
    for delay_s in (-1.0, float("nan"), 1e9):
        with pytest.raises(ValueError, match="open_delay_s"):
            other.attach_uploads(world.fd, readers=1, buffer_bytes=0, open_delay_s=delay_s)
    with pytest.raises(ValueError, match="upload buffer"):
        other.attach_uploads(world.fd, readers=0, buffer_bytes=0)
    with pytest.raises(ValueError, match="mode"):
        other.call(1, "GET", "/", mode=3)
    with pytest.raises(ValueError, match="HEAD"):
        other.call(1, "HEAD", "/")
    with pytest.raises(FormatError):
        other.call(1, "GET", "/" + "p" * 20_000)
    for sizes in ({"frame_size": 0}, {"span_size": 0}):
        with pytest.raises(ValueError, match="HTTP/2"):
            Transport(AUTHORITY, **sizes)


# -- calls --


def test_calls_and_their_modes() -> None:
    transport = Transport(AUTHORITY)
    peer = Peer(transport)
    transport.call(1, "GET", "/previous?archive-name=a.fidx", mode=DISCARD)
    transport.call(2, "GET", "/previous?archive-name=b.fidx", mode=DOWNLOAD, max_body=1 << 20)
    transport.call(3, "POST", "/blob", body=b"body", content_type="text/x")
    transport.call(4, "POST", "/finish", max_body=4)
    peer.settle()
    first, second, third, fourth = peer.requests.values()
    assert [r.method for r in peer.requests.values()] == ["GET", "GET", "POST", "POST"]
    assert third.headers["content-type"] == "text/x"
    assert "content-type" not in fourth.headers
    assert bytes(third.body) == b"body"
    peer.h2.send_headers(first.stream_id, [(":status", "200")])
    # More than the window that every stream has: it was opened for the download.
    peer.h2.send_headers(second.stream_id, [(":status", "200")])
    for _ in range(8):
        peer.h2.send_data(second.stream_id, bytes(16384))
    peer.h2.end_stream(second.stream_id)
    peer.answer(third, 400, b"why not")
    peer.h2.send_headers(fourth.stream_id, [(":status", "200")])
    peer.h2.send_data(fourth.stream_id, b"too long")
    peer.settle()
    found = {a.tag: (a.status, len(a.body), a.too_large) for a in peer.answers}
    assert found == {
        1: (200, 0, False),
        2: (200, 8 * 16384, False),
        3: (400, 7, False),
        4: (200, 4, True),
    }
    assert transport.state().open_streams == 0


def test_goaway_ends_it_gently_or_not() -> None:
    transport = Transport(AUTHORITY)
    peer = Peer(transport)
    transport.call(1, "GET", "/")
    peer.settle()
    peer.h2.close_connection(0, last_stream_id=1)
    peer.give_input()
    state = transport.state()
    assert state.going_away
    assert state.open_streams == 1

    transport = Transport(AUTHORITY)
    peer = Peer(transport)
    peer.h2.close_connection(2, additional_data=b"overload")
    with pytest.raises(ConnectError, match="error 2, overload"):
        peer.give_input()
    with pytest.raises(ConnectError, match="error 2, overload"):
        transport.send()


def test_a_window_that_is_not_given_back_gets_full(world: World) -> None:
    """On a long link: all that the server allows is under way, to the byte."""
    allowed = 32 << 20
    transport = world.transport()
    peer = Peer(transport, window=allowed, frame=4 << 20)
    peer.open_window(allowed - 65535)
    peer.grants = False
    table = world.folder.dynamic(noise(2 << 20, i) for i in range(20))
    transport.add_chunks(table, all_of(table), writer_id=1, encrypted=False)
    ready = select.poll()
    ready.register(transport.event_fd, select.POLLIN)
    while transport.state().sent_bytes < allowed:
        peer.settle()
        transport.check_source("/store/.chunks")
        if transport.state().sent_bytes < allowed:
            assert ready.poll(60_000), "nothing happens any more"
    peer.settle()
    state = transport.state()
    assert (state.sent_bytes, state.send_window) == (allowed, 0)
