"""How long something that is in the way is waited for."""

from __future__ import annotations

import random
from typing import Final

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_GROWTH: Final = 1.5


class Patience:
    """How long a held lock is waited for: pauses grow up to some seconds, ``limit_s`` in all.

    What was waited for counts anew when ``moved`` says that whoever holds it gets on.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._pause_s = _FIRST_PAUSE_S
        self.waited_s = 0.0

    def pause(self) -> float | None:
        """How long to wait now, in seconds; None if it was enough."""
        if self.waited_s >= self._limit_s:
            return None
        # Several that wait for the same lock should not come at the same moments.
        pause_s = self._pause_s * random.uniform(0.8, 1.2)  # noqa: S311
        pause_s = min(pause_s, self._limit_s - self.waited_s)
        self._pause_s = min(self._pause_s * _GROWTH, _LONGEST_PAUSE_S)
        self.waited_s += pause_s
        return pause_s

    def moved(self) -> None:
        """The lock is held, but something happens behind it."""
        self.waited_s = 0.0
