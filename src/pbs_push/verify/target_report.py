"""What a verification of a target has found, and the exit status that follows."""

from __future__ import annotations

import enum
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pbs_push.errors import Fault, PbsPushError, drop_frames
from pbs_push.names import Namespace, Snapshot, placed
from pbs_push.push.document import Json, Sides, Span, head
from pbs_push.push.outcome import Problem

EXIT_DIFFERENT: Final = 3
MOST_TARGET_ONLY: Final = 100_000
"""Snapshots that only the target has, of which each is named; more are counted."""


class CopyVerdict(enum.Enum):
    """What is known of a snapshot of the source, or of the target; its name in documents."""

    EQUAL = "equal"
    """The target's manifest, indexes and blobs are the source's."""
    NOT_CHECKED = "not-checked"
    """No difference was found, but some of it cannot be compared without the key."""
    DIFFERENT = "different"
    """The target has another snapshot of this time, or a file of it is damaged there."""
    DAMAGED = "damaged"
    """Equal, but for a chunk that is damaged or missing at the target; or its server says so."""
    NOT_PUSHED = "not-pushed"
    """Newer than all that the target has of the group: the next push brings it."""
    GAP = "gap"
    """The target has older ones and newer ones, but not this: no push can bring it any more."""
    OLDER = "older"
    """Older than all that the target has of the group: removed there, or never pushed."""
    TARGET_ONLY = "target-only"
    """The source does not have it (any more)."""
    UNREADABLE = "unreadable"
    """It could not be read, here or there, which says nothing about the copy."""
    LEFT = "left"
    """At the source it is being written or removed, or was meanwhile; or no push ever takes it."""


FAILING: Final = frozenset(
    (
        CopyVerdict.DIFFERENT,
        CopyVerdict.DAMAGED,
        CopyVerdict.NOT_PUSHED,
        CopyVerdict.GAP,
        CopyVerdict.UNREADABLE,
    )
)
"""Verdicts that somebody has to look at."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that differs: a file's name, None where it is the whole snapshot, and what."""

    filename: str | None
    what: str

    def __str__(self) -> str:
        return self.what if self.filename is None else f"{self.filename}: {self.what}"

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return {"filename": self.filename, "what": self.what}


@dataclass(frozen=True, slots=True)
class CopyPlace:
    """A snapshot at the target, and the namespace that it has at the source."""

    source_namespace: Namespace
    target_namespace: Namespace
    snapshot: Snapshot

    @property
    def label(self) -> str:
        """For messages."""
        return placed(self.source_namespace, self.target_namespace, str(self.snapshot))

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return {
            "ns": str(self.source_namespace),
            "target-ns": str(self.target_namespace),
            "group": str(self.snapshot.group),
            "backup-time": self.snapshot.backup_time,
        }


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What became of one snapshot: the verdict, and what it rests on."""

    place: CopyPlace
    verdict: CopyVerdict
    differences: tuple[Difference, ...] = ()

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return {
            **self.place.to_dict(),
            "verdict": self.verdict.value,
            "differences": [one.to_dict() for one in self.differences],
        }


class Healing(enum.Enum):
    """What became of a bad chunk at the target; the value is its name in documents."""

    NOT_TRIED = "not-tried"
    HEALED = "healed"
    STILL_BAD = "still-bad"
    """The server took the upload, and keeps what it has: it must find that bad by itself first."""
    NOT_AT_SOURCE = "not-at-source"
    """The source does not have it any more, or has it damaged."""
    NOT_CHECKABLE = "not-checkable"
    """It is encrypted, and without the key nobody can say that the source's is right."""


@dataclass(slots=True)
class BadChunk:
    """A chunk that is damaged or missing at the target, by the digest that it has there.

    ``size`` is what the index says that it holds, in bytes; ``source_digest`` is its digest at the
    source, another one where it was encrypted on the way. ``spoils`` are the archives that need it.
    """

    digest: bytes
    size: int
    fault: Fault
    reason: str
    source_digest: bytes
    encrypted: bool
    spoils: list[tuple[CopyPlace, str]] = field(default_factory=list)
    healing: Healing = Healing.NOT_TRIED
    why: str = ""

    def __str__(self) -> str:
        return f"chunk {self.digest.hex()} at the target: {self.reason}"

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return {
            "digest": self.digest.hex(),
            "source-digest": self.source_digest.hex(),
            "size": self.size,
            "fault": self.fault,
            "reason": self.reason,
            "archives": [{**place.to_dict(), "filename": name} for place, name in self.spoils],
            "healing": self.healing.value,
            "healing-reason": self.why,
        }


@dataclass(slots=True)
class CopyChunks:
    """Distinct chunks of the target that were downloaded.

    ``ok``: content and digest are right. ``same``: encrypted, without a key, and byte for byte the
    source's. ``not_checked``: encrypted, without a key, and just the CRC-32 is right. ``known`` are
    all distinct chunks that there are in what was compared.
    """

    known: int = 0
    ok: int = 0
    same: int = 0
    not_checked: int = 0
    downloaded_bytes: int = 0

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return {
            "known": self.known,
            "ok": self.ok,
            "same": self.same,
            "not-checked": self.not_checked,
            "downloaded-bytes": self.downloaded_bytes,
        }


@dataclass(frozen=True, slots=True)
class ServerVerification:
    """The server's own verification of a group: its task, and what it says of the snapshots.

    ``status`` is how the task ended, None where it had not in time. ``not_done`` were left out by
    it (locked, say).
    """

    target_namespace: Namespace
    group: str
    upid: str
    status: str | None
    ok: int
    failed: tuple[int, ...]
    not_done: tuple[int, ...]

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return {
            "target-ns": str(self.target_namespace),
            "group": self.group,
            "upid": self.upid,
            "status": self.status,
            "ok": self.ok,
            "failed": list(self.failed),
            "not-done": list(self.not_done),
        }


class TargetReport:
    """What a verification of a target has found. Safe for threads while it runs.

    ``sides`` say what was compared with what. Snapshots that are equal are counted alone.
    ``seed`` is that of the sample, None without one. ``problems``
    are what could not be looked at, ``error`` is what ended all of it early.
    """

    def __init__(self, sides: Sides | None = None) -> None:
        self.sides = sides
        self.error: PbsPushError | None = None
        self.groups = 0
        self.seed: int | None = None
        self.sample: str | None = None
        self.counts: Counter[CopyVerdict] = Counter()
        self._results: dict[CopyPlace, CopyResult] = {}
        self._before: dict[CopyPlace, CopyResult] = {}
        self.chunks = CopyChunks()
        self.bad_chunks: list[BadChunk] = []
        self.server: list[ServerVerification] = []
        self.server_again: list[ServerVerification] = []
        self.problems: list[Problem] = []
        self.span: Span | None = None
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """How long it took."""
        return 0.0 if self.span is None else self.span.ended - self.span.began

    @property
    def results(self) -> list[CopyResult]:
        """What became of all snapshots but those that are equal; MOST_TARGET_ONLY of that kind."""
        with self._lock:
            return list(self._results.values())

    def add(self, result: CopyResult) -> None:
        """Count what became of a snapshot."""
        with self._lock:
            self.counts[result.verdict] += 1
            only_there = result.verdict is CopyVerdict.TARGET_ONLY
            if only_there and self.counts[result.verdict] > MOST_TARGET_ONLY:
                return
            if result.verdict is not CopyVerdict.EQUAL:
                self._results[result.place] = result

    def spoil(self, place: CopyPlace, difference: Difference) -> None:
        """A snapshot that seemed equal is damaged: a chunk of it is, or its server says so."""
        with self._lock:
            before = self._results.get(place, CopyResult(place, CopyVerdict.EQUAL))
            if before.verdict is not CopyVerdict.DAMAGED:
                self._before[place] = before
            different = before.verdict is CopyVerdict.DIFFERENT
            verdict = before.verdict if different else CopyVerdict.DAMAGED
            self.counts[before.verdict] -= 1
            self.counts[verdict] += 1
            differences = (*before.differences, difference)
            self._results[place] = CopyResult(place, verdict, differences)

    def prove(self, place: CopyPlace) -> None:
        """What could not be compared was proved by its chunks: the snapshot is equal."""
        with self._lock:
            found = self._results.get(place)
            if found is not None and found.verdict is CopyVerdict.NOT_CHECKED:
                del self._results[place]
                self.counts[CopyVerdict.NOT_CHECKED] -= 1
                self.counts[CopyVerdict.EQUAL] += 1

    def mend(self, place: CopyPlace) -> None:
        """A damaged snapshot is whole again: what it was found to be before counts."""
        with self._lock:
            damaged, before = self._results.get(place), self._before.get(place)
            if damaged is None or before is None or damaged.verdict is not CopyVerdict.DAMAGED:
                return
            self.counts[CopyVerdict.DAMAGED] -= 1
            self.counts[before.verdict] += 1
            if before.verdict is CopyVerdict.EQUAL:
                del self._results[place]
            else:
                self._results[place] = before

    def add_problem(self, problem: Problem) -> None:
        """Count what could not be looked at."""
        drop_frames(problem.error)
        with self._lock:
            self.problems.append(problem)

    def of(self, verdict: CopyVerdict) -> Iterator[CopyResult]:
        """The results with one verdict (none with EQUAL: these are counted alone)."""
        return (result for result in self.results if result.verdict is verdict)

    @property
    def unhealed(self) -> list[BadChunk]:
        """The bad chunks that are still bad."""
        return [one for one in self.bad_chunks if one.healing is not Healing.HEALED]

    @property
    def differs(self) -> bool:
        """Whether anything was found that somebody has to look at."""
        return bool(
            self.problems
            or self.unhealed
            or any(self.counts[verdict] for verdict in FAILING)
            or any(one.status is None or one.not_done for one in (*self.server, *self.server_again))
        )

    @property
    def exit_status(self) -> int:
        """0: equal; 3: something differs, or is damaged; else that of the error that ended it."""
        if self.error is not None:
            return self.error.exit_status
        return EXIT_DIFFERENT if self.differs else 0

    def to_dict(self) -> Json:
        """The document that ``pbs-push verify --target --json`` prints (docs/json.md)."""
        return {
            **head("verify-target", self.sides, self.exit_status, self.error, self.span),
            "seconds": round(self.seconds, 3),
            "groups": self.groups,
            "snapshots": {verdict.value: self.counts[verdict] for verdict in CopyVerdict},
            "sample": self.sample,
            "seed": self.seed,
            "chunks": self.chunks.to_dict(),
            "results": [result.to_dict() for result in self.results],
            "bad-chunks": [chunk.to_dict() for chunk in self.bad_chunks],
            "server-verification": [one.to_dict() for one in self.server],
            "server-verification-after-healing": [one.to_dict() for one in self.server_again],
            "problems": [problem.to_dict() for problem in self.problems],
        }
