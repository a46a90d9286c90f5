"""One snapshot: transferred in the shortest way that the target takes."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from pbs_push.errors import ConnectError, ProtocolError, StatusError, drop_frames
from pbs_push.push.encrypted_uploads import EncryptedUploads
from pbs_push.push.events import SnapshotProgress
from pbs_push.push.keyed_chunks import KeyedChunks
from pbs_push.push.negotiation import Negotiation, Terms, Witness
from pbs_push.push.opening import opened
from pbs_push.push.outcome import Settled, TransferStats
from pbs_push.push.retries import is_passing
from pbs_push.push.source_checks import ContentChecks
from pbs_push.push.stored_chunks import StoredChunks
from pbs_push.push.transfer import ReuseRefused, Transfer
from pbs_push.remote.preface import Preface

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pbs_push.errors import PbsPushError
    from pbs_push.formats.index import Index
    from pbs_push.push.archives import Archives
    from pbs_push.push.beginning import Beginning
    from pbs_push.push.checkpointing import Checkpoints
    from pbs_push.push.newest import Newest
    from pbs_push.push.opening import Opened
    from pbs_push.push.run import Run
    from pbs_push.push.stored_chunks import Order
    from pbs_push.push.transfer import ChunkSender
    from pbs_push.remote.session import BackupSession
    from pbs_push.source.items import SourceSnapshot

    Positions = NDArray[np.uint32]

PROGRESS_INTERVAL_S: Final = 0.1
_NOTHING: Final = TransferStats()


class _Way(IntEnum):
    """How a snapshot is transferred; each is the fallback of the one before."""

    SHORT = 0
    """With all shortcuts."""
    PLAIN = 1
    """Each archive by itself, with no shortcut but its previous index."""
    ALONE = 2
    """As if there were no previous snapshot: what is damaged there cannot disturb."""


_LATER: Final = {
    Preface.WITH_REQUEST: "with HTTP/2 after the answer to the upgrade",
    Preface.AFTER_ANSWER: "with a pause before the first byte",
}
_LEFT_OUT: Final = {_Way.PLAIN: "shortcuts", _Way.ALONE: "the target's previous snapshot"}


class Pushed(NamedTuple):
    """What became of a snapshot that was pushed, and of its client log: see ``Opened``."""

    stats: TransferStats
    log_error: PbsPushError | None
    log_left: bool


class Attempt:
    """Pushes single snapshots of one group; ``newest`` is the target's, and kept up to date.

    ``answered``: whether the last connection got so far that the target answered.
    """

    def __init__(
        self,
        run: Run,
        beginning: Beginning,
        newest: Newest,
        witness: Witness,
        checkpoints: Checkpoints,
    ) -> None:
        self._run = run
        self._checkpoints = checkpoints
        self._shown: _Shown | None = None
        self._target = run.target
        self._beginning = beginning
        self._newest = newest
        self._witness = witness
        self.answered = False
        self._dropped = TransferStats()

    def spent(self) -> TransferStats:
        """What was sent of the snapshot that was tried last and did not get there: parts that were
        committed, and what was lost with a session. It is given once."""
        spent = self._checkpoints.sent + self._dropped
        self._checkpoints.sent = self._dropped = TransferStats()
        return spent

    def push(self, item: SourceSnapshot, label: str, *, again: bool = False) -> Pushed:
        """Push one snapshot, which messages call ``label``.

        ``again`` after a session of ours for it broke, of which the target may not have noticed.
        Raises Settled where there is nothing to push, PbsPushError, Cancelled.
        """
        with opened(self._run, item) as source:
            again = self._sent_in_parts(source, label, again=again)
            self._shown = _Shown.of(source, self._checkpoints.sent)
            stats = self._pushed(source, label, again=again)
            source.keep_archives = True
            if source.unchecked_blobs:
                stats += TransferStats(unchecked_blobs=source.unchecked_blobs)
        self._newest.is_now(item.snapshot.backup_time, source.archives)
        stats = _together(self._checkpoints.sent, stats) + self._dropped
        self._checkpoints.sent = self._dropped = TransferStats()
        self._checkpoints.forget()
        return Pushed(stats, source.log_error, source.log_left)

    def _sent_in_parts(self, source: Opened, label: str, *, again: bool) -> bool:
        """Commit parts of a long snapshot, one after another.

        Returns whether the last session broke or was refused, and its folder may linger. Raises
        what ``push`` raises, but of the target's refusals nothing: then it goes without.
        """
        while (part := self._checkpoints.next(source)) is not None:
            began = time.monotonic()
            self._shown = _Shown.of(source, self._checkpoints.sent, part.left_chunks)
            try:
                stats = self._pushed(part.opened, f"{label}, a checkpoint", again=again)
            except (StatusError, Settled) as error:
                if isinstance(error, Settled) and error.is_there(part.opened.item):
                    # It was finished, and the answer to that was lost.
                    self._checkpoints.committed(part, TransferStats(), 0.0)
                    again = False
                    continue
                part.opened.archives.close()
                if isinstance(error, StatusError) and is_passing(error):
                    raise
                drop_frames(error)
                self._checkpoints.refused(error)
                return True
            except BaseException:
                part.opened.archives.close()
                raise
            again = False
            self._checkpoints.committed(part, stats, time.monotonic() - began)
        return again

    def _pushed(self, source: Opened, label: str, *, again: bool) -> TransferStats:
        """Transfer with all shortcuts; where the target refuses them, in a way with fewer.

        That is the way from then on, unless it was damage in the target's previous snapshot.
        """
        way = first = _Way.PLAIN if self._target.plain_only else _Way.SHORT
        while True:
            try:
                stats = self._transferred(source, way, label, again=again or way is not first)
            except ReuseRefused as error:
                drop_frames(error)
                way = _Way(way + 1)
                text = f"{label}: {error}; trying again without {_LEFT_OUT[way]}"
                self._run.note("warning", text)
            else:
                break
        if way is _Way.PLAIN and not stats.fallbacks:
            self._target.plain_only = True
        return stats + TransferStats(fallbacks=way)

    def _transferred(self, source: Opened, way: _Way, label: str, *, again: bool) -> TransferStats:
        """Transfer in one way, again where the target has lost the first bytes."""
        start = partial(self._started, source=source, way=way)
        self.answered = False
        session, transfer, preface = self._beginning.begin(source, start, again=again)
        with closing(session), closing(transfer):
            stats = None
            try:
                stats = transfer.run()
            except (ConnectError, ProtocolError) as error:
                if session.answered or not self._target.preface.lost(preface):
                    raise
                drop_frames(error)
                text = f"{label}: {error}; trying again {_LATER[preface]}"
                self._run.note("info", text)
            finally:
                self.answered = session.answered
                if stats is None:
                    state = session.state
                    lost = TransferStats(sent_bytes=state.uploads_bytes, requests=state.requests)
                    self._dropped += lost
        if stats is not None:
            return stats
        return self._transferred(source, way, label, again=True)

    def _started(self, session: BackupSession, source: Opened, way: _Way) -> Transfer:
        transfer = self._transfer(session, source, way)
        transfer.ask()
        return transfer

    def _transfer(self, session: BackupSession, source: Opened, way: _Way) -> Transfer:
        here = self._newest.archives() if way is _Way.SHORT else None
        terms = Terms(
            expects_previous=self._newest.time is not None and way is not _Way.ALONE,
            # Under a key the target's copy has other digests.
            here=here if source.key is None else None,
            reuse=way is _Way.SHORT,
            accepts=source.content.accepts,
        )
        return Transfer(
            session,
            source.archives,
            source.content,
            Negotiation(session, source.archives, terms, self._witness),
            self._sender(session, source, way, here),
            body_limit=self._target.features.body_limit,
            on_progress=_Throttled(self._run, self._shown or _Shown.of(source), session),
            on_closing=self._run.supply.open_ahead,
        )

    def _sender(
        self, session: BackupSession, source: Opened, way: _Way, here: Archives | None
    ) -> ChunkSender:
        options = self._run.options
        order: Order = _as_given
        if options.chunk_order == "inode":
            order = partial(_by_inode, source.chunks_fd)
        share = way is _Way.SHORT
        claim = self._run.room.claim(self._run.buffer_bytes)
        if source.key is None:
            checks = self._checks(session, source) if options.verify_source else None
            return StoredChunks(session, order, claim, share=share, checks=checks)
        uploads = EncryptedUploads(
            session,
            self._run.source,
            source.chunks_fd,
            source.key,
            self._run.sealers,
            claim,
            threads=options.read_ahead,
        )
        return KeyedChunks(uploads, source.key, here, order, share=share)

    def _checks(self, session: BackupSession, source: Opened) -> ContentChecks:
        options = self._run.options
        return ContentChecks(
            session,
            self._run.source,
            source.chunks_fd,
            source.check_key,
            self._run.sealers,
            threads=options.read_ahead,
        )


def _as_given(_index: Index, positions: Positions) -> Positions:
    return positions


def _by_inode(chunks_fd: int, index: Index, positions: Positions) -> Positions:
    """Positions in the order in which a spinning disk likes to read their chunks."""
    return positions[np.argsort(index.inodes(chunks_fd, positions), kind="stable")]


def _together(parts: TransferStats, last: TransferStats) -> TransferStats:
    """What a snapshot took, with the parts of it that were committed before."""
    return replace(
        parts + last,
        reused_entries=last.reused_entries - parts.sent_chunks,
        reused_bytes=last.reused_bytes - parts.sent_plain_bytes,
    )


class _Shown(NamedTuple):
    """Which snapshot progress is of, how large its chunks are, what was sent of it before, and how
    many chunks will be."""

    item: SourceSnapshot
    chunk_bytes: float
    before: TransferStats = _NOTHING
    left_chunks: int = 0

    @classmethod
    def of(cls, source: Opened, before: TransferStats = _NOTHING, left_chunks: int = 0) -> _Shown:
        indexes = [archive.index for archive in source.archives.indexes.values()]
        entries = sum(len(index) for index in indexes)
        each = sum(index.size for index in indexes) / entries if entries else 0.0
        return cls(source.item, each, before, left_chunks)


class _Throttled:
    """Turns a transfer's frequent progress into events of a rate that people can read."""

    def __init__(self, run: Run, shown: _Shown, session: BackupSession) -> None:
        self._run = run
        self._shown = shown
        self._session = session
        self._next = 0.0

    def __call__(self, done: int, known: int) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PROGRESS_INTERVAL_S
        shown = self._shown
        sent = shown.before.sent_bytes + self._session.state.sent_bytes
        chunks = shown.before.sent_chunks
        known = chunks + known + shown.left_chunks
        plain_bytes = int(known * shown.chunk_bytes)
        self._run.notify(SnapshotProgress(shown.item, sent, chunks + done, known, plain_bytes))
