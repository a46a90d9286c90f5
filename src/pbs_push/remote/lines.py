"""The connections under REST requests: opened in time, and never waited for beyond a limit.

httpx has limits for each read and write, which an answer of one byte a minute never reaches, and an
endless row of interim answers (1xx) neither. Here one ``Stall`` goes along with a request, through
all of its reads and writes (protocol/push.md, "Waiting").
"""

from __future__ import annotations

import select
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import httpcore
import httpx

from pbs_push.errors import Cancelled, os_reason
from pbs_push.remote.tls_stream import unacknowledged
from pbs_push.remote.tunnel import ANSWER_BYTES, Tunnel, pass_through

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator

    from pbs_push.remote.limits import Stall
    from pbs_push.remote.proxy import Proxy
    from pbs_push.remote.tls import TrustContext

CONNECTIONS: Final = 8
_SOON: Final = 16 << 10
_LOOK_EVERY_S: Final = 0.2
_RECORD: Final = 16 << 10
"""Written at once at most: what TLS makes one record of."""


class _Asked(threading.local):
    """What the request of this thread may wait for; httpx makes it in its caller's thread."""

    stall: Stall | None = None
    cancelled: threading.Event | None = None
    in_head: bool = False
    connected_by: float = 0.0
    head_since: float | None = None
    """Since when the head of the answer is read: what reading a flood of interim answers takes is
    waiting, too."""


class RestTransport(httpx.HTTPTransport):
    """What httpx sends requests over, each within the ``Stall`` that ``watching`` was given."""

    def __init__(
        self,
        context: TrustContext,
        connect_s: float,
        proxy: Proxy | None = None,
        backend: httpcore.NetworkBackend | None = None,
    ) -> None:
        """``backend`` opens connections otherwise than over the network, and waits for nothing."""
        super().__init__(verify=context, trust_env=False)
        self._asked = _Asked()
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=CONNECTIONS,
            max_keepalive_connections=CONNECTIONS,
            keepalive_expiry=5.0,
            network_backend=backend or _Backend(self._asked, connect_s, proxy),
        )

    @contextmanager
    def watching(self, stall: Stall) -> Iterator[None]:
        """Requests of this thread within are given up when ``stall`` says so."""
        self._asked.stall, self._asked.head_since = stall, None
        self._asked.in_head = True
        try:
            yield
        finally:
            self._asked.stall = None

    @contextmanager
    def heeding(self, cancelled: threading.Event) -> Iterator[None]:
        """Requests of this thread within end with Cancelled soon after it is set."""
        before, self._asked.cancelled = self._asked.cancelled, cancelled
        try:
            yield
        finally:
            self._asked.cancelled = before

    def head_has_come(self) -> None:
        """What is read from now on, in this thread, is a body."""
        self._asked.in_head = False


class _Backend(httpcore.NetworkBackend):
    """Opens connections, all addresses of a host and the handshake within one limit.

    With a proxy, what httpx takes for a connection to the target is the way through it.
    """

    def __init__(self, asked: _Asked, connect_s: float, proxy: Proxy | None) -> None:
        self._proxy = proxy
        self._asked = asked
        self._connect_s = connect_s
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  (httpx's own: none)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        self._asked.connected_by = time.monotonic() + self._connect_s
        if self._proxy is None:
            return _Line(self._connected(host, port, local_address, socket_options), self._asked)
        tunnel = Tunnel(self._proxy, host, port)
        try:
            line = self._connected(
                self._proxy.host, self._proxy.port, local_address, socket_options
            )
        except httpcore.ConnectTimeout:
            raise tunnel.unreachable(f"not within {self._connect_s:g} s") from None
        except httpcore.ConnectError as error:
            cause = error.__cause__ or error.__context__
            reason = os_reason(cause) if isinstance(cause, OSError) else error
            raise tunnel.unreachable(reason) from error
        try:
            pass_through(
                tunnel,
                lambda data: line.write(data, self._left_s),
                lambda: line.read(ANSWER_BYTES, self._left_s),
            )
        except BaseException as error:
            line.close()
            if isinstance(error, httpcore.TimeoutException):
                raise tunnel.late(self._connect_s) from None
            if isinstance(error, httpcore.NetworkError):
                raise tunnel.failed(f"the connection to it broke: {error}") from error
            raise
        return _Line(line, self._asked)

    @property
    def _left_s(self) -> float:
        return max(0.001, self._asked.connected_by - time.monotonic())

    def _connected(
        self,
        host: str,
        port: int,
        local_address: str | None,
        socket_options: Iterable[Any] | None,
    ) -> httpcore.NetworkStream:
        """A connection to one of the host's addresses. Raises httpcore's errors."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            raise httpcore.ConnectError(str(error)) from error
        failure: Exception = httpcore.ConnectError("it has no address")
        for number, (_family, _kind, _protocol, _name, address) in enumerate(found):
            left_s = self._asked.connected_by - time.monotonic()
            try:
                return self._plain.connect_tcp(
                    str(address[0]),
                    port,
                    max(0.001, left_s / (len(found) - number)),
                    local_address,
                    socket_options,
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class _Line(httpcore.NetworkStream):
    """A connection whose reads and writes count as waiting."""

    def __init__(self, line: httpcore.NetworkStream, asked: _Asked) -> None:
        self._line = line
        self._asked = asked

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        asked = self._asked
        now = time.monotonic()
        if asked.stall is not None and asked.in_head and asked.head_since is not None:
            asked.stall.waited(now - asked.head_since)
        if asked.stall is not None and asked.in_head and asked.head_since is None:
            self._deliver(asked.stall)
        with self._waiting(httpcore.ReadTimeout) as left_s:
            data = self._read(max_bytes, left_s)
        asked.head_since = time.monotonic()
        return data

    def _read(self, max_bytes: int, limit_s: float | None) -> bytes:
        """Read, and look now and then whether that is still wanted. Raises Cancelled."""
        if self._asked.cancelled is None or limit_s is None:
            return self._line.read(max_bytes, limit_s)
        until = time.monotonic() + limit_s
        while True:
            self._check_cancelled()
            left_s = until - time.monotonic()
            try:
                # Not a poll before: what comes may be records of TLS's own.
                return self._line.read(max_bytes, max(0.001, min(_LOOK_EVERY_S, left_s)))
            except httpcore.ReadTimeout:
                if left_s <= _LOOK_EVERY_S:
                    raise

    def _wait_for_room(self, limit_s: float | None) -> None:
        """Wait until the system takes more to send; a write that waits is lost if it ends."""
        if self._asked.cancelled is None or limit_s is None:
            return
        poll = _poll(self._line.get_extra_info("socket"), select.POLLOUT)
        until = time.monotonic() + limit_s
        left_s = limit_s
        while left_s > 0 and not poll.poll(min(_LOOK_EVERY_S, left_s) * 1000):
            self._check_cancelled()
            left_s = until - time.monotonic()

    def _check_cancelled(self) -> None:
        if self._asked.cancelled is not None and self._asked.cancelled.is_set():
            raise Cancelled("stopped as asked")

    def _deliver(self, stall: Stall) -> None:
        """Wait until the target's system has what was written, which a slow line takes long for.

        What it has taken is progress; an answer that comes before ends it.
        """
        connection = self._line.get_extra_info("socket")
        poll = _poll(connection, select.POLLIN)
        before = unacknowledged(connection)
        while before > _SOON and stall.left_s > 0:
            began = time.monotonic()
            if poll.poll(min(_LOOK_EVERY_S, stall.left_s) * 1000):
                break
            self._check_cancelled()
            now = unacknowledged(connection)
            stall.waited(time.monotonic() - began)
            stall.came(before - now)
            before = min(before, now)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        for at in range(0, len(buffer), _RECORD):
            piece = buffer[at : at + _RECORD]
            with self._waiting(httpcore.WriteTimeout) as left_s:
                self._wait_for_room(left_s)
                self._line.write(piece, left_s)
            if self._asked.stall is not None:
                self._asked.stall.came(len(piece))

    @contextmanager
    def _waiting(self, late: type[Exception]) -> Iterator[float | None]:
        stall = self._asked.stall
        if stall is None:
            yield None
            return
        if stall.left_s <= 0:
            raise late("timed out")
        began = time.monotonic()
        try:
            yield stall.left_s
        finally:
            stall.waited(time.monotonic() - began)

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        left_s = max(0.001, self._asked.connected_by - time.monotonic())
        return _Line(self._line.start_tls(ssl_context, server_hostname, left_s), self._asked)

    def close(self) -> None:
        self._line.close()

    def get_extra_info(self, info: str) -> Any:
        return self._line.get_extra_info(info)


def _poll(connection: socket.socket, what: int) -> select.poll:
    """Waits for one socket; ``select`` cannot, where more than 1024 files are open."""
    poll = select.poll()
    poll.register(connection, what)
    return poll
