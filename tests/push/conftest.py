"""Fixtures of the push's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two empty datastores; the target starts when it is first needed."""
    with World(tmp_path) as made:
        yield made
