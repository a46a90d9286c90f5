"""The target answers about the golden datastore what protocol/rest.md says of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.references import GOLDEN

from pbs_push.target import TargetServer

from .golden import ask, read, serve

READING = sorted(path.stem for path in (GOLDEN / "rest").glob("*.json"))
CHAINS = sorted(path.stem for path in (GOLDEN / "rest-chains").glob("*.json"))


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TargetServer]:
    yield from serve(tmp_path_factory.mktemp("stores"), copied=False)


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[TargetServer]:
    yield from serve(tmp_path, copied=True)


@pytest.mark.parametrize("name", READING)
def test_reading(unchanged: TargetServer, name: str) -> None:
    ask(unchanged.address, read(GOLDEN / "rest" / f"{name}.json"))


@pytest.mark.parametrize("name", CHAINS)
def test_changing(changing: TargetServer, name: str) -> None:
    steps = read(GOLDEN / "rest-chains" / f"{name}.json")["steps"]
    assert steps
    for step in steps:
        ask(changing.address, step)
