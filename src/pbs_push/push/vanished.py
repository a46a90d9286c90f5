"""What the target has and the source no longer does (protocol/push.md, "Vanished snapshots").

It is decided here, and removed elsewhere.

Every rule that keeps something says why, in a line for people. When in doubt, it stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from pbs_push.access.filters import GroupFilters
from pbs_push.errors import PbsPushError, StatusError
from pbs_push.names import (
    MANIFEST_NAME,
    MAX_NAMESPACE_DEPTH,
    AuthId,
    Group,
    Namespace,
    Snapshot,
)
from pbs_push.push.document import Json
from pbs_push.push.options import PushOptions
from pbs_push.remote.models import GroupItem, SnapshotItem
from pbs_push.source.items import SnapshotList, SourceSnapshot


@dataclass(frozen=True, slots=True)
class VanishedSnapshot:
    """A snapshot to be forgotten at the target, mostly because the source does not have it."""

    snapshot: Snapshot
    protected: bool
    finished: bool


@dataclass(frozen=True, slots=True)
class VanishedGroup:
    """A group at the target that the source does not have.

    ``snapshots`` of it would go; ``protected`` ones stay, and with them the group.
    """

    group: Group
    snapshots: int
    protected: int = 0
    seen: frozenset[int] = frozenset()
    """Times of its snapshots when the plan was made."""


@dataclass(frozen=True, slots=True)
class VanishedNamespace:
    """A target namespace that the source does not have; ``keep`` says why it stays, if it does.

    ``groups`` are those in it, ``snapshots`` those that would go, of itself alone; ``protected``
    snapshots stay, and with them the namespace. ``seen`` are all that there were when the plan was
    made.
    """

    namespace: Namespace
    groups: int = 0
    snapshots: int = 0
    protected: int = 0
    seen: frozenset[Snapshot] = frozenset()
    keep: str | None = None
    held_back: bool = False
    """Whether it stays for a reason that no rule gives: it should go, and somebody has to look."""

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return {
            "ns": str(self.namespace),
            "groups": self.groups,
            "snapshots": self.snapshots,
            "protected": self.protected,
            "keep": self.keep,
            "held-back": self.held_back,
        }


def vanished_snapshots(
    found: SnapshotList, at_target: Iterable[SnapshotItem]
) -> tuple[VanishedSnapshot, ...]:
    """The target's snapshots of a group whose time is not at the source at all, oldest first.

    A source snapshot counts whether finished or not, filtered or not.
    """
    at_source = {item.snapshot.backup_time for item in found.snapshots}
    gone = [
        VanishedSnapshot(item.snapshot, item.protected, finished=item.finished)
        for item in at_target
        if item.backup_time not in at_source
    ]
    return tuple(sorted(gone, key=lambda item: item.snapshot.backup_time))


def dead_snapshots(
    pushed: Iterable[SourceSnapshot], at_target: Iterable[SnapshotItem]
) -> tuple[VanishedSnapshot, ...]:
    """Folders without a manifest at the target, in the way of snapshots that are to be pushed.

    A server refuses a backup whose folder exists (protocol/push.md, "Dead folders"). One that
    another push
    writes just now looks the same; removing that is refused.
    """
    times = {item.snapshot.backup_time for item in pushed}
    return tuple(
        VanishedSnapshot(item.snapshot, protected=False, finished=False)
        for item in at_target
        if item.backup_time in times
        and not item.finished
        and not item.protected
        and not item.has_file(MANIFEST_NAME)
    )


def vanished_groups(
    at_source: set[Group],
    at_target: Mapping[Group, GroupItem],
    listed: Mapping[Group, Sequence[SnapshotItem]],
    filters: GroupFilters,
    remote_user: AuthId,
) -> tuple[VanishedGroup, ...]:
    """The target's groups that the source does not have: only owned ones that the filters take.

    ``listed`` are the target's snapshots by group, which tell what is protected.
    """
    gone = [
        _vanished_group(item, listed.get(group, ()))
        for group, item in at_target.items()
        if group not in at_source and item.is_owned_by(remote_user) and filters.accepts(group)
    ]
    return tuple(sorted(gone, key=lambda item: item.group.sort_key))


def _vanished_group(item: GroupItem, listed: Sequence[SnapshotItem]) -> VanishedGroup:
    protected = sum(snapshot.protected for snapshot in listed)
    count = max(item.backup_count, len(listed)) - protected
    seen = frozenset(snapshot.backup_time for snapshot in listed)
    return VanishedGroup(item.group, count, protected, seen)


def namespace_candidates(
    at_target: Collection[Namespace],
    mapped: set[Namespace],
    options: PushOptions,
) -> list[Namespace]:
    """Target namespaces that may have vanished, children before parents.

    Only those at or below the target anchor and within max-depth; never the root, never one that is
    the place of a source namespace (seen by the local user or not), or above one.
    """
    anchor = options.target_namespace
    depth = MAX_NAMESPACE_DEPTH if options.max_depth is None else options.max_depth
    deepest = anchor.depth + depth
    gone = {
        namespace
        for namespace in at_target
        if anchor.contains(namespace)
        and namespace.depth <= deepest
        and not namespace.is_root
        and not any(namespace.contains(kept) for kept in mapped)
    }
    return sorted(gone, key=lambda namespace: (-namespace.depth, namespace))


def why_not_to_look(
    namespace: Namespace, at_target: Collection[Namespace], candidates: Collection[Namespace]
) -> str | None:
    """Why a candidate stays, as the list of the target's namespaces alone tells; None: look at it.

    A server that does not show the parent would not let us remove what is in it either. (One that
    has no namespaces, but lists one, does not show the root: protocol/backup.md, "Other servers".)
    """
    if namespace.parent not in at_target:
        return f"the target does not show the {namespace.parent.label} above it"
    for other in sorted(at_target):
        if namespace.contains(other) and other not in candidates:
            return f"{other.label} below it is beyond max-depth"
    return None


def why_to_keep(
    groups: Iterable[GroupItem], filters: GroupFilters, remote_user: AuthId
) -> str | None:
    """Why a namespace with these groups must stay: the server deletes all, whoever owns them."""
    for item in groups:
        if not item.is_owned_by(remote_user):
            return (
                f"it holds {item.backup_type}/{item.backup_id}, owned by {item.owner or 'nobody'}, "
                f"not by the remote user {remote_user}"
            )
        if not filters.accepts(item.group):
            return f"it holds {item.group}, which the group filters leave out"
    return None


def judge_namespace(
    namespace: Namespace,
    groups: Sequence[GroupItem],
    listed: Sequence[SnapshotItem],
    below: Iterable[VanishedNamespace],
    filters: GroupFilters,
    remote_user: AuthId,
) -> VanishedNamespace:
    """Whether a vanished namespace may go, with these groups and snapshots in it.

    ``below`` are the judged ones below it: where one stays, this one does.
    """
    keep = why_to_keep(groups, filters, remote_user)
    if keep is None:
        for other in below:
            if other.keep is not None or other.protected:
                keep = f"{other.namespace.label} below it stays"
                break
    protected = sum(item.protected for item in listed)
    count = max(sum(item.backup_count for item in groups), len(listed)) - protected
    seen = frozenset(item.snapshot for item in listed)
    return VanishedNamespace(namespace, len(groups), count, protected, seen, keep)


def is_gone(error: PbsPushError) -> bool:
    """Whether a target says that what was to be looked at or removed is not there (any more)."""
    return (
        isinstance(error, StatusError)
        and error.status == HTTPStatus.BAD_REQUEST
        and "ENOENT" in error.text
    )
