"""Fixtures of the source's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from .small_store import SmallStore, write_small_store


@pytest.fixture
def store(tmp_path: Path) -> SmallStore:
    return write_small_store(tmp_path)
