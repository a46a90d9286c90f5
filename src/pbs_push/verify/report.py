"""What a verification of a source has found, and the exit status that follows."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pbs_push.errors import Fault, PbsPushError
from pbs_push.names import Namespace
from pbs_push.push.document import Json, Span, head
from pbs_push.source.items import SourceSnapshot

EXIT_DAMAGE: Final = 3


class Verdict(enum.Enum):
    """What is known of a snapshot behind its verification; the value is its name in documents."""

    OK = "ok"
    """Each file and each chunk is what it should be."""
    NOT_CHECKED = "not-checked"
    """No damage was found, but some of it is encrypted, and without the key cannot be checked."""
    DAMAGED = "damaged"
    IN_PROGRESS = "in-progress"
    """It has no manifest (yet), which is not damage."""
    VANISHED = "vanished"
    """It was removed meanwhile, which is not damage either."""
    LOCKED = "locked"
    """Somebody writes or removes it, and did so when it was looked at again."""


@dataclass(frozen=True, slots=True)
class Place:
    """An archive of a snapshot."""

    snapshot: SourceSnapshot
    filename: str

    def __str__(self) -> str:
        return f"{self.filename} of {self.snapshot.label}"

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return {**_snapshot_dict(self.snapshot), "filename": self.filename}


@dataclass(frozen=True, slots=True)
class FileDamage:
    """A manifest, index or blob that is damaged: ``fault`` in a word, ``reason`` in words."""

    place: Place
    fault: Fault
    reason: str

    def __str__(self) -> str:
        return f"{self.place.snapshot.label}: {self.reason}"

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return {**self.place.to_dict(), "fault": self.fault, "reason": self.reason}


@dataclass(slots=True)
class ChunkDamage:
    """A chunk that is damaged or missing.

    ``path`` is where it lies, ``size`` what the index says that it holds, in bytes. ``places`` are
    all archives that need it: it spoils each of their snapshots.
    """

    digest_hex: str
    path: str
    size: int
    fault: Fault
    reason: str
    places: list[Place] = field(default_factory=list)

    def __str__(self) -> str:
        return f"chunk {self.digest_hex}: {self.reason} ({self.path})"

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return {
            "digest": self.digest_hex,
            "path": self.path,
            "size": self.size,
            "fault": self.fault,
            "reason": self.reason,
            "archives": [place.to_dict() for place in self.places],
        }


@dataclass(frozen=True, slots=True)
class Unlisted:
    """What could not be listed, or cannot be a snapshot at all: ``what``, and ``why``."""

    what: str
    why: str

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return {"what": self.what, "why": self.why}


@dataclass(frozen=True, slots=True)
class ChunkCounts:
    """Distinct chunks: those that are right, those that cannot be checked, those that are damaged.

    ``resumed`` are those of both kinds that an earlier run has checked. ``read_bytes`` were read by
    this one, which hold ``plain_bytes``.
    """

    ok: int = 0
    not_checked: int = 0
    damaged: int = 0
    resumed: int = 0
    read_bytes: int = 0
    plain_bytes: int = 0

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return {
            "ok": self.ok,
            "not-checked": self.not_checked,
            "damaged": self.damaged,
            "resumed": self.resumed,
            "read-bytes": self.read_bytes,
            "plain-bytes": self.plain_bytes,
        }


class VerifyReport:
    """What a verification has found. Complete when that has ended; one thread writes it.

    ``source`` is the datastore's path. ``verdicts`` counts snapshots, ``not_ok`` names those that
    are neither ok nor in progress. ``files_not_checked`` are blobs that are encrypted, without the
    key for them. ``span`` is from when to when it ran. ``error`` is what ended all of it early.
    """

    def __init__(self, source: str, namespace: Namespace) -> None:
        self.source = source
        self.namespace = namespace
        self.error: PbsPushError | None = None
        self.groups = 0
        self.verdicts: Counter[Verdict] = Counter()
        self.not_ok: list[tuple[SourceSnapshot, Verdict]] = []
        self.chunks = ChunkCounts()
        self.files_not_checked = 0
        self.damaged_files: list[FileDamage] = []
        self.damaged_chunks: list[ChunkDamage] = []
        self.unlisted: list[Unlisted] = []
        self.span: Span | None = None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return 0.0 if self.span is None else self.span.ended - self.span.began

    def add(self, item: SourceSnapshot, verdict: Verdict) -> None:
        """Count a snapshot."""
        self.verdicts[verdict] += 1
        if verdict not in (Verdict.OK, Verdict.IN_PROGRESS):
            self.not_ok.append((item, verdict))

    @property
    def damaged(self) -> bool:
        """Whether any damage was found."""
        return bool(self.damaged_files or self.damaged_chunks or self.unlisted)

    @property
    def exit_status(self) -> int:
        """0: no damage; 3: damage; else that of the error that ended it (docs/exit-status.md)."""
        if self.error is not None:
            return self.error.exit_status
        return EXIT_DAMAGE if self.damaged else 0

    def spoiled(self) -> Iterator[SourceSnapshot]:
        """The snapshots that damage touches."""
        return (item for item, verdict in self.not_ok if verdict is Verdict.DAMAGED)

    def to_dict(self) -> Json:
        """The document that ``pbs-push verify --json`` prints (docs/json.md)."""
        return {
            **head("verify", None, self.exit_status, self.error, self.span),
            "source": {"datastore": self.source, "ns": str(self.namespace)},
            "seconds": round(self.seconds, 3),
            "groups": self.groups,
            "snapshots": {verdict.value: self.verdicts[verdict] for verdict in Verdict},
            "chunks": self.chunks.to_dict(),
            "files-not-checked": self.files_not_checked,
            "damaged-chunks": [damage.to_dict() for damage in self.damaged_chunks],
            "damaged-files": [damage.to_dict() for damage in self.damaged_files],
            "unlisted": [one.to_dict() for one in self.unlisted],
            "not-ok": [
                {**_snapshot_dict(item), "verdict": verdict.value} for item, verdict in self.not_ok
            ],
        }


def _snapshot_dict(item: SourceSnapshot) -> Json:
    return {
        "ns": str(item.namespace),
        "group": str(item.snapshot.group),
        "backup-time": item.snapshot.backup_time,
    }
