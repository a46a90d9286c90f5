"""Lines for people on stderr: one each, whatever text goes in."""

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


def error_line(text: str) -> str:
    """How an error looks."""
    return f"{PROGRAM}: error: {one_line(text)}"


def warning_line(text: str) -> str:
    """How a warning looks."""
    return f"{PROGRAM}: warning: {one_line(text)}"


def say(line: str) -> None:
    """Write a line to stderr at once; where nobody can read it any more, that is not an error."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def drop_output(descriptor: int) -> None:
    """From now on what is written there goes nowhere: whoever read it is gone."""
    with suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
