"""TLS and the upgrade, against servers that break off or talk nonsense."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pbs_push._native.transport import Transport
from pbs_push.errors import (
    AuthError,
    Cancelled,
    ConnectError,
    DeniedError,
    PbsPushError,
    ProtocolError,
    StatusError,
    TlsError,
)
from pbs_push.names import Namespace
from pbs_push.remote import connection, tls_stream
from pbs_push.remote.target import Target
from pbs_push.remote.tls import TrustContext
from pbs_push.remote.tls_stream import TlsStream

from .servers import Asked, Identity, Line, Script, Server, answer, http, read_request
from .sessions import (
    SECRET,
    SETTINGS,
    SNAPSHOT,
    SWITCH,
    finish,
    nothing,
    reads,
    replies,
    says,
    session_with,
    waits,
)


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
    with (
        Server(identity, script, tls=False) as server,
        pytest.raises(error, match=message) as caught,
    ):
        finish(server, timeout_s=0.3)
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
            # The server has one line at a time: what a CA would say is not heard.
            with Target(server.repository, SECRET, fingerprint, timeout_s=0.5) as target:
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
            connection.Connection(first, transport).upgrade("/", {}, "beginning")
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
        (replies(answer(503, b"e" * 99)[:-9]), ConnectError, "connection within its answer"),
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
        (replies(b"", waits), ConnectError, "has not answered for 0.3 s"),
    ],
)
def test_no_upgrade(
    identity: Identity,
    script: Script,
    error: type[PbsPushError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Server(identity, script) as server, pytest.raises(error, match=message) as caught:
        finish(server, timeout_s=0.3)
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
        with pytest.raises(ConnectError, match="timed out"):
            TlsStream("127.0.0.1", port, TrustContext(bytes(32)), threading.Event(), connect_s=0.3)
