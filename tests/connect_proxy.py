"""An HTTP proxy that does CONNECT, counts its tunnels, and can fail in each way."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

PATIENCE_S = 30.0
BUFFER = 256 << 10

NOWHERE = "target.invalid"
"""A name that nobody can find (RFC 6761): who gets there came through the proxy."""


@dataclass(frozen=True)
class Asked:
    """A CONNECT as it came."""

    target: str
    headers: dict[str, str]


class ConnectProxy:
    """Leads whatever it is asked for to ``upstream``. ``login`` is what it wants, if anything.

    ``answer`` is given the number of the request, from 1 on, and says what is sent in place of a
    tunnel: bytes, ``b""`` for none at all, None for the tunnel. ``hang`` keeps the line open then.
    """

    def __init__(self, upstream: tuple[str, int], login: str | None = None) -> None:
        self.upstream = upstream
        self.login = login
        self.answer: Callable[[int], bytes | None] = lambda _number: None
        self.hang = False
        self.asked: list[Asked] = []
        self.tunnels = 0
        self.seen = bytearray()
        """What went through, both ways."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run)]
        self._wake, self._stop = socket.socketpair()

    @property
    def url(self) -> str:
        login = "" if self.login is None else f"{self.login}@"
        return f"http://{login}127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.close()
        for thread in self._threads:  # those that serve are begun by the first one
            thread.join()
        self._listener.close()
        self._wake.close()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._wake], [], [])
            if self._wake in ready:
                return
            client, _address = self._listener.accept()
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(PATIENCE_S)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                data = client.recv(1)  # what comes behind is the target's
                if not data:
                    return
                head += data
            reply = self._reply(head.decode("ascii"))
            if reply is not None:
                client.sendall(reply)
                if self.hang:
                    select.select([client, self._wake], [], [])
                return
            with socket.create_connection(self.upstream, timeout=PATIENCE_S) as there:
                client.sendall(b"HTTP/1.0 200 Connection established\r\nVia: test\r\n\r\n")
                self._carry(client, there)

    def _reply(self, head: str) -> bytes | None:
        first, *lines = head.rstrip().split("\r\n")
        method, target, _version = first.split(" ")
        assert method == "CONNECT"
        headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
        with self._lock:
            self.asked.append(Asked(target, headers))
            reply = self.answer(len(self.asked))
            if reply is None and self.login is not None:
                wanted = base64.b64encode(self.login.encode()).decode()
                if headers.get("proxy-authorization") != f"Basic {wanted}":
                    reply = refusal(407, 'Proxy-Authenticate: Basic realm="here"')
            self.tunnels += reply is None
        return reply

    def _carry(self, client: socket.socket, there: socket.socket) -> None:
        other = {client: there, there: client}
        while True:
            ready, _, _ = select.select([client, there, self._wake], [], [], PATIENCE_S)
            if not ready or self._wake in ready:
                return
            for one in ready:
                data = one.recv(BUFFER)
                if not data:
                    return
                self.seen += data
                other[one].sendall(data)


def refusal(status: int, *headers: str) -> bytes:
    """An answer with a page, as proxies give it."""
    page = b"<html>ERR_ACCESS_DENIED hunter2</html>"
    lines = [f"HTTP/1.1 {status} hunter2", f"Content-Length: {len(page)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + page
