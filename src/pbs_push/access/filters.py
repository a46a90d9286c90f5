"""Group filters: which groups a push takes (protocol/access.md, "Group filters").

A regular expression here is one of Rust's ``regex`` crate: no look-around, no back references,
and the time to match is linear. RE2 has the same limits and nearly the same syntax, so it does the
matching; Python's ``re`` would take expressions that PBS refuses, and some for ever. The few
constructs that both engines accept with another meaning, and those that only RE2 knows, are
refused by ``_check_portable``: with ``remove-vanished``, a filter misread could delete backups.
(Both may differ in what they call a digit or a letter outside of ASCII; group names are ASCII.)
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from pbs_push.errors import ConfigError, InvalidName
from pbs_push.names import BACKUP_TYPES, Group

_INCLUDE: Final = "include:"
_EXCLUDE: Final = "exclude:"
_KINDS: Final = ("type", "group", "regex")

_TOKEN = re.compile(
    r"(?P<escape>\\(?:[pPx]\{[^}]*\}|.))|(?P<posix>\[:\^?\w+:\])|(?P<open>\[\^?\]?)"
    r"|(?P<repeat>\{\d+(?:,\d*)?\})|(?P<setop>&&|--|~~)|.",
    re.DOTALL | re.ASCII,
)
_FOREIGN_ESCAPES: Final = frozenset("<>QEC")
"""Word boundaries to one engine and brackets to the other, or known to RE2 only."""


@dataclass(frozen=True, slots=True)
class GroupFilter:
    """One filter. ``kind`` is ``type``, ``group`` or ``regex``; ``value`` what follows it.

    Raises ConfigError where the value is not a backup type, group, or regular expression.
    """

    kind: str
    value: str
    exclude: bool = False

    def __post_init__(self) -> None:
        if self.kind == "type" and self.value not in BACKUP_TYPES:
            raise ConfigError(f"group filter '{self}': the types are vm, ct and host")
        if self.kind == "group":
            try:
                Group.parse(self.value)
            except InvalidName as error:
                raise ConfigError(f"group filter '{self}': {error}") from None
        if self.kind == "regex":
            _searcher(self.value)
        if self.kind not in _KINDS:
            raise ConfigError(f"group filter '{self}': expected type:…, group:… or regex:…")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``[include:|exclude:]type:vm``, ``…group:vm/100``, ``…regex:RE``.

        Everything after ``regex:`` is the expression, colons included. Raises ConfigError.
        """
        exclude = text.startswith(_EXCLUDE)
        kind, colon, value = text.removeprefix(_EXCLUDE if exclude else _INCLUDE).partition(":")
        if not colon:
            raise ConfigError(f"group filter '{text}': expected type:…, group:… or regex:…")
        return cls(kind, value, exclude)

    def matches(self, group: Group) -> bool:
        """Whether the filter speaks of this group, be it to include or to exclude it."""
        if self.kind == "type":
            return group.backup_type == self.value
        if self.kind == "group":
            return str(group) == self.value
        return _searcher(self.value)(str(group))

    def __str__(self) -> str:
        """As PBS writes it: ``include:`` is left out."""
        return f"{_EXCLUDE if self.exclude else ''}{self.kind}:{self.value}"


@dataclass(frozen=True, slots=True)
class GroupFilters:
    """The filters of a push, whose order does not matter."""

    filters: tuple[GroupFilter, ...] = ()

    def accepts(self, group: Group) -> bool:
        """Whether a push takes this group.

        It does if there is no including filter or one matches, and no excluding filter matches.
        """
        if not self.filters:
            return True
        includes = [filter_ for filter_ in self.filters if not filter_.exclude]
        if includes and not any(filter_.matches(group) for filter_ in includes):
            return False
        return not any(filter_.exclude and filter_.matches(group) for filter_ in self.filters)


@functools.lru_cache(maxsize=256)
def _searcher(expression: str) -> Callable[[str], bool]:
    """A function that tells whether ``expression`` matches anywhere in a text."""
    import re2  # type: ignore[import-untyped]  # noqa: PLC0415  (few pushes have one)

    _check_portable(expression)
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(expression, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ConfigError(
            f"regular expression '{expression}': {text} "
            "(as in PBS, there are no look-around and no back references)"
        ) from None
    except UnicodeEncodeError:
        raise ConfigError("a regular expression in a group filter is not UTF-8 text") from None
    return lambda text: compiled.search(text) is not None


def _check_portable(expression: str) -> None:
    """Refuse what PBS's engine would read in another way than RE2, or not at all."""
    in_class = False
    for token in _TOKEN.finditer(expression):
        text = token[0]
        problem = None
        if token["escape"]:
            if text[1].isdigit():
                problem = f"back references and octal numbers ('{text}') are not supported"
            elif text[1] in _FOREIGN_ESCAPES:
                problem = f"'{text}' is not supported; write the characters themselves"
        elif in_class and text == "]":
            in_class = False
        elif in_class and token["setop"]:
            problem = f"set operations in a class ('{text}') are not supported"
        elif in_class and token["open"]:
            problem = "a class within a class is not supported; write '\\[' for a bracket"
        elif token["open"]:
            in_class = True
        elif text == "{" and not in_class:
            problem = "'{' starts no repetition such as {2,5}; write '\\{' for a brace"
        if problem:
            raise ConfigError(f"regular expression '{expression}': {problem}")
