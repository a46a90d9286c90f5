"""A push to a server that only imitates PBS: it works (protocol/push.md, "Plainer ways")."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pbs_push import Note, Push, PushOptions, Report, Result, Target
from pbs_push.demo.pieces import Piece
from pbs_push.demo.verify import verify_target
from pbs_push.errors import ProtocolError
from pbs_push.remote import target as target_module

from .imitation import ImitationServer
from .world import MY_USER, SECRET, STORE, World, whole


@pytest.fixture(params=[False, True], ids=["refuses", "is silent"])
def imitation(
    world: World, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ImitationServer]:
    server = ImitationServer(
        {STORE: world.there.path}, user=MY_USER, secret=SECRET, quiet=request.param
    )
    monkeypatch.setattr(target_module, "sleep", lambda _seconds: server.paused.release())
    with server:
        yield server


def push(
    world: World, server: ImitationServer, *, user: str = MY_USER, **options: bool
) -> tuple[Report, list[str]]:
    notes: list[str] = []
    with Target(server.repository(STORE, user), SECRET, server.fingerprint) as target:
        server.counters.reset()
        report = Push(
            world.datastore(),
            target,
            PushOptions(max_depth=0, parallel=2, retries=0, **options),
            lambda event: notes.append(event.text) if isinstance(event, Note) else None,
        ).run()
    return report, notes


def add(world: World, number: int, *labels: str) -> None:
    """An image and two streams, which share chunks."""
    world.source.add(
        "host/a",
        number,
        archives={
            "disk.img.fidx": [*(whole(label) for label in labels), Piece("tail", 900, 90)],
            "a.pxar.didx": ("shared", *labels, "own"),
            "b.pxar.didx": ("shared", "other"),
        },
    )


def test_a_push_of_the_root_namespace(world: World, imitation: ImitationServer) -> None:
    add(world, 0, "x", "y")
    add(world, 1, "x", "z")
    world.source.add("vm/1", 0)
    world.source.add("vm/1", 0, ns="deeper")
    report, notes = push(world, imitation)
    assert report.exit_status == 0
    assert report.counts == {Result.PUSHED: 3}
    assert report.stats.fallbacks > 0, "it is told that it was not the usual way"
    assert any("without shortcuts" in note for note in notes)
    assert imitation.lost >= 1

    add(world, 2, "x", "new")
    report, notes = push(world, imitation)
    assert report.exit_status == 0
    assert report.counts == {Result.PUSHED: 1, Result.ALREADY_THERE: 2, Result.SKIPPED: 1}
    assert report.stats.fallbacks > 0
    assert report.stats.sent_chunks < 6, "the chunks of the previous one were reused"
    found = verify_target(world.source.path / "host", world.there.path / "host")
    assert found.problems == ()
    shown = verify_target(world.source.path, world.there.path, all_snapshots=False)
    assert (shown.snapshots, shown.problems) == (4, ())


def test_it_is_remembered_what_it_cannot_do(world: World, imitation: ImitationServer) -> None:
    for number in range(4):
        add(world, number, "x", str(number))
    report, notes = push(world, imitation)
    assert [str(outcome.error) for outcome in report.outcomes if outcome.error] == []
    assert report.exit_status == 0
    assert sum("without shortcuts" in note for note in notes) == 1, "tried once, not each time"
    assert imitation.lost == 2, "along with the request, and right behind the answer"
    assert imitation.counters.snapshot().sessions == 5


def test_namespaces_fail_visibly_and_the_root_is_pushed(
    world: World, imitation: ImitationServer
) -> None:
    world.source.add("vm/1", 0)
    world.source.add("vm/1", 1, ns="a")
    with Target(imitation.repository(STORE, MY_USER), SECRET, imitation.fingerprint) as target:
        report = Push(world.datastore(), target).run()
    assert report.exit_status == 3
    (problem,) = report.problems
    assert problem.what == "creating target namespace a, for source namespace a"
    assert world.there.times("vm/1") == [0]


def test_its_namespace_that_is_none_is_never_removed(
    world: World, imitation: ImitationServer
) -> None:
    """It ignores `ns`: removing what it calls `Root` would remove everything."""
    world.source.add("vm/1", 0)
    world.source.add("vm/1", 0, ns="a")
    world.source.add("vm/2", 0)
    with Target(imitation.repository(STORE, MY_USER), SECRET, imitation.fingerprint) as target:
        options = PushOptions(remove_vanished=True)
        Push(world.datastore(), target, options).run()
        Push(world.datastore(), target, options).run()
    assert "DELETE namespace" not in imitation.counters.snapshot().requests
    assert world.there.has("vm/2")


def test_a_token_is_not_known_there(world: World, imitation: ImitationServer) -> None:
    world.source.add("vm/1", 0)
    with pytest.raises(ProtocolError, match="an empty answer"):
        push(world, imitation, user=f"{MY_USER}!job")
    assert world.there.snapshots() == set()


def test_the_pause_is_only_made_where_it_is_needed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_module, "sleep", lambda _seconds: pytest.fail("no need to wait"))
    world.source.add("vm/1", 0)
    done = world.push(MY_USER)
    assert done.report.exit_status == 0
    assert done.report.stats.fallbacks == 0
