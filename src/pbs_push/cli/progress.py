"""How far a push is, from its events; and telling it line by line, for logs and pipes."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, Self

from pbs_push.cli.event_lines import Importance, describe, snapshot_label
from pbs_push.cli.lines import say
from pbs_push.names import Namespace, Snapshot
from pbs_push.push.events import (
    Event,
    Planned,
    SnapshotEnded,
    SnapshotProgress,
    SnapshotStarted,
)
from pbs_push.push.outcome import Outcome, Result
from pbs_push.source.items import SourceSnapshot

_SMOOTHING_S: Final = 4.0
"""The shown rate follows changes within about this time."""
_LEAST_SAMPLE_S: Final = 0.2
_LEAST_DONE: Final = 0.01
"""Less than this done says nothing about the rest."""

_Key = tuple[Namespace, Snapshot]


@dataclass(slots=True)
class _Active:
    """A snapshot that is being pushed. A second try counts its bytes anew: ``earlier`` are the
    first one's."""

    label: str
    began: float
    sent_bytes: int = 0
    earlier: int = 0
    done: int = 0
    known: int = 0

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1."""
        return self.done / self.known if self.known else 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """A snapshot being pushed, for the display: ``share`` of it is done, 0 to 1."""

    label: str
    share: float
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class View:
    """A push at one moment. ``remaining_s`` is None as long as it cannot be told."""

    planned: int | None
    ended: int
    failed: int
    sent_bytes: int
    rate_bytes_per_s: float
    remaining_s: float | None
    rows: tuple[Row, ...]


class PushState:
    """What is known of a push while it runs. Safe for threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._planned: int | None = None
        self._began = clock()
        self._ended = 0
        self._failed = 0
        self._ended_bytes = 0
        self._active: dict[_Key, _Active] = {}
        self._rate = 0.0
        self._sampled: tuple[float, int] | None = None

    def take(self, event: Event) -> float:
        """Learn from an event. Returns how long the snapshot took, for the end of one."""
        with self._lock:
            match event:
                case Planned(snapshots=snapshots):
                    self._planned = snapshots
                    self._began = self._clock()
                case SnapshotStarted(snapshot=item, target=target):
                    label = snapshot_label(item, target)
                    self._active[_key(item)] = _Active(label, self._clock())
                case SnapshotProgress():
                    self._progress(event)
                case SnapshotEnded(outcome=outcome):
                    return self._end(outcome)
        return 0.0

    def view(self) -> View:
        """The present state, for a display; sampling the rate is part of it."""
        with self._lock:
            now = self._clock()
            sent = self._ended_bytes + sum(item.sent_bytes for item in self._active.values())
            return View(
                self._planned,
                self._ended,
                self._failed,
                sent,
                self._sample_rate(now, sent),
                self._remaining(now),
                tuple(
                    Row(item.label, item.share, item.sent_bytes) for item in self._active.values()
                ),
            )

    def _progress(self, event: SnapshotProgress) -> None:
        item = self._active.get(_key(event.snapshot))
        if item is None:
            return
        if item.earlier + event.sent_bytes < item.sent_bytes:
            item.earlier = item.sent_bytes
        item.sent_bytes = item.earlier + event.sent_bytes
        item.done, item.known = event.chunks_done, event.chunks_known

    def _end(self, outcome: Outcome) -> float:
        item = self._active.pop((outcome.namespace, Snapshot(outcome.group, outcome.oldest)), None)
        if item is None:
            return 0.0  # settled by the plan
        self._ended += 1
        self._failed += outcome.result is Result.FAILED
        self._ended_bytes += max(item.sent_bytes, outcome.stats.sent_bytes)
        return self._clock() - item.began

    def _sample_rate(self, now: float, sent: int) -> float:
        if self._sampled is None:
            self._sampled = (self._began, 0)
        since, before = self._sampled
        elapsed = now - since
        if elapsed < _LEAST_SAMPLE_S:
            return self._rate
        latest = (sent - before) / elapsed
        weight = 1.0 if before == 0 else 1 - math.exp(-elapsed / _SMOOTHING_S)
        self._rate += weight * (latest - self._rate)
        self._sampled = (now, sent)
        return self._rate

    def _remaining(self, now: float) -> float | None:
        """By snapshots, each counting the same, and the chunks of those being pushed."""
        if not self._planned:
            return None
        done = self._ended + sum(item.share for item in self._active.values())
        share = min(done / self._planned, 1.0)
        if share < _LEAST_DONE:
            return None
        return (now - self._began) * (1 - share) / share


def _key(item: SourceSnapshot) -> _Key:
    return item.namespace, item.snapshot


class Progress(Protocol):
    """Shows a push while it runs: a listener, and a context that ends the display."""

    def __call__(self, event: Event) -> None:
        """Take an event."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(self, *_: object) -> None:
        """End the display."""


class LineProgress:
    """Tells a push line by line, as far as ``shown`` goes."""

    def __init__(self, shown: Importance, write: Callable[[str], None] = say) -> None:
        self._shown = shown
        self._write = write
        self._state = PushState()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        line = describe(event, self._state.take(event))
        if line is not None and line.importance <= self._shown:
            self._write(line.text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass
