"""How far the verification of a target is, on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from pbs_push.cli.event_lines import Importance
from pbs_push.cli.verify_target_lines import TargetVerifyState, describe
from pbs_push.verify.target_events import TargetVerifyEvent


class TargetVerifyDisplay:
    """Shows it on ``console``, below the lines that matter; only these stay behind."""

    def __init__(
        self,
        console: Console,
        shown: Importance = Importance.INFO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._shown = shown
        self._state = TargetVerifyState(clock)
        self._live = Live(
            console=console,
            get_renderable=self.render,
            refresh_per_second=5,
            transient=True,
            redirect_stdout=False,  # results are not for this console
            redirect_stderr=False,
        )

    def __call__(self, event: TargetVerifyEvent) -> None:
        """Take an event."""
        self._state.take(event)
        line = describe(event)
        if line is not None and line.importance <= self._shown:
            self._console.print(Text(line.text), soft_wrap=True)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def render(self) -> RenderableType:
        """The display at this moment."""
        return Text(self._state.text if self._state.snapshots else "looking at both sides …")
