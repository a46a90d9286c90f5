"""Where a display is drawn, and how much is told: the same for all that takes long."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pbs_push.cli.event_lines import Importance

if TYPE_CHECKING:
    from rich.console import Console

    from pbs_push.cli.options import Output


def terminal(output: Output) -> Console | None:
    """Stderr, if a display can be drawn there and is wanted; None: lines it is."""
    if output.quiet or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return None
    from rich.console import Console  # noqa: PLC0415  (only terminals need rich)

    return Console(stderr=True, highlight=False)


def told_beside(output: Output, console: Console | None) -> Importance:
    """From which importance on lines are told: beside a display on ``console``, or alone."""
    if output.quiet:
        return Importance.ALERT
    if output.verbose:
        return Importance.DETAIL
    return Importance.LOG if console is None else Importance.INFO
