"""Memory that groups pushed at once share for chunks under way."""

from __future__ import annotations

import threading


class Room:
    """So many bytes for all transfers of a run; safe for threads."""

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._free = size
        self._holders = 0

    def claim(self, most: int) -> Claim:
        """A transfer's part, ``most`` bytes at most and nothing to begin with; close it."""
        return Claim(self, most)

    def _take(self, size: int, *, first: bool) -> bool:
        """Whoever holds nothing yet gets it also where it is too much, if nobody else has any."""
        with self._lock:
            if size > self._free and not (first and self._holders == 0):
                return False
            self._free -= size
            self._holders += first
            return True

    def _give_back(self, size: int) -> None:
        with self._lock:
            self._free += size
            self._holders -= 1


class Claim:
    """What one transfer holds; for one thread."""

    def __init__(self, room: Room, most: int) -> None:
        self._room = room
        self._most = most
        self._held = 0

    def reach(self, size: int) -> bool:
        """Hold ``size`` bytes, or as much as one may. False: there is no room now."""
        more = min(size, self._most) - self._held
        if more <= 0:
            return True
        if not self._room._take(more, first=self._held == 0):
            return False
        self._held += more
        return True

    def close(self) -> None:
        """Give it back."""
        if self._held:
            self._room._give_back(self._held)
            self._held = 0
