"""Committing a long snapshot in parts, and going on from one that a broken push left.

See protocol/push.md, "Checkpoints".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pbs_push.errors import StatusError
from pbs_push.names import Snapshot
from pbs_push.push.checkpoint import cut_after, missing_chunks, part_of
from pbs_push.push.checkpoint_mark import Mark
from pbs_push.push.content import AsItIs, UnderKey
from pbs_push.push.events import Checkpointed
from pbs_push.push.opening import Opened
from pbs_push.push.outcome import Settled, TransferStats
from pbs_push.source.items import SourceSnapshot

if TYPE_CHECKING:
    from pbs_push.push.checkpoint import Missing
    from pbs_push.push.newest import Newest
    from pbs_push.push.plan import GroupPlan
    from pbs_push.push.removal import Remover
    from pbs_push.push.run import Run

_WORTH_IT: Final = 16 << 30
"""Plain bytes to send from which on a snapshot gets checkpoints that nobody asked for."""
_LEAST_PART: Final = 1 << 30
_LEAST_PARTS, _MOST_PARTS = 16, 512
_LISTS_SHARE: Final = 0.01
"""How much of what is sent all lists of checkpoints together may be, where parts are a choice."""
_ENTRY_BYTES: Final = 68
"""Of one entry in a list, at least."""
_LEAST_SECONDS: Final = 30.0
"""How long a part takes at least, where that is a choice: each costs some round trips."""
_FIRST_BYTES: Final = 64 << 20
"""Of the part that tells the rate."""
_GROWTH: Final = 16
"""How much longer a part may be than the one before, where a short one told the rate."""
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Part:
    """A checkpoint to be made: ``opened`` is pushed like any snapshot. ``left`` plain bytes are to
    be sent after it, in ``left_chunks``."""

    opened: Opened
    mark: Mark
    size: int
    left: int
    left_chunks: int


class Checkpoints:
    """Those of the snapshots of one group, pushed one after another; ``newest`` is the target's.

    ``sent`` sums up what the parts of the snapshot that is being pushed took.
    """

    def __init__(self, run: Run, plan: GroupPlan, newest: Newest, remover: Remover) -> None:
        self._run = run
        self._plan = plan
        self._newest = newest
        self._remover = remover
        self._rule = run.options.checkpoint
        self._at_target = [one.snapshot for one in plan.checkpoints]
        self._of: SourceSnapshot | None = None
        self._given_up = False
        self._one_stays = False
        self._first_left = 0
        self._rate: float | None = None
        self._last_size = 0
        self.sent = TransferStats()

    def next(self, source: Opened) -> Part | None:
        """The next part to push of a snapshot; None where the rest goes as the snapshot itself.

        Raises PbsPushError.
        """
        if self._of != source.item:
            self._of, self._given_up, self._first_left = source.item, False, 0
            self.sent = TransferStats()
        self._newest.take_up(source.archives)
        if self._rule.off or self._given_up:
            return None
        total = sum(archive.index.size for archive in source.archives.indexes.values())
        if total <= (self._rule.size or (_FIRST_BYTES if self._rule.seconds else _WORTH_IT)):
            return None
        here = self._newest.archives()
        if here is None and self._newest.time is not None:
            self._give_up("the source no longer has the target's newest snapshot")
            return None
        return self._part(source, missing_chunks(source.archives, here.indexes if here else {}))

    def committed(self, part: Part, stats: TransferStats, seconds: float) -> None:
        """A part is at the target; those before it are removed there. Raises Cancelled."""
        item = part.opened.item
        self._newest.is_checkpoint(item.snapshot.backup_time, part.mark, part.opened.archives)
        self.sent += stats + TransferStats(checkpoints=1)
        if stats.sent_plain_bytes and seconds > 0:
            self._rate = stats.sent_plain_bytes / seconds
        self._last_size = part.size
        if self._of is not None:
            self._run.notify(Checkpointed(self._of, item.snapshot.backup_time, part.left))
        before, self._at_target = self._at_target, [item.snapshot]
        self._remove(before)

    def refused(self, why: StatusError | Settled) -> None:
        """The target did not take a part: the rest goes without any."""
        self._given_up = True
        if isinstance(why, StatusError) and self._of is not None:
            label = self._plan.name_of(str(self._of.snapshot))
            self._run.note("warning", f"{label}: no checkpoint: {why}; the push goes on without")

    def forget(self) -> None:
        """Remove those that are at the target: what they were for is there. Raises Cancelled."""
        gone, self._at_target = self._at_target, []
        self._remove(gone)
        if not self._one_stays:
            self._run.checkpoint_memory.drop(self._plan.target_namespace, self._plan.source.group)

    # -- how much --

    def _part(self, source: Opened, missing: list[Missing]) -> Part | None:
        left = sum(one.size for one in missing)
        if not self._first_left:
            self._first_left = left
            if not self._rule.by_name and left <= _WORTH_IT:
                self._given_up = True
                return None
        size = self._wanted(source, missing)
        if left <= size + size // 2:
            return None
        times = self._free_times(source.item.snapshot.backup_time)
        if not times:
            self._give_up("there is no time left between the target's newest snapshot and this one")
            return None
        # Half of the times are for pushes that go on from what this one leaves.
        size = max(size, left // ((len(times) + 1) // 2 + 1))
        if (why := self._run.checkpoint_rights.why_not(self._plan.target_namespace)) is not None:
            self._give_up(why)
            return None
        return self._made(source, missing, size, times[0])

    def _wanted(self, source: Opened, missing: list[Missing]) -> int:
        """Plain bytes of the next part."""
        if self._rule.size is not None:
            return self._rule.size
        if self._rule.seconds is not None:
            if self._rate is None:
                return _FIRST_BYTES
            return min(int(self._rate * self._rule.seconds), _GROWTH * self._last_size)
        entries = sum(len(archive.index) for archive in source.archives.indexes.values())
        listed = max(1, entries + sum(len(one.positions) for one in missing))
        parts = int(_LISTS_SHARE * self._first_left / (_ENTRY_BYTES * listed))
        size = self._first_left // min(max(parts, _LEAST_PARTS), _MOST_PARTS)
        return max(_LEAST_PART, size, int((self._rate or 0) * _LEAST_SECONDS))

    def _free_times(self, wanted: int) -> range:
        """Times that checkpoints of a snapshot may have: behind all that the target has, and before
        all that the source could still push."""
        group, newest = self._plan.source, self._newest
        base = newest.base_time or 0
        times = [one.snapshot.backup_time for one in self._run.source.snapshots(group).snapshots]
        end = min([wanted, *(one for one in times if one > base)])
        first = max(1, end - _DAY) if newest.time is None else newest.time + 1
        return range(first, max(first, end))

    def _made(self, source: Opened, missing: list[Missing], size: int, at: int) -> Part:
        cut = cut_after(missing, size)
        newest = self._newest
        mark = Mark(source.item.snapshot, cut, newest.base_time)
        base = newest.base()
        self._run.checkpoint_memory.keep(self._plan.target_namespace, self._plan.source.group)
        snapshot = Snapshot(source.item.snapshot.group, at)
        archives = part_of(source.archives, base.indexes if base else {}, mark, snapshot)
        key = source.key
        content = AsItIs(archives, None) if key is None else UnderKey(archives, None, key)
        item = SourceSnapshot(source.item.namespace, snapshot, finished=True, protected=False)
        opened = Opened(item, archives, content, key, source.chunks_fd, None, log_left=False)
        opened.check_key = source.check_key
        taken, left, chunks = _behind(missing, cut)
        return Part(opened, mark, taken, left, chunks)

    # -- telling, and removing --

    def _give_up(self, why: str) -> None:
        self._given_up = True
        if self._rule.by_name and self._of is not None:
            label = self._plan.name_of(str(self._of.snapshot))
            self._run.note_once("warning", f"{label}: no checkpoints: {why}")

    def _remove(self, snapshots: list[Snapshot]) -> None:
        for snapshot in snapshots:
            if not self._remover.checkpoint(self._plan.target_namespace, snapshot):
                self._one_stays = True


def _behind(missing: list[Missing], cut: int) -> tuple[int, int, int]:
    """Plain bytes of missing chunks before a cut, and behind it, and how many these are."""
    before = taken = left = chunks = 0
    for one in missing:
        at = int((one.positions < max(0, cut - before)).sum())
        sent = one.archive.plain_size(one.positions[:at])
        taken += sent
        left += one.size - sent
        chunks += len(one.positions) - at
        before += len(one.archive.index)
    return taken, left, chunks
