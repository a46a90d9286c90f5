"""What to do, from what the source has and what the target has: a value, made without side effects.

A dry run prints it, the engine carries it out, tests compare it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pbs_push.errors import PbsPushError
from pbs_push.formats.manifest import CryptMode, Manifest
from pbs_push.names import CLIENT_LOG_NAME, AuthId, Namespace
from pbs_push.push.options import PushOptions
from pbs_push.push.report import Outcome, Result, Skip
from pbs_push.push.vanished import (
    VanishedGroup,
    VanishedNamespace,
    VanishedSnapshot,
    vanished_snapshots,
)
from pbs_push.remote.models import GroupItem, SnapshotItem
from pbs_push.source.items import SnapshotList, SourceGroup, SourceSnapshot

ManifestReader = Callable[[SourceSnapshot], Manifest]
LogFinder = Callable[[SourceSnapshot], bool]


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """What to do with one group: ``snapshots`` to push, oldest first, and what is settled already.

    ``newest_at_target`` is the time of the target's newest finished snapshot, None without one.
    ``vanished`` are to be forgotten at the target. ``log_for`` is the newest snapshot that both
    sides have, if it has a client log here and, as far as the lists show, none there. ``common``
    are the target's snapshots that the source has too, where metadata is to be compared. ``notes``
    are lines to show.
    """

    source: SourceGroup
    target_namespace: Namespace
    newest_at_target: int | None
    snapshots: tuple[SourceSnapshot, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    vanished: tuple[VanishedSnapshot, ...] = ()
    log_for: SourceSnapshot | None = None
    common: tuple[tuple[SourceSnapshot, SnapshotItem], ...] = ()
    at_target: GroupItem | None = None
    notes: tuple[str, ...] = ()
    finished: int = 0
    """Finished snapshots at the source, to be pushed or not."""

    @property
    def has_work(self) -> bool:
        """Whether anything is to be done beyond telling."""
        return bool(self.snapshots or self.vanished or self.log_for or self.common)


@dataclass(frozen=True, slots=True)
class NamespacePlan:
    """What to do with one source namespace; ``create`` are target namespaces, parents first.

    ``vanished`` groups are to be removed at the target, which holds ``target_snapshots`` there now.
    ``incomplete``: some of its groups at the source could not be looked at, so none is removed.
    """

    source: Namespace
    target: Namespace
    create: tuple[Namespace, ...]
    groups: tuple[GroupPlan, ...]
    vanished: tuple[VanishedGroup, ...] = ()
    notes: tuple[str, ...] = ()
    target_snapshots: int = 0
    incomplete: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a push. ``no_removals`` says why none of the planned removals may happen.

    ``vanished`` namespaces are in the order of their removal, children first; those that stay say
    why.
    """

    namespaces: tuple[NamespacePlan, ...]
    vanished: tuple[VanishedNamespace, ...] = ()
    no_removals: str | None = None

    @property
    def removals(self) -> int:
        """How many snapshots are to be removed, those of groups and namespaces too.

        Protected ones do not count: they stay.
        """
        return (
            sum(
                not item.protected
                for plan in self.namespaces
                for group in plan.groups
                for item in group.vanished
            )
            + sum(group.snapshots for plan in self.namespaces for group in plan.vanished)
            + sum(item.snapshots for item in self.vanished if item.keep is None)
        )


def namespaces_to_create(wanted: Namespace, existing: set[Namespace]) -> tuple[Namespace, ...]:
    """Which namespaces must be created for ``wanted`` to exist, parents first (spec 05).

    Starts below the deepest ancestor that is known to exist: those above it may exist unseen, and
    creating them is refused.
    """
    missing: list[Namespace] = []
    current = wanted
    while not current.is_root and current not in existing:
        missing.append(current)
        current = current.parent
    return tuple(reversed(missing))


def is_owned(item: GroupItem, remote_user: AuthId) -> bool:
    """Whether the target lets ``remote_user`` write into this group of its."""
    return item.owner is not None and remote_user.owns(item.owner)


def plan_group(
    group: SourceGroup,
    found: SnapshotList,
    at_target: GroupItem | None,
    target_namespace: Namespace,
    remote_user: AuthId,
    options: PushOptions,
    read_manifest: ManifestReader,
    has_log: LogFinder,
    listed: Sequence[SnapshotItem] = (),
) -> GroupPlan:
    """Decide about one group of the source (spec 05, "Each group").

    ``listed`` are the target's snapshots of the group, where they were asked for at all.
    ``read_manifest`` is called only where a filter looks into manifests, ``has_log`` for at most
    one snapshot. Raises nothing of its own: a manifest that cannot be read leaves its snapshot to
    the push, where it fails visibly.
    """
    newest = at_target.newest_finished if at_target is not None else None
    notes = [f"{group.label}: folder '{name}' skipped: {why}" for name, why in found.odd]
    if whole := _whole_group_skip(group, at_target, remote_user):
        why = _skip_detail(whole, at_target, remote_user)
        notes.append(f"{group.label}: skipped: {why}")
        return GroupPlan(
            group,
            target_namespace,
            newest,
            outcomes=outcomes_of(group, found.snapshots, Result.SKIPPED, whole, why),
            notes=tuple(notes),
        )
    vanished = vanished_snapshots(found, listed) if options.remove_vanished else ()
    finished = sum(item.finished for item in found.snapshots)
    if not finished:
        notes.append(f"{group.label}: the group is empty at the source: no finished snapshot")
        if vanished and not options.allow_empty_source:
            notes.append(
                f"{group.label}: the target's is not: nothing is removed there "
                "(--allow-empty-source would)"
            )
            vanished = ()
    there = {item.backup_time for item in listed if item.size is not None}
    chosen, outcomes = _choose(group, found.snapshots, newest, there, options, read_manifest)
    wants_metadata = options.sync_metadata or options.sync_protected
    return GroupPlan(
        group,
        target_namespace,
        newest,
        tuple(chosen),
        tuple(outcomes),
        vanished=vanished,
        log_for=_late_log(found.snapshots, at_target, listed, has_log),
        common=_common(found.snapshots, listed) if wants_metadata else (),
        at_target=at_target,
        notes=tuple(notes),
        finished=finished,
    )


def _late_log(
    snapshots: Sequence[SourceSnapshot],
    at_target: GroupItem | None,
    listed: Sequence[SnapshotItem],
    has_log: LogFinder,
) -> SourceSnapshot | None:
    """The newest snapshot that both sides have, if it has a log here and none there.

    Where the target's snapshots are not listed, that is its newest one or none: the list of groups
    tells the files of that one, so that nothing has to be asked for.
    """
    if at_target is None:
        return None
    if listed:
        common = _common(snapshots, listed)
        if not common or common[-1][1].has_file(CLIENT_LOG_NAME):
            return None
        return common[-1][0] if has_log(common[-1][0]) else None
    if CLIENT_LOG_NAME in at_target.files:
        return None
    for item in snapshots:
        if item.finished and item.snapshot.backup_time == at_target.newest_finished:
            return item if has_log(item) else None
    return None


def _common(
    snapshots: Sequence[SourceSnapshot], listed: Sequence[SnapshotItem]
) -> tuple[tuple[SourceSnapshot, SnapshotItem], ...]:
    """Finished snapshots that both sides have."""
    at_target = {item.backup_time: item for item in listed if item.size is not None}
    return tuple(
        (item, at_target[item.snapshot.backup_time])
        for item in snapshots
        if item.finished and item.snapshot.backup_time in at_target
    )


def _whole_group_skip(
    group: SourceGroup, at_target: GroupItem | None, remote_user: AuthId
) -> Skip | None:
    if group.owner is None:
        return Skip.NO_OWNER
    if str(group.group) == "host/benchmark":
        return Skip.UNSUPPORTED
    if at_target is not None and not is_owned(at_target, remote_user):
        return Skip.NOT_OWNED
    return None


def _skip_detail(skip: Skip, at_target: GroupItem | None, remote_user: AuthId) -> str:
    if skip is Skip.NOT_OWNED and at_target is not None:
        return (
            f"at the target it is owned by {at_target.owner or 'nobody'}, "
            f"not by the remote user {remote_user}"
        )
    if skip is Skip.UNSUPPORTED:
        return "a server keeps this group for its benchmarks"
    return str(skip.value)


def _choose(
    group: SourceGroup,
    snapshots: Sequence[SourceSnapshot],
    newest: int | None,
    there: set[int],
    options: PushOptions,
    read_manifest: ManifestReader,
) -> tuple[list[SourceSnapshot], list[Outcome]]:
    """Split a group's snapshots into those to push and the outcomes of the others.

    ``there``: times that are known to be at the target; without a list just the newest one is.
    """
    settled: dict[Skip | None, list[SourceSnapshot]] = {}
    candidates: list[SourceSnapshot] = []
    for item in snapshots:
        time = item.snapshot.backup_time
        if not item.finished:
            settled.setdefault(Skip.IN_PROGRESS, []).append(item)
        elif time < 1:
            settled.setdefault(Skip.UNSUPPORTED, []).append(item)
        elif newest is not None and (time == newest or time in there):
            settled.setdefault(None, []).append(item)
        elif newest is not None and time < newest:
            settled.setdefault(Skip.NOT_NEWER, []).append(item)
        elif skip := _filtered(item, options, read_manifest):
            settled.setdefault(skip, []).append(item)
        else:
            candidates.append(item)
    # What is newer than the target's newest is also the newest of the source's list, so counting
    # among the candidates is counting in the filtered list (spec 05: before the cut).
    if options.transfer_last is not None and len(candidates) > options.transfer_last:
        old = candidates[: -options.transfer_last]
        settled.setdefault(Skip.TRANSFER_LAST, []).extend(old)
        candidates = candidates[-options.transfer_last :]
    outcomes: list[Outcome] = []
    for reason, items in settled.items():
        result = Result.ALREADY_THERE if reason is None else Result.SKIPPED
        outcomes += outcomes_of(group, items, result, reason)
    return candidates, outcomes


def outcomes_of(
    group: SourceGroup,
    items: Sequence[SourceSnapshot],
    result: Result,
    skip: Skip | None,
    detail: str = "",
) -> tuple[Outcome, ...]:
    """One outcome for all of these snapshots; none where there are none."""
    if not items:
        return ()
    times = [item.snapshot.backup_time for item in items]
    outcome = Outcome(
        group.namespace,
        group.group,
        min(times),
        max(times),
        len(times),
        result,
        skip,
        detail=detail,
    )
    return (outcome,)


def _filtered(
    item: SourceSnapshot, options: PushOptions, read_manifest: ManifestReader
) -> Skip | None:
    if not (options.verified_only or options.encrypted_only):
        return None
    try:
        manifest = read_manifest(item)
    except PbsPushError:
        return None
    if options.verified_only and manifest.verify_state != "ok":
        return Skip.NOT_VERIFIED
    if options.encrypted_only and not all_encrypted(manifest):
        return Skip.NOT_ENCRYPTED
    return None


def all_encrypted(manifest: Manifest) -> bool:
    """Whether every file of a manifest is encrypted; sign-only does not count (spec 05)."""
    return bool(manifest.files) and all(
        file.crypt_mode is CryptMode.ENCRYPT for file in manifest.files
    )
