"""A push in an event loop: its events, its end, and leaving it early."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing

import pytest

from pbs_push import Finished, Planned, PushOptions, SnapshotEnded, SnapshotStarted, apush
from pbs_push.errors import PbsPushError
from pbs_push.push.events import Event
from pbs_push.target import Faults

from .world import World, verify


def test_events_and_the_report(world: World) -> None:
    world.source.add("vm/1", 0, 1)

    async def go() -> list[Event | Finished]:
        with world.target() as target:
            return [event async for event in apush(world.datastore(), target)]

    events = asyncio.run(go())
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.report.exit_status == 0
    kinds = [type(event) for event in events]
    assert kinds.count(SnapshotStarted) == kinds.count(SnapshotEnded) == 2
    assert Planned in kinds
    world.settle()
    assert verify(world) == 2


def test_what_ends_it_is_raised(world: World) -> None:
    async def go() -> None:
        with world.target() as target:
            async for _ in apush(world.folder / "nowhere", target, PushOptions(retries=0)):
                pass

    with pytest.raises(PbsPushError):
        asyncio.run(go())


def test_leaving_the_loop_stops_the_push(world: World) -> None:
    world.source.add("vm/1", *range(8))
    started = threading.Event()

    def hold(kind: str, handled: bool) -> None:
        if kind == "POST finish" and not handled:
            started.wait(30)

    world.serve(faults=Faults(on_request=hold))

    async def go() -> None:
        with world.target() as target:
            async with aclosing(apush(world.datastore(), target)) as events:
                async for event in events:
                    if isinstance(event, SnapshotStarted):
                        started.set()
                        break

    asyncio.run(go())
    world.settle()
    assert len(world.there.times("vm/1")) < 8
    assert not any(thread.name == "apush" for thread in threading.enumerate())


def test_records_are_flat(world: World) -> None:
    world.source.add("vm/1", 0)
    world.source.add("vm/2", 0)
    world.there.add("vm/2", 1)
    report = world.push().report
    rows = report.records()
    assert {row["group"] for row in rows} == {"vm/1", "vm/2"}
    assert len({tuple(sorted(row)) for row in rows}) == 1
    assert all(not isinstance(value, dict | list) for row in rows for value in row.values())
