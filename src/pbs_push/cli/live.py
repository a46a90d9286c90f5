"""A display on a terminal that changes while work goes on, below the lines that matter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, Self, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from pbs_push.cli.event_lines import Importance, Line

E = TypeVar("E")


class LiveDisplay(ABC, Generic[E]):
    """Shows what ``render`` gives on ``console``; only the lines of events stay behind."""

    def __init__(self, console: Console, shown: Importance) -> None:
        self._console = console
        self._shown = shown
        self._live = Live(
            console=console,
            get_renderable=self.render,
            refresh_per_second=5,
            transient=True,
            redirect_stdout=False,  # results are not for this console
            redirect_stderr=False,
        )

    def __call__(self, event: E) -> None:
        """Take an event."""
        line = self.line_of(event)
        if line is not None and _is_shown(line.importance, self._shown):
            self._console.print(Text(line.text), soft_wrap=True)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @abstractmethod
    def line_of(self, event: E) -> Line | None:
        """Learn from an event; the line that it is worth."""

    @abstractmethod
    def render(self) -> RenderableType:
        """The display at this moment."""


def _is_shown(importance: Importance, shown: Importance) -> bool:
    """Steady progress is for --verbose only: the display tells it."""
    if importance is Importance.LOG:
        return shown is Importance.DETAIL
    return importance <= shown
