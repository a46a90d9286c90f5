"""Numbers as people read them."""

from __future__ import annotations

from typing import Final

_STEP: Final = 1024
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE


def size_text(size: float) -> str:
    """A number of bytes: ``512 B``, ``1.5 MiB``."""
    if size < _STEP:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= _STEP
        if size < _STEP:
            return f"{size:.1f} {unit}"
    return f"{size / _STEP:.1f} TiB"


def rate_text(bytes_per_s: float) -> str:
    """A rate: ``12.0 MiB/s``."""
    return f"{size_text(bytes_per_s)}/s"


def duration_text(seconds: float) -> str:
    """A time span: ``0.4 s``, ``42 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def counted(number: int, noun: str) -> str:
    """``1 snapshot``, ``2 snapshots``: for nouns that take an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
