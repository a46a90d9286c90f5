"""A line between a client and a target, for bytes as TCP carries them, and all that may befall it.

It knows nothing of TLS: what it damages, TLS notices. An armed fault strikes the next bytes in its
direction, once, on whichever connection they come.
"""

from __future__ import annotations

import enum
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

READ_BYTES: Final = 64 << 10
STALL_S: Final = 0.3
_RESET: Final = struct.pack("ii", 1, 0)


class Way(enum.Enum):
    """A direction."""

    UP = enum.auto()
    """To the target."""
    DOWN = enum.auto()


class Damage(enum.Enum):
    """What befalls bytes."""

    CUT = "cut"
    """Both ends are told of a reset; the bytes are lost."""
    CLOSE = "closed"
    """Both ends are told of an end, in the middle of what was to come."""
    TRUNCATE = "truncated"
    """Half of the bytes arrive, and then an end."""
    CORRUPT = "corrupted"
    """One bit of the last byte is another."""
    DUPLICATE = "duplicated"
    """They arrive twice."""
    STALL = "stalled"
    """Nothing moves for a moment; then all goes on."""


@dataclass(frozen=True, slots=True)
class Armed:
    """A fault that waits for bytes; ``then`` is called when it has struck."""

    damage: Damage
    way: Way
    then: Callable[[], None] | None = None


class _Connection:
    """One connection: two sockets, and a thread for each direction."""

    def __init__(self, line: Line, client: socket.socket, target: socket.socket) -> None:
        self._line = line
        self._sockets = (client, target)
        self._threads = [
            threading.Thread(target=self._carry, args=(client, target, Way.UP), name="line"),
            threading.Thread(target=self._carry, args=(target, client, Way.DOWN), name="line"),
        ]
        self._open = 2
        self._lock = threading.Lock()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def end(self, *, reset: bool) -> None:
        """End both sides; the threads notice."""
        for side in self._sockets:
            with suppress(OSError):
                if reset:
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                side.shutdown(socket.SHUT_RDWR)

    def _carry(self, source: socket.socket, sink: socket.socket, way: Way) -> None:
        try:
            while data := source.recv(READ_BYTES):
                if not self._pass_on(sink, data, way):
                    break
        except OSError:
            pass
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        with self._lock:
            self._open -= 1
            last = not self._open
        if last:
            for side in self._sockets:
                side.close()

    def _pass_on(self, sink: socket.socket, data: bytes, way: Way) -> bool:
        """Let bytes pass, or damage them. False if the connection is at its end."""
        match self._line.struck(way):
            case None:
                sink.sendall(data)
            case Damage.CUT:
                self.end(reset=True)
                return False
            case Damage.CLOSE:
                self.end(reset=False)
                return False
            case Damage.TRUNCATE:
                sink.sendall(data[: len(data) // 2])
                self.end(reset=False)
                return False
            case Damage.CORRUPT:
                sink.sendall(data[:-1] + bytes((data[-1] ^ 1,)))
            case Damage.DUPLICATE:
                sink.sendall(data + data)
            case Damage.STALL:
                time.sleep(STALL_S)
                sink.sendall(data)
        return True


class Line:
    """Carries connections to a port of this machine; use it in ``with``."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._connections: list[_Connection] = []
        self._lock = threading.Lock()
        self._armed: Armed | None = None
        self._to_refuse = 0
        self.accepted = 0
        self.on_accept: Callable[[int], None] | None = None
        """Told the number of each connection, from 1, before its first byte."""
        self._acceptor = threading.Thread(target=self._accept, name="line")

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        self.settle()

    def arm(self, armed: Armed | None) -> None:
        """Let this befall the next bytes; None: nothing."""
        with self._lock:
            self._armed = armed

    def struck(self, way: Way) -> Damage | None:
        """What befalls bytes that go this way now."""
        with self._lock:
            armed = self._armed
            if armed is None or armed.way is not way:
                return None
            self._armed = None
        if armed.then is not None:
            armed.then()
        return armed.damage

    def cut_all(self) -> None:
        """Cut every connection there is."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.end(reset=True)

    def refuse(self, connections: int) -> None:
        """End so many of the next connections before their first byte."""
        with self._lock:
            self._to_refuse = connections

    def settle(self) -> None:
        """Disarm, end what is left, and wait until no thread of it is."""
        self.arm(None)
        self.refuse(0)
        self.on_accept = None
        self.cut_all()
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.accepted += 1
                refused = self._to_refuse > 0
                self._to_refuse -= refused
            if self.on_accept is not None:
                self.on_accept(self.accepted)
            try:
                if refused:
                    raise ConnectionRefusedError
                target = socket.create_connection(("127.0.0.1", self.target_port))
            except OSError:  # nobody is there
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            for side in (client, target):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(self, client, target)
            with self._lock:
                self._connections.append(connection)
            connection.start()
