"""What became of single things: snapshots, removals, and what else was found or failed."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass
from typing import Final

from pbs_push.errors import PbsPushError
from pbs_push.names import Group, Namespace, Snapshot, format_backup_time, placed
from pbs_push.push.document import Json, dashed, key_of
from pbs_push.source.items import SourceSnapshot


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
    TOO_OLD = "older than what is asked for"
    NOT_KEPT = "passed over by the keep rules; it cannot be pushed later, when newer ones are there"
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
    OUT_OF_TIME = "left for the next push, since the time for this one is over"
    CHECKPOINT = "a checkpoint of a push, and no backup"
    NO_WORKER = "left for the next push, since no worker was left to push its group"
    NOT_TRIED = "an older snapshot of its group failed"


NEXT_TIME: Final = (Skip.OUT_OF_TIME, Skip.NO_WORKER)
"""Reasons that leave a snapshot to the next push though nothing failed."""
LEFT: Final = (Skip.NOT_TRIED, *NEXT_TIME)
"""All reasons that leave a snapshot to the next push."""


@dataclass(frozen=True, slots=True)
class TransferStats:
    """What the transfer of one snapshot, or of many, took.

    Chunks are distinct ones; ``sent_bytes`` are encoded, as on the wire, ``sent_plain_bytes`` and
    ``reused_bytes`` plain. ``reused_entries`` are index entries whose chunk did not have to be
    sent. ``sent_bytes`` and ``requests`` also count what was lost with a session that broke.
    ``entry_lists`` counts PUTs, ``fallbacks`` refusals that were answered by doing it
    the plain way, ``checkpoints`` the parts that were committed by themselves.
    Under ``verify_source`` ``unchecked_chunks`` were sent though nobody can tell whether they are
    what they should be, since they are encrypted and the key for them is not here; and so were
    ``unchecked_blobs``.
    """

    sent_chunks: int = 0
    sent_bytes: int = 0
    sent_plain_bytes: int = 0
    reused_entries: int = 0
    reused_bytes: int = 0
    requests: int = 0
    entry_lists: int = 0
    fallbacks: int = 0
    checkpoints: int = 0
    unchecked_chunks: int = 0
    unchecked_blobs: int = 0

    def to_dict(self) -> Json:
        """As in documents: ``sums`` of docs/json.md."""
        return dashed(asdict(self))

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
            self.checkpoints + other.checkpoints,
            self.unchecked_chunks + other.unchecked_chunks,
            self.unchecked_blobs + other.unchecked_blobs,
        )


class Settled(Exception):
    """There is nothing to push (any more): what became of the snapshot stands fixed.

    ``skip`` None: it is there already. ``newest`` is the target's newest one as it is now, where
    that was looked at.
    """

    def __init__(self, skip: Skip | None, detail: str = "", newest: int | None = None) -> None:
        super().__init__(detail)
        self.skip = skip
        self.detail = detail
        self.newest = newest

    def is_there(self, item: SourceSnapshot) -> bool:
        """Whether it is there, and nothing newer."""
        return self.skip is None and self.newest == item.snapshot.backup_time


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
    missing: int = 0
    """Of what is not newer than the target's newest: at least so many are not there, gaps."""

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

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        made: Json = {
            "ns": str(self.namespace),
            "target-ns": str(self.namespace if self.target is None else self.target),
            "group": str(self.group),
            "oldest": self.oldest,
            "newest": self.newest,
            "count": self.count,
            "result": self.result.value,
        }
        if self.skip is not None:
            made |= {"skip": key_of(self.skip), "reason": self.reason}
        if self.missing:
            made["missing"] = self.missing
        if self.error is not None:
            made["error"] = self.error.to_dict()
        if self.result is Result.PUSHED:
            made["sums"] = self.stats.to_dict()
        return made

    @property
    def reason(self) -> str:
        """Why a snapshot was skipped, as exactly as it is known; empty if it was not."""
        return self.detail or (self.skip.value if self.skip is not None else "")

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

    ``target`` is the target namespace, ``time`` that of the snapshot that it is about, if it is
    about one. ``text`` tells all of it, and what to do.
    """

    finding: Finding
    namespace: Namespace
    target: Namespace
    group: Group
    text: str
    time: int | None = None

    @property
    def label(self) -> str:
        """For messages: which group or snapshot, and where it lands."""
        name = str(self.group)
        if self.time is not None:
            name = f"{name}/{format_backup_time(self.time)}"
        return placed(self.namespace, self.target, name)

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return {
            "finding": key_of(self.finding),
            "ns": str(self.namespace),
            "target-ns": str(self.target),
            "group": str(self.group),
            "backup-time": self.time,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Removals that were asked for and did not happen, for a reason that no rule gives.

    ``what`` would go, of the target, and stays because of ``why``.
    """

    what: str
    why: str

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return asdict(self)

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

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return dashed(asdict(self))


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that failed and is not one snapshot: a namespace, a group, a removal."""

    what: str
    error: PbsPushError

    def to_dict(self) -> Json:
        """As in documents (docs/json.md)."""
        return {"what": self.what, "error": self.error.to_dict()}
