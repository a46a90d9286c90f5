"""One rate limit for jobs in several processes: the share of each, so that the sum keeps to it.

A job may send at the highest rate that it was told since the last one that it has acknowledged. A
lower share is told at once, a higher one only when the others have acknowledged theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

NOTHING: Final = 0
"""The share of a job that has not been told any, and sends nothing."""


@dataclass(slots=True)
class _Member:
    acknowledged: int | None = NOTHING
    told: dict[int, int | None] = field(default_factory=dict)
    """By number, what was told and is not acknowledged."""

    @property
    def latest(self) -> int | None:
        return list(self.told.values())[-1] if self.told else self.acknowledged

    @property
    def most(self) -> float:
        """Bytes a second that it may be sending at."""
        return max(_number(rate) for rate in (self.acknowledged, *self.told.values()))


@dataclass(frozen=True, slots=True)
class Share:
    """What to tell a job: from now on so many bytes a second; None: no limit."""

    job: int
    number: int
    rate: int | None


class RateShares:
    """Shares of a limit in bytes a second (None: there is none at the moment); for one thread.

    A share is at least one byte a second. What a job that is gone was told counts no more.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._members: dict[int, _Member] = {}
        self._number = 0

    @property
    def most(self) -> float:
        """Bytes a second that all of them together may be sending at now."""
        return sum(member.most for member in self._members.values())

    def set_limit(self, limit: int | None) -> None:
        """Another limit counts from now on."""
        self._limit = limit

    def join(self, job: int) -> None:
        """A job has begun; it waits for its share."""
        self._members[job] = _Member()

    def leave(self, job: int) -> None:
        """A job is over."""
        self._members.pop(job, None)

    def acknowledged(self, job: int, number: int) -> None:
        """A job goes by what it was told, up to this number."""
        member = self._members.get(job)
        if member is None or number not in member.told:
            return
        member.acknowledged = member.told[number]
        member.told = {key: rate for key, rate in member.told.items() if key > number}

    def due(self) -> list[Share]:
        """What is to be told now."""
        if not self._members:
            return []
        each = None if self._limit is None else max(1, self._limit // len(self._members))
        lower = [one for one in self._members if _number(self._members[one].latest) > _number(each)]
        shares = [self._tell(one, each) for one in lower]
        for job, member in self._members.items():
            if _number(member.latest) >= _number(each):
                continue
            others = self.most - member.most
            if self._limit is None or others + _number(each) <= max(
                self._limit, len(self._members)
            ):
                shares.append(self._tell(job, each))
        return shares

    def _tell(self, job: int, rate: int | None) -> Share:
        self._number += 1
        self._members[job].told[self._number] = rate
        return Share(job, self._number, rate)


def _number(rate: int | None) -> float:
    return float("inf") if rate is None else rate
