"""One snapshot: opened, checked, and transferred in the shortest way that the target takes."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum
from errno import EIO
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from pbs_push.errors import (
    ConnectError,
    FormatError,
    ManifestError,
    ProtocolError,
    SnapshotVanished,
    SourceError,
    SourceLocked,
)
from pbs_push.formats.blob import MAX_PROTOCOL_BLOB
from pbs_push.push.archives import Archives
from pbs_push.push.beginning import Settled
from pbs_push.push.encrypting_transfer import EncryptingTransfer
from pbs_push.push.encryption import Protection, check_sizes, encrypt_log
from pbs_push.push.events import SnapshotProgress
from pbs_push.push.report import Skip, TransferStats
from pbs_push.push.transfer import SnapshotTransfer
from pbs_push.push.transfer_base import ReuseRefused, Transfer, TransferOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pbs_push.errors import PbsPushError
    from pbs_push.formats.index import Index
    from pbs_push.formats.keys import CryptKey
    from pbs_push.formats.manifest import Manifest
    from pbs_push.push.beginning import Beginning
    from pbs_push.push.newest import Newest
    from pbs_push.push.run import Run
    from pbs_push.remote.session import BackupSession
    from pbs_push.source.items import SourceSnapshot
    from pbs_push.source.snapshot import OpenSnapshot

    Positions = NDArray[np.uint32]

T = TypeVar("T")

PROGRESS_INTERVAL_S: Final = 0.1


class _Way(IntEnum):
    """How a snapshot is transferred; each is the fallback of the one before."""

    SHORT = 0
    """With all shortcuts."""
    PLAIN = 1
    """Each archive by itself, with no shortcut but its previous index."""
    ALONE = 2
    """As if there were no previous snapshot: what is damaged there cannot disturb."""


_LEFT_OUT: Final = {_Way.PLAIN: "shortcuts", _Way.ALONE: "the target's previous snapshot"}


_NO_LOCKS: Final = (
    "the source's file system has no locks: whatever removes or writes snapshots there is not kept "
    "from it while they are pushed"
)


@dataclass(frozen=True, slots=True)
class Sent:
    """A snapshot that was pushed, and what became of its client log.

    ``log_error`` is why a damaged one was left out; ``log_left``: it is too long for the backup
    protocol, and to be added by itself.
    """

    stats: TransferStats
    log_error: PbsPushError | None
    log_left: bool


@dataclass(frozen=True, slots=True)
class _Open:
    """A source snapshot that is open, and the chunk store that it lies in."""

    item: SourceSnapshot
    archives: Archives
    chunks_fd: int
    key: CryptKey | None
    """What it is encrypted with on the way; None if it goes as it is."""
    client_log: bytes | None
    """As it goes along with the archives."""


class Attempt:
    """Pushes single snapshots of one group; ``newest`` is the target's, and kept up to date.

    ``on_previous`` is given the manifest of the target's previous snapshot where it was asked for,
    ``on_broken`` the name of an index of it that is missing or damaged there.
    """

    def __init__(
        self,
        run: Run,
        beginning: Beginning,
        newest: Newest,
        on_previous: Callable[[Manifest], None],
        on_broken: Callable[[str], None],
    ) -> None:
        self._run = run
        self._source = run.source
        self._target = run.target
        self._options = run.options
        self._beginning = beginning
        self._newest = newest
        self._on_previous = on_previous
        self._on_broken = on_broken

    def push(self, item: SourceSnapshot, label: str) -> Sent:
        """Push one snapshot, which messages call ``label``.

        Raises Settled where there is nothing to push, PbsPushError, Cancelled.
        """
        with ExitStack() as stack:
            opened = stack.enter_context(self._opened(item))
            if not opened.locked:
                self._run.note_once("warning", _NO_LOCKS)
            key = self._key_for(opened)
            archives = Archives.load(opened)
            if key is not None:
                check_sizes(archives.blobs)
            keep = stack.enter_context(ExitStack())
            keep.callback(archives.close)
            chunks_fd = stack.enter_context(self._source.open_chunk_store())
            log, log_error = _client_log(opened, key)
            too_long = log is not None and len(log) > MAX_PROTOCOL_BLOB
            source = _Open(item, archives, chunks_fd, key, None if too_long else log)
            stats = self._pushed(source, label)
            keep.pop_all()
            self._newest.is_now(item.snapshot.backup_time, archives)
        return Sent(stats, log_error, too_long)

    def _opened(self, item: SourceSnapshot) -> OpenSnapshot:
        """Open a snapshot. Raises ManifestError for whatever keeps its manifest from being read."""
        try:
            return _read_twice(partial(self._source.open_snapshot, item))
        except (SourceLocked, SnapshotVanished):
            raise
        except SourceError as error:
            if error.may_pass:
                raise  # the group stops, so that a later push can still take this snapshot
            raise ManifestError(str(error)) from error

    def _key_for(self, opened: OpenSnapshot) -> CryptKey | None:
        """What a snapshot is encrypted with on the way. Raises Settled."""
        key = self._options.encryption_key
        if key is None:
            return None
        protection = Protection.of(opened.manifest)
        if protection is Protection.PARTLY:
            raise Settled(Skip.PARTLY_ENCRYPTED)
        return key if protection is Protection.NONE else None

    def _pushed(self, source: _Open, label: str) -> TransferStats:
        """Transfer with all shortcuts; where the target refuses them, in a way with fewer.

        That is the way from then on, unless it was damage in the target's previous snapshot.
        """
        way = first = _Way.PLAIN if self._target.plain_only else _Way.SHORT
        while True:
            try:
                stats = self._transfer(source, way, label, again=way is not first)
            except ReuseRefused as error:
                way = _Way(way + 1)
                text = f"{label}: {error}; trying again without {_LEFT_OUT[way]}"
                self._run.note("warning", text)
            else:
                break
        if way is _Way.PLAIN and not stats.fallbacks:
            self._target.plain_only = True
        return stats + TransferStats(fallbacks=way)

    def _transfer(self, source: _Open, way: _Way, label: str, *, again: bool) -> TransferStats:
        previous = self._newest.archives() if way is _Way.SHORT else None
        paused = self._target.pauses
        manifest = source.archives.manifest
        session = self._beginning.begin(source.item, manifest, source.chunks_fd, again=again)
        by_inode = self._options.chunk_order == "inode"
        try:
            options = TransferOptions(
                client_log=source.client_log,
                previous=previous,
                expects_previous=self._newest.time is not None and way is not _Way.ALONE,
                body_limit=self._target.features.body_limit,
                order=partial(_by_inode, source.chunks_fd) if by_inode else _as_given,
                plain=way is not _Way.SHORT,
                on_previous=self._on_previous,
                on_broken=self._on_broken,
                on_progress=_Throttled(self._run, source.item, session),
                on_closing=self._run.supply.open_ahead,
            )
            stats = self._new_transfer(session, source, options).run()
        except (ConnectError, ProtocolError) as error:
            if session.answered or paused:
                raise
            # Some servers lose the first byte that comes at once (spec 03).
            self._target.pauses = True
            text = f"{label}: {error}; trying again with a pause before the first byte"
            self._run.note("info", text)
        finally:
            session.close()
        if not session.answered:
            return self._transfer(source, way, label, again=True)
        return stats

    def _new_transfer(
        self, session: BackupSession, source: _Open, options: TransferOptions
    ) -> Transfer:
        if source.key is None:
            return SnapshotTransfer(session, source.archives, options)
        return EncryptingTransfer(
            session,
            source.archives,
            options,
            source=self._source,
            key=source.key,
            threads=self._options.read_ahead,
            buffer_bytes=self._run.buffer_bytes,
        )


def _client_log(
    opened: OpenSnapshot, key: CryptKey | None
) -> tuple[bytes | None, PbsPushError | None]:
    """The client log as it goes to the target; of a damaged one the error, and the archives go.

    Raises SourceError for what may pass, since it could not be added any more after later pushes.
    """
    try:
        log = _read_twice(opened.client_log)
        return (None if log is None else encrypt_log(log, opened.manifest, key)), None
    except FormatError as error:
        return None, error
    except SourceError as error:
        if error.may_pass:
            raise
        return None, error


def _as_given(_index: Index, positions: Positions) -> Positions:
    return positions


def _by_inode(chunks_fd: int, index: Index, positions: Positions) -> Positions:
    """Positions in the order in which a spinning disk likes to read their chunks."""
    return positions[np.argsort(index.inodes(chunks_fd, positions), kind="stable")]


class _Throttled:
    """Turns a transfer's frequent progress into events of a rate that people can read."""

    def __init__(self, run: Run, item: SourceSnapshot, session: BackupSession) -> None:
        self._run = run
        self._item = item
        self._session = session
        self._next = 0.0

    def __call__(self, done: int, known: int) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PROGRESS_INTERVAL_S
        sent = self._session.state.sent_bytes
        self._run.notify(SnapshotProgress(self._item, sent, done, known))


def _read_twice(read: Callable[[], T]) -> T:
    """What ``read`` returns, called again after an I/O error: one that comes twice is damage."""
    try:
        return read()
    except SourceError as error:
        if error.errno != EIO:
            raise
    return read()
