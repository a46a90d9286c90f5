"""How far a push is, from its events; and telling it line by line, for logs and pipes."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from pbs_push.cli.event_lines import Importance, Line, describe, snapshot_label, tell
from pbs_push.cli.timed_lines import Shown
from pbs_push.names import Namespace, Snapshot
from pbs_push.push.events import (
    Estimated,
    Event,
    Planned,
    SnapshotEnded,
    SnapshotProgress,
    SnapshotStarted,
)
from pbs_push.push.outcome import LEFT, Outcome, Result
from pbs_push.source.items import SourceSnapshot
from pbs_push.units import counted, duration_text, rate_text, size_text

_SMOOTHING_S: Final = 4.0
"""The shown rate follows changes within about this time."""
_REST_SMOOTHING_S: Final = 30.0
"""The same for what tells the time that is left."""
_LEAST_SAMPLE_S: Final = 0.2
_LEAST_DONE: Final = 0.01
"""Less than this done says nothing about the rest."""
_A_MOMENT_S: Final = 10
_EACH: Final = 1 << 18
"""What a snapshot costs beside its chunks, as if it were so many bytes more."""

_Key = tuple[Namespace, Snapshot]


@dataclass(slots=True)
class _Active:
    """A snapshot that is being pushed. A second try counts its bytes anew: ``earlier`` are the
    first one's. ``size`` is what it has to send, in plain bytes, None if nothing tells."""

    label: str
    began: float
    size: int | None = None
    sent_bytes: int = 0
    earlier: int = 0
    done: int = 0
    known: int = 0

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1."""
        return min(self.done / self.known, 1.0) if self.known else 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """A snapshot being pushed, for the display: ``share`` of it is done, 0 to 1."""

    label: str
    share: float
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class View:
    """A push at one moment. ``remaining_s`` is None as long as it cannot be told.

    ``share`` of all is done, 0 to 1. ``to_send`` are the plain bytes that are to be sent in all,
    None as long as not all snapshots were looked at; not ``exact``, they are the most.
    """

    planned: int | None
    ended: int
    failed: int
    sent_bytes: int
    rate_bytes_per_s: float
    remaining_s: float | None
    rows: tuple[Row, ...]
    share: float = 0.0
    to_send: int | None = None
    exact: bool = True


class _Work:
    """How much there is to do, and was done, in bytes; each snapshot costs ``_EACH`` beside.

    What is not known of a snapshot is taken for the mean of those that are.
    """

    def __init__(self) -> None:
        self.planned = 0
        self.exact = True
        self._sizes: dict[_Key, int] = {}
        self._sum = 0
        self._ended = 0
        self._ended_known = 0
        self._ended_bytes = 0

    def learn(self, key: _Key, size: int) -> None:
        """So many plain bytes are to be sent of a snapshot that has not ended."""
        self._sum += size - self._sizes.get(key, 0)
        self._sizes[key] = size

    def end(self, key: _Key, size: int | None) -> None:
        """A snapshot has ended; ``size`` is what was sent of it, if it was not known before."""
        if key in self._sizes:
            size = self._sizes.pop(key)
            self._sum -= size
        self._ended += 1
        if size is not None:
            self._ended_known += 1
            self._ended_bytes += size

    def drop(self, outcome: Outcome) -> None:
        """Snapshots that were planned are not tried."""
        self.planned -= outcome.count
        for key in [key for key in self._sizes if _is_of(key, outcome)]:
            self._sum -= self._sizes.pop(key)

    def size(self, key: _Key) -> float:
        """What a snapshot is, or is taken for."""
        size = self._sizes.get(key)
        return self._mean if size is None else size

    @property
    def _mean(self) -> float:
        known = self._ended_known + len(self._sizes)
        return (self._ended_bytes + self._sum) / known if known else 0.0

    @property
    def to_send(self) -> int | None:
        """All plain bytes, None if a snapshot is not known."""
        if self._ended_known + len(self._sizes) < self.planned:
            return None
        return self._ended_bytes + self._sum

    def done(self, active: Mapping[_Key, _Active]) -> tuple[float, float]:
        """What is done, and what there is in all."""
        mean = self._mean
        unknown = max(0, self.planned - self._ended_known - len(self._sizes))
        total = self._ended_bytes + self._sum + unknown * mean
        done = self._ended_bytes + (self._ended - self._ended_known) * mean
        done += self._ended * _EACH
        done += sum(one.share * (self.size(key) + _EACH) for key, one in active.items())
        return done, total + self.planned * _EACH


def _is_of(key: _Key, outcome: Outcome) -> bool:
    namespace, snapshot = key
    return (namespace, snapshot.group) == (
        outcome.namespace,
        outcome.group,
    ) and outcome.oldest <= snapshot.backup_time <= outcome.newest


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
        self._work = _Work()
        self._rate = 0.0
        self._sampled: tuple[float, int] | None = None
        self._pace = _Pace()

    def take(self, event: Event) -> float:
        """Learn from an event. Returns how long the snapshot took, for the end of one."""
        with self._lock:
            match event:
                case Planned(snapshots=snapshots):
                    self._planned = self._work.planned = snapshots
                    self._began = self._clock()
                case SnapshotStarted(snapshot=item, target=target):
                    label = snapshot_label(item, target)
                    self._active[_key(item)] = _Active(label, self._clock())
                case SnapshotProgress():
                    self._progress(event)
                case Estimated(snapshot=item, plain_bytes=size, exact=exact):
                    self._estimated(_key(item), size, exact=exact)
                case SnapshotEnded(outcome=outcome):
                    return self._end(outcome)
        return 0.0

    def view(self) -> View:
        """The present state, for a display; sampling the rates is part of it."""
        with self._lock:
            now = self._clock()
            sent = self._ended_bytes + sum(item.sent_bytes for item in self._active.values())
            done, total = self._work.done(self._active)
            return View(
                self._planned,
                self._ended,
                self._failed,
                sent,
                self._sample_rate(now, sent),
                self._remaining(now, done, total),
                tuple(
                    Row(item.label, item.share, item.sent_bytes) for item in self._active.values()
                ),
                min(done / total, 1.0) if total else 0.0,
                self._work.to_send,
                self._work.exact,
            )

    def _estimated(self, key: _Key, size: int, *, exact: bool) -> None:
        self._work.learn(key, size)
        self._work.exact = self._work.exact and exact

    def _progress(self, event: SnapshotProgress) -> None:
        key = _key(event.snapshot)
        item = self._active.get(key)
        if item is None:
            return
        if item.earlier + event.sent_bytes < item.sent_bytes:
            item.earlier = item.sent_bytes
        item.sent_bytes = item.earlier + event.sent_bytes
        item.done, item.known = event.chunks_done, event.chunks_known
        if event.plain_bytes:
            self._work.learn(key, event.plain_bytes)

    def _end(self, outcome: Outcome) -> float:
        key = (outcome.namespace, Snapshot(outcome.group, outcome.oldest))
        item = self._active.pop(key, None)
        if item is None:
            if outcome.skip in LEFT:
                self._work.drop(outcome)
            return 0.0  # settled by the plan, or never begun
        self._ended += 1
        self._failed += outcome.result is Result.FAILED
        self._ended_bytes += max(item.sent_bytes, outcome.stats.sent_bytes)
        pushed = outcome.result is Result.PUSHED
        self._work.end(key, outcome.stats.sent_plain_bytes if pushed else None)
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

    def _remaining(self, now: float, done: float, total: float) -> float | None:
        if not self._planned or not total:
            return None
        pace = self._pace.at(now - self._began, done)
        if done / total < _LEAST_DONE or pace <= 0:
            return None
        return max(0.0, total - done) / pace


class _Pace:
    """How much is done in a second, over the last half minute or so, and all of the first."""

    def __init__(self) -> None:
        self._last_s = self._last_done = 0.0
        self._seconds = self._done = 0.0

    def at(self, seconds: float, done: float) -> float:
        """So much is done by now."""
        elapsed = seconds - self._last_s
        fades = math.exp(-elapsed / _REST_SMOOTHING_S)
        time_s = self._seconds * fades + elapsed
        work = self._done * fades + (done - self._last_done)
        if elapsed >= _LEAST_SAMPLE_S:
            self._seconds, self._done = time_s, work
            self._last_s, self._last_done = seconds, done
        return work / time_s if time_s else 0.0


def _key(item: SourceSnapshot) -> _Key:
    return item.namespace, item.snapshot


Progress = Shown[Event]


class LineProgress:
    """Tells a push line by line, as far as ``shown`` goes, and every ``every_s`` how far it is."""

    def __init__(
        self,
        shown: Importance,
        write: Callable[[str], None] | None = None,
        *,
        every_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shown = shown
        self._write = write
        self._every_s = every_s
        self._state = PushState(clock)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="progress", daemon=True)

    def __call__(self, event: Event) -> None:
        """Take an event."""
        line = describe(event, self._state.take(event))
        if line is not None and line.importance <= self._shown:
            tell(line, self._write)

    def __enter__(self) -> Self:
        if self._shown >= Importance.LOG:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _tell(self) -> None:
        while not self._over.wait(self._every_s):
            view = self._state.view()
            if view.planned:
                tell(Line(Importance.LOG, summary(view)), self._write)


def summary(view: View) -> str:
    """How far a push is, in one line."""
    words = [
        f"{view.share:.0%}",
        f"{view.ended} of {counted(view.planned or 0, 'snapshot')}",
        f"{size_text(view.sent_bytes)} sent",
        rate_text(view.rate_bytes_per_s),
    ]
    if view.failed:
        words.insert(2, f"{view.failed} failed")
    if view.remaining_s is not None:
        soon = view.remaining_s < _A_MOMENT_S
        words.append("a moment left" if soon else f"about {duration_text(view.remaining_s)} left")
    return " · ".join(words)
