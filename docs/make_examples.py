"""Writes docs/examples.md from the programs in docs/examples: python docs/make_examples.py.

A test compares the two, so that the page shows what is run.
"""

from __future__ import annotations

import ast
from pathlib import Path

PAGE = Path(__file__).with_name("examples.md")
PROGRAMS = Path(__file__).with_name("examples")
ORDER = ("progress", "in_event_loop", "outcomes", "proof", "own_snapshot", "test_nightly", "place")

_HEAD = """# Examples

Small programs around [the library](library.md), each run by the tests as it stands here. They are
in `docs/examples` of the repository. Without arguments they make up a small datastore and an
embedded target; where `PBS_REPOSITORY` names a target, `PBS_PASSWORD` and `PBS_FINGERPRINT` are
those of it, and `SOURCE` is the path of a datastore.

This page is made from the programs by `python docs/make_examples.py`.
"""


def page() -> str:
    """The whole page."""
    return "\n".join((_HEAD, *map(_shown, ORDER)))


def _shown(name: str) -> str:
    text = (PROGRAMS / f"{name}.py").read_text()
    told = ast.get_docstring(ast.parse(text)) or ""
    title = told.partition("\n")[0].partition(":")[0].rstrip(".")
    return f"## {title}\n\n`{name}.py`\n\n```python\n{text}```\n"


if __name__ == "__main__":
    PAGE.write_text(page())
