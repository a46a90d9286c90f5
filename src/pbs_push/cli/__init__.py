"""The command ``pbs-push``: the only place that prints, asks, and ends the process.

Each command is a module that is imported when the command is called.
"""

from __future__ import annotations

import signal
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the process's command line and end the process.

    While no command runs, as during imports, Ctrl-C ends it as it ends any program: Python's own
    handler would show where it was.
    """
    # Not where it is ignored, as a shell has it for what runs in the background.
    listens = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if listens:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pbs_push.cli import app  # noqa: PLC0415  (what takes long)
    from pbs_push.cli.exit_status import EXIT_INTERRUPTED  # noqa: PLC0415  (likewise)

    app.prepare()
    try:
        if listens:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        status = app.run()
        if listens:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:  # before a command began, or after it
        status = EXIT_INTERRUPTED
    app.end(status)
