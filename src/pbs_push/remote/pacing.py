"""One rate limit for all connections of a push: a token bucket that threads share."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Pacer:
    """Lets ``rate`` bytes a second through, in bursts of at most ``burst`` bytes.

    Each connection asks for an ``allowance``, sends as much or a little more (a frame is not cut),
    and says how much with ``sent``; the bucket may go into debt, which the next ones wait for.
    Safe for threads.
    """

    def __init__(
        self,
        rate: int,
        burst: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._burst = burst if burst is not None else rate
        self._clock = clock
        self._lock = threading.Lock()
        self._level = 0.0
        self._filled_at = clock()

    def allowance(self, wanted: int) -> tuple[int, float]:
        """How many bytes may be sent now, and if none, seconds after which to ask again."""
        with self._lock:
            now = self._clock()
            self._level = min(
                float(self._burst), self._level + (now - self._filled_at) * self._rate
            )
            self._filled_at = now
            # Small shares, so that no connection takes a whole second's worth from the others.
            share = max(1.0, min(float(wanted), self._rate / 50))
            if self._level >= min(share, self._burst):
                self._level -= int(share)  # taken at once: others may ask before it is sent
                return int(share), 0.0
            return 0, max(0.001, (share - self._level) / self._rate)

    def sent(self, allowed: int, count: int) -> None:
        """Account for the bytes that were sent of an allowance: fewer, or a little more."""
        with self._lock:
            self._level -= count - allowed
