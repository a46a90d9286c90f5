"""How far the verification of a source is, on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.text import Text

from pbs_push.cli.event_lines import Importance, Line
from pbs_push.cli.live import LiveDisplay
from pbs_push.cli.verify_lines import VerifyState, describe
from pbs_push.verify.events import VerifyEvent


class VerifyDisplay(LiveDisplay[VerifyEvent]):
    """Shows a verification on ``console``, below the lines that matter; only these stay behind."""

    def __init__(
        self,
        console: Console,
        shown: Importance = Importance.INFO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = VerifyState(clock)
        super().__init__(console, shown)

    def line_of(self, event: VerifyEvent) -> Line | None:
        """Learn from an event; the line that it is worth."""
        self._state.take(event)
        return describe(event)

    def render(self) -> RenderableType:
        """The display at this moment."""
        return Text(self._state.text if self._state.snapshots else "looking at the source …")
