"""The display of a push on a terminal: what is sent, how fast, how long still, and what now."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pbs_push.cli.event_lines import Importance, Line, describe
from pbs_push.cli.live import LiveDisplay
from pbs_push.cli.progress import PushState, Row, View, summary
from pbs_push.push.events import Event
from pbs_push.units import size_text

MAX_ROWS: Final = 8
"""Snapshots shown at once; of others there is a count."""
_BAR_WIDTH: Final = 20
_SIZE_WIDTH: Final = len("1023.9 MiB")


class DisplayProgress(LiveDisplay[Event]):
    """Shows a push on ``console``, below the lines that matter; only these stay behind."""

    def __init__(
        self,
        console: Console,
        shown: Importance = Importance.INFO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = PushState(clock)
        super().__init__(console, shown)

    def line_of(self, event: Event) -> Line | None:
        """Learn from an event; the line that it is worth."""
        return describe(event, self._state.take(event))

    def render(self) -> RenderableType:
        """The display at this moment."""
        return push_view(self._state.view())


def push_view(view: View, label: str = "", most_rows: int = MAX_ROWS) -> RenderableType:
    """A push at one moment: ``label``, if there is one, its sums, and up to so many snapshots."""
    about = f"{label}: " if label else ""
    if view.planned is None:
        return Text(f"{about}looking at source and target …")
    head = Table.grid(expand=True)
    head.add_row(Text(f"{about}{summary(view)}", no_wrap=True, overflow="ellipsis"))
    head.add_row(_bar(view.share, None))
    return Group(head, _table(view.rows, most_rows))


def _table(rows: tuple[Row, ...], most: int) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(width=_BAR_WIDTH)
    table.add_column(justify="right", no_wrap=True, min_width=_SIZE_WIDTH)
    for row in rows[:most]:
        table.add_row(
            Text(f"  {row.label}"),
            _bar(row.share, _BAR_WIDTH),
            Text(size_text(row.sent_bytes)),
        )
    if len(rows) > most:
        table.add_row(Text(f"  … and {len(rows) - most} more"))
    return table


def _bar(share: float, width: int | None) -> ProgressBar:
    """One that is not red, which is for what failed, and can be seen on dark and on light."""
    return ProgressBar(
        total=1.0,
        completed=share,
        width=width,
        style="bright_black",
        complete_style="cyan",
        finished_style="green",
    )
