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
from pbs_push.cli.progress import PushState, Row, summary
from pbs_push.push.events import Event
from pbs_push.units import size_text

MAX_ROWS: Final = 8
"""Snapshots shown at once; of others there is a count."""
_BAR_WIDTH: Final = 20
_SIZE_WIDTH: Final = len("1023.9 MiB")


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
        head = Table.grid(expand=True)
        head.add_row(Text(summary(view), no_wrap=True, overflow="ellipsis"))
        head.add_row(_bar(view.share, None))
        return Group(head, _table(view.rows))


def _is_shown(importance: Importance, shown: Importance) -> bool:
    """Steady progress is for --verbose only: the display tells it."""
    if importance is Importance.LOG:
        return shown is Importance.DETAIL
    return importance <= shown


def _table(rows: tuple[Row, ...]) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(width=_BAR_WIDTH)
    table.add_column(justify="right", no_wrap=True, min_width=_SIZE_WIDTH)
    for row in rows[:MAX_ROWS]:
        table.add_row(
            Text(f"  {row.label}"),
            _bar(row.share, _BAR_WIDTH),
            Text(size_text(row.sent_bytes)),
        )
    if len(rows) > MAX_ROWS:
        table.add_row(Text(f"  … and {len(rows) - MAX_ROWS} more"))
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
