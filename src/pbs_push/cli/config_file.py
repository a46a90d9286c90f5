"""The configuration file of ``pbs-push run``: named pushes, and what they share.

It is TOML (docs/configuration.md). This module reads its tables; what their keys mean is for
``configured.py``.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pbs_push.cli.mistakes import Mistakes
from pbs_push.cli.toml_lines import key_lines, line_of
from pbs_push.errors import ConfigError, os_reason

NAME: Final = "pbs-push.toml"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_PLACE: Final = re.compile(r"\(at (?:line (\d+), column \d+|end of document)\)")
_TABLES: Final = ("defaults", "push")
_MAX_BYTES: Final = 4 << 20

_SECRET: Final = frozenset(("password-file", "password-command", "password-env"))
_KEY_SECRET: Final = frozenset(f"encryption-{key}" for key in _SECRET)
INSTEAD: Final = (
    (_SECRET, _SECRET),
    (_KEY_SECRET, _KEY_SECRET),
    (frozenset(("remote",)), frozenset(("repository", "fingerprint")) | _SECRET),
    (frozenset(("repository",)), frozenset(("remote", "remote-store"))),
    (frozenset(("keyfile",)), frozenset(("encryption-key",))),
    (frozenset(("encryption-key",)), frozenset(("keyfile",)) | _KEY_SECRET),
)
"""Where a push says one of the first, the second ones of the defaults do not count for it."""


def default_path() -> Path:
    """/etc/pbs-push.toml, or where there is none the user's own."""
    system = Path("/etc") / NAME
    if system.exists():
        return system
    home = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    own = Path(home) / NAME
    return own if own.exists() else system


@dataclass(frozen=True, slots=True)
class PushTable:
    """A table ``[push.NAME]`` with what it has of ``[defaults]``."""

    name: str
    values: Mapping[str, Any]
    origins: Mapping[str, str]
    """``file:line: `` of each key."""
    origin: str

    def without(self, keys: Collection[str]) -> PushTable:
        """The same without some keys."""
        values = {key: value for key, value in self.values.items() if key not in keys}
        return replace(self, values=values)

    def place(self, key: str | None = None) -> str:
        """``file:line: `` of a key, or of the table; for messages."""
        return self.origin if key is None else self.origins.get(key, self.origin)


class ConfigFile:
    """A file that was read; ``warnings`` say what somebody should mend."""

    def __init__(self, path: Path, text: str, warnings: Iterable[str] = ()) -> None:
        self.path: Final = path
        self.warnings: Final = tuple(warnings)
        try:
            self._content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(_syntax(path, text, str(error))) from None
        except RecursionError:
            raise ConfigError(f"{path}: something in it is nested too deep") from None
        self._lines = key_lines(text)

    @classmethod
    def load(cls, path: Path | None) -> ConfigFile:
        """Read a file, None: that of ``default_path``. Raises ConfigError."""
        path = default_path() if path is None else path
        try:
            with open(path, "rb", opener=_opened) as file:
                content = file.read(_MAX_BYTES)
                warnings = list(_access_warnings(path, os.fstat(file.fileno())))
            return cls(path, content.decode("utf-8"), warnings)
        except OSError as error:
            raise ConfigError(f"configuration {path}: {os_reason(error)}") from None
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise ConfigError(f"{path}:{line}: it is not UTF-8 text") from None

    def place(self, *keys: str) -> str:
        """``file:line: `` of a key, for messages."""
        return f"{self.path}:{line_of(self._lines, keys)}: "

    def pushes(self) -> list[PushTable]:
        """All pushes, in the order of the file. Raises ConfigError for tables that are none."""
        mistakes = Mistakes()
        for key in self._content:
            if key not in _TABLES:
                mistakes.add(f"{self.place(key)}{unknown(key, _TABLES)}")
        defaults: Mapping[str, Any] = {}
        named: Mapping[str, Any] = {}
        found = []
        with mistakes.gathered():
            defaults = self._table("defaults")
        with mistakes.gathered():
            named = self._table("push")
        for name in named:
            with mistakes.gathered():
                found.append(self._push(name, defaults))
        mistakes.tell()
        if not named:
            raise ConfigError(f"{self.path}: there is no [push.NAME] in it")
        return found

    def _push(self, name: str, defaults: Mapping[str, Any]) -> PushTable:
        if _NAME.fullmatch(name) is None:
            raise ConfigError(
                f"{self.place('push', name)}'{name}' cannot be the name of a push: it may have "
                "letters, digits, '.', '_' and '-'"
            )
        own = self._table("push", name)
        dropped = frozenset(own).union(*(gone for said, gone in INSTEAD if said & set(own)))
        taken = {key: value for key, value in defaults.items() if key not in dropped}
        origins = {key: self.place("defaults", key) for key in taken}
        origins |= {key: self.place("push", name, key) for key in own}
        return PushTable(name, {**taken, **own}, origins, self.place("push", name))

    def _table(self, *path: str) -> Mapping[str, Any]:
        found: Any = self._content
        for part in path:
            found = found.get(part, {})
        if not isinstance(found, dict):
            raise ConfigError(f"{self.place(*path)}'{'.'.join(path)}' must be a table")
        return found


def _opened(path: str, flags: int) -> int:
    """Open a file; a FIFO that nobody writes to is empty, and not waited for."""
    opened_fd = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(opened_fd, True)
    return opened_fd


def unknown(key: str, known: Iterable[str]) -> str:
    """What to say of a key that there is not."""
    near = difflib.get_close_matches(key, list(known), 1)
    return f"'{key}' is not known" + (f": did you mean '{near[0]}'?" if near else "")


def _syntax(path: Path, text: str, message: str) -> str:
    """An error of the parser, which tells the place behind it."""
    found = _PLACE.search(message)
    line = found[1] if found and found[1] else text.count("\n") + 1
    return f"{path}:{line}: {_PLACE.sub('', message).strip()}"


def _access_warnings(path: Path, status: os.stat_result) -> Iterator[str]:
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield f"{path}: others may write to it, and so say what is pushed and run: chmod go-w"
    if status.st_uid not in (0, os.geteuid()):
        yield f"{path}: it belongs to another user, who may say what is pushed and run"
