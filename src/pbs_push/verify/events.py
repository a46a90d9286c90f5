"""What a verification tells while it runs: values for a progress callback.

The callback is called from the thread that the verification runs in, and must return quickly. An
exception that it raises ends the verification.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pbs_push.push.events import Note
from pbs_push.source.items import SourceSnapshot
from pbs_push.verify.report import ChunkDamage, FileDamage, Verdict


@dataclass(frozen=True, slots=True)
class VerifyBegan:
    """What is to be looked at is known; an earlier run has checked ``resumed`` chunks of it."""

    groups: int
    snapshots: int
    resumed: int


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """Chunks checked so far, how many are known to be there, and bytes read and plain."""

    chunks_done: int
    chunks_known: int
    read_bytes: int
    plain_bytes: int


@dataclass(frozen=True, slots=True)
class DamageFound:
    """A damaged file, or chunk: the first time that it is met."""

    damage: ChunkDamage | FileDamage


@dataclass(frozen=True, slots=True)
class SnapshotVerified:
    """What is known of a snapshot now."""

    snapshot: SourceSnapshot
    verdict: Verdict


VerifyEvent = VerifyBegan | VerifyProgress | DamageFound | SnapshotVerified | Note
VerifyListener = Callable[[VerifyEvent], None]
