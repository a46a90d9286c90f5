"""The target's newest snapshot of a group that is being pushed, and the source's copy of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbs_push.errors import PbsPushError
from pbs_push.names import Snapshot
from pbs_push.push.archives import Archives
from pbs_push.push.checkpoint import part_of
from pbs_push.source.items import SourceSnapshot

if TYPE_CHECKING:
    from pbs_push.push.checkpoint_mark import Mark
    from pbs_push.push.plan import GroupPlan
    from pbs_push.source.datastore import Datastore
    from pbs_push.source.items import SourceGroup


def newest_of(source: Datastore, plan: GroupPlan) -> Newest:
    """The target's newest snapshot as a plan has it, a checkpoint or a real one."""
    time = plan.newest_at_target
    mark = next((one.mark for one in plan.checkpoints if one.snapshot.backup_time == time), None)
    return Newest(source, plan.source, time, mark)


class Newest:
    """Which snapshot of ``group`` is the target's newest finished one: ``time``, None without one.

    It may be a checkpoint, ``mark``; then ``base_time`` is that of the newest real one. Their
    indexes at the source stay open until another one is the newest. Close it in the end.
    """

    def __init__(
        self,
        source: Datastore,
        group: SourceGroup,
        time: int | None,
        mark: Mark | None = None,
    ) -> None:
        self._source = source
        self._group = group
        self.time = time
        self.mark = mark
        self.base_time = time if mark is None else mark.base
        self._archives: Archives | None = None
        self._part: Archives | None = None

    def archives(self) -> Archives | None:
        """The source's copy of it, borrowed; None if it cannot be had: then the target is asked."""
        return self.base() if self.mark is None else self._part

    def base(self) -> Archives | None:
        """The source's copy of the newest real one, likewise."""
        if self._archives is None and self.base_time is not None:
            snapshot = Snapshot(self._group.group, self.base_time)
            item = SourceSnapshot(self._group.namespace, snapshot, finished=True, protected=False)
            try:
                with self._source.open_snapshot(item) as opened:
                    self._archives = Archives.load_indexes(opened)
            except PbsPushError:
                return None  # pruned, or being removed
        return self._archives

    def take_up(self, archives: Archives) -> None:
        """Where it is a checkpoint of the snapshot with these archives, make out what it holds.

        Nobody has to be believed: the target's manifest is compared before chunks of it count.
        """
        if self.mark is None or self.time is None or self._part is not None:
            return
        base = self.base()
        if self.mark.of != archives.manifest.snapshot or (base is None and self.mark.base):
            return
        snapshot = Snapshot(self._group.group, self.time)
        self._part = part_of(archives, base.indexes if base else {}, self.mark, snapshot)

    def is_now(self, time: int, archives: Archives | None = None) -> None:
        """Another one is the newest; ``archives`` are the source's of it, and belong here now."""
        self.close()
        self.time = self.base_time = time
        self.mark, self._archives = None, archives

    def is_checkpoint(self, time: int, mark: Mark, part: Archives) -> None:
        """A checkpoint is the newest, with these archives, which belong here now."""
        if self._part is not None:
            self._part.close()
        self.time, self.mark, self._part = time, mark, part

    def close(self) -> None:
        """Close the indexes."""
        for archives in (self._archives, self._part):
            if archives is not None:
                archives.close()
        self._archives = self._part = None
