"""A target that is honest but for one thing, which a test tells it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from h2.exceptions import H2Error
from tests.remote.servers import Asked, Identity, Line, answer, read_request
from tests.remote.sessions import H2Server

SECRET = "0b5f6d2e-7c1a-4b52-9e0e-7b7c3b6f1d11"
TICKET = "PBS:me@pbs:6923AB01::bm90IGEgc2lnbmF0dXJlIGF0IGFsbA"
CSRF = "6923AB01:dGhlIHRva2VuIGFnYWluc3QgZm9yZ2VkIHJlcXVlc3Rz"
ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m\x7f"
"""What could steer a terminal: OSC, CSI in both forms, a bidirectional override, DEL."""

Handler = Callable[[Line, Asked], None]
H2Handler = Callable[[H2Server, int, dict[str, str], bytes], bool]
"""Returns whether it has seen to the request; else it is answered as usual."""

PAUSE_S = 0.02
PATIENCE = 400
"""So many pieces of a trickle at most: 8 seconds, far beyond the limit that a test has set."""


def data(value: object) -> bytes:
    return answer(200, json.dumps({"data": value}).encode())


def raw(*parts: bytes) -> Handler:
    """Say this, and close."""

    def handler(line: Line, _asked: Asked) -> None:
        for part in parts:
            line.send(part)
        raise ConnectionAbortedError

    return handler


def hangs(*parts: bytes) -> Handler:
    """Say this, and then nothing for as long as the client waits."""

    def handler(line: Line, _asked: Asked) -> None:
        for part in parts:
            line.send(part)
        line.read_to_the_end()
        raise ConnectionAbortedError

    return handler


def trickles(first: bytes, again: bytes, pause_s: float = PAUSE_S) -> Handler:
    """Say the first part, and the other again and again, slowly."""

    def handler(line: Line, _asked: Asked) -> None:
        line.send(first)
        for _ in range(PATIENCE):
            line.send(again)
            time.sleep(pause_s)
        raise ConnectionAbortedError

    return handler


def floods(first: bytes, again: bytes, total: int = 1 << 30) -> Handler:
    """The same, as fast as it goes."""

    def handler(line: Line, _asked: Asked) -> None:
        line.send(first)
        block = again * max(1, (64 << 10) // len(again))
        for _ in range(total // len(block)):
            line.send(block)
        raise ConnectionAbortedError

    return handler


def echoes(build: Callable[[str], bytes]) -> Handler:
    """Say something that holds the credentials that came with the request."""

    def handler(line: Line, asked: Asked) -> None:
        sent = asked.headers.get("authorization") or asked.headers.get("cookie") or ""
        line.send(build(sent or asked.body.decode()))

    return handler


class HostileTarget:
    """Serves one datastore over TLS, each connection in a thread of its own.

    ``rest`` has handlers by a word of the request (``GET version``, ``backup`` for the upgrade),
    ``session`` one for requests of the backup protocol. All else is answered as PBS does.
    """

    def __init__(
        self,
        identity: Identity,
        rest: dict[str, Handler] | None = None,
        session: H2Handler | None = None,
        groups: list[object] | None = None,
    ) -> None:
        self.identity = identity
        self.asked: list[str] = []
        self.received = bytearray()
        """All that came inside of TLS."""
        self._rest = rest or {}
        self._session = session
        self._groups = groups or []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._lines: set[Line] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._over = False

    def repository(self, user: str = "me@pbs!push") -> str:
        return f"{user}@127.0.0.1:{self.port}:store1"

    def __enter__(self) -> Self:
        thread = threading.Thread(target=self._accept)
        self._threads.append(thread)
        thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over = True
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            with contextlib.suppress(OSError):
                line._raw.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                line._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._over:
                connection.close()
                return
            line = Line(connection, self.identity.context, self.received)
            thread = threading.Thread(target=self._serve, args=(line,))
            with self._lock:
                self._lines.add(line)
            self._threads.append(thread)
            thread.start()

    def _serve(self, line: Line) -> None:
        try:
            line.start_tls()
            while (asked := read_request(line)) is not None:
                self._answer(line, asked)
        except (OSError, ValueError, H2Error):
            pass
        finally:
            line.close()
            with self._lock:
                self._lines.discard(line)

    def _answer(self, line: Line, asked: Asked) -> None:
        what = f"{asked.method} {asked.path.rpartition('/')[2]}"
        self.asked.append(what)
        if what in self._rest:
            self._rest[what](line, asked)
        elif what == "GET backup":
            H2Server(self._on_request).serve(line)
        else:
            line.send(self._honest(what))

    def _honest(self, what: str) -> bytes:
        known: dict[str, object] = {
            "GET version": {"version": "4.2", "release": "3"},
            "GET namespace": [{"ns": ""}],
            "GET groups": self._groups,
            "GET snapshots": [],
            "POST ticket": {"ticket": TICKET, "CSRFPreventionToken": CSRF},
        }
        return data(known.get(what))

    def _on_request(self, peer: H2Server, stream: int, head: dict[str, str], body: bytes) -> None:
        path = head[":path"].partition("?")[0]
        self.asked.append(f"{head[':method']} {path}")
        if self._session is not None and self._session(peer, stream, head, body):
            return
        if path in ("/dynamic_index", "/fixed_index") and head[":method"] == "POST":
            peer.answer(stream, 200, b'{"data":1}')
        elif path == "/previous":
            peer.answer(stream, 400, b"no previous backup")
        else:
            peer.answer(stream, 200, b'{"data":null}')
