"""How long to let answers gather before they are taken.

A server answers each upload by itself, as it is done. With many small ones under way, waking up for
each answer costs more than all else (67 of 80 µs a chunk); a few milliseconds later a dozen have
come, and the server had enough to do meanwhile.
"""

from __future__ import annotations

from typing import Final

LEAST_OPEN: Final = 64
"""With fewer requests under way, the server might be through with them meanwhile."""
MOST_S: Final = 0.005
_PART: Final = 8
"""A pause is this part of the time that the server needs for what is under way."""
_LOOK_EVERY_S: Final = 0.01
_FAR: Final = 4
"""Where all that is under way takes less than so many round trips, the line is what is waited for,
and every pause would be lost."""


class Gathering:
    """Finds out how fast a server answers, from the numbers of a connection.

    ``pause_s`` is how long to sleep when something has come and there is nothing to send.
    """

    def __init__(self, round_trip_s: float) -> None:
        self._round_trip_s = round_trip_s
        self._since: float | None = None
        self._answered = 0
        self.pause_s = 0.0

    def note(self, requests: int, open_streams: int, now: float) -> None:
        """So many requests were made so far, and so many of them are not answered."""
        if open_streams < LEAST_OPEN:
            self._since, self.pause_s = None, 0.0
            return
        answered = requests - open_streams
        if self._since is None:
            self._since, self._answered = now, answered
            return
        elapsed_s = now - self._since
        if elapsed_s < _LOOK_EVERY_S:
            return
        due_s = open_streams * elapsed_s / max(1, answered - self._answered)
        far = due_s < _FAR * self._round_trip_s
        self.pause_s = 0.0 if far else min(MOST_S, due_s / _PART)
        self._since, self._answered = now, answered
