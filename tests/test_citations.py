"""Citations of docs/protocol lead somewhere: a page and a heading (protocol/README.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_PAGES = _ROOT / "docs" / "protocol"
_PLACES = ("src", "csrc", "tests", "benchmarks", "docs")
_KINDS = (".py", ".pyi", ".pyx", ".pxd", ".c", ".h", ".md")

_CITED = re.compile(r'protocol/(?P<page>[\w-]+)\.md(?P<headings>(?:,\s+(?:and\s+)?"[^"]+")*)')
_HEADING = re.compile(r'"([^"]+)"')
_LINK = re.compile(r"\]\((?P<page>[\w./-]+\.md)?(?:#(?P<anchor>[\w-]+))?\)")


def _files() -> list[Path]:
    found = [
        path
        for place in _PLACES
        for path in (_ROOT / place).rglob("*")
        if path.suffix in _KINDS and path != Path(__file__)
    ]
    # What Cython made of a .pyx has its comments, too.
    made = {path.with_suffix(".c") for path in found if path.suffix == ".pyx"}
    return [path for path in found if path not in made]


def _text(path: Path) -> str:
    """A file as running text: marks of comments and string literals joined at line ends."""
    return re.sub(r"\s*\n\s*(?:\*|//|#)?\s*", " ", path.read_text())


def _headings(page: Path) -> set[str]:
    return set(re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE))


def _citations() -> Iterator[tuple[Path, str, list[str]]]:
    for path in _files():
        for found in _CITED.finditer(_text(path)):
            yield path, found["page"], _HEADING.findall(found["headings"])


def test_citations_lead_somewhere() -> None:
    dead = []
    count = 0
    for path, name, headings in _citations():
        count += 1
        page = _PAGES / f"{name}.md"
        if not page.is_file():
            dead.append(f"{path.relative_to(_ROOT)}: {name}.md")
            continue
        known = _headings(page)
        dead += [f"{path.relative_to(_ROOT)}: {name}.md, {h}" for h in headings if h not in known]
    assert dead == []
    assert count > 100


def test_nothing_outside_of_the_repository_is_cited() -> None:
    """Pages that readers do not have: `spec 03` and the like."""
    found = [
        str(path.relative_to(_ROOT))
        for path in _files()
        if re.search(r"\bspec 0\d|\bshared/spec\b", path.read_text())
    ]
    assert found == []


def _anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", sorted((_ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.finditer(page.read_text()):
        other = page if link["page"] is None else page.parent / link["page"]
        assert other.is_file(), link[0]
        if link["anchor"] is not None:
            assert link["anchor"] in {_anchor(one) for one in _headings(other)}, link[0]
