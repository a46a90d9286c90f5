"""Section config, of all files but ``acl.cfg`` (protocol/access.md, "Section config").

::

    remote: offsite
        host pbs.example.org
        auth-id sync@pbs!push

Only the syntax is handled here: which keys there are, and which may repeat, is said by the model
(``model.py``). Values may be secrets, so no message and no repr of this module shows one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from pbs_push.access.files import numbered_lines, read_config
from pbs_push.errors import ConfigError

_BLANKS: Final = " \t"
_HEADER = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]*):[ \t]*([^ \t](?:.*[^ \t])?)[ \t]*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line ``key value`` of a section. The value is kept out of the repr."""

    key: str
    value: str = field(repr=False)
    line: int


@dataclass(frozen=True, slots=True)
class Section:
    """A section: ``type: id`` on ``line`` of the file ``origin``, and its entries in order."""

    type: str
    id: str
    line: int
    entries: tuple[Entry, ...] = ()
    origin: str = ""

    def error(self, problem: str, *, line: int | None = None) -> ConfigError:
        """A ConfigError that names file, line (by default the section's first) and section."""
        where = f"{self.origin}:{self.line if line is None else line}"
        return ConfigError(f"{where}: {self.type} '{self.id}': {problem}")

    def values(self, key: str) -> list[str]:
        """All values of ``key``, in order."""
        return [entry.value for entry in self.entries if entry.key == key]

    def single(self, key: str) -> str | None:
        """The value of ``key``, None without one. Raises ConfigError if it stands twice."""
        found = [entry for entry in self.entries if entry.key == key]
        if len(found) > 1:
            raise self.error(
                f"key '{key}' stands here again, first in line {found[0].line}; keep one of them",
                line=found[1].line,
            )
        return found[0].value if found else None

    def line_of(self, key: str) -> int:
        """The line on which ``key`` stands first; the section's own line without one."""
        return next((entry.line for entry in self.entries if entry.key == key), self.line)


@dataclass(frozen=True, slots=True)
class SectionConfig:
    """A section config file: its sections, in order. ``origin`` names it in messages."""

    origin: str
    sections: tuple[Section, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file; one that does not exist has no sections. Raises ConfigError."""
        text = read_config(path)
        return cls(str(path)) if text is None else cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, origin: str) -> Self:
        """Read the text of a file. Raises ConfigError naming ``origin`` and the line."""
        reader = _Reader(origin)
        for number, line in numbered_lines(text):
            reader.take(number, line)
        return cls(origin, reader.finish())

    def of_type(self, section_type: str) -> list[Section]:
        """The sections of one type, in the file's order."""
        return [section for section in self.sections if section.type == section_type]

    def find(self, section_type: str, section_id: str) -> Section | None:
        """One section, None if there is none of this type and id."""
        return next((s for s in self.of_type(section_type) if s.id == section_id), None)

    def require(self, section_type: str, section_id: str) -> Section:
        """One section. Raises ConfigError, which names those there are."""
        section = self.find(section_type, section_id)
        if section is None:
            known = ", ".join(sorted(s.id for s in self.of_type(section_type))) or "none"
            raise ConfigError(f"no {section_type} '{section_id}' in {self.origin} (there: {known})")
        return section


class _Reader:
    """Takes the lines of one file, one after the other."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._done: dict[tuple[str, str], Section] = {}
        self._header: tuple[str, str, int] | None = None
        self._entries: list[Entry] = []

    def take(self, number: int, line: str) -> None:
        if not line.strip(_BLANKS):
            self._end_section()
        elif line[0] in _BLANKS:
            self._take_entry(number, line.strip(_BLANKS))
        else:
            self._end_section()
            self._take_header(number, line)

    def finish(self) -> tuple[Section, ...]:
        self._end_section()
        return tuple(self._done.values())

    def _take_header(self, number: int, line: str) -> None:
        matched = _HEADER.fullmatch(line)
        if matched is None:
            raise ConfigError(
                f"{self._origin}:{number}: expected 'TYPE: ID' at the line's begin; "
                "the keys of a section are indented"
            )
        section_type, section_id = matched[1], matched[2]
        first = self._done.get((section_type, section_id))
        if first is not None:
            raise ConfigError(
                f"{self._origin}:{number}: {section_type} '{section_id}' stands here again, "
                f"first in line {first.line}; keep one of them"
            )
        self._header = (section_type, section_id, number)

    def _take_entry(self, number: int, text: str) -> None:
        if self._header is None:
            raise ConfigError(
                f"{self._origin}:{number}: an indented line outside of a section; "
                "a blank line ends a section"
            )
        key, *rest = re.split(r"[ \t]+", text, maxsplit=1)
        self._entries.append(Entry(key, rest[0] if rest else "", number))

    def _end_section(self) -> None:
        if self._header is None:
            return
        section_type, section_id, line = self._header
        self._done[section_type, section_id] = Section(
            section_type, section_id, line, tuple(self._entries), self._origin
        )
        self._header = None
        self._entries = []
