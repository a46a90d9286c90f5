"""TLS connections opened ahead of their use, so that a snapshot does not wait for a handshake."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

from pbs_push.errors import ConnectError, drop_frames

if TYPE_CHECKING:
    from pbs_push.remote.stream import Stream
    from pbs_push.remote.target import Target

NEAR_S: Final = 0.002
"""Round trip of a target so near that a thread for a handshake costs more than it saves."""
CONNECTING_AT_ONCE: Final = 8
"""Connections opened ahead and not yet taken; a few are enough, whatever the number of groups."""


class ConnectionSupply:
    """Connections to one target for the sessions of one push.

    No more are opened ahead than ``expect`` was told that sessions will be begun; before that, one.
    Safe for threads. ``close`` it at the end: what was not taken is closed.
    """

    def __init__(
        self,
        target: Target,
        cancelled: threading.Event,
        congestion_control: str | None = None,
    ) -> None:
        self._target = target
        self._congestion_control = congestion_control
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._wanted = 1
        self._ahead: list[Future[Stream]] = []
        self._threads: list[threading.Thread] = []
        self._closed = False

    def expect(self, sessions: int) -> None:
        """From now on, so many sessions will be begun."""
        with self._lock:
            self._wanted = sessions

    def open_ahead(self) -> None:
        """Begin to open a connection for the next ``take``, if one will come and it is worth it."""
        with self._lock:
            if self._closed or len(self._ahead) >= min(self._wanted, CONNECTING_AT_ONCE):
                return
            if 0 < self._target.rest.round_trip_s < NEAR_S:
                return
            future: Future[Stream] = Future()
            thread = threading.Thread(target=self._open, args=(future,), name="connect")
            thread.start()  # where the system gives no more, nobody waits for it
            self._ahead.append(future)
            self._threads = [other for other in self._threads if other.is_alive()]
            self._threads.append(thread)

    def _open(self, future: Future[Stream]) -> None:
        try:
            future.set_result(self._connect())
        except BaseException as error:  # noqa: BLE001  (it is raised where the result is asked for)
            future.set_exception(error)

    def take(self, *, again: bool = False) -> tuple[Stream, bool]:
        """A connection, and whether it is fresh; another may have been closed by the target.

        ``again``: for a session that could not be begun with the one before. Raises ConnectError,
        TlsError, Cancelled.
        """
        with self._lock:
            self._wanted -= not again
            future = self._ahead.pop(0) if self._ahead else None
        if future is not None:
            try:
                return future.result(), False
            except ConnectError as error:
                # The one below says what is wrong, if it still is; and this frame has the future,
                # which has the error, and it this frame: all above would outlive the session.
                drop_frames(error)
        return self._connect(), True

    def _connect(self) -> Stream:
        return self._target.connect(self._cancelled, self._congestion_control)

    def close(self) -> None:
        """Close the connections that were not taken."""
        with self._lock:
            self._closed = True
            left, self._ahead = self._ahead, []
            threads = list(self._threads)
        for thread in threads:
            thread.join()
        for future in left:
            if future.exception() is None:
                future.result().end(b"")
