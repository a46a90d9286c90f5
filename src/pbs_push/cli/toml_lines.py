"""On which line of a TOML file a key stands: ``tomllib`` gives values, and no places."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Final

_TOKEN: Final = re.compile(
    r'''
      """(?:\\.|(?!""").)*"""(?:"{0,2})   # texts of several lines, which may end with quotes
    | \'{3}(?:(?!\'{3}).)*\'{3}\'{0,2}
    | "(?:\\.|[^"\\\n])*" | '[^'\n]*'
    | \#[^\n]*
    | [\[\]{}=\n]
    | [^\s"'\#\[\]{}=.,]+
    | .
    ''',
    re.DOTALL | re.VERBOSE,
)

Path = tuple[str, ...]


def key_lines(text: str) -> dict[Path, int]:
    """The line of each table and each key, counted from 1, of a text that ``tomllib`` takes.

    What stands within an inline table is not told. Of an array of tables the first one counts.
    """
    found: dict[Path, int] = {}
    for path, line in _statements(text):
        found.setdefault(path, line)
    return found


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """The line of a key, or of what it stands in, if nothing tells more."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _statements(text: str) -> Iterator[tuple[Path, int]]:
    """Each header of a table, and each key with its table's path."""
    table: Path = ()
    parts: list[str] = []
    line, depth = 1, 0
    in_header = in_value = False
    for match in _TOKEN.finditer(text):
        piece = match[0]
        if piece == "\n" and not depth:
            if in_header:
                table = tuple(parts)
            parts, in_header, in_value = [], False, False
        elif in_value:
            depth += (piece in "[{") - (piece in "]}")
        elif piece == "[":
            in_header = True
        elif piece == "]":
            yield tuple(parts), line
        elif piece == "=":
            yield (*table, *parts), line
            in_value = True
        elif piece[0] not in "# \t\r.":
            parts.append(_name(piece))
        line += piece.count("\n")


def _name(piece: str) -> str:
    """A part of a key, without its quotes."""
    if piece[0] not in "\"'":
        return piece
    return str(tomllib.loads(f"name = {piece}")["name"])
