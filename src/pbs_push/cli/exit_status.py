"""The exit statuses of the command: one table, shown by ``--help`` and docs/exit-status.md.

Which error ends with which status is said by the errors themselves (``errors.py``), and of a push
by its report (``push/report.py``); a test holds these and the table together.
"""

from __future__ import annotations

from typing import Final

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130

EXIT_STATUSES: Final = {
    EXIT_OK: "nothing is left that a push could do",
    EXIT_FAILED: "failed; the source, the connection or the target is the reason",
    2: "a mistake in an option, a name or a configuration file",
    3: "partly failed, or something was found that somebody has to look at",
    4: "no trust, no login, or a missing privilege, here or there",
    5: "nothing was pushed, because nothing could be",
    EXIT_INTERRUPTED: "interrupted (Ctrl-C, SIGTERM or SIGHUP)",
}
"""What each status means, in order."""


def help_text() -> str:
    """The table for ``--help``; ``\\b`` keeps click from joining its lines."""
    lines = [f"  {status:>3}  {meaning}" for status, meaning in EXIT_STATUSES.items()]
    return "\n".join(["\b", "Exit status:", *lines])


def markdown_table() -> str:
    """The table as it stands in docs/exit-status.md."""
    lines = [f"| {status} | {meaning} |" for status, meaning in EXIT_STATUSES.items()]
    return "\n".join(["| status | meaning |", "| --- | --- |", *lines])
