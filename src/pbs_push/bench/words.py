"""Counts and times as people read them; sizes and rates are told by ``pbs_push.units``."""

from __future__ import annotations

from typing import Final

_MEGA: Final = 1e6
_SECOND: Final = 1.0
_MILLISECOND: Final = 1e-3


def number_text(value: float) -> str:
    """At least two digits that count: ``1,234``, ``12``, ``1.2``, ``0.12``."""
    if value >= 10:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def millions_text(per_s: float) -> str:
    """``23 M/s``: millions a second."""
    return f"{number_text(per_s / _MEGA)} M/s"


def time_text(seconds: float) -> str:
    """``0.35 ms``, ``52 ms``, ``1.4 s``."""
    if seconds >= _SECOND:
        return f"{number_text(seconds)} s"
    return f"{number_text(seconds / _MILLISECOND)} ms"
