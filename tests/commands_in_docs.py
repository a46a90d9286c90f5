"""The command lines that stand in the documentation, as words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

_BLOCK = re.compile(r"^```sh\n(?P<fenced>.*?)^```$|(?P<indented>(?:^ {4}.*\n)+)", re.M | re.S)
_ASSIGNMENT = re.compile(r"\w+=.*")


@dataclass(frozen=True)
class CommandLine:
    """Words after ``pbs-push``, and where they stand."""

    page: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: pbs-push {shlex.join(self.words)}"


def command_lines(page: Path) -> Iterator[CommandLine]:
    """Each line of a block of code that calls the command."""
    for block in _BLOCK.finditer(page.read_text()):
        text = block["fenced"] or block["indented"] or ""
        for line in text.replace("\\\n", " ").splitlines():
            words = _words(line)
            if words[:1] == ["pbs-push"]:
                yield CommandLine(page, tuple(words[1:]))


def _words(line: str) -> list[str]:
    """As a shell takes them, up to a pipe or the next command; what is set before is left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.wordchars += ":!@…%[]"
    try:
        words = list(lexer)
    except ValueError:  # prose, or a picture
        return []
    for index, word in enumerate(words):
        if set(word) <= set("|&;<>()"):
            words = words[:index]
            break
    while words and _ASSIGNMENT.fullmatch(words[0]):
        del words[0]
    return words
