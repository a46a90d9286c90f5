"""How long a target is waited for that does not get on (protocol/push.md, "Waiting")."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

from pbs_push.errors import ConfigError

CONNECT_TIMEOUT_S: Final = 30.0
LONGEST_TIMEOUT_S: Final = 86_400.0
LEAST_RATE: Final = 64
"""Bytes a second that count as getting on: a line so slow that several requests share 2 KiB/s."""
LEAST_BYTES: Final = 4096
"""Bytes within a limit that always do, however long it is."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds without progress after which each phase is given up; ``of`` makes them of one."""

    connect_s: float = CONNECT_TIMEOUT_S
    """Until a connection is made and trusted: TCP and TLS, all addresses of a host together."""
    upgrade_s: float = 120.0
    """The server may wait for locks, and answers bad credentials some seconds late."""
    answer_s: float = 300.0
    """A REST request, logging in too."""
    removal_s: float = 900.0
    """A REST request that removes: a large group or namespace takes a server minutes."""
    session_s: float = 900.0
    """A backup session: closing an index or ``finish`` may sync a file system before it answers; a
    dead peer is noticed by TCP long before."""

    @classmethod
    def of(cls, timeout_s: float | None) -> Limits:
        """One limit for all phases; a connection never gets more than usual. None: the defaults.

        Raises ConfigError unless it is more than 0 seconds and at most a day.
        """
        if timeout_s is None:
            return cls()
        whole = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
        if not whole or not math.isfinite(timeout_s) or not 0 < timeout_s <= LONGEST_TIMEOUT_S:
            raise ConfigError("timeout: must be more than 0 seconds, and at most a day")
        connect_s = min(timeout_s, CONNECT_TIMEOUT_S)
        return cls(connect_s, timeout_s, timeout_s, timeout_s, timeout_s)


class Stall:
    """Counts how long a target was waited for since it got on last.

    What is done here meanwhile (reading, pausing for a rate limit) is not waiting. Some bytes are
    not getting on either, only so many within ``limit_s``: one a minute would never end.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s: Final = limit_s
        self._needed = max(1.0, min(LEAST_BYTES, LEAST_RATE * limit_s))
        self._bytes = 0
        self._waited_s = 0.0

    @property
    def left_s(self) -> float:
        """Seconds that may still be waited, 0.0 or less when it was enough."""
        return self.limit_s - self._waited_s

    def waited(self, seconds: float) -> None:
        """It was waited for so long."""
        self._waited_s += seconds

    def came(self, count: int) -> None:
        """So many bytes that matter came, or were taken."""
        self._bytes += count
        if self._bytes >= self._needed:
            self.moved()

    def moved(self) -> None:
        """The target got on."""
        self._bytes = 0
        self._waited_s = 0.0

    def text(self, who: str) -> str:
        """What to say when it was enough."""
        return f"{who} has not answered for {self.limit_s:g} s (--timeout)"


_CALM: Final = 0.75
"""Until a quarter of a limit was waited, it is not looked closely."""


class Wire(Protocol):
    """What a session is sent over."""

    @property
    def unacknowledged(self) -> int:
        """Bytes that were written, and are not acknowledged."""


class SessionWatch:
    """Tells a backup session that gets on from one that only looks so.

    Getting on is that a request was begun or ended, or that enough of bodies went or came. What was
    handed to the system is seen once more as the target's kernel acknowledges it: a line of a few
    KiB a second carries for long what one write has put into the socket's buffer. Only what
    belongs to bodies can count so: the answers to a flood of PINGs are acknowledged too.
    """

    def __init__(self, limit_s: float) -> None:
        self.stall: Final = Stall(limit_s)
        self._last: tuple[int, int, int, int] | None = None
        self._delivered: int | None = None

    def look(
        self, progress: tuple[int, int, int, int] | None, seconds: float, stream: Wire
    ) -> bool:
        """After a step of ``seconds``: False when it was enough.

        ``progress`` is that of ``Transport.progress``.
        """
        stall, last, self._last = self.stall, self._last, progress
        if progress is None or last is None or progress[:2] != last[:2]:
            stall.moved()
            self._delivered = None
            return True
        stall.waited(seconds)
        sent, received = progress[2], progress[3]
        stall.came(sent - last[2] + received - last[3])
        if stall.left_s > stall.limit_s * _CALM and self._delivered is not None:
            return True  # not a system call for each step of a busy session
        # Less than nothing at first: what TLS and HTTP/2 add to bodies is acknowledged, too.
        delivered = sent - stream.unacknowledged
        if self._delivered is not None:
            delivered = max(delivered, self._delivered)
            stall.came(delivered - self._delivered)
        self._delivered = delivered
        return stall.left_s > 0
