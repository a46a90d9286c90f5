"""How a program that pushes is tested without a target: pytest test_nightly.py."""

from __future__ import annotations

from pathlib import Path

import pytest

import pbs_push
from pbs_push.testing import MemoryTarget, write_snapshot


def nightly(source: Path, target: pbs_push.Target) -> str:
    """The program: push all virtual machines, and say how it went in a line."""
    options = pbs_push.PushOptions(group_filters=["type:vm"], retries=0)
    try:
        report = pbs_push.push(source, target, options)
    except pbs_push.PbsPushError as error:
        return f"not begun: {error}"
    return f"{report.counts[pbs_push.Result.PUSHED]} pushed, {report.failed} failed"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two machines, and a container."""
    for group in ("vm/1", "vm/2", "ct/3"):
        files = {"disk.img.fidx": group.encode() * 99, "some.conf.blob": b"cores: 2"}
        write_snapshot(tmp_path / "main", f"{group}/2026-06-01T00:00:00Z", files)
    return tmp_path / "main"


def test_machines_are_pushed(source: Path) -> None:
    with MemoryTarget() as target:
        assert nightly(source, target) == "2 pushed, 0 failed"
        assert nightly(source, target) == "0 pushed, 0 failed"
        assert target.holds() == ["vm/1/2026-06-01T00:00:00Z", "vm/2/2026-06-01T00:00:00Z"]
        assert target.asked.count("POST finish") == 2


def test_one_fails_and_the_other_does_not(source: Path) -> None:
    with MemoryTarget() as target:
        target.refuse("POST finish", 500, "the disk is full")
        assert nightly(source, target) == "1 pushed, 1 failed"
        assert len(target.holds()) == 1


def test_no_rights(source: Path) -> None:
    with MemoryTarget(privileges=lambda _who, _path: frozenset()) as target:
        assert nightly(source, target).startswith("not begun: ")
