"""One group: its snapshots in order, oldest first, each over a connection of its own."""

from __future__ import annotations

import errno
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from pbs_push.errors import (
    AuthError,
    Cancelled,
    ConnectError,
    FormatError,
    ManifestError,
    PbsPushError,
    ProtocolError,
    SnapshotVanished,
    SourceError,
    SourceLocked,
    StatusError,
)
from pbs_push.formats.blob import MAX_PROTOCOL_BLOB
from pbs_push.names import Snapshot
from pbs_push.push.archives import Archives
from pbs_push.push.encrypting_transfer import EncryptingTransfer
from pbs_push.push.encryption import Protection, check_sizes, encrypt_log
from pbs_push.push.events import SnapshotProgress, SnapshotStarted
from pbs_push.push.plan import outcomes_of
from pbs_push.push.report import Outcome, Result, Skip, TransferStats
from pbs_push.push.transfer import SnapshotTransfer
from pbs_push.push.transfer_base import ReuseRefused, Transfer, TransferOptions
from pbs_push.source.items import SourceSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pbs_push._native.transport import EntryTable
    from pbs_push.formats.keys import CryptKey
    from pbs_push.push.events import Listener
    from pbs_push.push.metadata import MetadataSync
    from pbs_push.push.plan import GroupPlan
    from pbs_push.push.run import Run
    from pbs_push.remote.session import BackupSession
    from pbs_push.source.snapshot import OpenSnapshot

    Positions = NDArray[np.uint32]

T = TypeVar("T")

PROGRESS_INTERVAL_S: Final = 0.1
_RELEASE_WAITS_S: Final = (0.05, 0.2, 1.0)
"""A broken connection's lock is released about 10 ms later (spec 03)."""


_LASTING: Final = frozenset(
    (
        errno.EBADMSG,
        errno.EFBIG,
        errno.EINVAL,
        errno.EIO,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENODATA,
        errno.ENOTDIR,
        errno.EUCLEAN,
    )
)
"""Errors of the file that could not be read itself, and not of this moment or this user.

EIO is what a disk says of a bad sector, and what is read once more (``_read_twice``).
"""


class _Way(IntEnum):
    """How a snapshot is transferred; each is the fallback of the one before."""

    SHORT = 0
    """With all shortcuts."""
    PLAIN = 1
    """Each archive by itself, with no shortcut but its previous index."""
    ALONE = 2
    """As if there were no previous snapshot: what is damaged there cannot disturb."""


_LEFT_OUT: Final = {_Way.PLAIN: "shortcuts", _Way.ALONE: "the target's previous snapshot"}


class _PartlyEncrypted(Exception):
    """A key is given, and a snapshot is neither to be encrypted with it nor encrypted."""


@dataclass(slots=True)
class GroupResult:
    """What became of a group: which of its snapshots were pushed, and whether one failed."""

    plan: GroupPlan
    pushed: list[SourceSnapshot] = field(default_factory=list)
    failed: bool = False


class GroupWorker:
    """Pushes the snapshots of one group plan; use it once, in any thread.

    A client log that is too long for the backup protocol is left to ``metadata``.
    """

    def __init__(self, run: Run, plan: GroupPlan, metadata: MetadataSync) -> None:
        self._run = run
        self._source = run.source
        self._target = run.target
        self._options = run.options
        self._supply = run.supply
        self._plan = plan
        self._metadata = metadata
        self._newest = plan.newest_at_target
        self._previous: Archives | None = None
        self._log_left = False

    def push(self) -> GroupResult:
        """Push the snapshots until one fails. Raises Cancelled; other errors become outcomes."""
        result = GroupResult(self._plan)
        try:
            for number, item in enumerate(self._plan.snapshots):
                self._run.check_cancelled()
                self._run.notify(SnapshotStarted(item))
                outcome = self._push(item)
                self._run.ended(outcome)
                if outcome.result is Result.PUSHED:
                    result.pushed.append(item)
                    self._newest = item.snapshot.backup_time
                    if self._log_left:
                        self._metadata.log(self._plan, item)
                elif outcome.result is Result.FAILED:
                    result.failed = True
                    if not _may_go_on(outcome.error):
                        self._leave(self._plan.snapshots[number + 1 :])
                        break
        finally:
            if self._previous is not None:
                self._previous.close()
        return result

    def _leave(self, snapshots: Sequence[SourceSnapshot]) -> None:
        """Those after one that failed."""
        for rest in outcomes_of(self._plan.source, snapshots, Result.SKIPPED, Skip.NOT_TRIED):
            self._run.ended(rest)

    def _push(self, item: SourceSnapshot) -> Outcome:
        namespace, snapshot = item.namespace, item.snapshot
        try:
            stats = self._push_open(item)
        except SnapshotVanished:
            try:
                self._run.check_source()
            except SourceError as error:
                return Outcome.of(namespace, snapshot, Result.FAILED, error=error)
            return Outcome.of(namespace, snapshot, Result.SKIPPED, skip=Skip.VANISHED)
        except _PartlyEncrypted:
            return Outcome.of(namespace, snapshot, Result.SKIPPED, skip=Skip.PARTLY_ENCRYPTED)
        except Cancelled:
            raise
        except PbsPushError as error:
            return Outcome.of(namespace, snapshot, Result.FAILED, error=error)
        return Outcome.of(namespace, snapshot, Result.PUSHED, stats=stats)

    def _push_open(self, item: SourceSnapshot) -> TransferStats:
        with ExitStack() as stack:
            opened = stack.enter_context(self._opened(item))
            key = self._key_for(opened)
            archives = Archives.load(opened)
            if key is not None:
                check_sizes(archives.blobs)
            keep = stack.enter_context(ExitStack())
            keep.callback(archives.close)
            chunks_fd = stack.enter_context(self._source.open_chunk_store())
            log, log_error = _client_log(opened, key)
            too_long = log is not None and len(log) > MAX_PROTOCOL_BLOB
            log_along = None if too_long else log
            source = _Open(item, opened, archives, chunks_fd, key, log_along)
            stats = self._pushed(source)
            keep.pop_all()
            self._keep(archives)
        if log_error is not None:
            self._run.problem(f"{item.label}: pushed without its client log", log_error)
        self._log_left = too_long
        return stats

    def _opened(self, item: SourceSnapshot) -> OpenSnapshot:
        """Open a snapshot. Raises ManifestError for whatever keeps its manifest from being read."""
        try:
            return _read_twice(partial(self._source.open_snapshot, item))
        except (SourceLocked, SnapshotVanished):
            raise
        except SourceError as error:
            if _may_pass(error):
                raise  # the group stops, so that a later push can still take this snapshot
            raise ManifestError(str(error)) from error

    def _key_for(self, opened: OpenSnapshot) -> CryptKey | None:
        """What a snapshot is encrypted with on the way. Raises _PartlyEncrypted."""
        key = self._options.encryption_key
        if key is None:
            return None
        protection = Protection.of(opened.manifest)
        if protection is Protection.PARTLY:
            raise _PartlyEncrypted
        return key if protection is Protection.NONE else None

    def _pushed(self, source: _Open) -> TransferStats:
        """Transfer with all shortcuts; where the target refuses them, in a way with fewer.

        That is the way from then on, unless it was damage in the target's previous snapshot.
        """
        way = first = _Way.PLAIN if self._target.plain_only else _Way.SHORT
        while True:
            try:
                stats = self._transfer(source, way, again=way is not first)
            except ReuseRefused as error:
                way = _Way(way + 1)
                text = f"{source.item.label}: {error}; trying again without {_LEFT_OUT[way]}"
                self._run.note("warning", text)
            else:
                break
        if way is _Way.PLAIN and not stats.fallbacks:
            self._target.plain_only = True
        return stats + TransferStats(fallbacks=way)

    def _previous_archives(self, item: SourceSnapshot) -> Archives | None:
        """The source's copy of the target's newest snapshot, if it can be had."""
        if self._previous is None and self._newest is not None:
            snapshot = Snapshot(item.snapshot.group, self._newest)
            at_source = SourceSnapshot(item.namespace, snapshot, finished=True, protected=False)
            try:
                with self._source.open_snapshot(at_source) as opened:
                    self._previous = Archives.load_indexes(opened)
            except PbsPushError:
                return None  # pruned, or being removed: the target will be asked
        return self._previous

    def _keep(self, archives: Archives) -> None:
        """What was pushed is the previous snapshot of the next one: its indexes stay open."""
        if self._previous is not None:
            self._previous.close()
        self._previous = archives

    def _transfer(self, source: _Open, way: _Way, *, again: bool) -> TransferStats:
        previous = self._previous_archives(source.item) if way is _Way.SHORT else None
        paused = self._target.pauses
        session = self._begin(source, again=again)
        by_inode = self._options.chunk_order == "inode"
        try:
            options = TransferOptions(
                client_log=source.client_log,
                previous=previous,
                expects_previous=self._newest is not None and way is not _Way.ALONE,
                body_limit=self._target.features.body_limit,
                order=partial(_by_inode, source.chunks_fd) if by_inode else _as_given,
                plain=way is not _Way.SHORT,
                on_progress=_Throttled(self._run.notify, source.item, session),
                on_closing=self._supply.open_ahead,
            )
            transfer = self._new_transfer(session, source, options)
            stats = transfer.run()
        except (ConnectError, ProtocolError) as error:
            if session.answered or paused:
                raise
            # Some servers lose the first byte that comes at once (spec 03).
            self._target.pauses = True
            text = f"{source.item.label}: {error}; trying again with a pause before the first byte"
            self._run.note("info", text)
        finally:
            session.close()
        if not session.answered:
            return self._transfer(source, way, again=True)
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

    def _begin(self, source: _Open, *, again: bool) -> BackupSession:
        """Connect and upgrade; ``again`` after a session of ours broke, whose lock may linger."""
        waits = list(_RELEASE_WAITS_S) if again else []
        renewed = False
        while True:
            stream, fresh = self._supply.take()
            transport = self._target.transport()
            transport.attach_uploads(
                source.chunks_fd,
                readers=self._options.read_ahead,
                buffer_bytes=self._run.buffer_bytes,
            )
            try:
                return self._target.begin_backup(
                    stream,
                    self._plan.target_namespace,
                    source.item.snapshot,
                    chunks_path=str(self._source.chunk_path),
                    transport=transport,
                    pacer=self._run.pacer,
                )
            except ConnectError:
                if fresh:  # one that waited may have been closed by the target
                    raise
            except AuthError as error:
                if not error.renewable or renewed:
                    raise
                renewed = True
            except (StatusError, ProtocolError):
                if not waits:
                    raise
                time.sleep(waits.pop(0))


@dataclass(frozen=True, slots=True)
class _Open:
    """A source snapshot that is open, and the chunk store that it lies in."""

    item: SourceSnapshot
    opened: OpenSnapshot
    archives: Archives
    chunks_fd: int
    key: CryptKey | None
    """What it is encrypted with on the way; None if it goes as it is."""
    client_log: bytes | None
    """As it goes along with the archives."""


def _client_log(
    opened: OpenSnapshot, key: CryptKey | None
) -> tuple[bytes | None, PbsPushError | None]:
    """The client log as it goes to the target; of a damaged one the error, and the archives go.

    Raises SourceError for what may pass, since it could not be added any more after later pushes.
    """
    try:
        log = _read_twice(opened.client_log)
        return (None if log is None else encrypt_log(log, opened.manifest, key)), None
    except (FormatError, SourceError) as error:
        if _may_pass(error):
            raise
        return None, error


def _as_given(_table: EntryTable, positions: Positions) -> Positions:
    return positions


def _by_inode(chunks_fd: int, table: EntryTable, positions: Positions) -> Positions:
    """Positions in the order in which a spinning disk likes to read their chunks."""
    inodes = np.frombuffer(table.inodes(chunks_fd, positions), dtype=np.uint64)
    return positions[np.argsort(inodes, kind="stable")]


class _Throttled:
    """Turns a transfer's frequent progress into events of a rate that people can read."""

    def __init__(self, notify: Listener, item: SourceSnapshot, session: BackupSession) -> None:
        self._notify = notify
        self._item = item
        self._session = session
        self._next = 0.0

    def __call__(self, done: int, known: int) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PROGRESS_INTERVAL_S
        self._notify(SnapshotProgress(self._item, self._session.state.sent_bytes, done, known))


def _read_twice(read: Callable[[], T]) -> T:
    """What ``read`` returns, called again after an I/O error: one that comes twice is damage."""
    try:
        return read()
    except SourceError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno == errno.EIO:
            return read()
        raise


def _may_pass(error: BaseException) -> bool:
    """Whether what could not be read is as a rule readable later."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno not in _LASTING


def _may_go_on(error: PbsPushError | None) -> bool:
    """Whether later snapshots of the group may still be pushed after this one failed.

    Only an unreadable manifest leaves the group go on (spec 05): it is damage at the source, which
    will not mend itself. Whatever else failed may do so later, and pushing a newer snapshot would
    make this one impossible to push.
    """
    return isinstance(error, ManifestError)
