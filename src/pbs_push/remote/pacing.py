"""One rate limit for all connections of a push: a token bucket, and a lane to it for each."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GRANTS_PER_SECOND: Final = 50
"""Shares are this part of a second's worth at most: no connection keeps the others waiting long."""

PIECE_BYTES: Final = 256 << 10
"""Of content that goes over REST, at most."""
LONGEST_PAUSE_S: Final = 0.2
"""Then it is looked whether the push was cancelled."""

RECORD_BYTES: Final = 16 << 10
RECORD_OVERHEAD: Final = 22
"""What TLS 1.3 adds to each record: its header, the content type, a tag (RFC 8446, 5.2)."""


def encrypted_size(count: int) -> int:
    """What so many bytes, written at once, are on the wire."""
    return count + -(-count // RECORD_BYTES) * RECORD_OVERHEAD


class Pacer:
    """Lets ``rate`` bytes a second through, in bursts of at most ``burst`` bytes after a pause.

    The bucket is empty at first, and may go into debt. Safe for threads.
    """

    def __init__(
        self,
        rate: int,
        burst: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        # Less than a share would cost each record's overhead for a few bytes.
        self._burst = max(float(burst if burst is not None else rate), rate / GRANTS_PER_SECOND)
        self._clock = clock
        self._lock = threading.Lock()
        self._level = 0.0
        self._filled_at = clock()
        self.largest_share: Final = int(max(1.0, min(rate / GRANTS_PER_SECOND, self._burst)))

    def lane(self) -> Lane:
        """The way to this bucket of one connection."""
        return Lane(self, self._clock)

    def take(self, count: int) -> float:
        """Take bytes out (or give back, where negative). Returns when they may be sent, by the
        clock: who takes first goes first, as all that was taken before is waited for."""
        with self._lock:
            now = self._clock()
            self._level += (now - self._filled_at) * self._rate
            self._level = min(self._burst, self._level) - count
            self._filled_at = now
            return now + max(0.0, -self._level / self._rate)


class Paced:
    """Content that is given out in pieces, as fast as ``pacer`` lets it; at once without one.

    May be gone through again, as for a request that is sent again. ``check_cancelled`` is called
    before each piece and may raise.
    """

    def __init__(
        self, content: bytes, pacer: Pacer | None, check_cancelled: Callable[[], None]
    ) -> None:
        self._content = content
        self._pacer = pacer
        self._check_cancelled = check_cancelled

    def __len__(self) -> int:
        return len(self._content)

    def __iter__(self) -> Iterator[bytes]:
        lane = None if self._pacer is None else self._pacer.lane()
        at = 0
        while at < len(self._content):
            self._check_cancelled()
            allowed, pause_s = PIECE_BYTES, 0.0
            if lane is not None:
                allowed, pause_s = lane.allowance(PIECE_BYTES)
            if not allowed:
                time.sleep(min(pause_s, LONGEST_PAUSE_S))
                continue
            piece = self._content[at : at + allowed]
            at += len(piece)
            if lane is not None:
                lane.sent(encrypted_size(len(piece)))
            yield piece


class Lane:
    """One connection's turns: it has a share reserved, waits until that is due, and sends it.

    A connection reserves one share at a time and each share is as large as the others', so they all
    get the same. Used by one thread.
    """

    def __init__(self, pacer: Pacer, clock: Callable[[], float]) -> None:
        self._pacer = pacer
        self._clock = clock
        self._reserved = 0
        self._due = 0.0

    def allowance(self, wanted: int) -> tuple[int, float]:
        """How many bytes may be sent now, and if none, seconds after which to ask again."""
        if not self._reserved:
            self._reserved = max(1, min(wanted, self._pacer.largest_share))
            self._due = self._pacer.take(self._reserved)
        pause_s = self._due - self._clock()
        return (0, pause_s) if pause_s > 0 else (self._reserved, 0.0)

    def sent(self, count: int) -> None:
        """Account for the bytes sent of the allowance: fewer (0 gives it back), or a few more."""
        self._pacer.take(count - self._reserved)
        self._reserved = 0
