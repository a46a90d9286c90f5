"""A quick part of the table of faults; ``make faults`` is the whole (CONTRIBUTING.md, "Faults")."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cases import Aims, Case, run_case
from .disturbances import Disturbance, Place, all_of_them
from .failing_calls import build
from .scene import Templates
from .strikes import FAULTS, REST
from .worlds import live

SEED = 20261127
ONE_OF_EACH = (
    "source breaks: indexes shrink to nothing after upgrade",
    "source breaks: chunks vanish before POST dynamic_chunk",
    "source breaks: the source is unmounted before POST finish",
    "disk of the source: EIO once reading chunks, after 0",
    "full disk: there: ENOSPC writing tmp_didx, after 0",
    "full disk: of what takes the output",
    "limit: 12 open files",
    "limit: 96 MiB of addresses",
    "target killed: at boundary 61, retries 25",
)
"""By their names; of signals there are as many in ``tests/cli/test_interrupts.py``."""


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    return Templates.make(tmp_path_factory.mktemp("faults") / "templates")


@pytest.fixture(scope="module")
def aims(templates: Templates, tmp_path_factory: pytest.TempPathFactory) -> Aims:
    return Aims.found(templates, tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("library"))


def test_every_kind_of_request_is_struck(aims: Aims) -> None:
    """All that a push may ask: who adds one adds it to what the scene makes necessary."""
    session = {
        *("previous", "POST fixed_index", "POST dynamic_index", "POST fixed_chunk"),
        *("POST dynamic_chunk", "PUT fixed_index", "PUT dynamic_index", "POST fixed_close"),
        *("POST dynamic_close", "POST blob", "POST finish", "manifest"),
    }
    assert set(aims.aims) == set(REST) | session


def _sample(aims: Aims) -> Iterator[Case]:
    """Each fault once, with kinds of requests by chance, the same ones each time."""
    chance = random.Random(SEED)  # noqa: S311
    cases = list(aims.cases())
    chance.shuffle(cases)
    seen: set[str] = set()
    for case in cases:
        if case.fault not in seen:
            seen.add(case.fault)
            yield case
    assert seen == set(FAULTS)


def test_each_fault_costs_at_most_what_it_struck(
    templates: Templates, aims: Aims, tmp_path: Path
) -> None:
    found = []
    for number, case in enumerate(_sample(aims)):
        place = tmp_path / f"{number}"
        place.mkdir()
        result = run_case(templates, aims, case, place)
        found += [f"{case}: {one}" for one in result.violations]
    assert found == []


def _named(name: str) -> Disturbance:
    [found] = [one for one in all_of_them() if str(one) == name]
    return found


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_one_disturbance_of_each_sort(
    name: str, templates: Templates, library: Path, tmp_path: Path
) -> None:
    happened = _named(name).happen(Place(templates, tmp_path, library))
    assert happened.violations == []
    assert happened.outcome != "did not strike"


def test_a_short_life_of_two_stores(tmp_path: Path) -> None:
    did = live(tmp_path, SEED, seconds=60, steps=25)
    assert sum(count for name, count in did.items() if name != "pushes") == 25
