"""One group: its snapshots in order, oldest first, each over a connection of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pbs_push.errors import (
    Cancelled,
    ChunkError,
    ManifestError,
    PbsPushError,
    SnapshotVanished,
    SourceError,
    drop_frames,
)
from pbs_push.names import Snapshot
from pbs_push.push.attempt import Attempt
from pbs_push.push.beginning import Beginning
from pbs_push.push.checkpointing import Checkpoints
from pbs_push.push.events import SnapshotStarted
from pbs_push.push.findings import about_snapshot
from pbs_push.push.negotiation import Witness
from pbs_push.push.newest import newest_of
from pbs_push.push.outcome import Finding, Outcome, Result, Settled, Skip
from pbs_push.push.plan import outcomes_of
from pbs_push.push.sameness import difference_in_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pbs_push.formats.manifest import Manifest
    from pbs_push.push.attempt import Pushed
    from pbs_push.push.metadata import MetadataSync
    from pbs_push.push.outcome import TransferStats
    from pbs_push.push.plan import GroupPlan
    from pbs_push.push.removal import Remover
    from pbs_push.push.run import Run
    from pbs_push.push.source_marks import SourceMarks
    from pbs_push.source.items import SourceSnapshot


@dataclass(slots=True)
class GroupResult:
    """What became of a group: which of its snapshots came to the target, and whether one failed.

    ``leave_alone``: nothing that is at the target may be changed or removed, since it may belong to
    somebody else.
    """

    plan: GroupPlan
    pushed: list[SourceSnapshot] = field(default_factory=list)
    failed: bool = False
    leave_alone: bool = False


class GroupWorker:
    """Pushes the snapshots of one group plan; use it once, in any thread.

    A client log that is too long for the backup protocol is left to ``metadata``; ``remover``
    removes what is dead and in the way, if that is allowed; ``marks`` protect the snapshots at the
    source until they are at the target.
    """

    def __init__(
        self,
        run: Run,
        plan: GroupPlan,
        metadata: MetadataSync,
        remover: Remover,
        marks: SourceMarks,
        *,
        removing: bool,
    ) -> None:
        self._run = run
        self._plan = plan
        self._metadata = metadata
        self._marks = marks
        self._result = GroupResult(plan, leave_alone=plan.leave_alone)
        self._newest = newest_of(run.source, plan)
        beginning = Beginning(run, plan, remover, removing=removing)
        self._broken = {one.time for one in plan.alerts if one.finding is Finding.BROKEN}
        witness = Witness(self._compare_previous, self._note_broken)
        self._checkpoints = Checkpoints(run, plan, self._newest, remover)
        self._attempt = Attempt(run, beginning, self._newest, witness, self._checkpoints)

    def push(self) -> GroupResult:
        """Push the snapshots until one fails. Raises Cancelled; other errors become outcomes."""
        try:
            for number, item in enumerate(self._plan.snapshots):
                self._run.check_cancelled()
                if self._run.is_over:
                    self._leave(self._plan.snapshots[number:], Skip.OUT_OF_TIME)
                    self._result.failed = True  # what vanished stays until all is there
                    break
                self._run.notify(SnapshotStarted(item, self._plan.target_namespace))
                why_stop = self._push(item)
                if why_stop is not None:
                    self._leave(self._plan.snapshots[number + 1 :], why_stop)
                    break
            if not (self._result.failed or self._result.leave_alone):
                self._checkpoints.forget()
        finally:
            self._newest.close()
        return self._result

    def _leave(self, snapshots: Sequence[SourceSnapshot], why: Skip) -> None:
        """Those after one that the group stops at."""
        plan = self._plan
        for rest in outcomes_of(plan.source, plan.target_namespace, snapshots, why):
            self._run.ended(rest)

    def _push(self, item: SourceSnapshot) -> Skip | None:
        """Push one snapshot. Returns why the later ones stay, None if they may go on."""
        label = self._plan.name_of(str(item.snapshot))
        try:
            sent = self._sent_at_last(item, label)
        except Settled as settled:
            return self._settle(item, settled)
        except SnapshotVanished:
            try:
                self._run.check_source()
            except SourceError as error:
                return self._fail(item, error)
            spent = self._attempt.spent()
            self._ended(item, Result.SKIPPED, skip=Skip.VANISHED, stats=spent)
            return None
        except Cancelled:
            self._run.report.count_spent(self._attempt.spent())
            raise
        except PbsPushError as error:
            return self._fail(item, error)
        if sent.log_error is not None:
            self._run.problem(f"{label}: pushed without its client log", sent.log_error)
        self._result.pushed.append(item)
        self._ended(item, Result.PUSHED, stats=sent.stats)
        self._marks.ended(item, self._plan.target_namespace)
        if sent.log_left:
            self._metadata.log(self._plan, item)
        return None

    def _sent_at_last(self, item: SourceSnapshot, label: str) -> Pushed:
        """Push it, again and again where it fails for the moment."""
        retries, again = self._run.retries(), False
        while True:
            try:
                return self._sent_after_another_look(item, label, again=again)
            except PbsPushError as error:
                self._run.wait_after(error, label, retries, worked=self._attempt.answered)
            again = True

    def _sent_after_another_look(self, item: SourceSnapshot, label: str, *, again: bool) -> Pushed:
        """Push it; what would be left behind, since it is damaged, is looked at once more."""
        try:
            return self._attempt.push(item, label, again=again)
        except PbsPushError as error:
            if not (error.damage and self._run.options.skip_damaged) or self._is_lasting(error):
                raise
            drop_frames(error)
        return self._attempt.push(item, label, again=True)

    def _is_lasting(self, error: PbsPushError) -> bool:
        """Whether a second look finds the same: of a chunk, without sending all of it again."""
        if not isinstance(error, ChunkError):
            return False
        try:
            self._run.source.read_chunk(bytes.fromhex(error.digest_hex))
        except ChunkError:
            return True
        return False

    def _settle(self, item: SourceSnapshot, settled: Settled) -> Skip | None:
        """Take note of what stands fixed. Returns why the later ones stay, None if they go on."""
        if settled.newest is not None:
            self._newest.is_now(settled.newest)
        result = Result.ALREADY_THERE if settled.skip is None else Result.SKIPPED
        spent = self._attempt.spent()
        self._ended(item, result, skip=settled.skip, detail=settled.detail, stats=spent)
        self._marks.ended(item, self._plan.target_namespace, settled.skip)
        if settled.skip is None:
            # Ours, as a rule, whose last answer was lost: what follows a push is still to be done.
            self._result.pushed.append(item)
            self._metadata.log(self._plan, item)
        if settled.skip is Skip.OTHER_CONTENT:
            self._result.leave_alone = True
        if settled.skip is Skip.NOT_OWNED:
            self._result.leave_alone = True
            self._run.note("warning", f"{self._plan.label}: skipped: {settled.detail}")
            return Skip.NOT_OWNED
        return None

    def _fail(self, item: SourceSnapshot, error: PbsPushError) -> Skip | None:
        """A snapshot that failed. Returns why the later ones stay, None if they go on.

        Only what will not mend itself at the source lets the group go on: an unreadable manifest
        (protocol/push.md, "Order and failures"), and other damage where that was asked for.
        Whatever else failed may pass, and
        pushing a newer snapshot would make this one impossible to push.
        """
        self._result.failed = True
        self._ended(item, Result.FAILED, error=error, stats=self._attempt.spent())
        label = self._plan.name_of(str(item.snapshot))
        skips = self._run.options.skip_damaged
        if isinstance(error, ManifestError) or (error.damage and skips):
            self._run.note("warning", f"{label}: left behind, since it is damaged at the source")
            return None
        if error.damage:
            self._run.note(
                "warning",
                f"{label}: its group stops here until that is mended; --skip-damaged would leave "
                "it behind for good, and go on with newer ones",
            )
        return Skip.NOT_TRIED

    def _ended(
        self,
        item: SourceSnapshot,
        result: Result,
        *,
        skip: Skip | None = None,
        error: PbsPushError | None = None,
        stats: TransferStats | None = None,
        detail: str = "",
    ) -> None:
        self._run.ended(
            Outcome.of(
                item.namespace,
                item.snapshot,
                result,
                skip=skip,
                error=error,
                stats=stats,
                detail=detail,
                target=self._plan.target_namespace,
            )
        )

    def _compare_previous(self, there: Manifest) -> None:
        """Look whether the target's newest snapshot is what the source has of the same time.

        Its manifest came along with something else.
        """
        archives = self._newest.archives() if self._newest.mark is None else None
        time = self._newest.time
        if archives is None or time is None or there.snapshot != archives.manifest.snapshot:
            return
        key = self._run.options.encryption_key
        why = difference_in_manifest(archives.manifest, there, key)
        if why is not None and not self._result.leave_alone:
            self._result.leave_alone = True
            self._not_there(Finding.OTHER_CONTENT, Skip.OTHER_CONTENT, time, why)

    def _note_broken(self, archive: str) -> None:
        """The target's newest snapshot lacks an archive of its manifest, or has it damaged."""
        time = self._newest.time
        if time is not None and self._newest.mark is None and time not in self._broken:
            self._broken.add(time)
            why = f"{archive} is missing or damaged there"
            self._not_there(Finding.BROKEN, Skip.BROKEN, time, why)

    def _not_there(self, finding: Finding, skip: Skip, time: int, why: str) -> None:
        """What the target has of a time does not count as there."""
        plan, group = self._plan, self._plan.source
        target = plan.target_namespace
        self._run.alert(about_snapshot(finding, group.namespace, target, group.group, time, why))
        if time == plan.newest_at_target and plan.newest_is_there:
            self._run.report.is_not_there(
                Outcome.of(
                    group.namespace,
                    Snapshot(group.group, time),
                    Result.SKIPPED,
                    skip=skip,
                    detail=f"{skip.value}: {why}",
                    target=target,
                )
            )
