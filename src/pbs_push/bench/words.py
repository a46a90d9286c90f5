"""Figures as people read them: decimal units, as PBS's own benchmark has them."""

from __future__ import annotations

from typing import Final

_MEGA: Final = 1e6
_KILO: Final = 1e3
_SECOND: Final = 1.0
_MILLISECOND: Final = 1e-3


def number_text(value: float) -> str:
    """At least two digits that count: ``1,234``, ``12``, ``1.2``, ``0.12``."""
    if value >= 10:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def rate_text(bytes_per_s: float) -> str:
    """``1,234 MB/s``, ``850 kB/s``: a million, or thousand, bytes a second."""
    if bytes_per_s < _MEGA / 10:
        return f"{number_text(bytes_per_s / _KILO)} kB/s"
    return f"{number_text(bytes_per_s / _MEGA)} MB/s"


def size_text(size: float) -> str:
    """``12 MB``: a million bytes; ``4.0 kB`` below a tenth of one."""
    if size < _MEGA / 10:
        return f"{number_text(size / _KILO)} kB"
    return f"{number_text(size / _MEGA)} MB"


def millions_text(per_s: float) -> str:
    """``23 M/s``: millions a second."""
    return f"{number_text(per_s / _MEGA)} M/s"


def time_text(seconds: float) -> str:
    """``0.35 ms``, ``52 ms``, ``1.4 s``."""
    if seconds >= _SECOND:
        return f"{number_text(seconds)} s"
    return f"{number_text(seconds / _MILLISECOND)} ms"
