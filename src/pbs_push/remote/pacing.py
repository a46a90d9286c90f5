"""One rate limit for all connections of a push: a token bucket, and a lane to it for each."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Terms:
    """What counts for a while: bytes a second (None: no limit), and in one burst after a pause."""

    rate: int | None
    burst: float
    largest_share: int

    @classmethod
    def of(cls, rate: int | None, burst: int | None) -> Terms:
        """Those of a rate; ``burst`` None is a second's worth."""
        if rate is None:
            return cls(None, 0.0, 0)
        # Less than a share would cost each record's overhead for a few bytes.
        most = max(float(burst if burst is not None else rate), rate / GRANTS_PER_SECOND)
        return cls(rate, most, int(max(1.0, min(rate / GRANTS_PER_SECOND, most))))


class Pacer:
    """Lets ``rate`` bytes a second through, in bursts of at most ``burst`` bytes after a pause.

    The bucket is empty at first, and may go into debt. With ``rate`` None everything goes through,
    until ``set_rate`` says otherwise. Safe for threads.
    """

    def __init__(
        self,
        rate: int | None,
        burst: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._asked_burst: Final = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._level = 0.0
        self._filled_at = clock()
        self.terms = Terms.of(rate, burst)
        """Those that count now; others are another object."""

    @property
    def rate(self) -> int | None:
        """Bytes a second; None: no limit."""
        return self.terms.rate

    def set_rate(self, rate: int | None) -> None:
        """From now on let so much through. What waits asks anew: shares that were reserved at the
        old rate, and are not due, are void, and so is the debt that they made."""
        with self._lock:
            if rate == self.terms.rate:
                return
            self._fill()
            self.terms = Terms.of(rate, self._asked_burst)
            self._level = min(self.terms.burst, max(0.0, self._level))

    def lane(self) -> Lane:
        """The way to this bucket of one connection."""
        return Lane(self, self._clock)

    def take(self, count: int, terms: Terms | None = None) -> float:
        """Take bytes out (or give back, where negative). Returns when they may be sent, by the
        clock: who takes first goes first, as all that was taken before is waited for. What was
        counted by other ``terms`` than those of now is not taken."""
        with self._lock:
            now = self._fill()
            if self.terms.rate is None or (terms is not None and terms is not self.terms):
                return now
            self._level = min(self.terms.burst, self._level) - count
            return now + max(0.0, -self._level / self.terms.rate)

    def _fill(self) -> float:
        """Let in what has come since the last time. Returns the present time."""
        now = self._clock()
        self._level += (now - self._filled_at) * (self.terms.rate or 0)
        self._filled_at = now
        return now


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
        self._terms = pacer.terms
        self._reserved = 0
        self._due = 0.0

    def allowance(self, wanted: int) -> tuple[int, float]:
        """How many bytes may be sent now, and if none, seconds after which to ask again.

        Ask again after ``LONGEST_PAUSE_S`` at the latest: the rate may be another one then.
        """
        self._see_terms()
        if self._terms.rate is None:
            return wanted, 0.0
        if not self._reserved:
            self._reserved = max(1, min(wanted, self._terms.largest_share))
            self._due = self._pacer.take(self._reserved, self._terms)
        pause_s = self._due - self._clock()
        return (0, pause_s) if pause_s > 0 else (self._reserved, 0.0)

    def sent(self, count: int) -> None:
        """Account for the bytes sent of the allowance: fewer (0 gives it back), or a few more."""
        self._see_terms()
        if self._terms.rate is not None:
            self._pacer.take(count - self._reserved, self._terms)
        self._reserved = 0

    def _see_terms(self) -> None:
        """Where the rate was changed, what was reserved is void."""
        if self._terms is not self._pacer.terms:
            self._terms = self._pacer.terms
            self._reserved = 0
