"""Snapshot after snapshot: its files are checked, its chunks given to threads, and then judged.

A snapshot stays open, with its shared lock, until its chunks are checked: so nothing of it is
removed meanwhile by those who heed locks. Others may; what they remove is not damage.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from pbs_push.errors import (
    ConfigError,
    FormatError,
    IndexFormatError,
    SnapshotVanished,
    SourceError,
    SourceLocked,
)
from pbs_push.formats.chunk_content import ContentChecker
from pbs_push.names import MANIFEST_NAME
from pbs_push.verify.damage import DamagedChunks
from pbs_push.verify.events import DamageFound, SnapshotVerified, VerifyProgress
from pbs_push.verify.report import ChunkCounts, FileDamage, Verdict
from pbs_push.verify.seen import Mode
from pbs_push.verify.snapshots import VerifiedFiles, check_files, damage_of, read_twice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pbs_push.source.datastore import SourceIdentity
    from pbs_push.source.items import SourceSnapshot
    from pbs_push.source.snapshot import OpenSnapshot
    from pbs_push.verify.chunks import Batch, ChunkThreads
    from pbs_push.verify.record import Record
    from pbs_push.verify.report import ChunkDamage
    from pbs_push.verify.task import Task

MOST_OPEN: Final = 256
"""Indexes of snapshots whose chunks are under way, and as many such snapshots at most."""
PROGRESS_INTERVAL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Pending:
    """A snapshot some of whose chunks may be under way."""

    files: VerifiedFiles
    batches: list[Batch]

    @property
    def done(self) -> bool:
        return all(batch.done for batch in self.batches)


class Walk:
    """Looks at snapshots, whose chunks ``threads`` check if ``record`` does not know them.

    ``chunks_fd`` is the open chunk store. ``identity`` is the source that was looked at in the
    beginning. Close it in the end.
    """

    def __init__(
        self,
        task: Task,
        record: Record,
        threads: ChunkThreads,
        chunks_fd: int,
        identity: SourceIdentity,
    ) -> None:
        self._task = task
        self._record = record
        self._threads = threads
        self._chunks_fd = chunks_fd
        self._identity = identity
        self._checker = ContentChecker()
        self._damaged = DamagedChunks(record.seen)
        self._pending: deque[_Pending] = deque()
        self._locked: list[SourceSnapshot] = []
        self._counts = dict.fromkeys(Mode, 0)
        self._next_progress = 0.0
        self._state_failed = False

    def go(self, items: Iterable[SourceSnapshot]) -> None:
        """Verify these. Raises Cancelled, and SourceError for what may pass."""
        for item in items:
            self._begin(item)
        self._settle(0)
        locked, self._locked = self._locked, []
        for item in locked:
            self._begin(item)
        self._settle(0)
        for item in self._locked:
            self._judged(item, Verdict.LOCKED)

    def close(self) -> None:
        """Close what is open, and sum up. What was checked is written to the state."""
        while self._pending:
            self._pending.popleft().files.resources.close()
        report = self._task.report
        report.damaged_chunks = list(self._damaged)
        report.chunks = ChunkCounts(
            ok=self._counts[Mode.PLAIN] + self._counts[Mode.KEYED],
            not_checked=self._counts[Mode.SEALED],
            damaged=len(report.damaged_chunks),
            resumed=self._record.resumed,
            read_bytes=self._threads.read_bytes,
            plain_bytes=self._threads.plain_bytes,
        )
        self._save(self._record.save)

    # -- a snapshot begins --

    def _begin(self, item: SourceSnapshot) -> None:
        self._task.check_cancelled()
        opened = self._open(item)
        if opened is None:
            return
        try:
            files = check_files(opened, self._task.options.key, self._checker)
        except BaseException:
            opened.close()
            raise
        self._task.report.files_not_checked += files.not_checked
        pending = _Pending(files, [])
        self._pending.append(pending)
        for index in files.indexes:
            for batch in self._record.to_read(index, self._chunks_fd):
                pending.batches.append(batch)
                self._threads.add(batch)
                while self._threads.is_full:
                    self._wait(lambda: not self._threads.is_full)
        self._settle(MOST_OPEN)

    def _open(self, item: SourceSnapshot) -> OpenSnapshot | None:
        """None if it cannot be opened, which was noted. Raises SourceError for what may pass."""
        try:
            return read_twice(partial(self._task.source.open_snapshot, item))
        except SourceLocked:
            self._locked.append(item)
        except SnapshotVanished:
            self._task.source.check_is(self._identity)
            self._judged(item, Verdict.VANISHED)
        except (SourceError, FormatError) as error:
            if isinstance(error, SourceError) and error.may_pass:
                raise
            self._judge_manifest(item, error)
        return None

    def _judge_manifest(self, item: SourceSnapshot, error: SourceError | FormatError) -> None:
        if not self._task.source.has_anything(item, MANIFEST_NAME):
            self._task.source.check_is(self._identity)
            self._judged(item, Verdict.VANISHED)  # it was removed in between, manifest first
            return
        self._found(damage_of(item, MANIFEST_NAME, error))
        self._judged(item, Verdict.DAMAGED)

    # -- and ends --

    def _settle(self, most_open: int) -> None:
        """Judge, oldest first, those that are done, and wait for more if too much is open.

        In that order: whoever shares a chunk with an earlier one finds it checked.
        """
        while self._pending:
            oldest = self._pending[0]
            if not oldest.done:
                indexes = sum(len(pending.files.indexes) for pending in self._pending)
                if max(indexes, len(self._pending)) <= most_open:
                    break
                self._wait(lambda: oldest.done)  # noqa: B023 - called before the next turn
                continue
            self._pending.popleft()
            with oldest.files.resources:
                self._judge(oldest)
        self._tell()

    def _judge(self, pending: _Pending) -> None:
        files = pending.files
        for batch in pending.batches:
            self._damaged.note(batch)
            self._counts[batch.mode] += int(batch.good.sum())
        damages = list(files.damages)
        chunks: list[tuple[ChunkDamage, int]] = []
        for number, index in enumerate(files.indexes):
            needed = list(self._damaged.needed_by(index))
            try:
                index.index.check_unchanged()
            except IndexFormatError as error:  # so that its entries were none
                damages.append(damage_of(files.item, index.place.filename, error))
            else:
                chunks += [(damage, number) for damage in needed]
        if (damages or chunks) and not files.snapshot.has(MANIFEST_NAME):
            self._task.source.check_is(self._identity)
            self._judged(files.item, Verdict.VANISHED)
            return
        if chunks:
            self._task.source.check_is(self._identity)
        for damage in damages:
            self._found(damage)
        for chunk, number in chunks:
            is_new = not chunk.places
            chunk.places.append(files.indexes[number].place)
            if is_new:
                self._task.notify(DamageFound(chunk))
        self._judged(files.item, self._verdict(files, bool(damages or chunks)))

    @staticmethod
    def _verdict(files: VerifiedFiles, damaged: bool) -> Verdict:
        if damaged:
            return Verdict.DAMAGED
        sealed = any(index.mode is Mode.SEALED and len(index.index) for index in files.indexes)
        return Verdict.NOT_CHECKED if sealed or files.not_checked else Verdict.OK

    def _found(self, damage: FileDamage) -> None:
        self._task.report.damaged_files.append(damage)
        self._task.notify(DamageFound(damage))

    def _judged(self, item: SourceSnapshot, verdict: Verdict) -> None:
        self._task.report.add(item, verdict)
        self._task.notify(SnapshotVerified(item, verdict))

    # -- meanwhile --

    def _wait(self, ready: Callable[[], bool]) -> None:
        """Wait a moment for something that the threads bring about. Raises Cancelled."""
        self._threads.wait(ready, PROGRESS_INTERVAL_S)
        self._task.check_cancelled()
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if now < self._next_progress:
            return
        self._next_progress = now + PROGRESS_INTERVAL_S
        threads = self._threads
        known = len(self._record.seen) - self._record.resumed
        self._task.notify(
            VerifyProgress(threads.chunks_done, known, threads.read_bytes, threads.plain_bytes)
        )
        self._save(self._record.save_if_due)

    def _save(self, save: Callable[[], None]) -> None:
        """Write the state; that this fails in the middle ends nothing, and is told once."""
        try:
            save()
        except ConfigError as error:
            if not self._state_failed:
                self._task.note("warning", str(error))
            self._state_failed = True
