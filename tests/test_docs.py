"""The examples in docs and docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]


def test_library_guide() -> None:
    found = doctest.testfile(str(_ROOT / "docs" / "library.md"), module_relative=False)
    assert found.attempted > 20
    assert found.failed == 0


@pytest.mark.parametrize(
    "name", ["pbs_push", "pbs_push.target", "pbs_push.testing", "pbs_push.formats.index"]
)
def test_docstrings(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_readme_names_files_that_exist() -> None:
    text = (_ROOT / "README.md").read_text()
    for part in text.split("](")[1:]:
        link = part.split(")")[0]
        assert link.startswith("https://") or (_ROOT / link).exists(), link
