"""docs/design.md stays the map of the code: what it names exists, and what exists it names."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_PACKAGE = _ROOT / "src" / "pbs_push"
_CSRC = _ROOT / "csrc"
_TEXT = (_ROOT / "docs" / "design.md").read_text()

_IN_BACKTICKS = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"[\w./-]+(?:\.(?:py|pyi|pyx|pxd|c|h|md)|/)")
_CODE = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")

_TOLD_BY_MODULE = ("push", "remote", "verify")
"""Packages of which each module is named, as all of csrc are."""


def _named() -> set[str]:
    """All that stands in backticks, but in pictures."""
    text = re.sub(r"^```.*?^```$", "", _TEXT, flags=re.DOTALL | re.MULTILINE)
    return set(_IN_BACKTICKS.findall(text))


def _words_of_the_code() -> set[str]:
    files = [
        *_PACKAGE.rglob("*.py"),
        *_PACKAGE.rglob("*.p[xy][xdi]"),
        *_CSRC.rglob("*.[ch]"),
        *(_ROOT / "tests").rglob("*.py"),
    ]
    words = {path.stem for path in files}
    for path in files:
        if path != Path(__file__):
            words.update(re.findall(r"\w+", path.read_text()))
    return words


def _rows() -> Iterator[tuple[str, set[str]]]:
    """Each package of the table of rooms, and what it may import."""
    for line in _TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        room = re.fullmatch(r"`(\w+)/`", cells[0])
        if room and (_PACKAGE / room[1]).is_dir():
            yield room[1], set() if cells[2] == "nothing" else set(cells[2].split(", "))


def test_files_that_are_named_exist() -> None:
    files = [name for name in _named() if _FILE.fullmatch(name)]
    assert len(files) > 100
    gone = [name for name in files if not any((at / name).exists() for at in (_ROOT, _PACKAGE))]
    assert gone == []


def test_code_that_is_named_exists() -> None:
    words = _words_of_the_code()
    names = [name for name in _named() if _CODE.fullmatch(name)]
    assert len(names) > 100
    assert [name for name in names if not words.issuperset(name.split("."))] == []


def test_rooms_are_all_named_with_their_arrows() -> None:
    architecture = runpy.run_path(str(_ROOT / "tests" / "test_architecture.py"))
    packages = {path.parent.name for path in _PACKAGE.glob("*/__init__.py")}
    rows = dict(_rows())
    assert set(rows) == packages
    assert rows == architecture["_MAY_IMPORT"]


@pytest.mark.parametrize("room", _TOLD_BY_MODULE)
def test_modules_are_all_named(room: str) -> None:
    modules = {f"{room}/{path.name}" for path in (_PACKAGE / room).glob("[!_]*.py")}
    assert modules - _named() == set()


def test_c_modules_are_all_named() -> None:
    assert {path.stem for path in _CSRC.glob("pbs_*.[ch]")} - _named() == set()
