"""What the lists of both sides tell of a group (protocol/push.md, "What cannot be normal").

Nothing is asked for here: whoever calls it has the lists that a plan needs anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pbs_push.errors import PbsPushError
from pbs_push.formats.manifest import Manifest
from pbs_push.names import Group, Namespace, format_backup_time, placed
from pbs_push.push.outcome import Alert, Finding
from pbs_push.push.sameness import difference_in_list, missing_files
from pbs_push.remote.models import GroupItem, SnapshotItem
from pbs_push.source.items import SourceGroup, SourceSnapshot

FUTURE_S: Final = 86_400
"""How far ahead of this clock a snapshot may be dated: clocks and their zones are set wrongly."""

ManifestReader = Callable[[SourceSnapshot], Manifest]
NamesFinder = Callable[[SourceSnapshot], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Findings:
    """By time, what the target has and does not count as there: ``broken``, or ``other`` content.

    The values say why. ``alerts`` tell all that was found.
    """

    broken: Mapping[int, str] = field(default_factory=dict)
    other: Mapping[int, str] = field(default_factory=dict)
    alerts: tuple[Alert, ...] = ()

    @property
    def leave_alone(self) -> bool:
        """Whether nothing that is there may be changed or removed: it is not all the source's."""
        return bool(self.other)

    @property
    def unfit(self) -> frozenset[int]:
        """Times of which the target has something else than the source, or not all of it."""
        return frozenset((*self.broken, *self.other))

    @property
    def unrelated(self) -> bool:
        """Whether nothing that is there is the source's."""
        return any(alert.finding is Finding.UNRELATED for alert in self.alerts)


NO_FINDINGS: Final = Findings()


@dataclass(frozen=True, slots=True)
class BothSides:
    """What is known of a group on both sides.

    ``listed`` are the target's snapshots, None where they were not asked for; ``now`` is this
    clock's time.
    """

    group: SourceGroup
    target_namespace: Namespace
    here: Sequence[SourceSnapshot]
    item: GroupItem
    listed: Sequence[SnapshotItem] | None
    now: float

    def look(self, read_manifest: ManifestReader, names_of: NamesFinder) -> Findings:
        """All that can be found. A manifest here that cannot be read tells nothing."""
        newest = self.item.newest_finished
        if newest is None:
            return Findings()
        alerts: list[Alert] = []
        finished = {one.snapshot.backup_time: one for one in self.here if one.finished}
        broken = dict(self._broken(newest, finished, read_manifest, names_of))
        other = dict(self._other(finished, broken, read_manifest))
        alerts += (self._about(Finding.BROKEN, time, why) for time, why in broken.items())
        alerts += (self._about(Finding.OTHER_CONTENT, time, why) for time, why in other.items())
        if newest > self.now + FUTURE_S:
            alerts.append(self._alert(Finding.FUTURE, _future(newest)))
        # Where all that the source has is newer, it just keeps less than the target, and is about
        # to be pushed.
        if finished and max(finished) < newest and self._nothing_in_common():
            alerts.append(self._alert(Finding.UNRELATED, _UNRELATED))
        return Findings(broken, other, tuple(alerts))

    def _broken(
        self,
        newest: int,
        finished: Mapping[int, SourceSnapshot],
        read_manifest: ManifestReader,
        names_of: NamesFinder,
    ) -> Iterator[tuple[int, str]]:
        for there in self.listed or ():
            time = there.backup_time
            if not there.finished and time in finished and time <= newest:
                yield time, "it has no readable manifest"
        here = finished.get(newest)
        if here is None or set(names_of(here)) <= set(self.item.files):
            return
        manifest = _read(here, read_manifest)
        missing = missing_files(manifest, self.item.files) if manifest is not None else []
        if missing:
            yield newest, f"it lacks {', '.join(missing)}"

    def _other(
        self,
        finished: Mapping[int, SourceSnapshot],
        broken: Mapping[int, str],
        read_manifest: ManifestReader,
    ) -> Iterator[tuple[int, str]]:
        for there in self.listed or ():
            here = finished.get(there.backup_time)
            if here is None or not there.finished or there.backup_time in broken:
                continue
            manifest = _read(here, read_manifest)
            difference = difference_in_list(manifest, there) if manifest is not None else None
            if difference is not None:
                yield there.backup_time, difference

    def _nothing_in_common(self) -> bool:
        if self.listed is None:
            return False
        there = {one.backup_time for one in self.listed if one.finished}
        return bool(there) and there.isdisjoint(one.snapshot.backup_time for one in self.here)

    def _about(self, finding: Finding, time: int, why: str) -> Alert:
        source = self.group
        return about_snapshot(
            finding, source.namespace, self.target_namespace, source.group, time, why
        )

    def _alert(self, finding: Finding, text: str) -> Alert:
        source, target, group = self.group.namespace, self.target_namespace, self.group.group
        name = placed(source, target, str(group))
        return Alert(finding, source, target, group, f"{name}: {text}")


_ADVICE: Final = {
    Finding.BROKEN: (
        "does not count as there; a push or a server died in it, or lost files. While it is the "
        "newest there, the next push sends it again if it is removed there; later no push can"
    ),
    Finding.OTHER_CONTENT: (
        "is left alone; do two sources push into one group? No log, note or removal is applied to "
        "this group"
    ),
}


def about_snapshot(
    finding: Finding, source: Namespace, target: Namespace, group: Group, time: int, why: str
) -> Alert:
    """An alert about the target's snapshot of a time: BROKEN or OTHER_CONTENT."""
    name = placed(source, target, f"{group}/{format_backup_time(time)}")
    text = f"{name}: {finding.value}: {why}; it {_ADVICE[finding]}"
    return Alert(finding, source, target, group, text, time)


_UNRELATED: Final = (
    "none of the source's snapshots is at the target, and none can be pushed, since the target has "
    "newer ones: do two sources push into one group, or was the source rolled back? If it was, "
    "--remove-vanished --allow-empty-source removes there what is no longer here, and the next "
    "push sends the rest"
)


def _future(newest: int) -> str:
    return (
        f"the target's newest snapshot is dated in the future, {format_backup_time(newest)}: no "
        "backup of an earlier time can be pushed into the group until it is removed there"
    )


def _read(item: SourceSnapshot, read_manifest: ManifestReader) -> Manifest | None:
    try:
        return read_manifest(item)
    except PbsPushError:
        return None
