"""What a push costs grows with what there is to do, and not faster: calls are counted, not time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from pbs_push.push.coordinator import _UnderWay
from pbs_push.push.engine import Push
from pbs_push.push.options import PushOptions
from pbs_push.push.source_marks import no_longer_due

from .world import World

FEW, MANY = 6, 24
"""Four times as many; a quadratic part that matters would be sixteen times as much."""


class Calls:
    """Counts calls of functions while it is entered: ours, and those of C that ours make."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Calls:
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]

    def _profile(self, frame: FrameType, event: str, _argument: object) -> None:
        if event in ("call", "c_call"):
            file = frame.f_code.co_filename
            self.count += "/pbs_push/" in file and "/pbs_push/target/" not in file


def groups(world: World, count: int) -> None:
    for number in range(count):
        world.source.add(f"vm/{number}", 0)


def snapshots(world: World, count: int) -> None:
    world.source.add("vm/1", *range(count))


def namespaces(world: World, count: int) -> None:
    for number in range(count):
        world.source.add("vm/1", 0, ns=f"n{number}")


def archives(world: World, count: int) -> None:
    world.source.add("vm/1", 0, archives={f"a{number}.pxar.didx": "xyz" for number in range(count)})


def chunks(world: World, count: int) -> None:
    labels = [f"chunk {number}" for number in range(count * 20)]
    world.source.add("vm/1", 0, archives={"root.pxar.didx": labels})


def vanished_groups(world: World, count: int) -> None:
    groups(world, count)
    world.push()
    for number in range(1, count):
        rmtree(world.source.path / f"vm/{number}")


def vanished_snapshots(world: World, count: int) -> None:
    snapshots(world, count)
    world.push()
    for number in range(count - 1):
        rmtree(world.source.folder("vm/1", number))


FIRST = (groups, snapshots, namespaces, archives, chunks)


def costs(folder: Path, prepare: Callable[[World, int], None], count: int, **options: Any) -> int:
    """Calls of a push of so many, and of telling of it."""
    with World(folder / str(count)) as world:
        world.serve()
        prepare(world, count)
        with Calls() as calls:
            done = world.push(parallel=2, **options)
            done.report.to_dict()
        assert done.report.exit_status == 0, done.notes
    return calls.count


def each_more(folder: Path, prepare: Callable[[World, int], None], **options: Any) -> float:
    """How much dearer one of many is than one of few, what any push costs not counted."""
    base, few, many = (costs(folder, prepare, count, **options) for count in (1, FEW, MANY))
    return ((many - base) / (MANY - 1)) / ((few - base) / (FEW - 1))


@pytest.mark.parametrize("prepare", FIRST)
def test_a_first_push(tmp_path: Path, prepare: Callable[[World, int], None]) -> None:
    assert each_more(tmp_path, prepare) < 1.6


@pytest.mark.parametrize("prepare", [groups, snapshots, namespaces])
def test_nothing_new(tmp_path: Path, prepare: Callable[[World, int], None]) -> None:
    def pushed_before(world: World, count: int) -> None:
        prepare(world, count)
        world.push()

    assert each_more(tmp_path, pushed_before) < 1.6


@pytest.mark.parametrize("prepare", [vanished_groups, vanished_snapshots])
def test_removals(tmp_path: Path, prepare: Callable[[World, int], None]) -> None:
    assert each_more(tmp_path, prepare, remove_vanished=True) < 1.6


def test_a_push_of_many_groups_has_few_threads(tmp_path: Path) -> None:
    most = 0

    def count(_event: object) -> None:
        nonlocal most
        named = [one for one in threading.enumerate() if one.name.startswith("push-")]
        most = max(most, len(named))

    with World(tmp_path) as world:
        groups(world, 40)
        with world.target() as target:
            options = PushOptions(parallel=5)
            assert Push(world.datastore(), target, options, count).run().exit_status == 0
    assert 1 <= most <= 5


class Number(int):
    """A number that counts, for all of its kind, how often one is compared."""

    compared = 0

    def __le__(self, other: int) -> bool:
        Number.compared += 1
        return int.__le__(self, other)

    def __lt__(self, other: int) -> bool:
        Number.compared += 1
        return int.__lt__(self, other)


class Item:
    """A snapshot of the source that is marked; it counts how often one is compared."""

    compared = 0
    finished = True
    waits_for = ("there",)

    def __init__(self, number: int) -> None:
        self.number = number
        self.snapshot = SimpleNamespace(backup_time=Number(number))

    def __hash__(self) -> int:
        return hash(self.number)

    def __eq__(self, other: object) -> bool:
        Item.compared += 1
        return isinstance(other, Item) and self.number == other.number


def comparisons(work: Callable[[list[Any]], None], count: int) -> int:
    Number.compared = Item.compared = 0
    work([Item(number) for number in range(count)])
    return Number.compared + Item.compared


def looked_up(items: list[Any]) -> None:
    """What a job elsewhere has told of each snapshot of its group."""
    outcomes = [SimpleNamespace(oldest=Number(one.number), newest=one.number) for one in items]
    job = SimpleNamespace(plan=SimpleNamespace(snapshots=items))
    under_way = _UnderWay(job, SimpleNamespace(outcomes=outcomes))  # type: ignore[arg-type]
    assert [item for item, _ in under_way.told()] == items
    assert under_way.left() == []


def freed(items: list[Any]) -> None:
    """Which marks may go: none of those that are to be pushed."""
    assert no_longer_due(items, list(map(Item, range(len(items)))), (), "there") == ()


@pytest.mark.parametrize("work", [looked_up, freed])
def test_a_group_of_many_snapshots(work: Callable[[list[Any]], None]) -> None:
    few, many = comparisons(work, 100), comparisons(work, 400)
    assert 0 < many < 6 * few, "n log n; all with all would be sixteen times as many"
