"""Fixtures of the push's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pbs_push.push import retries as retries_module

from .pools import Pools
from .world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two empty datastores; the target starts when it is first needed."""
    with World(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def pools() -> Iterator[Pools]:
    with Pools() as made:
        yield made


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries_module, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(retries_module, "_LONGEST_PAUSE_S", 0.1)
