"""One group: its snapshots in order, oldest first, each over a connection of its own."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from pbs_push.errors import (
    Cancelled,
    ManifestError,
    PbsPushError,
    SnapshotVanished,
    StatusError,
)
from pbs_push.formats.blob import MAX_PROTOCOL_BLOB
from pbs_push.names import Snapshot
from pbs_push.push.archives import Archives, PreviousArchives
from pbs_push.push.events import Note, SnapshotEnded, SnapshotProgress, SnapshotStarted
from pbs_push.push.report import Outcome, Result, Skip, TransferStats
from pbs_push.push.transfer import ReuseRefused, SnapshotTransfer
from pbs_push.source.items import SourceSnapshot

if TYPE_CHECKING:
    import threading

    from pbs_push.push.events import Listener
    from pbs_push.push.options import PushOptions
    from pbs_push.push.plan import GroupPlan
    from pbs_push.remote.pacing import Pacer
    from pbs_push.remote.session import BackupSession
    from pbs_push.remote.target import Target
    from pbs_push.source.datastore import Datastore
    from pbs_push.source.snapshot import OpenSnapshot

PROGRESS_INTERVAL_S: Final = 0.1
_RELEASE_WAITS_S: Final = (0.05, 0.2, 1.0)
"""A broken connection's lock is released about 10 ms later (spec 03)."""


class GroupWorker:
    """Pushes the snapshots of one group plan; ``run`` it once, in any thread.

    ``cancelled`` stops it at the next wait; what is under way then is dropped, and removed by the
    target.
    """

    def __init__(
        self,
        source: Datastore,
        target: Target,
        plan: GroupPlan,
        options: PushOptions,
        *,
        notify: Listener,
        cancelled: threading.Event,
        pacer: Pacer | None = None,
    ) -> None:
        self._source = source
        self._target = target
        self._plan = plan
        self._options = options
        self._notify = notify
        self._cancelled = cancelled
        self._pacer = pacer
        self._newest = plan.newest_at_target

    def run(self) -> list[Outcome]:
        """Push the snapshots until one fails. Raises Cancelled; other errors become outcomes."""
        outcomes: list[Outcome] = []
        for item in self._plan.snapshots:
            if self._cancelled.is_set():
                raise Cancelled("stopped as asked")
            self._notify(SnapshotStarted(item))
            outcome = self._push(item)
            self._notify(SnapshotEnded(outcome))
            outcomes.append(outcome)
            if outcome.result is Result.PUSHED:
                self._newest = item.snapshot.backup_time
            elif outcome.result is Result.FAILED and not _may_go_on(outcome.error):
                break
        return outcomes

    def _push(self, item: SourceSnapshot) -> Outcome:
        namespace, snapshot = item.namespace, item.snapshot
        try:
            stats = self._push_open(item)
        except SnapshotVanished:
            return Outcome.of(namespace, snapshot, Result.SKIPPED, skip=Skip.VANISHED)
        except Cancelled:
            raise
        except PbsPushError as error:
            return Outcome.of(namespace, snapshot, Result.FAILED, error=error)
        return Outcome.of(namespace, snapshot, Result.PUSHED, stats=stats)

    def _push_open(self, item: SourceSnapshot) -> TransferStats:
        with ExitStack() as stack:
            opened = stack.enter_context(self._source.open_snapshot(item))
            archives = stack.enter_context(Archives(opened))
            previous = self._open_previous(item, stack)
            chunks_fd = os.open(self._source.chunk_path, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, chunks_fd)
            try:
                return self._transfer(item, opened, archives, previous, chunks_fd, plain=False)
            except ReuseRefused as error:
                self._notify(
                    Note("warning", f"{item.label}: {error}; trying again without shortcuts")
                )
            stats = self._transfer(item, opened, archives, None, chunks_fd, plain=True)
            return stats + TransferStats(fallbacks=1)

    def _open_previous(self, item: SourceSnapshot, stack: ExitStack) -> PreviousArchives | None:
        """The source's copy of the target's newest snapshot, if it can be had."""
        if self._newest is None:
            return None
        snapshot = Snapshot(item.snapshot.group, self._newest)
        at_source = SourceSnapshot(item.namespace, snapshot, finished=True, protected=False)
        try:
            opened = stack.enter_context(self._source.open_snapshot(at_source))
        except PbsPushError:
            return None  # pruned, or being removed: the target will be asked
        return stack.enter_context(PreviousArchives(opened))

    def _transfer(
        self,
        item: SourceSnapshot,
        opened: OpenSnapshot,
        archives: Archives,
        previous: PreviousArchives | None,
        chunks_fd: int,
        *,
        plain: bool,
    ) -> TransferStats:
        log = opened.client_log()
        late_log = log if log is not None and len(log) > MAX_PROTOCOL_BLOB else None
        session = self._begin(item, chunks_fd, again=plain)
        try:
            transfer = SnapshotTransfer(
                session,
                archives,
                client_log=None if late_log is not None else log,
                previous=previous,
                expects_previous=self._newest is not None,
                body_limit=self._target.features.body_limit,
                plain=plain,
                on_progress=_Throttled(self._notify, item, session),
            )
            stats = transfer.run()
        finally:
            session.close()
        if late_log is not None:
            self._target.api.upload_log(self._plan.target_namespace, item.snapshot, late_log)
        return stats

    def _begin(self, item: SourceSnapshot, chunks_fd: int, *, again: bool) -> BackupSession:
        """Connect and upgrade; ``again`` after a session of ours broke, whose lock may linger."""
        waits = list(_RELEASE_WAITS_S) if again else []
        while True:
            transport = self._target.transport()
            transport.attach_uploads(
                chunks_fd,
                readers=self._options.read_ahead,
                buffer_bytes=self._options.buffer_bytes,
            )
            try:
                return self._target.begin_backup(
                    self._target.connect(self._cancelled),
                    self._plan.target_namespace,
                    item.snapshot,
                    chunks_path=str(self._source.chunk_path),
                    transport=transport,
                    pacer=self._pacer,
                )
            except StatusError:
                if not waits:
                    raise
                time.sleep(waits.pop(0))


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


def _may_go_on(error: PbsPushError | None) -> bool:
    """Whether later snapshots of the group may still be pushed after this one failed.

    Only an unreadable manifest leaves the group go on (spec 05): it is damage at the source, which
    will not mend itself. Whatever else failed may do so later, and pushing a newer snapshot would
    make this one impossible to push.
    """
    return isinstance(error, ManifestError)
