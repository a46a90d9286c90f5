"""The command ``pbs-push``: the only place that prints, asks, and ends the process.

Each command is a module that is imported when the command is called.
"""

from pbs_push.cli.app import main

__all__ = ["main"]
