"""The line between a push and its workers elsewhere: frames over TCP, each with a MAC.

Nothing of a frame is looked at before its MAC has been checked. The key is known to the push and to
those who have a job of it; direction, connection and number of each frame are part of what is
authenticated, so that none can be told twice, back, or elsewhere. It is not encrypted: no frame
holds a secret.

A frame is its length (4 bytes, big endian), HMAC-SHA256, and a text. Before the first one each side
sends 16 random bytes.
"""

from __future__ import annotations

import hmac
import os
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pbs_push.errors import ConnectError, ProtocolError, os_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY_BYTES: Final = 32
MAX_FRAME: Final = 256 << 10
"""Bytes of a text; an event has some hundreds."""
MAX_FIRST_FRAME: Final = 1024
"""Of the first one, which shows who knows the key."""
CONNECT_S: Final = 20.0
SEND_S: Final = 60.0
"""So long a push may not listen before it is given up."""

_NONCE: Final = 16
_MAC: Final = 32
_HEAD: Final = 4 + _MAC
_RECEIVE_BYTES: Final = 64 << 10
_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SEND_S * 1000)),
)
"""A machine that vanished without a word is noticed after a minute, whether anything was on its way
to it or not; and so is one that does not listen."""
_BACKLOG: Final = 1024

Address = tuple[str, int]
"""Host and port."""


class Sealer:
    """Makes and opens the frames of one connection; ``is_worker`` says which side this is."""

    def __init__(self, key: bytes, *, is_worker: bool) -> None:
        self._key = key
        self.nonce: Final = os.urandom(_NONCE)
        """What this side sends first."""
        self._mine, self._theirs = (b"w", b"p") if is_worker else (b"p", b"w")
        self._is_worker = is_worker
        self._nonces: bytes | None = None
        self._received = bytearray()
        self._made = self._opened = 0

    @property
    def is_known(self) -> bool:
        """Whether the other side has shown that it knows the key."""
        return self._opened > 0

    def frame(self, text: bytes) -> bytes:
        """The next frame to send. Raises ConnectError before the other side's nonce has come."""
        if self._nonces is None:
            raise ConnectError("the other side has said nothing yet")
        mac = self._mac(self._mine, self._made, text)
        self._made += 1
        return len(text).to_bytes(4, "big") + mac + text

    def texts(self, received: bytes) -> Iterator[bytes]:
        """What came, frame by frame. Raises ProtocolError for what is not authentic, or too long.

        Nothing is to be taken after that.
        """
        self._received += received
        if self._nonces is None:
            if len(self._received) < _NONCE:
                return
            theirs = bytes(self._received[:_NONCE])
            del self._received[:_NONCE]
            self._nonces = theirs + self.nonce if self._is_worker else self.nonce + theirs
        while len(self._received) >= _HEAD:
            size = int.from_bytes(self._received[:4], "big")
            if size > (MAX_FRAME if self.is_known else MAX_FIRST_FRAME):
                raise ProtocolError(f"a frame of {size} bytes came from a worker's connection")
            if len(self._received) < _HEAD + size:
                return
            text = bytes(self._received[_HEAD : _HEAD + size])
            mac = bytes(self._received[4:_HEAD])
            if not hmac.compare_digest(mac, self._mac(self._theirs, self._opened, text)):
                raise ProtocolError("a frame came that nobody who knows the key has made")
            del self._received[: _HEAD + size]
            self._opened += 1
            yield text

    def _mac(self, side: bytes, number: int, text: bytes) -> bytes:
        told = side + (self._nonces or b"") + number.to_bytes(8, "big") + text
        return hmac.digest(self._key, told, "sha256")


class Listening:
    """A port that workers connect to; ``address`` is a host of this machine, ``""`` all of them.

    Raises ConnectError.
    """

    def __init__(self, host: str, port: int = 0) -> None:
        try:
            both = not host and socket.has_dualstack_ipv6()
            self.socket: Final = socket.create_server(
                (host, port),
                family=socket.AF_INET6 if both or ":" in host else socket.AF_INET,
                backlog=_BACKLOG,
                dualstack_ipv6=both,
            )
        except (OSError, UnicodeError, OverflowError) as error:
            reason = os_reason(error) if isinstance(error, OSError) else error
            raise ConnectError(f"cannot listen for workers at {host}:{port}: {reason}") from error
        self.socket.setblocking(False)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.socket.getsockname()[1])

    def fileno(self) -> int:
        """For a selector."""
        return self.socket.fileno()

    def accept(self, key: bytes) -> Incoming | None:
        """The next connection; None if there is none now."""
        try:
            connection, _ = self.socket.accept()
        except OSError:
            return None
        return Incoming(connection, key)

    def close(self) -> None:
        """Listen no more."""
        self.socket.close()


class Incoming:
    """The push's end of a worker's connection, which never waits; for one thread.

    ``since`` when it is there, by a clock that does not jump.
    """

    def __init__(self, connection: socket.socket, key: bytes) -> None:
        self._socket = connection
        self._sealer = Sealer(key, is_worker=False)
        self.since: Final = time.monotonic()
        connection.setblocking(False)
        for level, option, value in _OPTIONS:
            connection.setsockopt(level, option, value)

    def fileno(self) -> int:
        """For a selector."""
        return self._socket.fileno()

    def greets(self) -> bool:
        """Say what comes before all frames. False where it has ended already."""
        try:
            self._send(self._sealer.nonce)
        except ConnectError:
            return False
        return True

    def say(self, text: bytes) -> None:
        """Raises ConnectError where it cannot be sent at once: little is, so nobody listens."""
        self._send(self._sealer.frame(text))

    def _send(self, data: bytes) -> None:
        try:
            whole = self._socket.send(data) == len(data)
        except OSError as error:
            raise ConnectError(f"a worker does not listen: {error}") from error
        if not whole:
            raise ConnectError("a worker does not listen")

    def heard(self) -> Iterator[bytes]:
        """What has come. Raises ConnectError where it has ended, ProtocolError."""
        try:
            received = self._socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            raise ConnectError(f"a worker is gone: {error}") from error
        if not received:
            raise ConnectError("a worker is gone")
        yield from self._sealer.texts(received)

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class JobLink:
    """A worker's connection to its push; ``send`` from any thread, ``receive`` from one.

    Raises ConnectError where the push cannot be reached.
    """

    def __init__(self, address: Address, key: bytes) -> None:
        host, port = address
        self.label: Final = f"{host}:{port}"
        self._sealer = Sealer(key, is_worker=True)
        self._lock = threading.Lock()
        try:
            self._socket = socket.create_connection(address, timeout=CONNECT_S)
            for level, option, value in _OPTIONS:
                self._socket.setsockopt(level, option, value)
            self._socket.sendall(self._sealer.nonce)
        except OSError as error:
            if hasattr(self, "_socket"):
                self._socket.close()
            reason = os_reason(error)
            raise ConnectError(f"cannot reach the push at {self.label}: {reason}") from error

    def send(self, text: bytes) -> None:
        """Send a frame. Raises ConnectError where the push is gone, or does not listen."""
        with self._lock:
            try:
                self._socket.settimeout(SEND_S)
                self._socket.sendall(self._sealer.frame(text))
            except OSError as error:
                raise ConnectError(f"the push at {self.label} is gone: {error}") from error

    def receive(self) -> list[bytes]:
        """Wait for frames. Raises ConnectError where the push is gone, ProtocolError."""
        while True:
            try:
                received = self._socket.recv(_RECEIVE_BYTES)
            except TimeoutError:
                continue
            except OSError as error:
                raise ConnectError(f"the push at {self.label} is gone: {error}") from error
            if not received:
                raise ConnectError(f"the push at {self.label} is gone")
            if texts := list(self._sealer.texts(received)):
                return texts

    def greeted(self) -> None:
        """Wait for the other side's first bytes. Raises ConnectError, ProtocolError."""
        self._socket.settimeout(CONNECT_S)
        try:
            received = self._socket.recv(_NONCE, socket.MSG_WAITALL)
        except OSError as error:
            raise ConnectError(f"the push at {self.label} says nothing: {error}") from error
        if len(received) < _NONCE:
            raise ConnectError(f"the push at {self.label} is gone")
        list(self._sealer.texts(received))

    def hang_up(self) -> None:
        """Say and hear nothing more: a ``receive`` that waits ends."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it, when no other thread uses it any more: its number may be another file's then,
        and a ``receive`` that waits would wait for that."""
        self.hang_up()
        self._socket.close()
