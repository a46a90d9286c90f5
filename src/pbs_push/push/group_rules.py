"""The rules for one group (protocol/push.md, "Which snapshots"): what is pushed, and why not."""

from __future__ import annotations

import time as clock
from collections.abc import Sequence

from pbs_push.errors import PbsPushError
from pbs_push.formats.manifest import Manifest, Protection
from pbs_push.names import AuthId, Namespace, placed
from pbs_push.push import late_logs
from pbs_push.push.checkpoint_mark import Mark
from pbs_push.push.findings import NO_FINDINGS, Findings, ManifestReader
from pbs_push.push.options import PushOptions
from pbs_push.push.outcome import Finding, HeldBack, Outcome, Skip
from pbs_push.push.plan import GroupPlan, outcomes_of
from pbs_push.push.selection import has_rules, kept, oldest_wanted
from pbs_push.push.vanished import VanishedSnapshot, dead_snapshots, vanished_snapshots
from pbs_push.remote.models import GroupItem, SnapshotItem
from pbs_push.source.items import SnapshotList, SourceGroup, SourceSnapshot
from pbs_push.units import counted


def plan_group(
    group: SourceGroup,
    found: SnapshotList,
    at_target: GroupItem | None,
    target_namespace: Namespace,
    remote_user: AuthId,
    options: PushOptions,
    read_manifest: ManifestReader,
    has_log: late_logs.LogFinder,
    listed: Sequence[SnapshotItem] = (),
    findings: Findings = NO_FINDINGS,
) -> GroupPlan:
    """Decide about one group of the source (protocol/push.md, "Which snapshots").

    ``listed`` are the target's snapshots of the group, where they were asked for at all, and
    ``findings`` what was found by comparing both sides. ``read_manifest`` is called only where a
    filter or a key looks into manifests, ``has_log`` for at most one snapshot. Raises nothing of
    its own: a manifest that cannot be read leaves its snapshot to the push, where it fails visibly.
    """
    newest = _newest(at_target)
    finished = sum(item.finished for item in found.snapshots)
    name = placed(group.namespace, target_namespace, str(group.group))
    notes = [f"{name}: folder '{folder}' skipped: {why}" for folder, why in found.left_out]
    if whole := _whole_group_skip(group, at_target, remote_user):
        why = _skip_detail(whole, at_target, remote_user)
        notes.append(f"{name}: skipped: {why}")
        return GroupPlan(
            group,
            target_namespace,
            newest,
            outcomes=outcomes_of(group, target_namespace, found.snapshots, whole, why),
            notes=tuple(notes),
            finished=finished,
            has_links=bool(found.links),
        )
    if not found.snapshots:
        notes.append(f"{name}: the group is empty at the source")
    chosen, settled = _choose(found.snapshots, at_target, listed, options, read_manifest, findings)
    if early := settled.get(Skip.UNSUPPORTED):
        notes.append(f"{name}: {_too_early(early)}")
    outcomes = _settled_outcomes(group, target_namespace, settled, at_target, listed, findings)
    vanished = vanished_snapshots(found, listed) if options.remove_vanished else ()
    lasting = bool(chosen) or None in settled
    held_back = []
    if vanished and (stays := _why_none_vanished(finished, lasting, options, findings)):
        held_back.append(HeldBack(_vanished_of(vanished, target_namespace, group), stays))
        vanished = ()
    leave_alone = findings.leave_alone
    dead = dead_snapshots(chosen, listed) if options.remove_vanished and not leave_alone else ()
    log_for = late_logs.candidate(found.snapshots, at_target, listed, has_log, findings.unfit)
    if chosen and newest in findings.broken:
        notes.append(f"{name}: {_buried(len(chosen))}")
    return GroupPlan(
        group,
        target_namespace,
        newest,
        tuple(chosen),
        tuple(outcomes),
        vanished=vanished,
        dead=dead,
        log_for=None if leave_alone else log_for,
        notes=tuple(notes),
        alerts=findings.alerts,
        held_back=tuple(held_back),
        finished=finished,
        has_links=bool(found.links),
        leave_alone=leave_alone,
    )


def _buried(newer: int) -> str:
    which = "1 snapshot is" if newer == 1 else f"{newer} snapshots are"
    return f"{which} pushed on top of the broken one, which no push can mend then"


def _vanished_of(
    vanished: Sequence[VanishedSnapshot], namespace: Namespace, group: SourceGroup
) -> str:
    count = sum(not item.protected for item in vanished)
    name = placed(namespace, namespace, str(group.group))
    return f"{counted(count, 'vanished snapshot')} of target {name}"


def _too_early(items: Sequence[SourceSnapshot]) -> str:
    which = ", ".join(item.snapshot.time_text for item in items)
    return f"skipped: a server takes no snapshot from before 1970-01-01T00:00:01Z: {which}"


def _newest(at_target: GroupItem | None) -> int | None:
    """Time of the target's newest finished snapshot, None without one."""
    return at_target.newest_finished if at_target is not None else None


def _why_none_vanished(
    finished: int, lasting: bool, options: PushOptions, findings: Findings
) -> str | None:
    """Why all that vanished from a group stays at the target, None where it may go.

    ``lasting``: a snapshot of the source is at the target, or is about to be pushed there. Removing
    the target's newest one would make room for older ones, but not before the next push: until then
    the target would have nothing.
    """
    if findings.leave_alone:
        return Finding.OTHER_CONTENT.value
    if lasting or options.allow_empty_source:
        return None
    if not finished:
        return "the group is empty at the source (--allow-empty-source would remove them)"
    return (
        "the target has nothing else of the group, and none of the source's snapshots is there or "
        "can be pushed now (older ones cannot be, while a newer one is at the target; "
        "--allow-empty-source would remove that, and the next push send them)"
    )


def _whole_group_skip(
    group: SourceGroup, at_target: GroupItem | None, remote_user: AuthId
) -> Skip | None:
    if group.owner is None:
        return Skip.NO_OWNER
    if str(group.group) == "host/benchmark":
        return Skip.UNSUPPORTED
    if at_target is not None and not at_target.is_owned_by(remote_user):
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


_Settled = dict[Skip | None, list[SourceSnapshot]]
"""What is not pushed, by the reason; None stands for what is there already."""


def _choose(
    snapshots: Sequence[SourceSnapshot],
    at_target: GroupItem | None,
    listed: Sequence[SnapshotItem],
    options: PushOptions,
    read_manifest: ManifestReader,
    findings: Findings,
) -> tuple[list[SourceSnapshot], _Settled]:
    """Split a group's snapshots into those to push and the others.

    Without a list just the newest one is known to be at the target.
    """
    newest = _newest(at_target)
    there = {item.backup_time for item in listed if item.finished}
    oldest = oldest_wanted(options, clock.time())
    settled: _Settled = {}
    candidates: list[SourceSnapshot] = []
    for item in snapshots:
        time = item.snapshot.backup_time
        if not item.finished:
            settled.setdefault(Skip.IN_PROGRESS, []).append(item)
        elif time < 1:
            settled.setdefault(Skip.UNSUPPORTED, []).append(item)
        elif time in findings.broken:
            settled.setdefault(Skip.BROKEN, []).append(item)
        elif time in findings.other:
            settled.setdefault(Skip.OTHER_CONTENT, []).append(item)
        elif newest is not None and (time == newest or time in there):
            settled.setdefault(None, []).append(item)
        elif newest is not None and time < newest:
            settled.setdefault(Skip.NOT_NEWER, []).append(item)
        elif skip := Skip.TOO_OLD if time < oldest else _filtered(item, options, read_manifest):
            settled.setdefault(skip, []).append(item)
        else:
            candidates.append(item)
    candidates = _kept_of(candidates, snapshots, options, settled)
    # What is newer than the target's newest is also the newest of the source's list, so counting
    # among the candidates is counting in the filtered list
    # (protocol/push.md, "Which snapshots").
    if options.transfer_last is not None and len(candidates) > options.transfer_last:
        old = len(candidates) - _newest_ones(candidates, options.transfer_last, read_manifest)
        if old:
            settled.setdefault(Skip.TRANSFER_LAST, []).extend(candidates[:old])
        candidates = candidates[old:]
    # A filter counts before transfer-last; this is a refusal of what would be pushed.
    partly = [item for item in candidates if _is_partly_encrypted(item, options, read_manifest)]
    if partly:
        settled[Skip.PARTLY_ENCRYPTED] = partly
        candidates = [item for item in candidates if item not in partly]
    return candidates, settled


def _kept_of(
    candidates: list[SourceSnapshot],
    snapshots: Sequence[SourceSnapshot],
    options: PushOptions,
    settled: _Settled,
) -> list[SourceSnapshot]:
    """Those that the rules of keeping would keep; the others are settled."""
    if not candidates or not has_rules(options):
        return candidates
    keeps = kept((item.snapshot.backup_time for item in snapshots if item.finished), options)
    passed = [item for item in candidates if item.snapshot.backup_time not in keeps]
    if passed:
        settled[Skip.NOT_KEPT] = passed
    return [item for item in candidates if item.snapshot.backup_time in keeps]


def _newest_ones(
    candidates: Sequence[SourceSnapshot], wanted: int, read_manifest: ManifestReader
) -> int:
    """How many from the end on hold so many backups; checkpoints at the source do not count."""
    for number, item in enumerate(reversed(candidates), 1):
        manifest = _readable_manifest(item, read_manifest)
        if manifest is None or Mark.read(manifest.notes, item.snapshot) is None:
            wanted -= 1
        if not wanted:
            return number
    return len(candidates)


def _settled_outcomes(
    group: SourceGroup,
    target_namespace: Namespace,
    settled: _Settled,
    at_target: GroupItem | None,
    listed: Sequence[SnapshotItem],
    findings: Findings,
) -> list[Outcome]:
    """One outcome a reason; of what is broken or other at the target, one for each."""
    outcomes: list[Outcome] = []
    for reason, items in settled.items():
        if reason in (Skip.BROKEN, Skip.OTHER_CONTENT):
            whys = {**findings.broken, **findings.other}
            for item in items:
                why = f"{reason.value}: {whys[item.snapshot.backup_time]}"
                outcomes += outcomes_of(group, target_namespace, [item], reason, why)
            continue
        detail, missing = "", 0
        if reason is Skip.NOT_NEWER and at_target is not None:
            room = 0 if listed else at_target.backup_count - len(settled.get(None, ()))
            missing = min(len(items), max(0, len(items) - room))
            detail = _too_late(len(items), missing)
        outcomes += outcomes_of(group, target_namespace, items, reason, detail, missing=missing)
    return outcomes


def _too_late(older: int, missing: int) -> str:
    """What is known of ``older`` snapshots, of which at least so many are not at the target."""
    if missing <= 0:
        return ""
    which = "not" if missing >= older else f"at least {missing} of them not"
    return f"{which} at the target, and too late to be pushed: the group has a newer one there"


def _filtered(
    item: SourceSnapshot, options: PushOptions, read_manifest: ManifestReader
) -> Skip | None:
    wanted = options.verified_only or options.encrypted_only
    manifest = _readable_manifest(item, read_manifest) if wanted else None
    if manifest is None:
        return None
    if options.verified_only and manifest.verify_state != "ok":
        return Skip.NOT_VERIFIED
    if options.encrypted_only and Protection.of(manifest) is not Protection.FULL:
        return Skip.NOT_ENCRYPTED
    return None


def _is_partly_encrypted(
    item: SourceSnapshot, options: PushOptions, read_manifest: ManifestReader
) -> bool:
    """Whether a key is given, which neither encrypts such a snapshot nor lets it go as it is."""
    wanted = options.encryption_key is not None
    manifest = _readable_manifest(item, read_manifest) if wanted else None
    return manifest is not None and Protection.of(manifest) is Protection.PARTLY


def _readable_manifest(item: SourceSnapshot, read_manifest: ManifestReader) -> Manifest | None:
    """None for one that cannot be read: its snapshot is left to the push, where it fails."""
    try:
        return read_manifest(item)
    except PbsPushError:
        return None
