"""The transfer of one snapshot over a backup session, in as few dependent flights as can be.

    1  previous manifest, registrations, writers, blobs, client log    (push/negotiation.py),
       with the upgrade request where the target takes that
    2  chunks that the target does not have                            (a ChunkSender)
    3  entry lists, each as soon as the target acknowledged its chunks
    4  closes
    5  manifest, alone: it makes a folder count (protocol/backup.md, "Manifest last")
    6  finish

A digest is known only once the target acknowledged it on this connection: registered through
``GET previous``, or uploaded with the answer received (protocol/backup.md, "Known chunks").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from pbs_push.errors import ChunkError, RemoteError, StatusError
from pbs_push.names import MANIFEST_NAME
from pbs_push.push.outcome import TransferStats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pbs_push.push.archives import Archives
    from pbs_push.push.content import Content
    from pbs_push.push.negotiation import Negotiation, Previous
    from pbs_push.push.writers import IndexWriter
    from pbs_push.remote.session import BackupSession, Call


class ReuseRefused(StatusError):
    """The target refused entries or a close after a shortcut; the plain way may still work."""


class Sent(NamedTuple):
    """Chunks that were sent, their bytes as on the wire, and plain.

    Of ``unchecked`` ones, that was asked for and could not be told whether they are what they
    should be.
    """

    chunks: int
    wire_bytes: int
    plain_bytes: int
    unchecked: int = 0


class ChunkSender(Protocol):
    """Sends chunks that writers need; it says how far each writer's entries are ``ready``."""

    @property
    def wake_fd(self) -> int:
        """Readable when there is something to do, beside what the session brings; -1 if never."""

    def start(self, writers: Sequence[IndexWriter], previous: Previous) -> None:
        """Begin with these writers, which are open now."""

    def advance(self) -> bool:
        """Do what can be done now; True when no writer's ``ready`` will change any more."""

    @property
    def progress(self) -> tuple[int, int]:
        """Chunks done, and how many there are at most."""

    @property
    def sent(self) -> Sent:
        """What was sent so far."""

    def close(self) -> None:
        """Stop whatever it still does."""


class Transfer:
    """Sends one snapshot: ``ask``, ``run`` it once, and ``close`` it.

    ``body_limit``: bytes that an entry list must be below. ``on_progress(done, known)`` is called
    often, with numbers of chunks, ``on_closing`` when three flights are left.
    """

    def __init__(
        self,
        session: BackupSession,
        archives: Archives,
        content: Content,
        negotiation: Negotiation,
        sender: ChunkSender,
        *,
        body_limit: int,
        on_progress: Callable[[int, int], None],
        on_closing: Callable[[], None],
    ) -> None:
        self._session = session
        self._archives = archives
        self._content = content
        self._negotiation = negotiation
        self._sender = sender
        self._body_limit = body_limit
        self._on_progress = on_progress
        self._on_closing = on_closing
        self._uploads: list[Call] = []
        self._writers: Sequence[IndexWriter] = ()
        self._fallbacks = 0
        self._took_shortcuts = False

    def ask(self) -> None:
        """Make the calls of the first flight, which wait for nothing."""
        self._uploads = [
            self._session.upload_blob(name, data) for name, data in self._content.blobs
        ]
        self._negotiation.ask()

    def run(self) -> TransferStats:
        """Send the rest, and finish. Raises PbsPushError; the caller closes the session then."""
        try:
            self._open()
            self._session.pump(self._advance, wake_fd=self._sender.wake_fd)
            self._archives.check_unchanged()
            self._on_closing()
            self._close()
            # Not before: a folder with a manifest counts as finished, whatever becomes of the rest.
            manifest = self._content.manifest(writer.archive.info for writer in self._writers)
            self._answered(self._session.upload_blob(MANIFEST_NAME, manifest.encode()))
            self._answered(self._session.finish())
            return self._stats()
        except ChunkError as error:
            raise self._naming_archive(error) from error
        except RemoteError:
            # An index cut short by somebody is the reason, whatever the target said of it.
            self._archives.check_unchanged()
            raise

    def close(self) -> None:
        """Stop what it still does; the session is the caller's."""
        self._sender.close()
        self._negotiation.close()

    def _open(self) -> None:
        self._writers, previous = self._negotiation.run()
        self._session.wait([*self._uploads, *(writer.create for writer in self._writers)])
        for upload in self._uploads:
            upload.body()
        for writer in self._writers:
            writer.writer_id = writer.create.writer_id()
        self._fallbacks = previous.fallbacks
        # A previous index that is damaged there is one too: the target has registered its chunks,
        # with sizes that may be wrong.
        self._took_shortcuts = previous.shortcuts + previous.fallbacks > 0
        self._sender.start(self._writers, previous)

    def _advance(self) -> bool:
        """Do what can be done now; True when all entries are appended."""
        sent = self._sender.advance()
        self._on_progress(*self._sender.progress)
        for writer in self._writers:
            for call in writer.answered():
                self._checked(call)
            writer.send_lists(self._session, limit=self._body_limit)
        return sent and all(writer.done for writer in self._writers)

    def _close(self) -> None:
        closes = [writer.close(self._session) for writer in self._writers]
        self._session.wait(closes)
        for call in closes:
            self._checked(call)

    def _answered(self, call: Call) -> None:
        """Wait for a call's success."""
        self._session.wait([call])
        call.body()

    def _checked(self, call: Call) -> None:
        """Raise the error of a call, as ReuseRefused where a shortcut may be the reason."""
        try:
            call.body()
        except StatusError as error:
            if self._took_shortcuts:
                raise ReuseRefused(error.request, error.status, error.text) from error
            raise

    def _naming_archive(self, error: ChunkError) -> ChunkError:
        names = self._archives.needing(bytes.fromhex(error.digest_hex))
        others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        return error.needed_by(f"{names[0]}{others}") if names else error

    def _stats(self) -> TransferStats:
        sent = self._sender.sent
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
            fallbacks=self._fallbacks,
            unchecked_chunks=sent.unchecked,
        )
