"""The same target without a socket, TLS or threads: who sends a request handles it meanwhile.

For tests of programs that push (`pbs_push.testing`). All that a server checks is checked here by
the same code; there is no time, no line, and no certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, Final

from pbs_push.target.counters import Counters
from pbs_push.target.http1 import RestConnection
from pbs_push.target.identities import Identities
from pbs_push.target.login import Gate
from pbs_push.target.options import Faults, TargetOptions
from pbs_push.target.session import Place
from pbs_push.target.shared import Shared
from pbs_push.target.stores import Stores
from pbs_push.target.tasks import Tasks
from pbs_push.target.upgraded import Upgraded, session_on


class MemoryServer:
    """An embedded Proxmox Backup Server that listens nowhere; `connect` is how it is reached.

    What waits or delays in ``options`` and ``faults`` has no effect. Safe for threads, each with
    connections of its own. Raises SourceError for what is not a datastore.
    """

    def __init__(
        self,
        stores: Mapping[str, Path],
        *,
        identities: Identities,
        options: TargetOptions,
        faults: Faults,
        counters: Counters,
    ) -> None:
        self._shared: Final = Shared(
            Stores(stores),
            identities,
            Gate(identities, options),
            options,
            options.habits,
            faults,
            counters,
            lambda _seconds: None,
            _AtOnce(),
            Tasks(lambda _kind, work: work(), options.clock),
        )

    def connect(self) -> MemoryConnection:
        """A connection of its own."""
        self._shared.counters.add(connections=1)
        return MemoryConnection(self._shared)


class MemoryConnection:
    """Both ends of a connection; what is sent is handled in the thread that sends or receives.

    ``closed``: the server has ended it. One thread at a time.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._wire = _MemoryWire(shared.counters)
        self._rest = RestConnection(self._wire, shared)
        self._session: Upgraded | None = None
        self.closed = False
        if shared.faults.garbage is not None:
            self._wire.send(shared.faults.garbage)
            self.close()

    def send(self, data: bytes) -> None:
        """Send bytes; those of a session are handled now. What comes after the end is lost."""
        if self.closed:
            return
        self._wire.came += data
        if self._session is not None:
            self._serve()

    def receive(self) -> bytes:
        """What the server has sent since the last time; nothing may have been."""
        if not self.closed and self._wire.came:
            self._serve()
        sent, self._wire.sent = bytes(self._wire.sent), bytearray()
        return sent

    def close(self) -> None:
        """End it, from either side; an unfinished snapshot is removed now."""
        self.closed = True
        if self._session is not None:
            self._session.end()
            self._session = None

    def _serve(self) -> None:
        """Handle what has come."""
        try:
            if self._session is None:
                upgraded = self._rest.serve()
                if upgraded is None:
                    self.close()
                    return
                place, data = upgraded
                self._session = session_on(self._wire, self._shared, place, Place.release)
                self._session.connection.begin(data)
            else:
                data = self._wire.exchange()
            connection = self._session.connection
            while connection.take(data):
                if not connection.has_more:
                    return
                data = b""
        except _NothingCame:
            return
        except OSError:
            pass  # a fault that cuts the line
        self.close()


class _NothingCame(Exception):
    """The server would wait for more of a request."""


class _MemoryWire:
    """The server's side: what came, and what it has sent."""

    outgoing = 0

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self.came = bytearray()
        self.sent = bytearray()

    def send(self, data: bytes) -> None:
        self._counters.add(bytes_out=len(data))
        self.sent += data

    def exchange(self, *, more: bool = False) -> bytes:  # noqa: ARG002  (as `Wire`)
        if not self.came:
            raise _NothingCame
        came, self.came = bytes(self.came), bytearray()
        self._counters.add(bytes_in=len(came))
        return came

    def is_silent(self, seconds: float) -> bool:  # noqa: ARG002  (as `Wire`)
        return True

    def flush(self) -> None:
        pass

    def cut(self) -> None:
        self.sent.clear()


class _AtOnce(Executor):
    """Does what it is given at once."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  (it is raised where the result is asked for)
            future.set_exception(error)
        return future
