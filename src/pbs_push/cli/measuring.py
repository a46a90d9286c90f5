"""The rate of the link to a target, for a plan that tells how long it takes."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Final

from pbs_push.cli.interrupts import run_interruptibly

if TYPE_CHECKING:
    from pbs_push.push.options import PushOptions
    from pbs_push.remote.target import Target

_MEASURED_S: Final = 2.0
_MEASURED_OVER: Final = 4
"""Connections: as many as a long push has, or more, on most links."""


def measured(target: Target, options: PushOptions) -> float:
    """Bytes a second that the link to the target carries now."""
    from pbs_push.bench.link import LinkBench  # noqa: PLC0415  (for who asks for it)

    cancelled = threading.Event()
    namespace = options.target_namespace
    link = LinkBench(target, namespace, _MEASURED_S, lambda _text: None, cancelled)
    return run_interruptibly(partial(link.rate, _MEASURED_OVER), cancelled.set)
