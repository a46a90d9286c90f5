"""The display of a push on a terminal: what is sent, how fast, how long still, and what now."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pbs_push.cli.event_lines import Importance, describe
from pbs_push.cli.progress import PushState, Row, View
from pbs_push.push.events import Event
from pbs_push.units import counted, duration_text, rate_text, size_text

MAX_ROWS: Final = 8
"""Snapshots shown at once; of others there is a count."""
_BAR_WIDTH: Final = 20
_SIZE_WIDTH: Final = len("1023.9 MiB")
_A_MOMENT_S: Final = 10


class DisplayProgress:
    """Shows a push on ``console``, below the lines that matter; only these stay behind."""

    def __init__(
        self,
        console: Console,
        shown: Importance = Importance.INFO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._shown = shown
        self._state = PushState(clock)
        self._live = Live(
            console=console,
            get_renderable=self.render,
            refresh_per_second=5,
            transient=True,
            redirect_stdout=False,  # results are not for this console
            redirect_stderr=False,
        )

    def __call__(self, event: Event) -> None:
        """Take an event."""
        line = describe(event, self._state.take(event))
        if line is not None and _is_shown(line.importance, self._shown):
            self._console.print(Text(line.text), soft_wrap=True)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def render(self) -> RenderableType:
        """The display at this moment."""
        view = self._state.view()
        if view.planned is None:
            return Text("looking at source and target …")
        return Group(Text(summary(view)), _table(view.rows))


def _is_shown(importance: Importance, shown: Importance) -> bool:
    """Steady progress is for --verbose only: the display tells it."""
    if importance is Importance.LOG:
        return shown is Importance.DETAIL
    return importance <= shown


def summary(view: View) -> str:
    """The display's first line."""
    words = [
        f"{view.ended} of {counted(view.planned or 0, 'snapshot')}",
        f"{size_text(view.sent_bytes)} sent",
        rate_text(view.rate_bytes_per_s),
    ]
    if view.failed:
        words.insert(1, f"{view.failed} failed")
    if view.remaining_s is not None:
        soon = view.remaining_s < _A_MOMENT_S
        words.append("a moment left" if soon else f"about {duration_text(view.remaining_s)} left")
    return " · ".join(words)


def _table(rows: tuple[Row, ...]) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(width=_BAR_WIDTH)
    table.add_column(justify="right", no_wrap=True, min_width=_SIZE_WIDTH)
    for row in rows[:MAX_ROWS]:
        table.add_row(
            Text(f"  {row.label}"),
            ProgressBar(total=1.0, completed=row.share, width=_BAR_WIDTH),
            Text(size_text(row.sent_bytes)),
        )
    if len(rows) > MAX_ROWS:
        table.add_row(Text(f"  … and {len(rows) - MAX_ROWS} more"))
    return table
