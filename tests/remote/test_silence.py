"""A target that is silent, one that is dead, and one that is just slow."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import pytest

from pbs_push.errors import ConfigError, ConnectError
from pbs_push.remote import connection, tls_stream
from pbs_push.remote.limits import Limits, SessionWatch, Stall
from pbs_push.remote.tls import TrustContext
from pbs_push.remote.tls_stream import TlsStream

from .servers import PATIENCE_S, Identity, Line, Server, read_request
from .sessions import (
    SETTINGS,
    SWITCH,
    H2Server,
    finish,
    frame,
    replies,
    session_with,
    uploading,
    waits,
)


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"", frame(6, 0, 0, b"pingping")),
        (b"", SETTINGS),
        (b"", frame(8, 0, 0, bytes((0, 0, 0, 1)))),
        (b"", frame(1, 4, 1, b"\x08\x03103")),
        (frame(1, 4, 1, b"\x88"), frame(0, 0, 1, b"")),
        (frame(1, 4, 1, b"\x88"), frame(0, 8, 1, b"\x02\0\0")),
        (b"", frame(0xFA, 0, 0, b"what is this?")),
        # Random bytes can be the beginning of a long frame, which is then waited for.
        (frame(0xFA, 0, 0, bytes(16_384))[:4096], b""),
        (frame(0xFA, 0, 0, bytes(16_384))[:4096], b"x"),
        (frame(1, 0, 1, b"\x88"), b""),
    ],
    ids=[
        "pings", "settings", "window", "interim answers", "empty pieces of a body", "padding",
        "unknown frames", "a frame that does not end", "a frame that hardly grows",
        "headers that do not end",
    ],
)  # fmt: skip
def test_what_is_no_progress_ends_no_silence(
    identity: Identity, first: bytes, again: bytes
) -> None:
    def script(line: Line) -> None:
        read_request(line)
        line.send(SWITCH + SETTINGS)
        while b"/finish" not in line._received:
            line.read()
        if first:
            line.send(first)
        if not again:
            line.read_to_the_end()
            return
        for _ in range(200):  # then it closes the connection
            line.send(again)
            time.sleep(0.02)

    with (
        Server(identity, script) as server,
        pytest.raises(ConnectError, match=f"127.0.0.1:{server.port} has not answered for"),
    ):
        finish(server, timeout_s=0.3)


def test_a_slow_body_is_progress(identity: Identity) -> None:
    """Enough of it comes in time, all of it does not."""
    silence_s = 1.0

    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.h2.send_headers(stream, [(":status", "200")])
        for at in range(0, len(text), 10):
            peer.h2.send_data(stream, text[at : at + 10])
            peer.flush()
            time.sleep(silence_s / 20)
        peer.h2.end_stream(stream)

    text = b'{"data":null}'.rjust(300)
    with (
        Server(identity, H2Server(handler)) as server,
        session_with(server, timeout_s=silence_s) as session,
    ):
        call = session.finish()
        session.wait([call])
        assert call.body() == text


def test_nothing_asked_needs_no_answer(identity: Identity) -> None:
    """Who encrypts may find for long that the target has each of the chunks."""
    steps = itertools.count()
    wake = os.eventfd(1)
    try:
        with (
            Server(identity, replies(SWITCH + SETTINGS, waits)) as server,
            session_with(server, timeout_s=0.2) as session,
        ):
            session.pump(lambda: next(steps) == 20, wake_fd=wake)
            with pytest.raises(ConnectError, match="has not answered"):
                session.wait([session.finish()])
    finally:
        os.close(wake)


def test_a_source_that_is_slow_is_not_the_targets_silence(
    identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.answer(stream, 200, b"")

    monkeypatch.setattr(connection, "LONG_WAIT_S", 0.05)
    with (
        Server(identity, H2Server(handler)) as server,
        uploading(server, tmp_path, open_delay_s=0.6, timeout_s=0.2) as session,
    ):
        session.pump(lambda: session.chunks_acknowledged > 0)


def test_a_target_that_allows_no_stream_is_silent(
    identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LONG_WAIT_S", 0.05)
    no_streams = frame(4, 0, 0, b"\0\3\0\0\0\0")
    with (
        Server(identity, replies(SWITCH + no_streams, waits)) as server,
        uploading(server, tmp_path, timeout_s=0.2) as session,
        pytest.raises(ConnectError, match="has not answered"),
    ):
        session.pump(lambda: False)


SO_ATTACH_FILTER = 26
"""Of Linux; Python has no name for it."""


def drop_all(line: socket.socket) -> None:
    """From now on, what comes for this socket is lost, as if its machine had lost power."""
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # return 0 bytes
    program = struct.pack("HL", 1, ctypes.addressof(instruction))
    line.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def tcp_backoff(stream: TlsStream) -> int:
    """How often the system has doubled its patience."""
    return stream._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[4]


@contextlib.contextmanager
def connected(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[TlsStream, socket.socket]]:
    """Both ends of a TLS connection whose server reads nothing any more."""
    monkeypatch.setattr(tls_stream, "DEAD_AFTER_S", 0.5)
    over = threading.Event()
    peers: list[socket.socket] = []

    def script(line: Line) -> None:
        peers.append(line._socket)
        over.wait(PATIENCE_S)

    with Server(identity, script) as server:
        context = TrustContext(identity.fingerprint)
        stream = TlsStream("127.0.0.1", server.port, context, threading.Event())
        try:
            while not (peers and stream.wait(1.0)):
                time.sleep(0.01)
            while stream.wait(0.0):  # the server's tickets
                stream.receive()
            yield stream, peers[0]
        finally:
            stream.close()
            over.set()


def fill(stream: TlsStream) -> None:
    """Write until the target's window is closed."""
    stream.write(bytes(32 << 20))
    while not stream.flush():
        if tcp_backoff(stream):
            return
        stream.wait(tls_stream.CANCEL_POLL_S)


def wait_forever(stream: TlsStream) -> None:
    while True:
        stream.wait(1.0)


def test_a_target_that_stalls_is_not_dead(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernel answers every probe of its closed window; that it reads nothing is its affair."""
    with connected(identity, monkeypatch) as (stream, _peer):
        # It would end the line although every probe is answered.
        assert stream._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
        fill(stream)
        while tcp_backoff(stream) < 4:  # the last probes were more than a second apart
            assert not stream.wait(1.0)
            stream.flush()


@pytest.mark.parametrize("stalled", [True, False])
def test_a_target_that_vanished_is_dead(
    identity: Identity, monkeypatch: pytest.MonkeyPatch, stalled: bool
) -> None:
    with connected(identity, monkeypatch) as (stream, peer):
        if stalled:
            fill(stream)
        drop_all(peer)
        stream.write(b"are you there?")
        stream.flush()
        with pytest.raises(ConnectError, match=r"127\.0\.0\.1:.* is gone: nothing was acknow"):
            wait_forever(stream)


class Kernel:
    """A line of so many bytes a second, and the kernel's buffer before it."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.waiting = 0.0

    def passes(self, seconds: float) -> None:
        self.waiting = max(0.0, self.waiting - seconds * self.rate)

    @property
    def unacknowledged(self) -> int:
        return int(self.waiting)


@pytest.mark.parametrize("limit_s", [1.0, 10.0, 900.0])
def test_a_slow_line_is_not_a_stall(limit_s: float) -> None:
    """4 MiB are handed to the system at once; nothing more is sent until half an hour later."""
    watch, line, chunk = SessionWatch(limit_s), Kernel(2048), 4 << 20
    line.waiting = chunk * 1.002  # with what TLS and HTTP/2 add
    step_s, waited_s = min(0.2, limit_s / 10), 0.0
    assert watch.look((1, 1, chunk, 0), step_s, line)
    while line.waiting:
        line.passes(step_s)
        waited_s += step_s
        assert watch.look((1, 1, chunk, 0), step_s, line), f"given up after {waited_s:.0f} s"
    assert waited_s > 2000
    steps = 0
    while watch.look((1, 1, chunk, 0), step_s, line):
        steps += 1
    assert steps * step_s <= limit_s * 2, "what never comes after that is one"


@pytest.mark.parametrize(
    "trickle", ["nothing", "a byte received", "a byte sent", "a byte acknowledged", "pings"]
)
def test_a_trickle_is_a_stall(trickle: str) -> None:
    """One byte each second, and whatever a target makes us answer."""
    limit_s = 900.0
    watch, line = SessionWatch(limit_s), Kernel(1.0 if trickle == "a byte acknowledged" else 0.0)
    line.waiting = 1 << 20 if trickle == "a byte acknowledged" else 0
    sent, received, seconds = 4 << 20, 0, 0
    while watch.look((7, 3, sent, received), 1.0, line):
        seconds += 1
        line.passes(1.0)
        received += trickle == "a byte received"
        sent += trickle == "a byte sent"
        if trickle == "pings":
            line.waiting = seconds % 2 * 17_000  # our answers, acknowledged now and then
        assert seconds < limit_s * 3
    assert seconds >= limit_s - 1


def test_requests_that_are_answered_are_progress() -> None:
    watch, line = SessionWatch(1.0), Kernel(0)
    for number in range(50):
        assert watch.look((number, 1, 0, 0), 0.9, line)
    assert watch.look((50, 1, 0, 0), 5.0, line)
    assert not watch.look((50, 1, 0, 0), 5.0, line)
    assert watch.look(None, 5.0, line), "nothing is owed"


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), 90_000, True, "5"])
def test_a_limit_is_more_than_nothing_and_never_endless(value: float) -> None:
    with pytest.raises(ConfigError, match="more than 0 seconds, and at most a day"):
        Limits.of(value)


def test_one_limit_is_that_of_each_phase() -> None:
    assert set(astuple(Limits.of(7.0))) == {7.0}
    long = Limits.of(3600.0)
    assert (long.connect_s, long.session_s, long.removal_s) == (30.0, 3600.0, 3600.0)
    assert max(astuple(Limits.of(None))) == 900.0
    stall = Stall(0.25)
    assert stall.text("x") == "x has not answered for 0.25 s (--timeout)"


def test_a_window_that_opens_slowly_is_progress(identity: Identity, tmp_path: Path) -> None:
    """It takes a multiple of the limit until a chunk is through; enough of it goes in time."""

    class Slow(H2Server):
        def serve(self, line: Line) -> None:
            wide = frame(8, 0, 0, (1 << 24).to_bytes(4, "big"))
            line.send(SWITCH + frame(4, 0, 0, bytes((0, 4, 0, 0, 16, 0))) + wide)
            wants = frame(8, 0, 1, (4096).to_bytes(4, "big"))
            while b"chunk" not in line._received and len(line._received) < 4096:
                line.read()
            for _ in range(30):
                line.send(wants)
                time.sleep(0.05)
            line.read_to_the_end()

    sent: list[int] = []
    with (
        Server(identity, Slow(lambda *_: None)) as server,
        uploading(server, tmp_path, timeout_s=0.4) as session,
        pytest.raises(ConnectError, match="has not answered"),
    ):
        session.pump(lambda: sent.append(session.state.sent_bytes) is not None)
    assert sent[-1] >= 31 * 4096, "it went on for as long as the window opened"
