"""How far the target is behind the source, group by group, without planning a push.

One request for each namespace: the list of its snapshots. Nothing is changed anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pbs_push.errors import PbsPushError, SourceError
from pbs_push.names import Group, Namespace, placed
from pbs_push.push.checkpoint_mark import Seen, is_checkpoint, without_checkpoints
from pbs_push.push.estimate import estimates
from pbs_push.push.plan import GroupPlan
from pbs_push.push.vanished import is_gone
from pbs_push.remote.models import GroupItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pbs_push.push.document import Json
    from pbs_push.push.options import PushOptions
    from pbs_push.remote.models import SnapshotItem
    from pbs_push.remote.target import Target
    from pbs_push.source.datastore import Datastore
    from pbs_push.source.items import SnapshotList, SourceGroup


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One group of the source, compared with the target.

    ``newest_here`` and ``newest_there`` are times of finished snapshots, None without one.
    ``behind`` are the times of those that a push could send, oldest first; ``plain_bytes`` is what
    that would be, None if it was not asked for, and at most so much if not ``exact``. ``gaps`` are
    older than the target's newest and not there: no push can send them. ``checkpoints`` of ours lie
    at the target. ``error`` is why the group could not be looked at.
    """

    namespace: Namespace
    target: Namespace
    group: Group
    newest_here: int | None = None
    newest_there: int | None = None
    behind: tuple[int, ...] = ()
    plain_bytes: int | None = None
    exact: bool = True
    gaps: tuple[int, ...] = ()
    checkpoints: int = 0
    owner: str | None = None
    error: PbsPushError | None = None

    @property
    def label(self) -> str:
        """For people: the group, and where it lands."""
        return placed(self.namespace, self.target, str(self.group))

    def lag_s(self, now: float) -> float:
        """For how long the oldest snapshot has waited that a push could send; 0 without one."""
        return max(0.0, now - self.behind[0]) if self.behind else 0.0

    def to_dict(self, now: float) -> Json:
        """As in documents (docs/json.md)."""
        return {
            "ns": str(self.namespace),
            "target-ns": str(self.target),
            "group": str(self.group),
            "newest-at-source": self.newest_here,
            "newest-at-target": self.newest_there,
            "behind": list(self.behind),
            "plain-bytes": self.plain_bytes,
            "exact": self.exact,
            "lag-seconds": round(self.lag_s(now)),
            "gaps": list(self.gaps),
            "checkpoints": self.checkpoints,
            "owner": self.owner,
            "error": None if self.error is None else self.error.to_dict(),
        }


def status(
    source: Datastore,
    target: Target,
    options: PushOptions,
    *,
    bytes_too: bool = True,
    check: Callable[[], None] = lambda: None,
) -> Iterator[GroupStatus]:
    """Compare each group that a push with these options takes, namespace by namespace.

    ``bytes_too``: read the indexes of what is behind. ``check`` may raise to end it. Raises
    PbsPushError where nothing can be told; what concerns one group is in its status.
    """
    for namespace in source.namespaces(options.source_namespace, options.max_depth):
        check()
        there = namespace.mapped(options.source_namespace, options.target_namespace)
        listed = _listed(target, there)
        for group, found in source.contents(namespace, []):
            check()
            if not options.group_filters.accepts(group.group):
                continue
            if isinstance(found, SourceError):
                yield GroupStatus(group.namespace, there, group.group, error=found)
                continue
            items = listed.get(group.group, [])
            compared, seen = _compared(source, target, group, found, there, items)
            yield _with_bytes(source, group, found, compared, seen) if bytes_too else compared


def _listed(target: Target, namespace: Namespace) -> dict[Group, list[SnapshotItem]]:
    try:
        items = target.api.snapshots(namespace)
    except PbsPushError as error:
        if is_gone(error):  # it does not exist yet
            return {}
        raise
    found: dict[Group, list[SnapshotItem]] = {}
    for item in items:
        try:
            found.setdefault(item.snapshot.group, []).append(item)
        except PbsPushError:
            continue  # no such group can be at the source
    return found


def _checkpoints(
    source: Datastore, found: SnapshotList, here: Sequence[int], there: set[int]
) -> set[int]:
    """Times of checkpoints at the source, where it is the target of another push.

    Only what the target has not is looked at.
    """
    wanted = set(here) - there
    missing = (one for one in found.snapshots if one.snapshot.backup_time in wanted)
    return {one.snapshot.backup_time for one in missing if is_checkpoint(source, one)}


def _compared(
    source: Datastore,
    target: Target,
    group: SourceGroup,
    found: SnapshotList,
    there: Namespace,
    listed: Sequence[SnapshotItem],
) -> tuple[GroupStatus, Seen]:
    here = sorted(one.snapshot.backup_time for one in found.snapshots if one.finished)
    marked = _checkpoints(source, found, here, {one.backup_time for one in listed})
    here = [time for time in here if time not in marked]
    item = _as_group(group.group, listed)
    seen = without_checkpoints(item, listed, target.auth_id, set(here))
    times = {one.backup_time for one in seen.listed or () if one.finished}
    newest = max(times, default=None)
    owner = item.owner if item is not None else None
    compared = GroupStatus(
        group.namespace,
        there,
        group.group,
        newest_here=here[-1] if here else None,
        newest_there=newest,
        behind=tuple(time for time in here if newest is None or time > newest),
        gaps=tuple(time for time in here if time < (newest or 0) and time not in times),
        checkpoints=len(seen.checkpoints),
        owner=None if owner is None else str(owner),
    )
    return compared, seen


def _as_group(group: Group, listed: Sequence[SnapshotItem]) -> GroupItem | None:
    """What the list of groups would show of it."""
    if not listed:
        return None
    last = max(listed, key=lambda one: one.backup_time)
    names = tuple(file.filename for file in last.files)
    kind, name = group.backup_type, group.backup_id
    return GroupItem(kind, name, last.backup_time, len(listed), names, last.owner)


def _with_bytes(
    source: Datastore,
    group: SourceGroup,
    found: SnapshotList,
    compared: GroupStatus,
    seen: Seen,
) -> GroupStatus:
    if not compared.behind:
        return replace(compared, plain_bytes=0)
    behind = set(compared.behind)
    items = tuple(
        one for one in found.snapshots if one.finished and one.snapshot.backup_time in behind
    )
    plan = GroupPlan(group, compared.target, seen.newest, items, checkpoints=seen.checkpoints)
    parts = list(estimates(source, plan))
    exact = len(parts) == len(items) and all(one.exact for one in parts)
    return replace(compared, plain_bytes=sum(one.plain_bytes for one in parts), exact=exact)
