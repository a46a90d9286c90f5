"""What the page of a push shows and its report does not know: the rate over time, and how long each
group took. Made from events."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from pbs_push.cli.progress import PushState
from pbs_push.names import Group, Namespace
from pbs_push.push.events import Event, SnapshotEnded, SnapshotStarted

_MOST: Final = 400
"""Samples kept; then every second one goes, and they are taken half as often."""
_FIRST_EVERY_S: Final = 0.25

Key = tuple[Namespace, Group]


class Sampling:
    """A listener that keeps samples: seconds since the begin, and bytes sent until then."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._state = PushState(clock)
        self._every_s = _FIRST_EVERY_S
        self._over = False
        self._started: dict[Key, float] = {}
        self.seconds: Final[defaultdict[Key, float]] = defaultdict(float)
        """How long snapshots of each group were pushed."""
        self.samples: Final[list[tuple[float, int]]] = [(0.0, 0)]

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if self._over:  # what was interrupted may still be on its way
            return
        self._state.take(event)
        now = self._clock()
        match event:
            case SnapshotStarted(snapshot=item):
                self._started[(item.namespace, item.snapshot.group)] = now
            case SnapshotEnded(outcome=outcome):
                key = (outcome.namespace, outcome.group)
                self.seconds[key] += now - self._started.pop(key, now)
        if now - self._began - self.samples[-1][0] >= self._every_s:
            self._sample(now)

    def end(self) -> None:
        """Take the last sample; nothing is heard after it."""
        self._over = True
        self._sample(self._clock())

    def _sample(self, now: float) -> None:
        self.samples.append((now - self._began, self._state.view().sent_bytes))
        if len(self.samples) > _MOST:
            self._every_s *= 2
            del self.samples[1:-1:2]
