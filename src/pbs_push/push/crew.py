"""Threads that share a row of tasks: the parallel work of a push."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

_LOOK_S: Final = 0.2
"""How long the waiting thread waits at most before a signal's handler gets its turn."""


class Crew(Generic[T]):
    """So many threads that take tasks one after another, in order; ``run`` it once.

    What a task costs does not depend on how many there are: nothing is kept of those that are done.
    """

    def __init__(self, tasks: Iterable[T], work: Callable[[T], None], size: int) -> None:
        self._tasks = iter(tasks)
        self._work = work
        self._lock = threading.Lock()
        self._stopped = False
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._member, name=f"push-{number}") for number in range(size)
        ]

    def run(self, stop: Callable[[], None]) -> None:
        """Do all tasks. Raises the first error of one, when all members have come home.

        ``stop`` is called at an error or an interrupt: it makes the tasks under way end early.
        """
        try:
            for thread in self._threads:
                thread.start()
            for thread in self._threads:
                self._await(thread)
            self._raise_error()
        except BaseException:
            self._end()
            stop()
            raise
        finally:
            for thread in self._threads:
                if thread.ident is not None:
                    thread.join()

    def _await(self, thread: threading.Thread) -> None:
        while thread.is_alive():
            thread.join(_LOOK_S)
            self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _member(self) -> None:
        while (task := self._next()) is not None:
            try:
                self._work(task)
            except BaseException as error:  # noqa: BLE001  (raised where the crew is waited for)
                self._end(error)

    def _next(self) -> T | None:
        with self._lock:
            return None if self._stopped else next(self._tasks, None)

    def _end(self, error: BaseException | None = None) -> None:
        """No more tasks are begun."""
        with self._lock:
            self._stopped = True
            self._error = self._error or error
