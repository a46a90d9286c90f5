"""Lines for people on stderr: one each, whatever text goes in.

Where stderr is systemd's journal each gets a prefix with its priority, as ``sd-daemon(3)`` has it:
``<3>`` an error, ``<4>`` a warning, ``<6>`` what is told, ``<7>`` details.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import Any, Final

PROGRAM: Final = "pbs-push"


def safe_json(value: Any, *, indent: int | None = None) -> str:
    """JSON that a terminal can be shown: in ASCII, and without the one control that JSON allows."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


def printable(text: str) -> str:
    """``text`` with a blank for each control character, which could steer a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def one_line(text: str) -> str:
    """``text`` as a single line without control characters."""
    return " ".join(printable(text).split())


ERROR: Final = 3
WARNING: Final = 4
INFO: Final = 6
DEBUG: Final = 7
"""Priorities of syslog."""

_ERROR_HEAD: Final = f"{PROGRAM}: error: "
_WARNING_HEAD: Final = f"{PROGRAM}: warning: "


def error_line(text: str) -> str:
    """How an error looks."""
    return _ERROR_HEAD + one_line(text)


def warning_line(text: str) -> str:
    """How a warning looks."""
    return _WARNING_HEAD + one_line(text)


def say(line: str, priority: int | None = None) -> None:
    """Write a line to stderr at once; where nobody can read it any more, that is not an error.

    ``priority`` is for the journal; unless given, it is that of an error or a warning if the line
    looks like one, and else INFO.
    """
    if goes_to_journal():
        mark = f"<{_priority_of(line) if priority is None else priority}>"
        line = "\n".join(mark + part for part in line.splitlines() or [""])
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def goes_to_journal() -> bool:
    """Whether stderr is the journal's, and not something that a service has put in its place.

    systemd says by device and inode which it has given to the service (systemd.exec(5),
    JOURNAL_STREAM); a program that is called with its stderr elsewhere inherits the variable.
    """
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream:
        return False
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # none, closed, or without a descriptor
        return False
    return stream == f"{found.st_dev}:{found.st_ino}"


def _priority_of(line: str) -> int:
    if line.startswith(_ERROR_HEAD):
        return ERROR
    return WARNING if line.startswith(_WARNING_HEAD) else INFO


def drop_output(descriptor: int) -> None:
    """From now on what is written there goes nowhere: whoever read it is gone."""
    with suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
