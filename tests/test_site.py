"""The pages of the site: all can be reached, and what they quote is what the program says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from pbs_push.access.jobs import SyncJob
from pbs_push.push.options import OPTIONS

_ROOT = Path(__file__).parents[1]
_DOCS = _ROOT / "docs"
_HOLE = "\0"


def test_each_page_is_in_the_navigation() -> None:
    named = set(re.findall(r": ([\w/-]+\.md)$", (_ROOT / "mkdocs.yml").read_text(), re.M))
    assert named == {str(path.relative_to(_DOCS)) for path in _DOCS.rglob("*.md")}


def test_nothing_comes_from_elsewhere() -> None:
    text = (_ROOT / "mkdocs.yml").read_text()
    assert "font: false" in text
    assert "http" not in text
    for path in _DOCS.rglob("*.svg"):
        assert set(re.findall(r"https?://[^\"]+", path.read_text())) <= {
            "http://www.w3.org/2000/svg"
        }


def _job_rows() -> dict[str, str]:
    """Each key of ``sync.cfg`` in the table, and what it is here."""
    text = (_DOCS / "from-pbs-sync-job.md").read_text()
    text = text[text.index("| sync.cfg |") :].split("\n\n")[0]
    rows: dict[str, str] = {}
    for line in text.splitlines()[2:]:
        keys, here, _ = (cell.strip() for cell in line.strip("|").split(" | "))
        rows |= {key: here.strip("`") for key in re.findall(r"`([\w-]+)`", keys)}
    return rows


def test_each_key_of_a_job_is_told() -> None:
    names = set(SyncJob.model_fields) - {"name", "unknown", "origin", "lines"}
    assert set(_job_rows()) == {name.replace("_", "-") for name in names}


def test_each_key_has_the_option_that_does_the_same() -> None:
    flags = {option.job: option.flag for option in OPTIONS.values() if option.job}
    rows = _job_rows()
    assert {key: rows[key] for key in flags} == flags


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """All texts of the package, with a hole for each thing that is filled in."""
    found = []
    for path in (_ROOT / "src" / "pbs_push").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if id(node) in docstrings:
                continue
            if isinstance(node, ast.JoinedStr):
                parts = (
                    str(part.value) if isinstance(part, ast.Constant) else _HOLE
                    for part in node.values
                )
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


_MESSAGES = re.findall(r"^### `(.*)`$", (_DOCS / "troubleshooting.md").read_text(), re.M)


def test_there_are_messages() -> None:
    assert len(_MESSAGES) > 40
    assert len(set(_MESSAGES)) == len(_MESSAGES)


@pytest.mark.parametrize("message", _MESSAGES)
def test_each_message_is_one_of_ours(message: str, texts: list[str]) -> None:
    pattern = re.compile(".*".join(re.escape(part) for part in message.split("…")), re.S)
    assert any(pattern.search(text) for text in texts), "no text of the package is like that"
