"""The server: a listening socket, and a thread for each connection."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self, TypeVar

from pbs_push.errors import ConfigError
from pbs_push.names import AuthId, Repository
from pbs_push.target.certificate import CertificateFiles, server_context
from pbs_push.target.counters import Counters
from pbs_push.target.http1 import RestConnection
from pbs_push.target.identities import Identities
from pbs_push.target.login import Gate
from pbs_push.target.options import Faults, Maintenance, TargetOptions
from pbs_push.target.session import Place
from pbs_push.target.shared import Shared
from pbs_push.target.stores import Stores
from pbs_push.target.tasks import Tasks
from pbs_push.target.upgraded import session_on
from pbs_push.target.wire import Wire

_log = logging.getLogger(__name__)
_BACKLOG: Final = 128

T = TypeVar("T")


class TargetServer:
    """An embedded Proxmox Backup Server: REST and backup protocol over TLS, strict as a real one.

    ``stores`` maps datastore names to directories (see `create_datastore`), ``port`` 0 takes a free
    one. Use it as a context manager, or call `start` and `close`; it cannot be started again.
    """

    def __init__(
        self,
        stores: Mapping[str, Path],
        *,
        identities: Identities,
        host: str = "127.0.0.1",
        port: int = 0,
        options: TargetOptions | None = None,
        certificate: CertificateFiles | None = None,
        faults: Faults | None = None,
    ) -> None:
        """Raises SourceError for what is not a datastore, ConfigError for a bad certificate."""
        self.counters = Counters()
        self.faults = faults or Faults()
        self._context, self.fingerprint = server_context(certificate)
        self._stores = Stores(stores)
        self._stopping = threading.Event()
        self._checkers = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="target-check")
        options = options or TargetOptions()
        self._shared = Shared(
            self._stores,
            identities,
            Gate(identities, options),
            options,
            options.habits,
            self.faults,
            self.counters,
            self._pause,
            self._checkers,
            Tasks(self._start_task, options.clock),
        )
        self._wanted = (host, port)
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._wires: set[Wire] = set()

    def start(self) -> None:
        """Listen and serve until `close`. Raises ConfigError if the address cannot be used."""
        host, port = self._wanted
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}") from error
        self._acceptor = threading.Thread(target=self._accept, name="target-accept", daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """Stop: end all connections, and wait for their threads. May be called more than once."""
        self._stopping.set()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
        if self._acceptor is not None:
            self._acceptor.join()
        if self._listener is not None:
            self._listener.close()
        with self._lock:
            threads, wires = list(self._threads), list(self._wires)
        for wire in wires:
            wire.shut_down()
        for thread in threads:
            thread.join()
        self._checkers.shutdown()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on. Raises ConfigError before `start`."""
        if self._listener is None:
            raise ConfigError("the target has no address yet: start it first")
        host, port = self._listener.getsockname()[:2]
        return host, port

    @property
    def maintenance(self) -> dict[str, Maintenance]:
        """Maintenance modes by datastore; may be changed at any time."""
        return self._stores.maintenance

    def repository(self, store: str, auth_id: AuthId | str) -> Repository:
        """How a client names a datastore of this target."""
        host, port = self.address
        identity = AuthId.parse(auth_id) if isinstance(auth_id, str) else auth_id
        return Repository(store, host, port, identity)

    def _release(self, place: Place) -> None:
        """Give back a finished snapshot's locks, now or when that is said to be."""
        if self._shared.options.lock_linger_s > 0:
            self._start_thread(self._linger, place)
        else:
            place.release()

    def _linger(self, place: Place) -> None:
        self._pause(self._shared.options.lock_linger_s)
        place.release()

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            self._stopping.wait(seconds)

    def _accept(self) -> None:
        listener = self._listener
        while listener is not None and not self._stopping.is_set():
            try:
                raw, _address = listener.accept()
            except OSError:
                return  # closed
            self.counters.add(connections=1)
            try:
                self._start_thread(self._connection, raw)
            except RuntimeError as error:
                _log.warning("connection refused: %s", error)
                raw.close()

    def _start_thread(self, work: Callable[[T], None], argument: T) -> None:
        """Do some work in a thread that `close` waits for. Raises RuntimeError."""

        def run() -> None:
            try:
                work(argument)
            finally:
                with self._lock:
                    self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, name="target", daemon=True)
        with self._lock:  # `close` may only find threads that can be joined
            thread.start()
            self._threads.add(thread)

    def _start_task(self, kind: str, work: Callable[[], None]) -> None:
        """Do the work of a task, as late as a fault says for ``task KIND``."""

        def later(delay_s: float) -> None:
            self._pause(delay_s)
            work()

        self._start_thread(later, self.faults.delays_s.get(f"task {kind}", 0.0))

    def _connection(self, raw: socket.socket) -> None:
        """One connection from its handshake to its end."""
        try:
            with raw, self._wire(raw) as wire:
                wire.shake_hands()
                self._serve(wire)
        except OSError as error:
            _log.debug("connection ended: %s", error)

    @contextlib.contextmanager
    def _wire(self, raw: socket.socket) -> Generator[Wire, None, None]:
        """A connection that `close` can end."""
        wire = Wire(raw, self._context, self.counters)
        with self._lock:
            self._wires.add(wire)
        if self._stopping.is_set():
            wire.shut_down()
        try:
            yield wire
        finally:
            with self._lock:
                self._wires.discard(wire)
            wire.close()

    def _serve(self, wire: Wire) -> None:
        if self.faults.garbage is not None:
            wire.send(self.faults.garbage)
            wire.flush()
            return
        upgraded = RestConnection(wire, self._shared).serve()
        if upgraded is None:
            return
        place, early = upgraded
        if self._shared.options.loses_early_bytes:
            early = b""
        session = session_on(wire, self._shared, place, self._release)
        try:
            session.connection.serve(early)
        finally:
            session.end()
