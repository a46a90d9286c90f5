"""A bar chart as inline SVG: horizontal bars, each with its label and its value in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pbs_push.pages.frame import words

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH: Final = 680
_LABEL_WIDTH: Final = 200
_LETTER: Final = 7.5
"""About the width of one; values stand behind the bars, and the longest must fit."""
_ROW: Final = 28
_BAR: Final = 16
_LEAST_BAR: Final = 1.5
"""A value of nearly nothing is still to be seen."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure; ``kind`` is the colour of its bar: ``plain``, ``warm`` or ``limit``."""

    label: str
    value: float
    text: str
    kind: str = "plain"


@dataclass(frozen=True, slots=True)
class Table:
    """Figures of one unit under a ``title``; ``note`` says how they were made."""

    title: str
    note: str
    rows: tuple[Row, ...]


def bar_chart(title: str, bars: Sequence[Row]) -> str:
    """A chart as an ``svg`` element; all bars share one scale, which begins at 0.

    A row's ``kind`` is its bar's CSS class.
    """
    height = len(bars) * _ROW + 4
    longest = max((bar.value for bar in bars), default=0.0) or 1.0
    room = _WIDTH - _LABEL_WIDTH - _LETTER * max((len(bar.text) + 2 for bar in bars), default=0)
    scale = room / longest
    rows = "\n".join(_row(bar, number, scale) for number, bar in enumerate(bars))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{words(title)}">\n'
        f"<title>{words(title)}</title>\n"
        f'<line class="axis" x1="{_LABEL_WIDTH}" y1="0" x2="{_LABEL_WIDTH}" y2="{height}"/>\n'
        f"{rows}\n</svg>"
    )


def section(table: Table) -> str:
    """A table as a section of a page, with its chart."""
    return (
        f"<section>\n<h2>{words(table.title)}</h2>\n"
        f'<p class="note">{words(table.note)}</p>\n{bar_chart(table.title, table.rows)}\n'
        "</section>"
    )


def _row(bar: Row, number: int, scale: float) -> str:
    width = max(_LEAST_BAR, scale * bar.value)
    top = number * _ROW + (_ROW - _BAR) / 2 + 2
    middle = number * _ROW + _ROW / 2 + 2
    return (
        f'<text class="label" x="{_LABEL_WIDTH - 8}" y="{middle:.0f}">{words(bar.label)}</text>'
        f'<rect class="{words(bar.kind)}" x="{_LABEL_WIDTH}" y="{top:.0f}" '
        f'width="{width:.1f}" height="{_BAR}" rx="2"/>'
        f'<text class="value" x="{_LABEL_WIDTH + width + 6:.1f}" y="{middle:.0f}">'
        f"{words(bar.text)}</text>"
    )
