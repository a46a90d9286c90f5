"""A limit of the rate that goes by the time of the day: ``08:00-18:00 10MiB; else off``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pbs_push.access.values import parse_size
from pbs_push.errors import ConfigError

if TYPE_CHECKING:
    from datetime import datetime

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEK: Final = len(_DAYS)
_HOUR: Final = 60
_DAY: Final = 24 * _HOUR
_SPAN: Final = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})", re.ASCII)
_HOW: Final = "write it as in '08:00-18:00 10MiB; Sat,Sun off; else 50MiB'"


@dataclass(frozen=True, slots=True)
class Window:
    """A rate for some hours of some days: 0 is Monday, and minutes count from midnight.

    Where ``until`` is not after ``since`` it ends on the day after.
    """

    days: frozenset[int]
    since: int
    until: int
    rate: int | None

    def holds(self, weekday: int, minute: int) -> bool:
        """Whether it counts at this minute of a day."""
        if self.since < self.until:
            return weekday in self.days and self.since <= minute < self.until
        if minute >= self.since:
            return weekday in self.days
        return minute < self.until and (weekday - 1) % _WEEK in self.days


@dataclass(frozen=True, slots=True)
class Timetable:
    """Rates in bytes a second (None: no limit): the first window counts that holds, else
    ``otherwise``. ``text`` is how it was written."""

    windows: tuple[Window, ...]
    otherwise: int | None = None
    text: str = ""

    @classmethod
    def parse(cls, text: str) -> Timetable:
        """Read entries with ``;`` between: ``[DAYS] [HH:MM-HH:MM] RATE``, and ``else RATE``.

        RATE is a size or ``off``; DAYS are as in ``Mon-Fri`` or ``Sat,Sun``. A rate alone counts
        always. Raises ConfigError.
        """
        windows: list[Window] = []
        otherwise: list[int | None] = []
        for entry in filter(None, (part.strip() for part in text.split(";"))):
            when, rate = _split(entry)
            if when in ([], ["else"]):
                otherwise.append(rate)
            elif otherwise:
                raise ConfigError(f"'{entry}' stands behind 'else': it would never count")
            else:
                windows.append(_window(entry, when, rate))
        if len(otherwise) > 1:
            raise ConfigError(f"'{text}' says more than once what counts else")
        if not windows and not otherwise:
            raise ConfigError(f"'{text}' says no rate: {_HOW}")
        return cls(tuple(windows), otherwise[0] if otherwise else None, text)

    def at(self, moment: datetime) -> int | None:
        """Bytes a second at this time, as the clock on the wall shows it; None: no limit."""
        weekday, minute = moment.weekday(), moment.hour * _HOUR + moment.minute
        for window in self.windows:
            if window.holds(weekday, minute):
                return window.rate
        return self.otherwise

    def __str__(self) -> str:
        return self.text


def _split(entry: str) -> tuple[list[str], int | None]:
    """When, as words, and the rate: a size may be two words."""
    words = entry.split()
    number = next((at for at, word in enumerate(words) if _begins_rate(word)), len(words))
    when, rate = words[:number], " ".join(words[number:])
    if not rate:
        raise ConfigError(f"'{entry}' has no rate: {_HOW}")
    return [word.lower() for word in when], _rate(rate)


def _begins_rate(word: str) -> bool:
    return word.lower() == "off" or (word[0] in ".0123456789" and ":" not in word)


def _rate(text: str) -> int | None:
    if text.lower() == "off":
        return None
    size = parse_size(text)
    if not size:
        raise ConfigError("a rate of 0 would let nothing through: write 'off' for no limit")
    return size


def _window(entry: str, when: list[str], rate: int | None) -> Window:
    days, since, until = frozenset(range(_WEEK)), 0, _DAY
    rest = list(when)
    if rest and ":" not in rest[0]:
        days = _days(entry, rest.pop(0))
    if rest:
        since, until = _minutes(entry, rest.pop(0))
    if rest:
        raise ConfigError(f"'{entry}' cannot be understood: {_HOW}")
    return Window(days, since, until, rate)


def _days(entry: str, text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        begin, end = _day(entry, first), _day(entry, last if dash else first)
        days.update((begin + more) % _WEEK for more in range((end - begin) % _WEEK + 1))
    return frozenset(days)


def _day(entry: str, text: str) -> int:
    if text not in _DAYS:
        raise ConfigError(f"'{text}' in '{entry}' is not a day (Mon, Tue, …, Sun): {_HOW}")
    return _DAYS.index(text)


def _minutes(entry: str, text: str) -> tuple[int, int]:
    matched = _SPAN.fullmatch(text)
    if matched is None:
        raise ConfigError(f"'{text}' in '{entry}' is not a span of time: {_HOW}")
    hours = [int(group) for group in matched.groups()]
    since, until = hours[0] * _HOUR + hours[1], hours[2] * _HOUR + hours[3]
    if max(hours[1], hours[3]) >= _HOUR or since >= _DAY or until > _DAY or since == until:
        raise ConfigError(f"'{text}' in '{entry}' is not a span within a day and a night")
    return since, until
