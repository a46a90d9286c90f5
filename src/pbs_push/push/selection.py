"""Which snapshots are worth sending: rules of keeping, as PBS prunes by them, and an oldest time.

See protocol/push.md, "Which snapshots".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pbs_push.push.options import PushOptions

KEEP: Final = (
    "keep_last",
    "keep_hourly",
    "keep_daily",
    "keep_weekly",
    "keep_monthly",
    "keep_yearly",
)
"""The options, in the order in which they are applied."""

_PERIODS: Final[dict[str, Callable[[datetime], object]]] = {
    "keep_hourly": lambda at: (at.date(), at.hour),
    "keep_daily": lambda at: at.date(),
    "keep_weekly": lambda at: at.isocalendar()[:2],
    "keep_monthly": lambda at: (at.year, at.month),
    "keep_yearly": lambda at: at.year,
}


def has_rules(options: PushOptions) -> bool:
    """Whether a rule of keeping is given at all; without one everything is kept."""
    return any(getattr(options, name) is not None for name in KEEP)


def kept(times: Iterable[int], options: PushOptions) -> set[int]:
    """Of the times of a group's snapshots those that the rules keep.

    Each rule keeps the newest of each of its last N periods, in this host's time zone, and leaves
    periods out in which an earlier rule keeps one.
    """
    newest_first = sorted(set(times), reverse=True)
    if not has_rules(options):
        return set(newest_first)
    found: set[int] = set(newest_first[: options.keep_last or 0])
    for name, period_of in _PERIODS.items():
        count = getattr(options, name)
        if count is not None:
            found |= _of_periods(newest_first, found, count, period_of)
    return found


def _of_periods(
    newest_first: list[int], found: set[int], count: int, period_of: Callable[[datetime], object]
) -> set[int]:
    covered = {period_of(_local(time)) for time in found}
    chosen: dict[object, int] = {}
    for time in newest_first:
        period = period_of(_local(time))
        if time in found or period in covered or period in chosen:
            continue
        if len(chosen) >= count:
            break
        chosen[period] = time
    return set(chosen.values())


def oldest_wanted(options: PushOptions, now: float) -> float:
    """Snapshots that are older than this (epoch seconds) are not wanted."""
    limits = [0.0]
    if options.since is not None:
        limits.append(options.since)
    if options.newer_than_s is not None:
        limits.append(now - options.newer_than_s)
    return max(limits)


def _local(time: int) -> datetime:
    return datetime.fromtimestamp(time).astimezone()
