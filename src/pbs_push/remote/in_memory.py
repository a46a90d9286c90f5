"""A target that is reached without a network: for tests of programs (``pbs_push.testing``).

All but the last step is the real client: httpx and h11 write REST requests, HTTP/2 comes from C.
What would go into TLS and a socket goes to a ``Line`` instead.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any, Final, Protocol

import httpcore

from pbs_push.errors import Cancelled
from pbs_push.remote.lines import RestTransport
from pbs_push.remote.target import Target
from pbs_push.remote.tls_stream import CANCEL_POLL_S

if TYPE_CHECKING:
    import ssl
    import threading
    from collections.abc import Callable, Iterable

    from typing_extensions import Buffer

    from pbs_push.names import Repository
    from pbs_push.remote.stream import Stream

_TIMEOUT_S: Final = 10.0
"""What is answered at all is answered at once."""


class Line(Protocol):
    """A connection whose other end is in memory, and answers at once."""

    closed: bool
    """Whether the other end, or this one, has ended it."""

    def send(self, data: bytes) -> None:
        """Send bytes."""

    def receive(self) -> bytes:
        """What has come since the last time; nothing may have."""

    def close(self) -> None:
        """End it."""


class InMemory(Target):
    """A target that each connection to is one that ``connect`` gives."""

    def __init__(self, repository: Repository, secret: str, connect: Callable[[], Line]) -> None:
        self._line = connect
        # The fingerprint is of no certificate: none is looked at, and no CAs have to be loaded.
        super().__init__(repository, secret, bytes(32), timeout_s=_TIMEOUT_S)

    def _rest_transport(self) -> RestTransport:
        backend = _Backend(self._line)
        return RestTransport(self._context, self.limits.connect_s, backend=backend)

    def connect(
        self,
        cancelled: threading.Event,
        congestion_control: str | None = None,  # noqa: ARG002
    ) -> Stream:
        """A connection as of ``Target``; there is no TCP, whose congestion control would count."""
        self.rest.check_open()
        return _MemoryStream(self.repository.netloc, self._line(), cancelled)


class _MemoryStream:
    """A ``Stream`` over a line in memory."""

    session: ssl.SSLSession | None = None
    session_reused = False
    pending = 0
    unacknowledged = 0
    most_in_flight: int | None = None

    def __init__(self, netloc: str, line: Line, cancelled: threading.Event) -> None:
        self.netloc = netloc
        self.closed_by_target = False
        self._line = line
        self._cancelled = cancelled
        self._unsent = bytearray()
        self._came = b""
        """What has come, and was not read."""

    def write(self, data: Buffer) -> None:
        self._unsent += data

    def flush(self) -> bool:
        if self._unsent:
            unsent, self._unsent = bytes(self._unsent), bytearray()
            self._line.send(unsent)
        return True

    def wait(self, timeout_s: float, extra_fd: int = -1) -> bool:
        if self._cancelled.is_set():
            raise Cancelled("stopped as asked")
        self.receive()
        if self._came or self._line.closed:
            return True
        poll = select.poll()
        if extra_fd >= 0:
            poll.register(extra_fd, select.POLLIN)
        poll.poll(max(0.0, min(timeout_s, CANCEL_POLL_S)) * 1000)
        return False

    def receive(self) -> None:
        self._came += self._line.receive()

    def read(self) -> memoryview | None:
        if self._came:
            came, self._came = self._came, b""
            return memoryview(came)
        self.closed_by_target = self._line.closed
        return None

    def end(self, last_words: bytes) -> None:
        self.write(last_words)
        self.flush()
        self.close()

    def close(self) -> None:
        self._line.close()


class _Backend(httpcore.NetworkBackend):
    def __init__(self, connect: Callable[[], Line]) -> None:
        self._connect = connect

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002  (httpcore's names, as below)
        port: int,  # noqa: ARG002
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        return _RestStream(self._connect())


class _RestStream(httpcore.NetworkStream):
    def __init__(self, line: Line) -> None:
        self._line = line
        self._came = b""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        self._came += self._line.receive()
        if not self._came and not self._line.closed:
            raise httpcore.ReadTimeout("nothing will come")
        data, self._came = self._came[:max_bytes], self._came[max_bytes:]
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._line.send(buffer)

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,  # noqa: ARG002
        server_hostname: str | None = None,  # noqa: ARG002
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        return self

    def close(self) -> None:
        self._line.close()

    def get_extra_info(self, info: str) -> Any:
        """Whether an idle connection is readable, which says that it is over; nothing else."""
        return self._line.closed if info == "is_readable" else None
