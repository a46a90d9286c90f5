"""When a target takes the first bytes of HTTP/2; found out once for each target.

A real server takes them right behind the upgrade request, which saves a round trip of every
snapshot. Others lose what comes before they have answered, or right after
(protocol/backup.md, "Early requests", "Other servers").
"""

from __future__ import annotations

import threading
from enum import IntEnum


class Preface(IntEnum):
    """When HTTP/2 begins; each is the fallback of the one before."""

    WITH_REQUEST = 0
    """In one write with the upgrade request, before it is answered."""
    AFTER_ANSWER = 1
    """Right after the answer."""
    AFTER_PAUSE = 2
    """A little after the answer."""


class PrefaceHabit:
    """What is known of one target; safe for threads.

    The first session tries the quickest way; those that begin before it has told go the sure one,
    so that a target that cannot take it costs one connection.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._way = Preface.WITH_REQUEST
        self._known = False
        self._trying = False

    def choose(self) -> Preface:
        """How to begin the next session; tell afterwards what became of it."""
        with self._lock:
            if self._known or self._way is not Preface.WITH_REQUEST:
                return self._way
            if self._trying:
                return Preface.AFTER_ANSWER
            self._trying = True
            return self._way

    @property
    def way(self) -> Preface:
        """The quickest that has not failed."""
        return self._way

    def heard(self, way: Preface) -> None:
        """Others have found out that no quicker one works."""
        with self._lock:
            self._way = max(self._way, way)

    def took(self, way: Preface) -> None:
        """A session begun so was answered."""
        with self._lock:
            self._known |= way is self._way

    def refused(self, way: Preface) -> None:
        """The upgrade was refused, which tells nothing of what came behind it."""
        with self._lock:
            if way is Preface.WITH_REQUEST:
                self._trying = False

    def lost(self, way: Preface) -> bool:
        """Nothing was answered to a session begun so. True if another way may do."""
        with self._lock:
            if way < self._way:
                return True  # found out by another session meanwhile
            if self._known or way is Preface.AFTER_PAUSE:
                return False
            self._way = Preface(way + 1)
            return True
