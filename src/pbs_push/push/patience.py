"""How long something that is in the way is waited for."""

from __future__ import annotations

import random
from typing import Final

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_GROWTH: Final = 1.5


class Pauses:
    """Pauses that grow from the first to the longest, each between two parts of that.

    So several that wait for the same thing do not come at the same moments.
    """

    def __init__(
        self, first_s: float, longest_s: float, growth: float, parts: tuple[float, float]
    ) -> None:
        self._now_s = first_s
        self._longest_s = longest_s
        self._growth = growth
        self._parts = parts

    def take(self) -> float:
        """The next one, in seconds."""
        pause_s = self._now_s * random.uniform(*self._parts)  # noqa: S311
        self._now_s = min(self._now_s * self._growth, self._longest_s)
        return pause_s


class Patience:
    """How long a held lock is waited for: pauses grow up to some seconds, ``limit_s`` in all.

    What was waited for counts anew when ``moved`` says that whoever holds it gets on.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._pauses = Pauses(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _GROWTH, (0.8, 1.2))
        self.waited_s = 0.0

    def pause(self) -> float | None:
        """How long to wait now, in seconds; None if it was enough."""
        if self.waited_s >= self._limit_s:
            return None
        pause_s = min(self._pauses.take(), self._limit_s - self.waited_s)
        self.waited_s += pause_s
        return pause_s

    def moved(self) -> None:
        """The lock is held, but something happens behind it."""
        self.waited_s = 0.0
