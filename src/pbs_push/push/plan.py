"""What to do, from what the source has and what the target has: a value, made without side effects.

A dry run prints it, the engine carries it out, tests compare it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from pbs_push.errors import PbsPushError
from pbs_push.names import Namespace, placed, route_label
from pbs_push.push.changes import MetadataChange
from pbs_push.push.checkpoint_mark import Checkpoint
from pbs_push.push.document import Json, Sides, Span, head, key_of
from pbs_push.push.outcome import Alert, HeldBack, Outcome, Problem, Result, Skip
from pbs_push.push.report import Report
from pbs_push.push.vanished import VanishedGroup, VanishedNamespace, VanishedSnapshot
from pbs_push.source.datastore import SourceIdentity
from pbs_push.source.items import SourceGroup, SourceSnapshot

ALL_VANISHED: Final = "all that vanished from the source"
"""What ``no_removals`` holds back."""


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """What to do with one group: ``snapshots`` to push, oldest first, and what is settled already.

    ``newest_at_target`` is the time of the target's newest finished snapshot, None without one.
    ``vanished`` are to be forgotten at the target after the push, ``dead`` ones, which are in its
    way, before it. ``log_for`` is the newest snapshot that both sides have, if it has a client log
    here and, as far as the lists show, none there. ``changes`` are those of metadata.
    ``checkpoints`` lie at the target, oldest first, and are to be removed after the push. ``notes``
    are lines to show.
    """

    source: SourceGroup
    target_namespace: Namespace
    newest_at_target: int | None
    snapshots: tuple[SourceSnapshot, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    vanished: tuple[VanishedSnapshot, ...] = ()
    dead: tuple[VanishedSnapshot, ...] = ()
    log_for: SourceSnapshot | None = None
    changes: tuple[MetadataChange, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    notes: tuple[str, ...] = ()
    alerts: tuple[Alert, ...] = ()
    held_back: tuple[HeldBack, ...] = ()
    marks_left: tuple[SourceSnapshot, ...] = ()
    """Snapshots that an earlier push protects at the source for this target, and need not be."""
    finished: int = 0
    """Finished snapshots at the source, to be pushed or not."""
    has_links: bool = False
    """Whether symbolic links lie in the place of snapshots, which may have vanished or not."""
    leave_alone: bool = False
    """Whether nothing that is at the target may be changed: it may not be the source's."""

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return {
            "group": str(self.source.group),
            "newest-at-target": self.newest_at_target,
            "push": [item.snapshot.backup_time for item in self.snapshots],
            "settled": [outcome.to_dict() for outcome in self.outcomes],
            "vanished": [
                {"backup-time": gone.snapshot.backup_time, "protected": gone.protected}
                for gone in self.vanished
            ],
            "add-log": None if self.log_for is None else self.log_for.snapshot.backup_time,
            "dead": [gone.snapshot.backup_time for gone in self.dead],
            "set": [
                {
                    "what": key_of(change.kind),
                    "backup-time": change.snapshot and change.snapshot.snapshot.backup_time,
                }
                for change in self.changes
            ],
            "free": [item.snapshot.backup_time for item in self.marks_left],
            "checkpoints": [one.snapshot.backup_time for one in self.checkpoints],
            "notes": list(self.notes),
        }

    @property
    def newest_is_there(self) -> bool:
        """Whether the target's newest snapshot is one that counts as there."""
        return any(
            outcome.result is Result.ALREADY_THERE
            and outcome.oldest <= (self.newest_at_target or 0) <= outcome.newest
            for outcome in self.outcomes
        )

    @property
    def label(self) -> str:
        """For messages: the group, and where it lands."""
        return self.name_of(str(self.source.group))

    @property
    def target_label(self) -> str:
        """For messages: the group as the target has it."""
        target = self.target_namespace
        return placed(target, target, str(self.source.group))

    def name_of(self, name: str) -> str:
        """For messages: something of the group, and where that lands."""
        return placed(self.source.namespace, self.target_namespace, name)

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing to do, and nothing to tell but the outcomes."""
        tells = self.notes or self.alerts or self.held_back or self.marks_left
        return not (self.has_work or tells)

    @property
    def has_work(self) -> bool:
        """Whether anything is to be done beyond telling."""
        return bool(
            self.snapshots or self.vanished or self.log_for or self.changes or self.checkpoints
        )


@dataclass(frozen=True, slots=True)
class NamespacePlan:
    """What to do with one source namespace; ``create`` are target namespaces, parents first.

    ``groups`` are those with something to do or to tell. There may be tens of thousands without:
    of these there are just the outcomes, in ``settled``. ``looked_at`` counts all groups, and
    ``finished`` their finished snapshots at the source. ``vanished`` groups are to be removed at
    the target, which holds ``target_snapshots`` there now. ``held_back`` are removals that do not
    happen; those of groups stand there.
    """

    source: Namespace
    target: Namespace
    create: tuple[Namespace, ...]
    groups: tuple[GroupPlan, ...]
    settled: tuple[Outcome, ...] = ()
    vanished: tuple[VanishedGroup, ...] = ()
    notes: tuple[str, ...] = ()
    held_back: tuple[HeldBack, ...] = ()
    looked_at: int = 0
    finished: int = 0
    target_snapshots: int = 0

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return {
            "ns": str(self.source),
            "target-ns": str(self.target),
            "create": [str(namespace) for namespace in self.create],
            "notes": list(self.notes),
            "groups": [group.to_dict() for group in self.groups],
            "settled": [outcome.to_dict() for outcome in self.settled],
            "vanished-groups": [
                {
                    "group": str(gone.group),
                    "snapshots": gone.snapshots,
                    "protected": gone.protected,
                }
                for gone in self.vanished
            ],
        }

    def outcomes(self) -> Iterator[Outcome]:
        """All that is settled before anything is pushed."""
        for group in self.groups:
            yield from group.outcomes
        yield from self.settled

    def all_held_back(self) -> Iterator[HeldBack]:
        """Removals that do not happen, in the namespace and in its groups."""
        yield from self.held_back
        for group in self.groups:
            yield from group.held_back

    @property
    def removes(self) -> bool:
        """Whether anything is to be removed at the target."""
        return bool(self.vanished) or any(group.vanished or group.dead for group in self.groups)

    @property
    def label(self) -> str:
        """For messages: the namespace, and where it lands."""
        return route_label(self.source, self.target)

    def without_removals(self, why: str | None) -> NamespacePlan:
        """The same with nothing to be removed; ``why`` it is held back, unless that was told."""
        if not self.removes:
            return self
        groups = tuple(
            replace(group, vanished=(), dead=()) if group.vanished or group.dead else group
            for group in self.groups
        )
        held = (
            ()
            if why is None
            else (HeldBack(f"what vanished from target {self.target.label}", why),)
        )
        return replace(self, groups=groups, vanished=(), held_back=(*self.held_back, *held))


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a push. ``no_removals`` says why none of the planned removals may happen.

    ``source_identity`` is what was looked at: from another source nothing has vanished.
    ``vanished`` namespaces are in the order of their removal, children first; those that stay say
    why. ``notes`` are lines to show about all of it. ``problems`` are what could not be planned,
    ``error`` is one that kept all of it from being planned; ``sides`` say what is pushed where.
    """

    namespaces: tuple[NamespacePlan, ...]
    vanished: tuple[VanishedNamespace, ...] = ()
    no_removals: str | None = None
    notes: tuple[str, ...] = ()
    source_identity: SourceIdentity | None = None
    problems: tuple[Problem, ...] = ()
    sides: Sides | None = None
    error: PbsPushError | None = None
    span: Span | None = field(default=None, compare=False)
    """From when to when both sides were looked at."""

    def settled(self) -> Report:
        """What is certain before anything is pushed, as the report of a push would have it."""
        report = Report(self.sides)
        report.error = self.error
        for problem in self.problems:
            report.add_problem(problem)
        if self.no_removals is not None:
            report.hold_back(HeldBack(ALL_VANISHED, self.no_removals))
        for item in self.namespaces:
            report.groups += item.looked_at
            for outcome in item.outcomes():
                report.add(outcome)
            for held in item.all_held_back():
                report.hold_back(held)
            for alert in (alert for group in item.groups for alert in group.alerts):
                report.add_alert(alert)
        for gone in self.vanished:
            if gone.held_back:
                what = f"vanished target {gone.namespace.label}"
                report.hold_back(HeldBack(what, gone.keep or ""))
        return report

    @property
    def exit_status(self) -> int:
        """That of a push of it, as far as it is known: what is in the way now is so then, too."""
        return self.settled().status_with(self.to_push)

    def to_dict(self) -> Json:
        """The document that ``pbs-push push --dry-run --json`` prints (docs/json.md)."""
        settled = self.settled()
        return {
            **head("plan", self.sides, settled.status_with(self.to_push), self.error, self.span),
            "remains": self.to_push,
            "to-push": self.to_push,
            "to-remove": self.removals,
            "removals-refused": self.no_removals,
            "notes": list(self.notes),
            **settled.counts_to_dict(),
            "namespaces": [item.to_dict() for item in self.namespaces],
            "vanished-namespaces": [item.to_dict() for item in self.vanished],
            **settled.findings_to_dict(),
        }

    @property
    def to_push(self) -> int:
        """How many snapshots are to be pushed."""
        return sum(len(group.snapshots) for plan in self.namespaces for group in plan.groups)

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
                for item in (*group.vanished, *group.dead)
            )
            + sum(group.snapshots for plan in self.namespaces for group in plan.vanished)
            + sum(item.snapshots for item in self.vanished if item.keep is None)
        )


def namespaces_to_create(wanted: Namespace, existing: set[Namespace]) -> tuple[Namespace, ...]:
    """What to create for ``wanted``, parents first (protocol/push.md, "Target namespaces").

    Starts below the deepest ancestor that is known to exist: those above it may exist unseen, and
    creating them is refused.
    """
    missing: list[Namespace] = []
    current = wanted
    while not current.is_root and current not in existing:
        missing.append(current)
        current = current.parent
    return tuple(reversed(missing))


def outcomes_of(
    group: SourceGroup,
    target: Namespace,
    items: Sequence[SourceSnapshot],
    skip: Skip | None,
    detail: str = "",
    *,
    missing: int = 0,
) -> tuple[Outcome, ...]:
    """One outcome for all of these snapshots, oldest first; none where there are none.

    ``skip`` None: they are there already. ``target`` is the target namespace, ``missing`` how many
    of them are known not to be there.
    """
    if not items:
        return ()
    outcome = Outcome(
        group.namespace,
        group.group,
        items[0].snapshot.backup_time,
        items[-1].snapshot.backup_time,
        len(items),
        Result.ALREADY_THERE if skip is None else Result.SKIPPED,
        skip,
        detail=detail,
        target=target,
        missing=missing,
    )
    return (outcome,)
