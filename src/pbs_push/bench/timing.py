"""Repeating a piece of work for a while, and how often it was done in a second."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Final

from pbs_push.errors import Cancelled

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

DEFAULT_SECONDS: Final = 2.0
MOST_SECONDS: Final = 600.0
"""For each of the measurements."""

_LEAST_CALLS: Final = 3


def check_cancelled(cancelled: threading.Event) -> None:
    """Raise Cancelled if that was asked for."""
    if cancelled.is_set():
        raise Cancelled("stopped as asked")


def rate_of(
    work: Callable[[], object], amount: float, seconds: float, cancelled: threading.Event
) -> float:
    """How much of what ``work`` does ``amount`` of is done in a second.

    It is repeated for ``seconds``. The median call counts, so that neither the first one, which
    finds caches empty, nor one that had to wait for its core does. Raises Cancelled between calls.
    """
    spans: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(spans) < _LEAST_CALLS or time.perf_counter() < deadline:
        check_cancelled(cancelled)
        began = time.perf_counter()
        work()
        spans.append(time.perf_counter() - began)
    # A clock that is too coarse must not become a division by zero.
    return amount / max(statistics.median(spans), 1e-9)
