"""A TLS connection of one thread: bytes in, bytes out, without one blocking the other.

The socket does not block; `exchange` waits until something can be read or written. So a client that
sends a large body while a large answer waits for it cannot hang the server.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections import deque
from typing import Protocol

from pbs_push.target.counters import Counters

_READ_SIZE = 1 << 18
_READ_AT_ONCE = 1 << 20
_HANDSHAKE_TIMEOUT_S = 30.0


class Line(Protocol):
    """What a connection is served over; ``Wire`` is the real one, and says what each call does."""

    @property
    def outgoing(self) -> int:
        """Bytes that still wait to be sent."""

    def send(self, data: bytes) -> None:
        """Queue bytes."""

    def exchange(self, *, more: bool = False) -> bytes | None:
        """Send and receive; None: the client has gone."""

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""

    def flush(self) -> None:
        """Wait until all is sent."""

    def cut(self) -> None:
        """End the connection at once."""


class Wire:
    """The server's side of one connection."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, counters: Counters) -> None:
        """Take over ``raw``; `shake_hands` has to come next."""
        self._counters = counters
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        self._outgoing: deque[memoryview] = deque()
        self._ended = False

    def shake_hands(self) -> None:
        """The TLS handshake. Raises OSError (ssl.SSLError is one)."""
        self._socket.settimeout(_HANDSHAKE_TIMEOUT_S)
        self._socket.do_handshake()
        self._socket.setblocking(False)
        self._counters.add(tls_resumed=int(bool(self._socket.session_reused)))

    def send(self, data: bytes) -> None:
        """Queue bytes; they leave in `exchange` or `flush`."""
        if data:
            self._outgoing.append(memoryview(data))

    @property
    def outgoing(self) -> int:
        """Bytes that still wait to be sent."""
        return sum(len(part) for part in self._outgoing)

    def exchange(self, *, more: bool = False) -> bytes | None:
        """Send and receive what can be without waiting, but wait until there is one of both.

        ``more`` says that there is more to send once the line is empty: then that is not waited
        with. Returns what was received; nothing may have been. None: the client has gone. Raises
        OSError.
        """
        wants_write = self._send_some()
        received = self._receive_some()
        if received == b"" and (wants_write or not more):
            self._wait(write=wants_write)
            self._send_some()
            received = self._receive_some()
        return received

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long, while all is sent that can be. Raises OSError."""
        self._send_some()
        return not self._socket.pending() and not self._poll(write=False, timeout_s=seconds)

    def flush(self) -> None:
        """Wait until all is sent. Raises OSError."""
        while self._send_some():
            self._wait(write=True, read=False)

    def shut_down(self) -> None:
        """End the connection from another thread: the owning one sees it as gone."""
        with contextlib.suppress(OSError):
            # SSLSocket's own method would take the TLS object away from the owning thread.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def cut(self) -> None:
        """End the connection at once, what is unsent included, as if the power had failed."""
        self._outgoing.clear()
        self.shut_down()

    def close(self) -> None:
        """Say goodbye if that needs no waiting, and close the socket."""
        with contextlib.suppress(OSError, ValueError):
            self._socket.unwrap()
        self._socket.close()

    def _send_some(self) -> bool:
        """Send until it would block; True if something is left."""
        try:
            while self._outgoing:
                sent = self._socket.send(self._outgoing[0])
                self._counters.add(bytes_out=sent)
                if sent == len(self._outgoing[0]):
                    self._outgoing.popleft()
                else:
                    self._outgoing[0] = self._outgoing[0][sent:]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return True
        return False

    def _receive_some(self) -> bytes | None:
        """Receive until it would block or is much; None if the client has gone."""
        parts: list[bytes] = []
        length = 0
        try:
            while length < _READ_AT_ONCE:
                part = self._socket.recv(_READ_SIZE)
                if not part:
                    self._ended = True
                    break
                parts.append(part)
                length += len(part)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except (ssl.SSLError, ConnectionError):
            self._ended = True
        self._counters.add(bytes_in=length)
        return None if self._ended and not parts else b"".join(parts)

    def _wait(self, *, write: bool, read: bool = True) -> None:
        self._poll(write=write, read=read)

    def _poll(self, *, write: bool, read: bool = True, timeout_s: float | None = None) -> bool:
        poll = select.poll()
        events = (select.POLLIN if read else 0) | (select.POLLOUT if write else 0)
        poll.register(self._socket, events)
        return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))
