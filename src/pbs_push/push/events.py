"""What a push tells while it runs: values for a progress callback.

The callback is called from the push's threads, one call at a time, and must return quickly. An
exception that it raises ends the push.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pbs_push.errors import PbsPushError
from pbs_push.names import Namespace, Repository
from pbs_push.push.outcome import Outcome
from pbs_push.source.items import SourceSnapshot


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be done is known: so many snapshots in so many groups."""

    groups: int
    snapshots: int


@dataclass(frozen=True, slots=True)
class NamespaceCreated:
    """A namespace was created at the target."""

    namespace: Namespace


@dataclass(frozen=True, slots=True)
class SnapshotStarted:
    """The push of a snapshot begins, into a target namespace."""

    snapshot: SourceSnapshot
    target: Namespace


@dataclass(frozen=True, slots=True)
class SnapshotProgress:
    """How far a snapshot is: bytes sent so far, chunks acknowledged, and how many there are to
    send, counting those of which it is not known yet whether the target has them. ``plain_bytes``
    is about what all of these hold."""

    snapshot: SourceSnapshot
    sent_bytes: int
    chunks_done: int
    chunks_known: int
    plain_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotEnded:
    """What became of a snapshot, or of several at once that were skipped."""

    outcome: Outcome


Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Note:
    """A line for people: something that was found and handled."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class Removal:
    """The target has removed something: a ``snapshot``, a ``group`` or a ``namespace``, by its name
    there; ``why`` it went."""

    kind: Literal["snapshot", "group", "namespace"]
    namespace: Namespace
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Retrying:
    """What failed is tried again in so many seconds, for the ``number``-th time."""

    what: str
    error: PbsPushError
    number: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """A part of a long snapshot was committed as a checkpoint of this ``time``; so many plain bytes
    are left to send."""

    snapshot: SourceSnapshot
    time: int
    left_bytes: int


@dataclass(frozen=True, slots=True)
class Estimated:
    """How much of a snapshot is to be sent: chunks, and plain bytes of them; ``exact``, or else at
    most so much. Told of those that wait, too (PushOptions.estimate)."""

    snapshot: SourceSnapshot
    chunks: int
    plain_bytes: int
    exact: bool


@dataclass(frozen=True, slots=True)
class SourceMarked:
    """How many snapshots of the source this push has protected so far until they are copied, and
    how many it has freed of such a mark (PushOptions.protect_source)."""

    protected: int
    freed: int


Event = (
    Planned
    | NamespaceCreated
    | SnapshotStarted
    | SnapshotProgress
    | SnapshotEnded
    | Note
    | Removal
    | Retrying
    | Checkpointed
    | Estimated
    | SourceMarked
)
Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class FromTarget:
    """An event of the push to one of several targets: its number, from 0 on, and what it is."""

    number: int
    target: Repository
    event: Event


FanOutListener = Callable[[FromTarget], None]
