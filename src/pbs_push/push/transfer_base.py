"""What the transfers of a snapshot have in common: their frame, and their end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from pbs_push.errors import RemoteError, StatusError
from pbs_push.push.report import TransferStats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pbs_push.formats.index import Index
    from pbs_push.push.archives import Archives
    from pbs_push.push.writers import IndexWriter
    from pbs_push.remote.session import BackupSession, Call


class ReuseRefused(StatusError):
    """The target refused entries or a close after a shortcut; the plain way may still work."""


class Sent(NamedTuple):
    """Chunks that were sent, their bytes as on the wire, and plain."""

    chunks: int
    wire_bytes: int
    plain_bytes: int


class Transfer(ABC):
    """Sends one snapshot; ``run`` it once.

    ``plain``: take no shortcut but downloading previous indexes. ``on_closing`` is called when two
    flights are left. A subclass opens its ``_writers`` and fills them in ``_send``, counts
    ``_fallbacks``, and keeps indexes that are to be closed in ``_downloaded``.
    """

    _writers: Sequence[IndexWriter]

    def __init__(
        self,
        session: BackupSession,
        archives: Archives,
        *,
        plain: bool,
        on_closing: Callable[[], None],
    ) -> None:
        self._session = session
        self._archives = archives
        self._plain = plain
        self._on_closing = on_closing
        self._writers = []
        self._downloaded: list[Index] = []
        self._fallbacks = 0

    def run(self) -> TransferStats:
        """Send all of it, and finish. Raises PbsPushError; the caller closes the session then."""
        try:
            self._send()
            self._archives.check_unchanged()
            self._on_closing()
            self._close()
            self._next_flight()
            finish = self._session.finish()
            self._session.wait([finish])
            finish.body()
            return self._stats()
        except RemoteError:
            # An index cut short by somebody is the reason, whatever the target said of it.
            self._archives.check_unchanged()
            raise
        finally:
            for index in self._downloaded:
                index.close()

    @abstractmethod
    def _send(self) -> None:
        """Send everything but closes; all answers have come then."""

    @property
    @abstractmethod
    def _sent(self) -> Sent:
        """The chunks that were sent."""

    @property
    def _took_shortcuts(self) -> bool:
        """Whether doing without them may help where the target refuses something."""
        return not self._plain

    def _next_flight(self) -> None:
        """What is called from now on depends on the answers to all that was called before."""
        self._session.flight = self._session.flights + 1

    def _checked(self, call: Call) -> None:
        """Raise the error of a call, as ReuseRefused where a shortcut may be the reason."""
        try:
            call.body()
        except StatusError as error:
            if self._took_shortcuts:
                raise ReuseRefused(error.request, error.status, error.text) from error
            raise

    def _close(self) -> None:
        self._next_flight()
        closes = [writer.close(self._session) for writer in self._writers]
        self._session.wait(closes)
        for call in closes:
            self._checked(call)

    def _stats(self) -> TransferStats:
        sent = self._sent
        entries = sum(len(writer.archive.index) for writer in self._writers)
        size = sum(writer.archive.index.size for writer in self._writers)
        return TransferStats(
            sent_chunks=sent.chunks,
            sent_bytes=sent.wire_bytes,
            sent_plain_bytes=sent.plain_bytes,
            reused_entries=entries - sent.chunks,
            reused_bytes=size - sent.plain_bytes,
            requests=self._session.state.requests,
            entry_lists=sum(writer.n_lists for writer in self._writers),
            flights=self._session.flights,
            fallbacks=self._fallbacks,
        )
