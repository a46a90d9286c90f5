"""What the tests of the target's client side share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from .servers import Identity, new_identity


@pytest.fixture(scope="session")
def identity() -> Identity:
    return new_identity()


@pytest.fixture(scope="session")
def other_identity() -> Identity:
    return new_identity()


@pytest.fixture
def spools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that temporary files are made in."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # what it has found before
    return tmp_path


@pytest.fixture
def spooled(spools: Path, open_below: Callable[[Path], list[str]]) -> Callable[[], list[str]]:
    """Tells which temporary files are open."""
    return partial(open_below, spools)
