"""Events and a clock for tests of what is shown."""

from __future__ import annotations

from pbs_push.errors import ChunkError
from pbs_push.names import Namespace, Snapshot
from pbs_push.push.events import SnapshotEnded, SnapshotProgress, SnapshotStarted
from pbs_push.push.outcome import Outcome, Result, Skip, TransferStats
from pbs_push.source.items import SourceSnapshot

MIB = 1 << 20


class Clock:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def item(text: str = "vm/100/2026-05-28T20:30:03Z", namespace: str = "") -> SourceSnapshot:
    return SourceSnapshot(
        Namespace.parse(namespace), Snapshot.parse(text), finished=True, protected=False
    )


def started(of: SourceSnapshot) -> SnapshotStarted:
    return SnapshotStarted(of, of.namespace)


def progress(of: SourceSnapshot, sent: int, done: int, known: int) -> SnapshotProgress:
    return SnapshotProgress(of, sent, done, known)


def pushed(of: SourceSnapshot, sent: int = 0, plain: int = 0) -> SnapshotEnded:
    stats = TransferStats(2, sent_bytes=sent, sent_plain_bytes=plain, reused_bytes=3 * MIB)
    return SnapshotEnded(Outcome.of(of.namespace, of.snapshot, Result.PUSHED, stats=stats))


def failed(of: SourceSnapshot) -> SnapshotEnded:
    error = ChunkError("ab" * 32, "/store/ab", "missing")
    return SnapshotEnded(Outcome.of(of.namespace, of.snapshot, Result.FAILED, error=error))


def skipped(of: SourceSnapshot, skip: Skip) -> SnapshotEnded:
    return SnapshotEnded(Outcome.of(of.namespace, of.snapshot, Result.SKIPPED, skip=skip))
