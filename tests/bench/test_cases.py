"""The arguments of ``benchmarks/cases.py``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cases.py"


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--work", "no/such", "no/such: there is no such folder"),
        ("--cases", "image,imgae", "'imgae': no such case"),
        ("--rtt", "0,x", "'0,x'"),
        ("--output", "no/such/table.md", "no/such/table.md: there is no folder no/such"),
        ("--output", ".", ".: is a folder"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(option: str, value: str, text: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), option, value],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert text in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
