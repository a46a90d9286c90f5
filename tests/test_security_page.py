"""Each claim of docs/security.md has a test, and that test is there."""

from __future__ import annotations

import re
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_PAGE = (_ROOT / "docs" / "security.md").read_text()


def _claims() -> list[list[str]]:
    """The cells of each row of a table but its head."""
    rows = [line for line in _PAGE.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [row for row in cells if row[0] not in ("claim", "---")]


def test_each_claim_names_tests_that_are_there() -> None:
    known = {
        name
        for path in (_ROOT / "tests").rglob("*.py")
        for name in re.findall(r"^\s*def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    claims = _claims()
    assert len(claims) > 18
    for claim, tests in claims:
        named = re.findall(r"`([^`]+)`", tests)
        assert named, claim
        gone = [
            one for one in named if one not in known and not ("/" in one and (_ROOT / one).exists())
        ]
        assert gone == [], claim
