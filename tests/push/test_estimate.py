"""What a push has to send, as the source's indexes tell, against what the target then gets."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pbs_push import Estimated, Event, Push, PushOptions
from pbs_push.demo.pieces import Piece
from pbs_push.push import estimate
from pbs_push.push.estimate import all_estimates
from pbs_push.target import Faults

from .world import World, whole

SMALL: dict[str, Any] = {"root.pxar.didx": [Piece(f"a{number}", 9000, 100) for number in range(9)]}
MORE: dict[str, Any] = {
    "root.pxar.didx": [Piece(f"a{number}", 9000, 100) for number in range(4, 13)],
    "disk.img.fidx": (whole("x"), whole("y"), whole("x")),
}


def estimated(world: World) -> list[tuple[int, int, bool]]:
    plan, _report = world.plan()
    groups = [group for item in plan.namespaces for group in item.groups]
    found = all_estimates(world.datastore(), groups, lambda: None)
    return [(one.chunks, one.plain_bytes, one.exact) for one in found.values()]


def test_exact_where_the_source_has_what_the_target_has(world: World) -> None:
    world.source.add("vm/1", 0, archives=SMALL)
    world.source.add("vm/1", 1, archives=MORE)
    both = estimated(world)
    assert both == [(9, 81_000, True), (4 + 2, 36_000 + 2 * 4_194_304, True)]
    world.push()
    world.source.add("vm/1", 2, archives=SMALL)
    (last,) = estimated(world)
    done = world.push()
    assert last == (done.report.stats.sent_chunks, done.report.stats.sent_plain_bytes, True)


def test_the_most_where_it_does_not(world: World) -> None:
    world.there.add("vm/1", 0, archives=SMALL)
    world.source.add("vm/1", 1, archives=MORE)
    ((chunks, size, exact),) = estimated(world)
    done = world.push()
    assert not exact
    assert (chunks, size) > (done.report.stats.sent_chunks, done.report.stats.sent_plain_bytes)


def test_of_what_cannot_be_read_there_is_none(world: World) -> None:
    folder = world.source.add("vm/1", 0, archives=SMALL)
    (folder / "index.json.blob").write_bytes(b"no manifest")
    assert estimated(world) == []


def test_a_long_push_tells(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_BEGIN_AFTER_S", 0)
    for number in range(5):
        world.source.add(f"vm/{number}", 0, 1, archives=SMALL)
    told = threading.Event()
    seen: list[Estimated] = []

    def listen(event: Event) -> None:
        if isinstance(event, Estimated):
            seen.append(event)
            if len(seen) == 10:
                told.set()

    def hold(kind: str, handled: bool) -> None:
        if kind == "POST finish" and not handled:
            told.wait(30)

    world.serve(faults=Faults(on_request=hold))
    with world.target() as target:
        Push(world.datastore(), target, PushOptions(estimate=True), listen).run()
    assert len({one.snapshot for one in seen}) == 10
    assert not any(thread.name == "estimate" for thread in threading.enumerate())
