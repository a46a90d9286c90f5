"""Processes of the command's own that push groups: ``--processes``."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from pbs_push.cli.privacy import SECRET_VARIABLES, keep_private
from pbs_push.push.workers import Workers

_NOT_THEIRS: Final = (signal.SIGINT, signal.SIGHUP)
"""A terminal sends these to all processes; the command alone decides what follows."""
_END_S: Final = 5.0
"""How long processes are waited for at the end: what they do was cancelled, or is done."""


class _Pool(ProcessPoolExecutor):
    """Begins its processes with the terminal's signals blocked, so that none of these ends one."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As the base class."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_THEIRS)
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def process_workers(count: int) -> Iterator[Workers]:
    """So many processes, begun as they are needed; they have ended afterwards."""
    # Not forked: threads run here.
    context = multiprocessing.get_context("spawn")
    # What they need to know stands in their jobs; Python's own helper of them is not private.
    secrets = {name: text for name in SECRET_VARIABLES if (text := os.environ.pop(name, None))}
    try:
        with _ended_in_time(_Pool(count, mp_context=context, initializer=begin_worker)) as pool:
            yield Workers(pool, count)
    finally:
        os.environ.update(secrets)


@contextmanager
def _ended_in_time(pool: _Pool) -> Iterator[_Pool]:
    try:
        yield pool
    finally:
        end = threading.Thread(target=pool.shutdown, kwargs={"cancel_futures": True}, daemon=True)
        end.start()
        end.join(_END_S)  # one that is not done then ends with this process


def begin_worker() -> None:
    """What each of them does first: it is as private as the command, and ends with it."""
    keep_private()
    for number in _NOT_THEIRS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _NOT_THEIRS)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    from pbs_push.remote.httpx_alone import import_httpx_alone  # noqa: PLC0415  (after the above)

    import_httpx_alone()


def _end_with_parent() -> None:
    """The target removes what is under way when its connection ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
