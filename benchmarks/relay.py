"""A TCP relay that makes loopback a long link: delay and limited bandwidth, in both directions.

    python relay.py TARGET_PORT --rtt-ms 100 [--bandwidth-mb 125]

Each direction of a connection has two threads: one reads and stamps what came with the moment at
which it is due, the other sends it then. A connection is accepted at once, so the round trip of its
handshake is made up for: what the client sends counts as sent no sooner than one round trip after
the connection was accepted.

What it does not model: loss, and TCP's congestion control and windows; both of its sides are
loopback connections. So a link is filled by whatever the sender writes.
"""

from __future__ import annotations

import argparse
import contextlib
import queue
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from processes import Json, answer_questions

if TYPE_CHECKING:
    pass

READ_BYTES: Final = 256 << 10
QUEUE_BYTES: Final = 256 << 20
"""On the way in one direction of a connection: far more than any window of the protocol."""
_SHORT_S: Final = 0.0002
"""Delays below are not slept: the timer's own slack is about as long."""


@dataclass(slots=True)
class Link:
    """One direction of the link, shared by all connections: bandwidth and a count of bytes."""

    delay_s: float
    bytes_per_s: float
    count: int = 0
    _free_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def due(self, size: int, sent_at: float) -> float:
        """When the last of ``size`` bytes sent now arrives at the other end."""
        with self._lock:
            self.count += size
            self._free_at = max(self._free_at, sent_at) + size / self.bytes_per_s
            return self._free_at + self.delay_s


class Room:
    """Bounds the bytes on the way in one direction of a connection."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        """Wait until there is room."""
        with self._changed:
            while self._free < size:
                self._changed.wait()
            self._free -= size

    def give(self, size: int) -> None:
        """Make room."""
        with self._changed:
            self._free += size
            self._changed.notify()


class Flow:
    """One direction of one connection, carried by two threads."""

    def __init__(
        self, source: socket.socket, sink: socket.socket, link: Link, not_before: float
    ) -> None:
        self._source, self._sink = source, sink
        self._link = link
        self._not_before = not_before
        self._queue: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        self._room = Room(QUEUE_BYTES)
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._write, daemon=True),
        ]

    def start(self) -> None:
        """Carry bytes until the source has no more."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait for the end."""
        for thread in self._threads:
            thread.join()

    def _read(self) -> None:
        data = b"-"
        while data:
            try:
                data = self._source.recv(READ_BYTES)
            except OSError:
                data = b""
            sent_at = max(time.monotonic(), self._not_before)
            self._room.take(len(data))
            self._queue.put((self._link.due(len(data), sent_at), data))

    def _write(self) -> None:
        broken = False
        while True:
            due, data = self._queue.get()
            _sleep_until(due)
            if not data:
                break
            if not broken:
                try:
                    self._sink.sendall(data)
                except OSError:
                    broken = True  # go on: the reader must not wait for room
            self._room.give(len(data))
        with contextlib.suppress(OSError):
            self._sink.shutdown(socket.SHUT_WR)


def _sleep_until(moment: float) -> None:
    left = moment - time.monotonic()
    if left > _SHORT_S:
        time.sleep(left)


class Relay:
    """Forwards connections to a port of this machine."""

    def __init__(self, target_port: int, rtt_s: float, bytes_per_s: float) -> None:
        self._target = ("127.0.0.1", target_port)
        self._rtt_s = rtt_s
        self._up = Link(rtt_s / 2, bytes_per_s)
        self._down = Link(rtt_s / 2, bytes_per_s)
        self._connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]

    def start(self) -> None:
        """Accept in the background, as long as the process lives."""
        threading.Thread(target=self._accept, daemon=True).start()

    def counts(self, _question: Json) -> Json:
        """Bytes to and from the target so far, and connections."""
        return {"up": self._up.count, "down": self._down.count, "connections": self._connections}

    def _accept(self) -> None:
        while True:
            client, _address = self._listener.accept()
            self._connections += 1
            threading.Thread(
                target=self._carry, args=(client, time.monotonic()), daemon=True
            ).start()

    def _carry(self, client: socket.socket, accepted_at: float) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._target) as target:
            for side in (client, target):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            flows = [
                Flow(client, target, self._up, accepted_at + self._rtt_s),
                Flow(target, client, self._down, accepted_at),
            ]
            for flow in flows:
                flow.start()
            for flow in flows:
                flow.join()


def main() -> None:
    """Run until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("target_port", type=int)
    parser.add_argument("--rtt-ms", type=float, default=0.0)
    parser.add_argument(
        "--bandwidth-mb", type=float, default=0.0, help="MB/s each way; 0: no limit"
    )
    asked = parser.parse_args()
    limit = asked.bandwidth_mb * 1e6 or float("inf")
    relay = Relay(asked.target_port, asked.rtt_ms / 1000, limit)
    relay.start()
    answer_questions({"port": relay.port}, relay.counts)


if __name__ == "__main__":
    main()
