"""Telling work line by line, for logs and pipes, and once a minute how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Generic, Protocol, Self, TypeVar

from pbs_push.cli.event_lines import Importance, Line, tell

PROGRESS_EVERY_S: Final = 60.0

E = TypeVar("E")
E_contra = TypeVar("E_contra", contravariant=True)


class Shown(Protocol[E_contra]):
    """Shows work while it goes on: a listener, and a context that ends the display."""

    def __call__(self, event: E_contra) -> None:
        """Take an event."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(self, *_: object) -> None:
        """End the display."""


class State(Protocol[E_contra]):
    """What is known of the work while it goes on."""

    def take(self, event: E_contra) -> None:
        """Learn from an event."""

    @property
    def text(self) -> str:
        """How far it is, in one line."""


class TimedLines(Generic[E]):
    """Tells it as far as ``shown`` goes: the lines that ``describe`` gives, and at events of the
    kind ``progress``, once a minute, the text of ``state``."""

    def __init__(
        self,
        state: State[E],
        describe: Callable[[E], Line | None],
        progress: type,
        shown: Importance,
        write: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._describe = describe
        self._progress = progress
        self._shown = shown
        self._write = write
        self._clock = clock
        self._next = clock() + PROGRESS_EVERY_S

    def __call__(self, event: E) -> None:
        """Take an event."""
        self._state.take(event)
        line = self._describe(event)
        if isinstance(event, self._progress) and self._clock() >= self._next:
            self._next = self._clock() + PROGRESS_EVERY_S
            line = Line(Importance.LOG, self._state.text)
        if line is not None and line.importance <= self._shown:
            tell(line, self._write)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass
