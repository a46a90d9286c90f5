"""What a verification of a target tells while it runs: values for a progress callback.

The callback is called from several threads, one at a time, and must return quickly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pbs_push.push.events import Note, Retrying
from pbs_push.verify.target_report import BadChunk, CopyResult, ServerVerification


@dataclass(frozen=True, slots=True)
class TargetVerifyBegan:
    """What is to be compared is known: groups, and snapshots that both sides have.

    ``seed`` is that of the sample, None without one.
    """

    groups: int
    snapshots: int
    seed: int | None


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """Chunks downloaded and checked so far, and their bytes."""

    chunks_done: int
    downloaded_bytes: int


@dataclass(frozen=True, slots=True)
class CopyCompared:
    """What became of a snapshot."""

    result: CopyResult


@dataclass(frozen=True, slots=True)
class BadChunkFound:
    """A chunk that is damaged or missing at the target: the first time that it is met."""

    chunk: BadChunk


@dataclass(frozen=True, slots=True)
class BadChunkTreated:
    """What became of a bad chunk that was sent again, or could not be."""

    chunk: BadChunk


@dataclass(frozen=True, slots=True)
class ServerVerifying:
    """The server verifies a group by itself; ``upid`` is its task."""

    group: str
    upid: str


@dataclass(frozen=True, slots=True)
class ServerVerified:
    """What came of it."""

    verification: ServerVerification


TargetVerifyEvent = (
    TargetVerifyBegan
    | CopyProgress
    | CopyCompared
    | BadChunkFound
    | BadChunkTreated
    | ServerVerifying
    | ServerVerified
    | Note
    | Retrying
)
TargetVerifyListener = Callable[[TargetVerifyEvent], None]
