"""Ctrl-C, SIGTERM and the end of a login session (SIGHUP).

The first one asks the work to stop, the second one ends the process; but a terminal that is closed
sends SIGHUP more than once, itself and through the shell.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, TypeVar

from pbs_push.cli.exit_status import EXIT_INTERRUPTED
from pbs_push.cli.lines import PROGRAM, WARNING, drop_output, goes_to_journal
from pbs_push.errors import Cancelled

T = TypeVar("T")

GRACE_S: Final = 5.0
"""How long work that was asked to stop is waited for: a request may hang in the network."""
_POLL_S: Final = 0.2
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


_NO_ANSWER: Final = "the target does not answer; its server removes what was under way"


def run_interruptibly(
    work: Callable[[], T], cancel: Callable[[], None], *, why_late: str = _NO_ANSWER
) -> T:
    """Do ``work`` in a thread of its own and return what it does; its errors are raised here.

    The main thread only waits, so that signals find it free. The first one calls ``cancel``; work
    that then does not end in time is left alone, and Cancelled raised, which says ``why_late``: the
    process should end.
    """
    future: Future[T] = Future()
    asked = threading.Event()

    def body() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  (raised again in the main thread)
            future.set_exception(error)

    def stop() -> None:
        asked.set()
        cancel()

    with _signals_call(stop):
        threading.Thread(target=body, name="work", daemon=True).start()
        return _result(future, asked, why_late)


def _result(future: Future[T], asked: threading.Event, why_late: str) -> T:
    deadline = None
    while True:
        wait([future], timeout=_POLL_S)
        if future.done():
            return future.result()
        if deadline is None and asked.is_set():
            deadline = time.monotonic() + GRACE_S
        if deadline is not None and time.monotonic() > deadline:
            raise Cancelled(why_late)


@contextmanager
def _signals_call(stop: Callable[[], None]) -> Iterator[None]:
    """Within, the first signal calls ``stop``. Only the main thread may ask for this.

    One that is ignored stays so: ``nohup`` means that the end of the session is none of the work.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = False

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal came
        if number == signal.SIGHUP:
            _drop_lost_terminal()
        elif came:
            leave_at_once()
        came = True
        stop()

    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _drop_lost_terminal() -> None:
    """What is written to a terminal that is gone would be an error: let it go nowhere."""
    for output in (1, 2):
        try:
            os.write(output, b"")
        except OSError:
            drop_output(output)


def leave_at_once() -> None:
    """End the process without any waiting; the target removes what was under way."""
    with suppress(OSError):  # nobody may be there to read it
        before = f"<{WARNING}>" if goes_to_journal() else "\n"
        os.write(2, f"{before}{PROGRAM}: interrupted again: left at once\n".encode())
    os._exit(EXIT_INTERRUPTED)


def wait_for_signal() -> None:
    """Return when Ctrl-C, SIGTERM or SIGHUP comes."""
    came = threading.Event()
    with _signals_call(came.set):
        while not came.wait(_POLL_S):
            pass
