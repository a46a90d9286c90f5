"""What a connection asks of TCP, read back from its socket."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from pbs_push.remote import tls_stream
from pbs_push.remote.tls import TrustContext
from pbs_push.remote.tls_stream import TlsStream

from .servers import Identity, Line, Server


@pytest.fixture
def connected(identity: Identity) -> Iterator[socket.socket]:
    """The socket of an open connection, for looking at it."""
    context = TrustContext(identity.fingerprint)
    with Server(identity, Line.read_to_the_end) as server:
        stream = TlsStream("127.0.0.1", server.port, context, threading.Event())
        try:
            with socket.fromfd(stream.fileno(), socket.AF_INET, socket.SOCK_STREAM) as found:
                yield found
        finally:
            stream.close()


def test_a_small_request_is_not_kept_for_the_answer_to_the_one_before(
    connected: socket.socket,
) -> None:
    assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_little_waits_in_a_large_buffer(connected: socket.socket) -> None:
    """Or what is urgent would come behind 64 MiB of chunks; the kernel's own buffer stays its."""
    with socket.socket() as probe:
        expected = probe.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
        try:
            probe.setsockopt(socket.SOL_SOCKET, tls_stream._SO_SNDBUFFORCE, 8 << 20)
            expected = 2 << 20
        except PermissionError:
            pass
    assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == expected


def test_a_system_that_tells_less_of_a_connection_tells_of_no_dead_one(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As emulators of Linux do, of which an answer of 4 bytes was seen."""
    monkeypatch.setattr(tls_stream, "_TCP_INFO", struct.Struct("=2xBB900xI"))
    with Server(identity, Line.read_to_the_end) as server:
        context = TrustContext(identity.fingerprint)
        stream = TlsStream("127.0.0.1", server.port, context, threading.Event())
        try:
            stream._check_alive()
        finally:
            stream.close()
