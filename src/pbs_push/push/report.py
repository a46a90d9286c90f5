"""What became of every snapshot, and the sums over them."""

from __future__ import annotations

import enum
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Final

from pbs_push.errors import PbsPushError, drop_frames
from pbs_push.names import Group, Namespace, Snapshot, format_backup_time, placed


class Result(enum.Enum):
    """How it ended for a snapshot."""

    PUSHED = "pushed"
    ALREADY_THERE = "already-there"
    SKIPPED = "skipped"
    FAILED = "failed"


class Skip(enum.Enum):
    """Why a snapshot was not tried; the value is what people read."""

    NOT_NEWER = "there already, or older than the newest snapshot of its group there"
    IN_PROGRESS = "in progress or dead: it has no manifest"
    TRANSFER_LAST = "older than what transfer-last keeps"
    FILTERED = "left out by the group filters"
    NOT_VERIFIED = "not verified"
    NOT_ENCRYPTED = "not encrypted"
    PARTLY_ENCRYPTED = "partly encrypted: it can neither be encrypted nor go as it is"
    BROKEN = "broken at the target: it is not all there"
    OTHER_CONTENT = "the target's snapshot of the same time has other content"
    NOT_OWNED = "its group at the target is owned by someone else"
    NO_OWNER = "its group has no readable owner at the source"
    NO_RIGHT = "the local user may not read its group"
    UNSUPPORTED = "the target cannot take such a group or time"
    VANISHED = "gone since it was listed"
    NOT_TRIED = "an older snapshot of its group failed"


@dataclass(frozen=True, slots=True)
class TransferStats:
    """What the transfer of one snapshot, or of many, took.

    Chunks are distinct ones; ``sent_bytes`` are encoded, as on the wire, ``sent_plain_bytes`` and
    ``reused_bytes`` plain. ``reused_entries`` are index entries whose chunk did not have to be
    sent. ``entry_lists`` counts PUTs, ``fallbacks`` refusals that were answered by doing it
    the plain way.
    """

    sent_chunks: int = 0
    sent_bytes: int = 0
    sent_plain_bytes: int = 0
    reused_entries: int = 0
    reused_bytes: int = 0
    requests: int = 0
    entry_lists: int = 0
    fallbacks: int = 0

    def __add__(self, other: TransferStats) -> TransferStats:
        """Sums."""
        return TransferStats(
            self.sent_chunks + other.sent_chunks,
            self.sent_bytes + other.sent_bytes,
            self.sent_plain_bytes + other.sent_plain_bytes,
            self.reused_entries + other.reused_entries,
            self.reused_bytes + other.reused_bytes,
            self.requests + other.requests,
            self.entry_lists + other.entry_lists,
            self.fallbacks + other.fallbacks,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a snapshot, or of ``count`` ones of a group between two times.

    ``detail`` adds facts to the reason of a skip: who owns the group, say.
    """

    namespace: Namespace
    group: Group
    oldest: int
    newest: int
    count: int
    result: Result
    skip: Skip | None = None
    error: PbsPushError | None = None
    stats: TransferStats = TransferStats()
    detail: str = ""
    target: Namespace | None = None
    """The target namespace, None for the same path as at the source."""

    @classmethod
    def of(
        cls,
        namespace: Namespace,
        snapshot: Snapshot,
        result: Result,
        *,
        skip: Skip | None = None,
        error: PbsPushError | None = None,
        stats: TransferStats | None = None,
        detail: str = "",
        target: Namespace | None = None,
    ) -> Outcome:
        """The outcome of one snapshot of a source namespace."""
        return cls(
            namespace,
            snapshot.group,
            snapshot.backup_time,
            snapshot.backup_time,
            1,
            result,
            skip,
            error,
            stats or TransferStats(),
            detail,
            target,
        )

    @property
    def label(self) -> str:
        """For messages: which snapshots, and where they land."""
        target = self.namespace if self.target is None else self.target
        where = placed(self.namespace, target, str(self.group))
        if self.count == 1:
            return f"{where}/{format_backup_time(self.oldest)}"
        times = f"{format_backup_time(self.oldest)} … {format_backup_time(self.newest)}"
        return f"{where}: {self.count} snapshots, {times}"


class Finding(enum.Enum):
    """What cannot be normal about a group; the value is what people read."""

    FUTURE = "the target's newest snapshot is dated in the future"
    UNRELATED = "source and target have no snapshot in common"
    OTHER_CONTENT = "the target has other content of the same time"
    BROKEN = "a snapshot at the target is broken"


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that was found about a group and cannot be normal: somebody has to look.

    ``text`` tells all of it, and what to do.
    """

    finding: Finding
    namespace: Namespace
    group: Group
    text: str


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Removals that were asked for and did not happen, for a reason that no rule gives.

    ``what`` would go, of the target, and stays because of ``why``.
    """

    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


@dataclass(slots=True)
class Removed:
    """What was removed at the target, confirmed by it; ``protected`` snapshots had to stay.

    ``kept`` namespaces and groups vanished from the source and stay by a rule: since they hold what
    is protected, or belongs to somebody else, or is left out by a filter, or came meanwhile.
    """

    namespaces: int = 0
    groups: int = 0
    snapshots: int = 0
    protected: int = 0
    kept_namespaces: int = 0
    kept_groups: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that failed and is not one snapshot: a namespace, a group, a removal."""

    what: str
    error: PbsPushError


EXIT_FAILED: Final = 1
EXIT_PARTIAL: Final = 3
EXIT_NOTHING: Final = 5

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


class Report:
    """The sum of a push. Filled by its workers; safe for threads while it runs.

    ``outcomes`` holds all but what was already there, which is only counted: a datastore may hold
    hundreds of thousands of such snapshots. Errors are kept without their tracebacks.
    """

    def __init__(self) -> None:
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
        self.seconds = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        if outcome.error is not None:
            drop_frames(outcome.error)
        with self._lock:
            self.counts[outcome.result] += outcome.count
            if outcome.skip is not None:
                self.skips[outcome.skip] += outcome.count
            self.stats += outcome.stats
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

    def count(self, *, logs_added: int = 0, metadata_updates: int = 0) -> None:
        """Count changes to what was at the target already."""
        with self._lock:
            self.logs_added += logs_added
            self.metadata_updates += metadata_updates

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
        self.add(outcome)

    @property
    def failed(self) -> int:
        """How many things failed."""
        return self.counts[Result.FAILED] + len(self.problems)

    @property
    def exit_status(self) -> int:
        """0: everything that should be pushed was; see docs/exit-status.md for the others."""
        return self.status_with(0)

    def status_with(self, to_push: int) -> int:
        """The exit status if so many snapshots more are pushed: what a dry run knows of it."""
        good = to_push + self.counts[Result.PUSHED] + self.counts[Result.ALREADY_THERE]
        good += self.skips[Skip.NOT_NEWER]
        if self.failed:
            return EXIT_PARTIAL if good else self._worst_exit()
        if self.alerts or self.held_back:
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
