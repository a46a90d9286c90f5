"""What the target has and the source no longer does (spec 05): decided here, removed elsewhere.

Every rule that keeps something says why, in a line for people. When in doubt, it stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pbs_push.access.filters import GroupFilters
from pbs_push.names import AuthId, Group, Namespace, Snapshot
from pbs_push.push.options import PushOptions
from pbs_push.remote.models import GroupItem, SnapshotItem
from pbs_push.source.items import SnapshotList


@dataclass(frozen=True, slots=True)
class VanishedSnapshot:
    """A snapshot at the target that the source does not have."""

    snapshot: Snapshot
    protected: bool
    finished: bool


@dataclass(frozen=True, slots=True)
class VanishedGroup:
    """A group at the target that the source does not have, with its number of snapshots."""

    group: Group
    snapshots: int


@dataclass(frozen=True, slots=True)
class VanishedNamespace:
    """A target namespace that the source does not have; ``keep`` says why it stays, if it does.

    ``groups`` and ``snapshots`` are those that would go with it, of itself alone.
    """

    namespace: Namespace
    groups: int = 0
    snapshots: int = 0
    keep: str | None = None


def vanished_snapshots(
    found: SnapshotList, at_target: Iterable[SnapshotItem]
) -> tuple[VanishedSnapshot, ...]:
    """The target's snapshots of a group whose time is not at the source at all, oldest first.

    A source snapshot counts whether finished or not, filtered or not.
    """
    at_source = {item.snapshot.backup_time for item in found.snapshots}
    gone = [
        VanishedSnapshot(item.snapshot, item.protected, finished=item.size is not None)
        for item in at_target
        if item.backup_time not in at_source
    ]
    return tuple(sorted(gone, key=lambda item: item.snapshot.backup_time))


def vanished_groups(
    at_source: set[Group],
    at_target: Mapping[Group, GroupItem],
    filters: GroupFilters,
    remote_user: AuthId,
) -> tuple[VanishedGroup, ...]:
    """The target's groups that the source does not have: only owned ones that the filters take."""
    gone = [
        VanishedGroup(group, item.backup_count)
        for group, item in at_target.items()
        if group not in at_source
        and filters.accepts(group)
        and item.owner is not None
        and remote_user.owns(item.owner)
    ]
    return tuple(sorted(gone, key=lambda item: item.group.sort_key))


def namespace_candidates(
    at_target: Iterable[Namespace],
    mapped: set[Namespace],
    options: PushOptions,
) -> list[Namespace]:
    """Target namespaces that may have vanished, children before parents.

    Only those at or below the target anchor and within max-depth; never the root, never one that is
    the place of a source namespace (seen by the local user or not), or above one.
    """
    anchor = options.target_namespace
    deepest = anchor.depth + (7 if options.max_depth is None else options.max_depth)
    gone = {
        namespace
        for namespace in at_target
        if anchor.contains(namespace)
        and namespace.depth <= deepest
        and not namespace.is_root
        and not any(namespace.contains(kept) for kept in mapped)
    }
    return sorted(gone, key=lambda namespace: (-namespace.depth, namespace))


def judge_namespace(
    namespace: Namespace,
    groups: Sequence[GroupItem],
    below: Sequence[VanishedNamespace],
    filters: GroupFilters,
    remote_user: AuthId,
) -> VanishedNamespace:
    """Whether a vanished namespace may go: the server deletes all in it, whoever owns it."""
    count = sum(item.backup_count for item in groups)
    keep = None
    for item in groups:
        if item.owner is None or not remote_user.owns(item.owner):
            keep = (
                f"it holds {item.backup_type}/{item.backup_id}, owned by {item.owner or 'nobody'}, "
                f"not by the remote user {remote_user}"
            )
            break
        if not filters.accepts(item.group):
            keep = f"it holds {item.group}, which the group filters leave out"
            break
    if keep is None:
        kept_below = [other for other in below if other.keep is not None]
        if kept_below:
            keep = f"{kept_below[0].namespace.label} below it stays"
    return VanishedNamespace(namespace, len(groups), count, keep)


def too_many(planned: int, at_target: int, options: PushOptions) -> str | None:
    """Why so many removals are too many, None if they are not; then nothing at all is removed."""
    if options.max_removals is not None and planned > options.max_removals:
        return (
            f"{planned} snapshots would be removed, more than max-removals {options.max_removals}"
        )
    percent = options.max_removals_percent
    if percent is not None and planned * 100 > at_target * percent:
        return (
            f"{planned} of {at_target} snapshots at the target would be removed, "
            f"more than max-removals {percent:g} %"
        )
    return None
