"""The sums of a push over what became of every snapshot, and the exit status that follows."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

from pbs_push.errors import PbsPushError, drop_frames
from pbs_push.names import Namespace
from pbs_push.push.document import Json, Sides, Span, head, key_of
from pbs_push.push.outcome import (
    LEFT,
    NEXT_TIME,
    Alert,
    HeldBack,
    Outcome,
    Problem,
    Removed,
    Result,
    Skip,
    TransferStats,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

EXIT_FAILED: Final = 1
EXIT_PARTIAL: Final = 3
EXIT_NOTHING: Final = 5
_FROM_WORST: Final = (130, 4, 2, EXIT_FAILED, EXIT_NOTHING, EXIT_PARTIAL, 0)
"""Exit statuses: first what goes on until somebody does something."""

TO_MEND: Final = (
    Skip.NOT_OWNED,
    Skip.NO_OWNER,
    Skip.PARTLY_ENCRYPTED,
    Skip.BROKEN,
    Skip.OTHER_CONTENT,
)
"""Reasons that keep away from the target what should be there, until somebody mends them.

The others are what options or rights ask for, or are normal life: a target that keeps less than the
source has removed what is older than its newest, and a source may have lost its newest."""

LEFT_OUT: Final = (Skip.NOT_OWNED, Skip.NO_OWNER, Skip.PARTLY_ENCRYPTED)
"""Reasons for which a group is not at the target: at most a copy of it under another name is."""

_COULD_NOT: Final = (*TO_MEND, Skip.NO_RIGHT, Skip.UNSUPPORTED)
"""Reasons that no option asked for: where they are all there is, nothing could be pushed."""


@dataclass(frozen=True, slots=True)
class ReportPart:
    """What a report has of one group, to be added to another one elsewhere: a plain value.

    ``settled`` are snapshots that need not be pushed any more.
    """

    outcomes: tuple[Outcome, ...] = ()
    problems: tuple[Problem, ...] = ()
    alerts: tuple[Alert, ...] = ()
    held_back: tuple[HeldBack, ...] = ()
    counts: tuple[tuple[Result, int], ...] = ()
    skips: tuple[tuple[Skip, int], ...] = ()
    stats: TransferStats = field(default_factory=TransferStats)
    removed: tuple[tuple[str, int], ...] = ()
    logs_added: int = 0
    metadata_updates: int = 0
    retries: int = 0
    settled: int = 0


def worst(statuses: Iterable[int]) -> int:
    """The exit status that counts of several pushes; 0 of none."""
    return min(statuses, key=_FROM_WORST.index, default=0)


class Report:
    """The sum of a push. Filled by its workers; safe for threads while it runs.

    ``outcomes`` holds all but what was already there, which is only counted: a datastore may hold
    hundreds of thousands of such snapshots. Errors are kept without their tracebacks. ``sides`` say
    what is pushed where, ``error`` is one that ended all of it. ``retries`` counts tries that
    failed and were made again, ``remains`` snapshots that were to be pushed and were not.
    """

    def __init__(self, sides: Sides | None = None) -> None:
        self.sides = sides
        self.error: PbsPushError | None = None
        self._lock = threading.Lock()
        self.outcomes: list[Outcome] = []
        self.problems: list[Problem] = []
        self.alerts: list[Alert] = []
        self.held_back: list[HeldBack] = []
        self.counts: Counter[Result] = Counter()
        self.skips: Counter[Skip] = Counter()
        self.stats = TransferStats()
        self.groups = 0
        self.created_namespaces: list[Namespace] = []
        self.removed = Removed()
        self.logs_added = 0
        self.metadata_updates = 0
        self.source_protected = 0
        self.source_freed = 0
        self.retries = 0
        self.seconds = 0.0
        self.remains = 0
        self._began = time.time()

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        if outcome.error is not None:
            drop_frames(outcome.error)
        with self._lock:
            self.counts[outcome.result] += outcome.count
            if outcome.skip is not None:
                self.skips[outcome.skip] += outcome.count
            self.stats += outcome.stats
            if outcome.result is not Result.FAILED and outcome.skip not in LEFT:
                self.remains = max(0, self.remains - outcome.count)
            if outcome.result is not Result.ALREADY_THERE:
                self.outcomes.append(outcome)

    def count_removed(
        self, *, namespaces: int = 0, groups: int = 0, snapshots: int = 0, protected: int = 0
    ) -> None:
        """Count what the target removed, and what it kept because it is protected."""
        with self._lock:
            self.removed.namespaces += namespaces
            self.removed.groups += groups
            self.removed.snapshots += snapshots
            self.removed.protected += protected

    def count_kept(self, *, namespaces: int = 0, groups: int = 0) -> None:
        """Count what vanished and stays by a rule."""
        with self._lock:
            self.removed.kept_namespaces += namespaces
            self.removed.kept_groups += groups

    def count(
        self,
        *,
        logs_added: int = 0,
        metadata_updates: int = 0,
        source_protected: int = 0,
        source_freed: int = 0,
    ) -> None:
        """Count changes to what was at the target already, and marks at the source."""
        with self._lock:
            self.logs_added += logs_added
            self.metadata_updates += metadata_updates
            self.source_protected += source_protected
            self.source_freed += source_freed

    def count_spent(self, stats: TransferStats) -> None:
        """Count what was sent of a snapshot that the push was stopped in."""
        with self._lock:
            self.stats += stats

    def count_retry(self) -> None:
        """Count a try that failed and is made again."""
        with self._lock:
            self.retries += 1

    def add_problem(self, problem: Problem) -> None:
        """Count a failure that is not of one snapshot."""
        drop_frames(problem.error)
        with self._lock:
            self.problems.append(problem)

    def add_alert(self, alert: Alert) -> None:
        """Note what cannot be normal."""
        with self._lock:
            self.alerts.append(alert)

    def hold_back(self, held: HeldBack) -> None:
        """Note removals that do not happen."""
        with self._lock:
            self.held_back.append(held)

    def is_not_there(self, outcome: Outcome) -> None:
        """Take back that a snapshot was already there; this is what became of it."""
        with self._lock:
            self.counts[Result.ALREADY_THERE] -= outcome.count
            if self.remains:
                self.remains += outcome.count  # it was none of those to be pushed
        self.add(outcome)

    def part(self, of: int) -> ReportPart:
        """All of it as a part of another report; ``of`` so many snapshots were to be pushed."""
        with self._lock:
            return ReportPart(
                tuple(self.outcomes),
                tuple(self.problems),
                tuple(self.alerts),
                tuple(self.held_back),
                tuple(self.counts.items()),
                tuple(self.skips.items()),
                self.stats,
                tuple(asdict(self.removed).items()),
                self.logs_added,
                self.metadata_updates,
                self.retries,
                of - self.remains,
            )

    def take(self, part: ReportPart) -> None:
        """Add what came of a group elsewhere."""
        with self._lock:
            self.outcomes += part.outcomes
            self.problems += part.problems
            self.alerts += part.alerts
            self.held_back += part.held_back
            for result, count in part.counts:
                self.counts[result] += count
            for skip, count in part.skips:
                self.skips[skip] += count
            self.stats += part.stats
            for name, count in part.removed:
                setattr(self.removed, name, getattr(self.removed, name) + count)
            self.logs_added += part.logs_added
            self.metadata_updates += part.metadata_updates
            self.retries += part.retries
            self.remains = max(0, self.remains - part.settled)

    @property
    def reports(self) -> tuple[Report, ...]:
        """A report for each target, as a ``FanOutReport`` has them: this one."""
        return (self,)

    @property
    def span(self) -> Span:
        """From when to when it ran."""
        return Span(self._began, self._began + self.seconds if self.seconds else time.time())

    @property
    def did_anything(self) -> bool:
        """Whether there is anything to sum up."""
        return bool(self.groups or self.problems or self.held_back or self.removed != Removed())

    @property
    def knows_both_sides(self) -> bool:
        """Whether both sides were looked at: else what is left to do is not known."""
        return bool(self.groups) or (self.error is None and not self.problems)

    @property
    def gaps(self) -> int:
        """Snapshots older than the target's newest that are not there, as far as it is known."""
        return sum(one.missing for one in self.outcomes)

    @property
    def failed(self) -> int:
        """How many things failed."""
        return self.counts[Result.FAILED] + len(self.problems)

    @property
    def exit_status(self) -> int:
        """0: nothing is left that a push could do; see docs/exit-status.md for the others."""
        return self.status_with(0)

    def to_dict(self) -> Json:
        """The document that ``pbs-push push --json`` prints (docs/json.md)."""
        return {
            **head("report", self.sides, self.exit_status, self.error, self.span),
            "remains": self.remains if self.knows_both_sides else None,
            "seconds": round(self.seconds, 3),
            "retries": self.retries,
            "groups": self.groups,
            **self.counts_to_dict(),
            "sums": self.stats.to_dict(),
            "removed": self.removed.to_dict(),
            "logs-added": self.logs_added,
            "metadata-updates": self.metadata_updates,
            "source-protected": self.source_protected,
            "source-freed": self.source_freed,
            "created-namespaces": [str(namespace) for namespace in self.created_namespaces],
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
            **self.findings_to_dict(),
        }

    def records(self) -> list[Json]:
        """``outcomes`` as flat rows of plain values, one key a column: for tables and pandas."""
        rows = []
        for outcome in self.outcomes:
            row = outcome.to_dict()
            sums = row.pop("sums", {})
            error = row.pop("error", None) or {}
            row |= {
                "skip": row.get("skip"),
                "reason": row.get("reason"),
                "missing": outcome.missing,
            }
            row |= {"error": error.get("kind"), "message": error.get("message")}
            rows.append(row | outcome.stats.to_dict() | sums)
        return rows

    def counts_to_dict(self) -> Json:
        """How many snapshots of each result, and of each reason to skip."""
        return {
            "snapshots": {result.value: self.counts[result] for result in Result},
            "skipped": {key_of(skip): count for skip, count in self.skips.items()},
        }

    def findings_to_dict(self) -> Json:
        """What somebody has to look at."""
        return {
            "problems": [problem.to_dict() for problem in self.problems],
            "alerts": [alert.to_dict() for alert in self.alerts],
            "held-back": [held.to_dict() for held in self.held_back],
        }

    def status_with(self, to_push: int) -> int:
        """The exit status if so many snapshots more are pushed: what a dry run knows of it."""
        if self.error is not None:
            return self.error.exit_status
        good = to_push + self.counts[Result.PUSHED] + self.counts[Result.ALREADY_THERE]
        good += self.skips[Skip.NOT_NEWER]
        if self.failed:
            return EXIT_PARTIAL if good else self._worst_exit()
        if self.alerts or self.held_back or any(self.skips[skip] for skip in NEXT_TIME):
            return EXIT_PARTIAL
        if good:
            return EXIT_PARTIAL if any(self.skips[skip] for skip in TO_MEND) else 0
        return EXIT_NOTHING if any(self.skips[skip] for skip in _COULD_NOT) else 0

    def _worst_exit(self) -> int:
        """The reason's own status where all failed for the same kind of reason."""
        errors = [problem.error for problem in self.problems]
        errors += [outcome.error for outcome in self.outcomes if outcome.error is not None]
        kinds = {error.exit_status for error in errors}
        return kinds.pop() if len(kinds) == 1 else EXIT_FAILED
