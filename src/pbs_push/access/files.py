"""Reading a configuration file of PBS: once, whole, as UTF-8 (protocol/access.md, "Files")."""

from __future__ import annotations

from pathlib import Path

from pbs_push.errors import ConfigError


def read_config(path: Path) -> str | None:
    """The text of ``path``; None where there is no such file, which PBS takes for "no entries".

    Raises ConfigError where the file is there but cannot be read: taking that for "no entries"
    could grant or deny rights by accident.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"reading {path}: {error.strerror}; is this user allowed to?") from error
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
    # Raised out here: the decoder's error carries the file's bytes, which may hold secrets.
    raise ConfigError(f"{path}:{line}: not UTF-8 text")


def numbered_lines(text: str) -> list[tuple[int, str]]:
    """The lines of ``text`` with their numbers from 1.

    A line ends with a newline, or carriage return and newline, and with nothing else: what
    ``str.splitlines`` splits at besides may stand in a comment.
    """
    return [(number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), 1)]
