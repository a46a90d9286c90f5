"""Looking, before the first byte, whether a push would go through: nothing is changed anywhere.

Each finding says what was looked at, what is there, and what to do where something is wrong.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from pbs_push.errors import AlreadyRunning, Cancelled, PbsPushError
from pbs_push.names import Namespace
from pbs_push.push.outcome import Result, Skip
from pbs_push.units import counted, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from pbs_push.push.document import Json
    from pbs_push.push.forecast import Forecast
    from pbs_push.push.options import PushOptions
    from pbs_push.push.plan import NamespacePlan, Plan
    from pbs_push.push.run import Run

_NAMED: Final = 10
"""So many places are named in a line; of more it is told how many."""


class Grade(enum.Enum):
    """How good a finding is."""

    OK = "ok"
    NOTE = "note"
    """Good to know; the push goes through."""
    BAD = "bad"
    """The push, or a part of it, fails like this."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one thing; ``advice`` is what to do, empty where nothing is."""

    grade: Grade
    subject: str
    text: str
    advice: str = ""

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return {
            "grade": self.grade.value,
            "subject": self.subject,
            "text": self.text,
            "advice": self.advice,
        }


def preflight(
    run: Run, make_plan: Callable[[], Plan], forecast_of: Callable[[Plan], Forecast]
) -> Iterator[Finding]:
    """Look at both sides of a push that was not begun. Raises Cancelled."""
    try:
        yield from _source(run)
        yield from _target(run)
        yield _lock(run)
        plan = make_plan()
    except Cancelled:
        raise
    except PbsPushError as error:
        yield Finding(Grade.BAD, "push", str(error), "nothing can be pushed until this is mended")
        return
    yield from _planned(plan)
    yield from _rights(run, plan.namespaces)
    for item in plan.namespaces:
        yield from _groups(item)
    yield from _space(run, forecast_of(plan).total.size)


def _source(run: Run) -> Iterator[Finding]:
    run.source.identity()
    options = run.options
    spaces = list(run.source.namespaces(options.source_namespace, options.max_depth))
    yield Finding(
        Grade.OK, "source", f"{run.source.path} is there, with {counted(len(spaces), 'namespace')}"
    )


def _target(run: Run) -> Iterator[Finding]:
    features = run.target.features
    way = "" if run.target.proxy is None else f" through proxy {run.target.proxy.label}"
    yield Finding(
        Grade.OK,
        "target",
        f"{run.target.repository.netloc} answers{way}: the certificate is trusted, version "
        f"{features.version}",
    )
    run.api.namespaces(Namespace())  # some versions tell what they are without a login
    yield Finding(Grade.OK, "login", f"{run.target.auth_id} may log in")
    if not features.delete_statistics:
        yield Finding(
            Grade.NOTE, "version", "this version does not tell what a removal took with it"
        )
    milliseconds = run.target.rest.round_trip_s * 1000
    yield Finding(Grade.OK, "round trip", f"{milliseconds:.1f} ms")


def _lock(run: Run) -> Finding:
    try:
        with run.only_one():
            return Finding(Grade.OK, "lock", "this push does not run on this host just now")
    except AlreadyRunning as error:
        return Finding(Grade.BAD, "lock", str(error), "wait until it has ended")


def _planned(plan: Plan) -> Iterator[Finding]:
    for note in plan.notes:
        yield Finding(Grade.NOTE, "plan", note)
    for problem in plan.problems:
        yield Finding(
            Grade.BAD, "plan", f"{problem.what}: {problem.error}", "the error says what is missing"
        )
    if plan.no_removals is not None:
        yield Finding(
            Grade.BAD, "removals", plan.no_removals, "look why so much vanished from the source"
        )
    yield Finding(Grade.OK, "plan", f"{counted(plan.to_push, 'snapshot')} to push")


@dataclass(frozen=True, slots=True)
class _Right:
    """A finding about a place at the target, without the place: most often it is of many."""

    grade: Grade
    subject: str
    text: str
    advice: str = ""


def _rights(run: Run, items: Sequence[NamespacePlan]) -> Iterator[Finding]:
    """What the identity may do where each namespace lands; what is the same is told once."""
    held: dict[Namespace, frozenset[str]] = {}
    places: dict[_Right, dict[str, None]] = {}
    for item in items:
        asked = item.create[0].parent if item.create else item.target
        if asked not in held:
            held[asked] = run.api.privileges(asked)
        for right in _rights_at(run, item, held[asked]):
            places.setdefault(right, {})[asked.label] = None
    for right, labels in places.items():
        text = f"target {_some(labels)}: {right.text}"
        yield Finding(right.grade, right.subject, text, right.advice)
    created = [namespace.label for item in items for namespace in item.create]
    if created:
        text = f"would be created at the target: {_some(created)}"
        yield Finding(Grade.NOTE, "namespaces", text)


def _rights_at(run: Run, item: NamespacePlan, held: frozenset[str]) -> Iterator[_Right]:
    who = run.target.auth_id
    if not held:
        text = f"the target does not tell what {who} may do there"
        yield _Right(Grade.NOTE, "rights", text, "a push shows whether it is enough")
        return
    needed = _needed(run.options, item)
    for privileges, what in needed:
        if not held & privileges:
            names = " or ".join(sorted(privileges))
            yield _Right(
                Grade.BAD,
                "rights",
                f"{who} has no {names}, which {what} needs",
                "give a role with it there (DatastoreAdmin has all; of a token, its user needs "
                "it, too)",
            )
    if all(held & privileges for privileges, _what in needed):
        yield _Right(Grade.OK, "rights", "all that this push needs")
    if "Datastore.Audit" not in held and not item.create:
        text = f"groups of others are not shown to {who}"
        advice = "one that has the name of a group here would be refused as not owned"
        yield _Right(Grade.NOTE, "owner", text, advice)


def _some(names: Collection[str]) -> str:
    """Names as a list that stays a line."""
    shown = list(islice(names, _NAMED))
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _needed(options: PushOptions, item: NamespacePlan) -> list[tuple[frozenset[str], str]]:
    """Privileges, any of each set, and what for."""
    backup = frozenset({"Datastore.Backup"})
    modify = frozenset({"Datastore.Modify"})
    needed = [(backup, "pushing")]
    if item.create:
        needed.append((modify, "creating a namespace"))
    if options.remove_vanished:
        needed.append((modify | {"Datastore.Prune"}, "--remove-vanished"))
    if options.sync_metadata or options.sync_protected:
        needed.append((modify | backup, "--sync-metadata"))
    return needed


def _groups(item: NamespacePlan) -> Iterator[Finding]:
    for note in (*item.notes, *(note for group in item.groups for note in group.notes)):
        yield Finding(Grade.NOTE, "source", note)
    for outcome in item.outcomes():
        if outcome.skip in (Skip.NOT_OWNED, Skip.NO_OWNER):
            yield Finding(
                Grade.BAD,
                "owner",
                f"{outcome.label}: {outcome.reason}",
                "change the owner there, or push as it",
            )
        elif outcome.result is Result.SKIPPED and outcome.skip is Skip.PARTLY_ENCRYPTED:
            yield Finding(Grade.BAD, "encryption", f"{outcome.label}: {outcome.reason}")
    for group in item.groups:
        for alert in group.alerts:
            yield Finding(Grade.BAD, "group", alert.text)
        if group.checkpoints:
            count = counted(len(group.checkpoints), "checkpoint")
            text = f"{group.label}: {count} of a push that was cut"
            yield Finding(Grade.NOTE, "checkpoints", text, "the next push goes on from there")
    for held in item.all_held_back():
        yield Finding(Grade.BAD, "removals", str(held))


def _space(run: Run, wanted: int) -> Iterator[Finding]:
    try:
        space = run.api.status()
    except PbsPushError as error:
        yield Finding(Grade.NOTE, "space", f"the target does not tell: {error}")
        return
    if not space.total:
        yield Finding(Grade.NOTE, "space", "the target does not tell how much is free there")
        return
    text = f"{size_text(space.avail)} free there; at most {size_text(wanted)} to send"
    if space.avail < wanted:
        advice = "less may do, as chunks are compressed, but make room before"
        yield Finding(Grade.BAD, "space", text, advice)
    else:
        yield Finding(Grade.OK, "space", text)


def without_waiting(options: PushOptions) -> PushOptions:
    """The same for who only looks: a lock that is held is a finding, not worth a wait."""
    return replace(options, lock_wait_s=0.0, retries=0)
