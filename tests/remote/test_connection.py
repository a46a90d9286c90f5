"""TLS, the upgrade and what follows it, against servers that break off or talk nonsense."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import itertools
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h2.events as ev
import numpy as np
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from pbs_push._native.transport import Transport
from pbs_push.errors import (
    AuthError,
    Cancelled,
    ChunkError,
    ConnectError,
    DeniedError,
    IndexFormatError,
    PbsPushError,
    ProtocolError,
    StatusError,
    TlsError,
)
from pbs_push.formats.blob import encode_blob
from pbs_push.formats.index import open_index, write_dynamic_index
from pbs_push.formats.index_writer import fixed_index_bytes
from pbs_push.formats.manifest import Manifest
from pbs_push.names import MANIFEST_NAME, Namespace, Snapshot
from pbs_push.remote import connection, tls_stream
from pbs_push.remote.pacing import Pacer
from pbs_push.remote.session import BackupSession
from pbs_push.remote.target import Target
from pbs_push.remote.tls import TrustContext
from pbs_push.remote.tls_stream import TlsStream
from pbs_push.target import Identities, TargetServer, create_datastore

from .servers import PATIENCE_S, Asked, Identity, Line, Script, Server, answer, http, read_request

SNAPSHOT = Snapshot.parse("host/web/2026-11-22T18:49:14Z")
SECRET = "correct horse"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n" + (
    b"upgrade: proxmox-backup-protocol-v1\r\n\r\n"
)
SETTINGS = bytes.fromhex("000000040000000000")
SO_ATTACH_FILTER = 26
"""Of Linux; Python has no name for it."""


def nothing(_line: Line) -> None:
    """Close at once."""


def waits(line: Line) -> None:
    line.read_to_the_end()


def replies(data: bytes, then: Script = nothing) -> Script:
    """Read the upgrade request, say this, and go on."""

    def script(line: Line) -> None:
        read_request(line)
        line.send(data)
        then(line)

    return script


def says(data: bytes, then: Script = nothing) -> Script:
    def script(line: Line) -> None:
        line.send(data)
        then(line)

    return script


def reads(then: Script = nothing) -> Script:
    """Read something, the HTTP/2 preface say."""

    def script(line: Line) -> None:
        line.read()
        then(line)

    return script


@contextlib.contextmanager
def session_with(
    server: Server, cancelled: threading.Event | None = None, pacer: Pacer | None = None
) -> Iterator[BackupSession]:
    """A backup session that uploads no chunks."""
    with Target(server.repository, SECRET, server.identity.fingerprint) as target:
        session = target.begin_backup(
            target.connect(cancelled or threading.Event()),
            Namespace(),
            SNAPSHOT,
            chunks_path="/store/.chunks",
            transport=target.transport(),
            pacer=pacer,
        )
        try:
            yield session
        finally:
            session.close()


def finish(server: Server) -> None:
    """Begin a session, and finish it."""
    with session_with(server) as session:
        call = session.finish()
        session.wait([call])
        call.body()


def test_too_many_open_files_are_told(
    identity: Identity, no_free_descriptor: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    "a codec that is loaded when first used".encode("idna")
    what_to_do = r"Too many open files: raise the limit \(ulimit -n\), or lower --parallel"
    with (
        Target("root@pam!push@127.0.0.1:1:store1", SECRET, identity.fingerprint) as target,
        no_free_descriptor(),
    ):
        with pytest.raises(ConnectError, match=what_to_do):
            target.api.status()
        with pytest.raises(ConnectError, match=what_to_do):
            target.connect(threading.Event())


# -- before the upgrade --


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        (nothing, ConnectError, "closed|broke"),
        (reads(), ConnectError, "closed the connection during the TLS handshake"),
        (reads(Line.reset), ConnectError, "connection to 127.0.0.1:.* broke"),
        (says(b"HTTP/1.1 400 Bad\r\n\r\n", waits), TlsError, "is it a Proxmox Backup Server"),
        (says(b"\x15\x03\x03\x00\x02\x02\x28", waits), TlsError, "(?i)handshake"),
        (waits, ConnectError, "does not answer: no TLS connection in time"),
    ],
)
def test_no_tls(
    identity: Identity,
    script: Script,
    error: type[PbsPushError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tls_stream, "CONNECT_TIMEOUT_S", 0.3)
    with (
        Server(identity, script, tls=False) as server,
        pytest.raises(error, match=message) as caught,
    ):
        finish(server)
    assert f"127.0.0.1:{server.port}" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(
        ConnectError, match=f"cannot connect to 127.0.0.1:{port}: Connection refused"
    ):
        TlsStream("127.0.0.1", port, TrustContext(bytes(32)), threading.Event())


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70])
def test_no_such_host(host: str) -> None:
    with pytest.raises(ConnectError, match=r"cannot (find|connect to) "):
        TlsStream(host, 1, TrustContext(bytes(32)), threading.Event())


def test_another_certificate_gets_no_credentials(
    identity: Identity, other_identity: Identity
) -> None:
    with Server(identity, waits) as server:
        for fingerprint in (other_identity.fingerprint, None):
            with Target(server.repository, SECRET, fingerprint) as target:
                with pytest.raises(TlsError, match="fingerprint"):
                    target.connect(threading.Event())
                with pytest.raises(TlsError, match="fingerprint"):
                    target.rest.get("version")
    assert server.connections == 4 + 2, "it was asked whether a CA vouches for it"
    assert server.received == b""


def test_a_resumed_session_is_checked_too(identity: Identity) -> None:
    context = TrustContext(identity.fingerprint)
    with Server(identity, replies(answer(400))) as server:
        first = TlsStream("127.0.0.1", server.port, context, threading.Event())
        transport = Transport("t:1")
        with pytest.raises(StatusError):
            connection.upgrade(first, "/", {}, "beginning", transport=transport)
        session = first.session
        first.close()
        again = TlsStream("127.0.0.1", server.port, context, threading.Event(), session)
        assert again.session_reused
        again.close()
        context.fingerprint = bytes(32)
        before = len(server.received)
        with pytest.raises(TlsError, match="no credentials were sent"):
            TlsStream("127.0.0.1", server.port, context, threading.Event(), session)
    assert len(server.received) == before


def _send_buffer(identity: Identity) -> int:
    """What a connection says that its socket has for sending."""
    context = TrustContext(identity.fingerprint)
    with Server(identity, Line.read_to_the_end) as server:
        stream = TlsStream("127.0.0.1", server.port, context, threading.Event())
        try:
            return stream._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        finally:
            stream.close()


def test_a_whole_window_fits_into_the_send_buffer_where_we_may(identity: Identity) -> None:
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, tls_stream._SO_SNDBUFFORCE, 8 << 20)
        except PermissionError:
            pytest.skip("only with CAP_NET_ADMIN may a socket's buffer be large")
    assert _send_buffer(identity) >= 64 << 20  # a window of 32 MiB, and the kernel's overhead


def test_without_the_right_to_it_the_send_buffer_is_left_to_the_kernel(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_stream, "_SO_SNDBUFFORCE", 9999)  # refused, if with another error
    with socket.socket() as plain:
        usual = plain.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    most = int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text(encoding="ascii").split()[2])
    assert usual <= _send_buffer(identity) <= max(usual, most)


# -- the upgrade --


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        (nothing, ConnectError, "closed|broke"),
        (replies(b""), ConnectError, "closed the connection without an answer"),
        (replies(b"HTTP/1.1 101 Swi"), ConnectError, "closed the connection without an answer"),
        (replies(b"", Line.reset), ConnectError, "broke"),
        (replies(b"\x00\x01garbage\r\n\r\n"), ProtocolError, "not HTTP"),
        (replies(SETTINGS * 10), ProtocolError, "not HTTP"),
        (replies(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), ProtocolError, "not HTTP"),
        (replies(b"HTTP/1.1 101 x\r\nx: " + b"y" * 200_000), ProtocolError, "not HTTP"),
        (replies(answer(200, b"hello")), ProtocolError, "status 200 .* is it a Proxmox"),
        (replies(answer(200)), ProtocolError, "status 200 .* is it a Proxmox"),
        (replies(b"HTTP/1.0 200 OK\r\n\r\nhello"), ProtocolError, "status 200"),
        (replies(b"HTTP/1.0 400 Bad\r\n\r\nwhy \x1b[31mnot"), StatusError, r"why \[31mnot"),
        (replies(answer(302, b"", "location: /")), StatusError, "status 302"),
        (replies(answer(400, b"backup timestamp is older")), StatusError, "timestamp is older"),
        (replies(answer(403, b"missing permissions 'X'")), DeniedError, "missing permissions 'X'"),
        (replies(answer(401, b"")), AuthError, "refuses the credentials"),
        (replies(answer(500)), StatusError, "no reason given .status 500"),
        (replies(answer(503, b"e" * 100_000)), StatusError, "e{500}… "),
        (replies(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(404, b"no")), StatusError, "status 404"),
        (replies(SWITCH + b"no HTTP/2 at all, but text"), ProtocolError, "does not speak HTTP/2"),
        (replies(b"", waits), ConnectError, "does not answer"),
    ],
)
def test_no_upgrade(
    identity: Identity,
    script: Script,
    error: type[PbsPushError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "UPGRADE_TIMEOUT_S", 0.3)
    with Server(identity, script) as server, pytest.raises(error, match=message) as caught:
        finish(server)
    text = str(caught.value)
    assert type(caught.value) is error
    assert f"127.0.0.1:{server.port}" in text
    assert SECRET not in text
    assert "\x1b" not in text


def test_the_upgrade_request(identity: Identity) -> None:
    asked: list[Asked] = []
    with (
        Server(identity, http(lambda _: answer(400), asked)) as server,
        Target(server.repository, "s%c ret", identity.fingerprint) as target,
        pytest.raises(StatusError, match="host/web/2026-11-22T18:49:14Z in namespace a/b"),
    ):
        target.begin_backup(
            target.connect(threading.Event()),
            Namespace.parse("a/b"),
            SNAPSHOT,
            chunks_path="",
            transport=target.transport(),
            benchmark=True,
        )
    (request,) = asked
    assert (request.method, request.path) == ("GET", "//api2/json/backup")
    assert request.query == {
        "store": "store1",
        "ns": "a/b",
        "backup-type": "host",
        "backup-id": "web",
        "backup-time": "1795373354",
        "benchmark": "1",
    }
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["upgrade"] == "proxmox-backup-protocol-v1"
    assert request.headers["connection"].lower() == "upgrade"
    assert request.headers["authorization"] == "PBSAPIToken=root@pam!push:s%25c%20ret"
    assert "csrfpreventiontoken" not in request.headers


# -- after the upgrade --


def goaway(code: int, last_stream: int = 0) -> bytes:
    payload = last_stream.to_bytes(4, "big") + code.to_bytes(4, "big") + b"bye"
    return len(payload).to_bytes(3, "big") + bytes((7, 0, 0, 0, 0, 0)) + payload


@pytest.mark.parametrize(
    ("then", "error", "message"),
    [
        (nothing, ConnectError, "closed the connection|broke"),
        (Line.say_goodbye, ConnectError, "closed the connection|broke"),
        (Line.reset, ConnectError, "closed the connection|broke"),
        (reads(says(b"HTTP/1.1 400 Bad Request\r\n\r\n", waits)), ProtocolError, "HTTP/2"),
        (reads(says(b"\xff" * 50, waits)), ProtocolError, "HTTP/2"),
        (reads(says(SETTINGS + goaway(0), waits)), ConnectError, "did not take the request"),
        (reads(says(SETTINGS + goaway(11), waits)), ConnectError, "error 11, bye"),
        (reads(says(SETTINGS, waits)), ConnectError, "has not answered for"),
        (waits, ConnectError, "has not answered for"),
    ],
)
def test_no_session(
    identity: Identity,
    then: Script,
    error: type[PbsPushError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "SILENCE_TIMEOUT_S", 0.3)
    with (
        Server(identity, replies(SWITCH, then)) as server,
        pytest.raises(PbsPushError, match=message) as caught,
    ):
        finish(server)
    assert type(caught.value) is error
    text = str(caught.value)
    assert f"127.0.0.1:{server.port}" in text or str(SNAPSHOT) in text


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


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
    identity: Identity, first: bytes, again: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SILENCE_TIMEOUT_S", 0.3)

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
        finish(server)


def test_a_slow_body_is_progress(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part comes in time, all of them do not."""
    silence_s = 1.0
    monkeypatch.setattr(connection, "SILENCE_TIMEOUT_S", silence_s)

    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.h2.send_headers(stream, [(":status", "200")])
        for at in range(0, len(text), 10):
            peer.h2.send_data(stream, text[at : at + 10])
            peer.flush()
            time.sleep(silence_s / 20)
        peer.h2.end_stream(stream)

    text = b'{"data":null}'.rjust(300)
    with Server(identity, H2Server(handler)) as server, session_with(server) as session:
        call = session.finish()
        session.wait([call])
        assert call.body() == text


def test_nothing_asked_needs_no_answer(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who encrypts may find for long that the target has each of the chunks."""
    monkeypatch.setattr(connection, "SILENCE_TIMEOUT_S", 0.0)
    steps = itertools.count()
    wake = os.eventfd(1)
    try:
        with (
            Server(identity, replies(SWITCH + SETTINGS, waits)) as server,
            session_with(server) as session,
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

    monkeypatch.setattr(connection, "SILENCE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(connection, "LONG_WAIT_S", 0.05)
    with (
        Server(identity, H2Server(handler)) as server,
        uploading(server, tmp_path, open_delay_s=0.6) as session,
    ):
        session.pump(lambda: session.chunks_acknowledged > 0)


def test_a_target_that_allows_no_stream_is_silent(
    identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SILENCE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(connection, "LONG_WAIT_S", 0.05)
    no_streams = frame(4, 0, 0, b"\0\3\0\0\0\0")
    with (
        Server(identity, replies(SWITCH + no_streams, waits)) as server,
        uploading(server, tmp_path) as session,
        pytest.raises(ConnectError, match="has not answered"),
    ):
        session.pump(lambda: False)


class H2Server:
    """A server's side made with `h2`: calls a function for each whole request."""

    def __init__(self, handler: Callable[[H2Server, int, dict[str, str], bytes], None]) -> None:
        self._handler = handler

    def __call__(self, line: Line) -> None:
        read_request(line)
        line.send(SWITCH)
        self.line = line
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.flush()
        heads: dict[int, dict[str, str]] = {}
        bodies: dict[int, bytearray] = {}
        self.running = True
        while self.running and (data := line.read()):
            for event in self.h2.receive_data(data):
                if isinstance(event, ev.RequestReceived):
                    heads[event.stream_id] = {str(k): str(v) for k, v in event.headers}
                    bodies[event.stream_id] = bytearray()
                elif isinstance(event, ev.DataReceived):
                    bodies[event.stream_id] += event.data
                    size = event.flow_controlled_length
                    self.h2.increment_flow_control_window(size)
                    if not event.stream_ended:
                        self.h2.increment_flow_control_window(size, event.stream_id)
                elif isinstance(event, ev.StreamEnded):
                    stream = event.stream_id
                    self._handler(self, stream, heads[stream], bytes(bodies[stream]))
            self.flush()

    def answer(self, stream: int, status: int, body: bytes) -> None:
        self.h2.send_headers(stream, [(":status", str(status))], end_stream=not body)
        if body:
            self.h2.send_data(stream, body, end_stream=True)

    def begin_file(self, stream: int, content: bytes) -> None:
        """All of an answer but its end, in pieces of 1,000 bytes."""
        self.h2.send_headers(stream, [(":status", "200")])
        for at in range(0, len(content), 1000):
            self.h2.send_data(stream, content[at : at + 1000])

    def flush(self) -> None:
        self.line.send(self.h2.data_to_send())


def test_the_last_answer_counts_although_the_line_is_closed(identity: Identity) -> None:
    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.answer(stream, 200, b'{"data":null}')
        peer.flush()
        peer.line.say_goodbye()
        peer.running = False

    for _ in range(5):
        with Server(identity, H2Server(handler)) as server:
            finish(server)


ANSWERED = bytes.fromhex("000001 01 05 00000001 88")
"""Headers of stream 1 and its end: status 200."""


@pytest.mark.parametrize(
    "then",
    [
        says(SETTINGS + ANSWERED + b"\xff" * 50, waits),
        says(SETTINGS + ANSWERED + goaway(11), waits),
        says(SETTINGS + ANSWERED, says(b"\xff" * 50)),
        says(SETTINGS + ANSWERED, Line.reset),
        says(SETTINGS + ANSWERED, Line.spoil),
    ],
)
def test_the_last_answer_counts_whatever_comes_behind_it(identity: Identity, then: Script) -> None:
    """It is whole: the target has the snapshot, and what breaks afterwards changes nothing."""
    with Server(identity, replies(SWITCH, reads(then))) as server:
        finish(server)


def test_a_session_ends_in_order(identity: Identity) -> None:
    """A server that sees the line just end may log an error for a backup that is all right."""
    ends: list[object] = []

    class Peer(H2Server):
        def __call__(self, line: Line) -> None:
            super().__call__(line)
            ends.append(line.ends_in_order())

    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.answer(stream, 200, b'{"data":null}')

    with Server(identity, Peer(handler)) as server:
        finish(server)
    with Server(identity, Peer(lambda *_: None)) as server, session_with(server) as session:
        session.finish()
        session.pump(lambda: session.state.settings_seen)
    assert ends == [True, False]


def test_a_101_needs_no_headers(identity: Identity) -> None:
    """Only the status says what follows: other servers may name the protocol in their own way."""

    def script(line: Line) -> None:
        read_request(line)
        line.send(b"HTTP/1.1 101 \r\n\r\n" + SETTINGS)
        line.read()
        line.send(bytes.fromhex("0000010105000000") + b"\x01\x88")
        line.read_to_the_end()

    with Server(identity, script) as server:
        finish(server)


@pytest.mark.parametrize("paced", [False, True])
def test_calls_over_a_real_line(identity: Identity, paced: bool) -> None:
    seen: dict[str, bytes] = {}

    def handler(peer: H2Server, stream: int, head: dict[str, str], body: bytes) -> None:
        seen[head[":path"]] = body
        peer.answer(stream, 200, json.dumps({"data": len(seen)}).encode())

    big = os.urandom(3_000_000)
    pacer = Pacer(50_000_000) if paced else None
    with (
        Server(identity, H2Server(handler)) as server,
        session_with(server, pacer=pacer) as session,
    ):
        calls = [
            session.create_fixed("a.img.fidx", 5, bytes(32)),
            session.create_dynamic("b.pxar.didx"),
            session.upload_blob("c.blob", big),
            session.close_writer("fixed", 1, chunk_count=2, size=5, csum=bytes(32)),
            session.previous_index("a.img.fidx"),
            session.register_previous("a.img.fidx"),
            session.speedtest(b"x"),
            session.finish(),
        ]
        assert not calls[0].done
        session.wait(calls)
        assert calls[0].writer_id() in range(1, 9)
        assert not calls[0].refused
        assert session.state.sent_bytes == len(big) + 1
    assert session.state.sent_bytes == len(big) + 1  # also of a closed session
    zeros = "00" * 32
    assert seen == {
        f"/fixed_index?archive-name=a.img.fidx&size=5&reuse-csum={zeros}": b"",
        "/dynamic_index?archive-name=b.pxar.didx": b"",
        "/blob?file-name=c.blob&encoded-size=3000000": big,
        f"/fixed_close?wid=1&chunk-count=2&size=5&csum={zeros}": b"",
        "/previous?archive-name=a.img.fidx": b"",
        "/speedtest": b"x",
        "/finish": b"",
    }


@pytest.mark.parametrize(
    ("status", "body", "error", "message"),
    [
        (400, b"no valid previous backup", StatusError, "POST /fixed_index a.fidx of host/web"),
        (401, b"", AuthError, "refuses"),
        (403, b"no", DeniedError, "no"),
        (200, b"", ProtocolError, "no writer id in the answer: an empty answer"),
        (200, b"[1]", ProtocolError, "POST /fixed_index a.fidx of .* not that of a Proxmox Backup"),
        (200, b'{"data":null}', ProtocolError, "no writer id"),
        (200, b'{"data":true}', ProtocolError, "no writer id"),
        (200, b'{"data":65536}', ProtocolError, "no writer id"),
        (200, b'{"data":-1}', ProtocolError, "no writer id"),
        (200, b'{"data":"1"}', ProtocolError, "no writer id"),
        (200, b"\xff\xfe{", ProtocolError, "not that of a Proxmox Backup Server"),
        (200, b"[" * 60_000, ProtocolError, "not that of a Proxmox Backup Server"),
    ],
)
def test_odd_answers(
    identity: Identity, status: int, body: bytes, error: type[PbsPushError], message: str
) -> None:
    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.h2.send_headers(stream, [(":status", str(status))], end_stream=not body)
        for at in range(0, min(len(body), 16_000), 8000):
            peer.h2.send_data(stream, body[at : at + 8000])
        if body:
            peer.h2.end_stream(stream)

    with Server(identity, H2Server(handler)) as server, session_with(server) as session:
        call = session.create_fixed("a.fidx", 5)
        with pytest.raises(ProtocolError, match="not answered"):
            call.body()
        session.wait([call])
        with pytest.raises(error, match=message):
            call.writer_id()


LOGIN_PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>"


@pytest.mark.parametrize(
    "body",
    [LOGIN_PAGE, b"null", b"[]", b'"done"', b'{"data":', b"{}x", b"\xff", b" ", b"[" * 60_000],
    ids=lambda body: repr(body[:10]),
)
def test_an_answer_of_something_else_is_no_success(identity: Identity, body: bytes) -> None:
    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.h2.send_headers(stream, [(":status", "200"), ("content-type", "text/html")])
        for at in range(0, min(len(body), 16_000), 8000):
            peer.h2.send_data(stream, body[at : at + 8000])
        peer.h2.end_stream(stream)

    with Server(identity, H2Server(handler)) as server, session_with(server) as session:
        calls = {
            "POST /finish": session.finish(),
            "POST /fixed_close": session.close_writer(
                "fixed", 1, chunk_count=1, size=1, csum=bytes(32)
            ),
            "POST /dynamic_chunk": session.upload_chunk(
                "dynamic", 1, bytes(32), size=1, blob=bytes(13)
            ),
            "POST /blob a.blob": session.upload_blob("a.blob", bytes(12)),
            "POST /speedtest": session.speedtest(b"x"),
        }
        file = session.register_previous("a.blob")
        session.wait([*calls.values(), file])
        file.body()  # any content will do
        for request, call in calls.items():
            with pytest.raises(ProtocolError, match=f"{request} of {SNAPSHOT}: .* from a proxy"):
                call.body()


def test_a_large_previous_index_goes_through_a_file(
    identity: Identity, monkeypatch: pytest.MonkeyPatch, spooled: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr("pbs_push.remote.session._PART_BYTES", 10_000)
    content = fixed_index_bytes(os.urandom(32 * 300), 300 << 22)
    kept: list[list[str]] = []

    def handler(peer: H2Server, stream: int, head: dict[str, str], _body: bytes) -> None:
        small = "small" in head[":path"]
        peer.begin_file(stream, content[:4000] if small else content)
        if small:
            kept.append(spooled())
        peer.h2.end_stream(stream)

    with Server(identity, H2Server(handler)) as server, session_with(server) as session:
        large = session.previous_index("a.img.fidx")
        session.wait([large])
        assert len(spooled()) == 1
        with large.index("a.img.fidx") as index:
            assert len(index) == 300
            assert bytes(index.digests) == content[4096:]
        small = session.previous_index("small.img.fidx")
        session.wait([small])
        with pytest.raises(IndexFormatError, match=r"small\.img\.fidx"):
            small.index("small.img.fidx")
    assert kept == [[]]
    assert spooled() == []


def test_many_previous_indexes_share_the_memory_that_one_takes(
    identity: Identity, monkeypatch: pytest.MonkeyPatch, spooled: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr("pbs_push.remote.session._PART_BYTES", 20_000)
    content = fixed_index_bytes(os.urandom(32 * 200), 200 << 22)

    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.begin_file(stream, content)
        peer.h2.end_stream(stream)

    with Server(identity, H2Server(handler)) as server, session_with(server) as session:
        calls = [session.previous_index(f"{number}.img.fidx") for number in range(5)]
        session.wait(calls)
        assert len(spooled()) == 4, "all but the first"
        for call in calls:
            with call.index("it") as index:
                assert bytes(index.digests) == content[4096:]


def test_a_session_that_is_closed_keeps_no_part_of_an_index(
    identity: Identity, monkeypatch: pytest.MonkeyPatch, spooled: Callable[[], list[str]]
) -> None:
    """Also where an error, which the report has, still refers to all there was."""
    monkeypatch.setattr("pbs_push.remote.session._PART_BYTES", 500)

    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.h2.send_headers(stream, [(":status", "200")])
        peer.h2.send_data(stream, bytes(1000))
        peer.h2.send_data(stream, bytes(1000))

    with Server(identity, H2Server(handler)) as server, session_with(server) as session:
        call = session.previous_index("a.img.fidx")
        session.pump(lambda: bool(spooled()))
        session.close()
        assert spooled() == []
        with pytest.raises(ProtocolError, match="not answered"):
            call.index("a.img.fidx")


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data":null}', b' {"data": "x", "more": [1]}\n'])
def test_an_answer_may_be_empty_or_any_object(identity: Identity, body: bytes) -> None:
    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.answer(stream, 200, body)

    with Server(identity, H2Server(handler)) as server, session_with(server) as session:
        calls = [session.finish(), session.upload_blob("a.blob", bytes(12))]
        session.wait(calls)
        assert [call.body() for call in calls] == [body, body]


def test_an_entry_list_s_answer_is_looked_at(identity: Identity, tmp_path: Path) -> None:
    def handler(peer: H2Server, stream: int, head: dict[str, str], _body: bytes) -> None:
        peer.answer(stream, 200, LOGIN_PAGE if head[":method"] == "PUT" else b"")

    with Server(identity, H2Server(handler)) as server, uploading(server, tmp_path) as session:
        with open_index(tmp_path / "a.didx") as index:
            call, taken = session.append("dynamic", 1, index, limit=4096, count=CHUNKS)
        session.wait([call])
        assert taken == CHUNKS
        with pytest.raises(ProtocolError, match=f"PUT /dynamic_index of {SNAPSHOT}: .*Sign in"):
            call.body()


def test_a_reset_call_is_told(identity: Identity) -> None:
    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.h2.reset_stream(stream, 2)

    with Server(identity, H2Server(handler)) as server, session_with(server) as session:
        call = session.finish()
        session.wait([call])
        assert not call.refused
        with pytest.raises(ProtocolError, match=r"reset the request .HTTP/2 error 2"):
            call.body()


def test_a_goaway_with_the_settings(identity: Identity) -> None:
    with (
        Server(identity, replies(SWITCH + SETTINGS + goaway(0), waits)) as server,
        pytest.raises(ConnectError, match=f"{SNAPSHOT}: the target takes no more requests"),
    ):
        finish(server)


# -- with chunks --

CHUNKS = 40


@contextlib.contextmanager
def uploading(
    server: Server,
    folder: Path,
    cancelled: threading.Event | None = None,
    *,
    open_delay_s: float = 0.0,
) -> Iterator[BackupSession]:
    """A session that uploads 40 chunks of 256 KiB."""
    contents = [bytes([i]) * (256 << 10) for i in range(CHUNKS)]
    digests = [hashlib.sha256(content).digest() for content in contents]
    for digest, content in zip(digests, contents, strict=True):
        path = folder / ".chunks" / digest.hex()[:4] / digest.hex()
        path.parent.mkdir(parents=True)
        path.write_bytes(encode_blob(content, compress=False))
    ends = np.arange(1, CHUNKS + 1, dtype=np.uint64) * (256 << 10)
    write_dynamic_index(folder / "a.didx", ends, b"".join(digests))
    with (
        open_index(folder / "a.didx") as index,
        Target(server.repository, SECRET, server.identity.fingerprint) as target,
    ):
        fd = os.open(folder / ".chunks", os.O_RDONLY)
        transport = target.transport()
        transport.attach_uploads(fd, readers=2, buffer_bytes=4 << 20, open_delay_s=open_delay_s)
        session = target.begin_backup(
            target.connect(cancelled or threading.Event()),
            Namespace(),
            SNAPSHOT,
            chunks_path="/store/.chunks",
            transport=transport,
        )
        try:
            table = index
            everything = np.arange(CHUNKS, dtype=np.uint32)
            assert session.add_chunks(table, everything, writer_id=1, encrypted=False) == CHUNKS
            yield session
        finally:
            session.close()
            os.close(fd)


def test_chunks_over_a_real_line(identity: Identity, tmp_path: Path) -> None:
    seen: list[bytes] = []

    def handler(peer: H2Server, stream: int, head: dict[str, str], body: bytes) -> None:
        digest = hashlib.sha256(body[12:]).hexdigest()
        assert f"&digest={digest}&" in head[":path"]
        seen.append(body)
        peer.answer(stream, 200, json.dumps({"data": digest}).encode())

    with Server(identity, H2Server(handler)) as server, uploading(server, tmp_path) as session:
        session.pump(lambda: session.chunks_acknowledged == CHUNKS)
        assert session.chunks_added == CHUNKS
    assert len(set(seen)) == CHUNKS


def test_a_line_cut_in_mid_body(identity: Identity, tmp_path: Path) -> None:
    def script(line: Line) -> None:
        read_request(line)
        line.send(SWITCH + SETTINGS)
        while len(server.received) < 50_000:
            line.read()
        line.reset()

    with (
        Server(identity, script) as server,
        uploading(server, tmp_path) as session,
        pytest.raises(ConnectError, match=f"127.0.0.1:{server.port} (broke|closed)"),
    ):
        session.pump(lambda: False)


def test_an_error_is_told_although_the_line_is_closed(identity: Identity, tmp_path: Path) -> None:
    """The target refuses the first chunk and goes away, while we are sending the others."""

    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.answer(stream, 400, b"disk full")
        peer.flush()
        peer.line.say_goodbye()
        peer.running = False

    with (
        Server(identity, H2Server(handler)) as server,
        uploading(server, tmp_path) as session,
        pytest.raises(StatusError, match=r"uploading chunk \w{64} of host/web.*disk full"),
    ):
        session.pump(lambda: False)


def test_the_first_failed_upload_is_told(identity: Identity, tmp_path: Path) -> None:
    numbers = itertools.count(1)

    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        if (number := next(numbers)) > 1:
            peer.answer(stream, 400, b"error %d" % (number - 1))
            if number == 2:
                peer.answer(stream - 2, 500, b"a later one")

    with (
        Server(identity, H2Server(handler)) as server,
        uploading(server, tmp_path) as session,
        pytest.raises(StatusError, match="error 1"),
    ):
        session.pump(lambda: False)


def test_a_missing_chunk_ends_the_session(identity: Identity, tmp_path: Path) -> None:
    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.answer(stream, 200, b"")

    with Server(identity, H2Server(handler)) as server, uploading(server, tmp_path) as session:
        for folder in (tmp_path / ".chunks").iterdir():
            for file in folder.iterdir():
                file.unlink()
        with open_index(tmp_path / "a.didx") as index:
            session.add_chunks(index, np.array([7], np.uint32), writer_id=1, encrypted=False)
        with pytest.raises(ChunkError, match=r"/store/\.chunks/"):
            session.pump(lambda: False)


# -- cancelling --


@pytest.mark.parametrize(
    ("script", "tls"),
    [
        (waits, False),
        (waits, True),
        (replies(SWITCH, waits), True),
        (replies(SWITCH, reads(says(SETTINGS, waits))), True),
    ],
)
def test_a_cancelled_wait_ends(identity: Identity, script: Script, tls: bool) -> None:
    """In the handshake, in the upgrade, before the settings and while a call is under way."""
    cancelled = threading.Event()
    timer = threading.Timer(0.1, cancelled.set)
    with Server(identity, script, tls=tls) as server:
        timer.start()
        try:
            with pytest.raises(Cancelled), session_with(server, cancelled) as session:
                session.wait([session.finish()])
        finally:
            timer.join()


def test_a_cancelled_connect_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that nobody answers: a listener whose queue is full."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as listener,
        contextlib.ExitStack() as full,
    ):
        for _ in range(4):
            waiting = full.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        port = listener.getsockname()[1]
        cancelled = threading.Event()
        timer = threading.Timer(0.1, cancelled.set)
        timer.start()
        with pytest.raises(Cancelled):
            TlsStream("127.0.0.1", port, TrustContext(bytes(32)), cancelled)
        timer.join()
        monkeypatch.setattr(tls_stream, "CONNECT_TIMEOUT_S", 0.3)
        with pytest.raises(ConnectError, match="timed out"):
            TlsStream("127.0.0.1", port, TrustContext(bytes(32)), threading.Event())


# -- against the embedded target --


def test_a_whole_backup_at_the_embedded_target(tmp_path: Path) -> None:
    path = create_datastore(tmp_path / "target", all_chunk_folders=False)
    identities = Identities.simple({"root@pam!push": "secret"})
    with TargetServer({"store1": path}, identities=identities) as server:
        repository = server.repository("store1", "root@pam!push")
        with Target(repository, "secret", server.fingerprint) as target:
            reused = []
            for backup_time in (SNAPSHOT.backup_time, SNAPSHOT.backup_time + 1):
                stream = target.connect(threading.Event())
                reused.append(stream.session_reused)
                session = target.begin_backup(
                    stream,
                    Namespace(),
                    Snapshot(SNAPSHOT.group, backup_time),
                    chunks_path="",
                    transport=target.transport(),
                )
                manifest = Manifest(Snapshot(SNAPSHOT.group, backup_time), files=()).encode()
                blob = encode_blob(b"a configuration")
                calls = [
                    session.upload_blob("a.conf.blob", blob),
                    session.upload_blob(MANIFEST_NAME, manifest),
                ]
                early = session.previous_index("a.fidx")
                session.wait([*calls, early])
                assert [call.body() for call in calls] == [b'{"data":null}'] * 2
                assert early.refused
                done = session.finish()
                session.wait([done])
                done.body()
                session.close()
            with pytest.raises(StatusError, match="backup timestamp is older than last backup"):
                target.begin_backup(
                    target.connect(threading.Event()),
                    Namespace(),
                    SNAPSHOT,
                    chunks_path="",
                    transport=target.transport(),
                )
            assert len(target.api.snapshots(Namespace())) == 2
    assert reused == [False, True]


# -- a target that is dead, and one that is just slow --


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
