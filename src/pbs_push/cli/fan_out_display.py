"""The display of pushes to several targets on a terminal, one below the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from rich.console import Console, Group, RenderableType

from pbs_push.cli.display import MAX_ROWS, push_view
from pbs_push.cli.event_lines import Importance, Line, describe
from pbs_push.cli.fan_out_progress import label_of, labelled
from pbs_push.cli.live import LiveDisplay
from pbs_push.cli.progress import PushState
from pbs_push.names import Repository
from pbs_push.push.events import FromTarget


class FanOutDisplay(LiveDisplay[FromTarget]):
    """Shows pushes to ``targets`` on ``console``, below the lines that matter."""

    def __init__(
        self,
        console: Console,
        targets: Sequence[Repository],
        shown: Importance = Importance.INFO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._labels = [label_of(target) for target in targets]
        self._states = [PushState(clock) for _ in targets]
        super().__init__(console, shown)

    def line_of(self, event: FromTarget) -> Line | None:
        """Learn from an event; the line that it is worth."""
        line = describe(event.event, self._states[event.number].take(event.event))
        if line is None:
            return None
        return replace(line, text=labelled(self._labels[event.number], line.text))

    def render(self) -> RenderableType:
        """The display at this moment."""
        most = max(1, MAX_ROWS // len(self._states))
        shown = zip(self._labels, self._states, strict=True)
        return Group(*(push_view(state.view(), label, most) for label, state in shown))
