"""A rate over time as inline SVG: the area below a line, and a few marks at its sides."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from pbs_push.pages.frame import words
from pbs_push.units import duration_text, rate_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WIDTH: Final = 680
_HEIGHT: Final = 200
_LEFT: Final = 84
_BOTTOM: Final = 24
_TOP: Final = 12
_MARKS: Final = 4

Sample = tuple[float, int]
"""Seconds since the begin, and bytes until then."""


def rate_curve(title: str, samples: Sequence[Sample]) -> str:
    """The rate between each two samples as an ``svg`` element."""
    steps = list(_steps(samples))
    end = steps[-1][1] if steps else 1.0
    most = max((rate for _, _, rate in steps), default=0.0) or 1.0
    room_x, room_y = _WIDTH - _LEFT - 8, _HEIGHT - _TOP - _BOTTOM
    points = []
    for since, until, rate in steps:
        height = _TOP + room_y * (1 - rate / most)
        points += [(_LEFT + room_x * moment / end, height) for moment in (since, until)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    floor = _TOP + room_y
    shape = ""
    if points:
        shape = (
            f'<polygon class="area" points="{_LEFT},{floor} {line} {points[-1][0]:.1f},{floor}"/>\n'
            f'<polyline class="line" points="{line}"/>\n'
        )
    marks = "\n".join(_marks(end, most, room_x, room_y))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{words(title)}">\n'
        f"<title>{words(title)}</title>\n{marks}\n{shape}</svg>"
    )


def _steps(samples: Sequence[Sample]) -> Iterator[tuple[float, float, float]]:
    """From when, until when, and bytes a second."""
    for (since, before), (until, after) in itertools.pairwise(samples):
        if until > since:
            yield since, until, max(0, after - before) / (until - since)


def _marks(end: float, most: float, room_x: float, room_y: float) -> Iterator[str]:
    for number in range(_MARKS + 1):
        share = number / _MARKS
        y = _TOP + room_y * (1 - share)
        x = _LEFT + room_x * share
        yield f'<line class="axis" x1="{_LEFT}" y1="{y:.1f}" x2="{_LEFT + room_x}" y2="{y:.1f}"/>'
        rate, moment = words(rate_text(most * share)), words(duration_text(end * share))
        yield f'<text class="label tick" x="{_LEFT - 8}" y="{y:.1f}">{rate}</text>'
        anchor = "end" if number == _MARKS else "middle" if number else "start"
        place = f'text-anchor="{anchor}" x="{x:.1f}" y="{_HEIGHT - 8}"'
        yield f'<text class="tick" {place}>{moment}</text>'
