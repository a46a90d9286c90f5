"""Checks of single option values: the right type, converted where that is plain, and in range.

Each check is called with the option's name and the value given, and returns the value to keep. It
raises ConfigError.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from pbs_push.access.filters import GroupFilter, GroupFilters
from pbs_push.errors import ConfigError
from pbs_push.names import Namespace
from pbs_push.push.checkpoint_rule import CheckpointRule
from pbs_push.push.removal_limit import MaxRemovals
from pbs_push.push.timetable import Timetable

T = TypeVar("T")

Check = Callable[[str, Any], Any]


def flag(name: str, value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise _wrong(name, value, "True or False")
    return value


def whole(least: int, most: int | None = None) -> Check:
    """A whole number between two limits, both included; without ``most`` there is no upper one."""

    def check(name: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong(name, value, "a whole number")
        return _in_range(name, value, least, most)

    return check


def number(least: float, most: float | None = None) -> Check:
    """A number, whole or not, between two limits."""

    def check(name: str, value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or value != value:  # noqa: PLR0124
            raise _wrong(name, value, "a number")
        return _in_range(name, value, least, most)

    return check


def optional(check: Check) -> Check:
    """None, or what another check takes."""
    return lambda name, value: None if value is None else check(name, value)


def one_of(*choices: str) -> Check:
    """One of some words."""

    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise _wrong(name, value, " or ".join(repr(choice) for choice in choices))
        return value

    return check


def text(name: str, value: object) -> str:
    """A text."""
    if not isinstance(value, str):
        raise _wrong(name, value, "a text")
    return value


def congestion_control(name: str, value: object) -> str:
    """The name of a TCP congestion control that this process may use on this system."""
    # Sockets are for who asks for it: this module is also for `--help`.
    from pbs_push.remote.congestion import (  # noqa: PLC0415
        allowed_congestion_controls,
        try_congestion_control,
    )

    chosen = text(name, value)
    try:
        try_congestion_control(chosen)
    except OSError as error:
        raise ConfigError(
            f"{spoken(name)}: this system does not let us use '{chosen}' "
            f"({os.strerror(error.errno or 0)}); it allows: {allowed_congestion_controls()}"
        ) from None
    return chosen


def an(kind: type[T], words: str) -> Check:
    """A value of one class, which messages call ``words``."""

    def check(name: str, value: object) -> T:
        if not isinstance(value, kind):
            raise _wrong(name, value, words)
        return value

    return check


def namespace(name: str, value: object) -> Namespace:
    """A Namespace, or its text."""
    if isinstance(value, str):
        return Namespace.parse(value)
    if not isinstance(value, Namespace):
        raise _wrong(name, value, "a Namespace, or a text like 'a/b'")
    return value


def filters(name: str, value: object) -> GroupFilters:
    """GroupFilters, or filters and texts of filters, one or several."""
    if isinstance(value, GroupFilters):
        return value
    if isinstance(value, str | GroupFilter):
        value = (value,)
    if not isinstance(value, Iterable):
        raise _wrong(name, value, "GroupFilters, or texts like 'type:vm'")
    made = []
    for one in value:
        if not isinstance(one, str | GroupFilter):
            raise _wrong(name, one, "a GroupFilter, or a text like 'type:vm'")
        made.append(GroupFilter.parse(one) if isinstance(one, str) else one)
    return GroupFilters(tuple(made))


def removals(name: str, value: object) -> MaxRemovals:
    """A MaxRemovals, or what it can be read from: a number, or a text like ``10%``."""
    if isinstance(value, str):
        return MaxRemovals.parse(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return MaxRemovals(count=value)
    if not isinstance(value, MaxRemovals):
        raise _wrong(name, value, "a number, or a text like '10%'")
    return value


def checkpoint(name: str, value: object) -> CheckpointRule:
    """A CheckpointRule, or its text, such as ``auto``, ``4GiB`` or ``15m``."""
    if isinstance(value, str):
        return CheckpointRule.parse(value)
    if not isinstance(value, CheckpointRule):
        raise _wrong(name, value, "a CheckpointRule, or a text like '4GiB'")
    return value


def timetable(name: str, value: object) -> Timetable:
    """A Timetable, or what it can be read from: a rate in bytes a second, or a text."""
    if isinstance(value, str):
        return Timetable.parse(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return Timetable.parse(str(whole(1)(name, value)))
    if not isinstance(value, Timetable):
        raise _wrong(name, value, "a Timetable, or a text like '08:00-18:00 10MiB; else off'")
    return value


def path(name: str, value: object) -> Path:
    """A path, or its text."""
    if not isinstance(value, str | Path) or not str(value):
        raise _wrong(name, value, "a path")
    return Path(value)


N = TypeVar("N", int, float)


def _in_range(name: str, value: N, least: float, most: float | None) -> N:
    if value >= least and (most is None or value <= most):
        return value
    limits = f"at least {least}" if most is None else f"between {least} and {most}"
    raise ConfigError(f"{spoken(name)} {value}: must be {limits}")


def _wrong(name: str, value: object, wanted: str) -> ConfigError:
    # The type alone: a value may be a secret that was given in a wrong place.
    return ConfigError(f"{spoken(name)}: must be {wanted}, and not of type {type(value).__name__}")


def spoken(name: str) -> str:
    """An option's name as messages, jobs and the command line have it."""
    return name.replace("_", "-")
