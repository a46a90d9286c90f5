"""All that is done for one group: its snapshots, its metadata, and what vanished from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbs_push.push.metadata import MetadataSync
from pbs_push.push.outcome import HeldBack
from pbs_push.units import counted

if TYPE_CHECKING:
    from pbs_push.push.plan import GroupPlan
    from pbs_push.push.removal import Remover
    from pbs_push.push.run import Run
    from pbs_push.push.source_marks import SourceMarks
    from pbs_push.push.worker import GroupResult


class GroupPush:
    """Carries out the plans of groups, in any thread, here or in a job elsewhere.

    ``marks`` protect the snapshots at the source until they are copied. ``removing``: what vanished
    may be removed.
    """

    def __init__(self, run: Run, remover: Remover, marks: SourceMarks, *, removing: bool) -> None:
        self._run = run
        self._remover = remover
        self._marks = marks
        self._metadata = MetadataSync(run)
        self._removing = removing

    def push(self, group: GroupPlan) -> GroupResult:
        """Push a group, then bring its metadata up to date, then forget what vanished from it.

        Raises Cancelled; other errors are in the report of the run.
        """
        # Numpy comes with it, and a push with nothing new needs neither.
        from pbs_push.push.worker import GroupWorker  # noqa: PLC0415

        result = GroupWorker(
            self._run,
            group,
            self._metadata,
            self._remover,
            self._marks,
            removing=self._removing,
        ).push()
        if not result.leave_alone:
            self._metadata.group(group, result.pushed)
        if self._removing and group.vanished:
            self._remove_snapshots(group, result)
        return result

    def _remove_snapshots(self, group: GroupPlan, result: GroupResult) -> None:
        """Forget what vanished from a group that was pushed, or say why it stays."""
        why_not = None
        if result.leave_alone:
            why_not = "the group there is not, or not all, the source's"
        elif result.failed:
            why_not = "the push of the group failed"
        if why_not is None:
            self._remover.snapshots(group)
            return
        self._run.hold_back(held_back(group, why_not))


def held_back(group: GroupPlan, why: str) -> HeldBack:
    """That none of a group's vanished snapshots is removed."""
    count = counted(len(group.vanished), "vanished snapshot")
    return HeldBack(f"{count} of target {group.target_label}", why)
