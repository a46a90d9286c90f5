"""Stopping a push: no half snapshot is left, and nothing more is removed."""

from __future__ import annotations

import socket
import threading

import pytest

from pbs_push import Push, PushOptions, Result, SnapshotProgress, SnapshotStarted, Target
from pbs_push.demo.pieces import Piece
from pbs_push.errors import Cancelled, ConfigError
from pbs_push.names import Namespace
from pbs_push.push.events import Event, Note, Removal

from .world import ME, SECRET, STORE, World

# -- stopping --


@pytest.mark.parametrize("kind", [SnapshotStarted, SnapshotProgress], ids=["started", "midway"])
def test_cancelling_leaves_no_half_snapshot(world: World, kind: type[Event]) -> None:
    many = [Piece(f"chunk {number}", 60_000, 60_000) for number in range(200)]
    for group in ("host/a", "host/b", "host/c"):
        world.source.add(group, 0, 1, archives={"root.pxar.didx": many})
    world.there.add("host/gone", 0)
    world.there.add("host/gone", 0, ns="gone")

    def listen(event: Event) -> None:
        if isinstance(event, kind):
            push.cancel()

    with world.target() as target:
        push = Push(world.datastore(), target, PushOptions(remove_vanished=True), listen)
        with pytest.raises(Cancelled):
            push.run()
    world.settle()
    pushed = push.report.counts[Result.PUSHED]
    assert pushed < 6
    there = world.there.snapshots()
    # A finish that was under way may have been carried out unseen, once in each group at work.
    assert pushed + 2 <= len(there) <= pushed + 2 + 3
    assert sum("host/gone" in path for path in there) == 2, "nothing was removed"
    assert all((world.there.path / path / "index.json.blob").is_file() for path in there)


def test_a_cancelled_push_removes_nothing(world: World) -> None:
    world.there.add("host/gone", 0)
    world.there.add("host/gone", 0, ns="gone")
    world.source.add("host/a", 0)
    world.there.add("host/a", 0)
    world.there.add("host/a", -1)
    with world.target() as target:
        push = Push(world.datastore(), target, PushOptions(remove_vanished=True))
        plan = push.plan()
        push.cancel()
        with pytest.raises(Cancelled):
            push.run(plan)
    assert len(world.there.snapshots()) == 4


def test_a_listener_that_fails_ends_the_push(world: World) -> None:
    world.source.add("host/a", 0)

    def listen(_event: Event) -> None:
        raise RuntimeError("a bug of the caller")

    with world.target() as target, pytest.raises(RuntimeError, match="a bug of the caller"):
        Push(world.datastore(), target, None, listen).run()
    world.settle()
    assert world.there.snapshots() == set()


def test_a_mistake_is_told_without_waiting_for_the_target(world: World) -> None:
    """Nothing is asked, and connections that are being opened are given up."""
    world.source.add("vm/1", 1)
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # it accepts, and says nothing
        repository = f"{ME}@127.0.0.1:{deaf.getsockname()[1]}:{STORE}"
        options = PushOptions(source_namespace=Namespace.parse("nope"))
        with Target(repository, SECRET) as target:
            push = Push(world.datastore(), target, options)
            with pytest.raises(ConfigError, match="nope"):
                push.run()
    assert not [thread for thread in threading.enumerate() if thread.name == "connect"]


@pytest.mark.parametrize("what", ["removal", "metadata"])
def test_cancelling_stops_before_the_next_step(world: World, what: str) -> None:
    """Also where no snapshot is under way: each group that goes, and each change, is a step."""
    world.source.add("vm/1", 0)
    world.there.add("vm/1", 0)
    for number in range(2, 7):
        if what == "removal":
            world.there.add(f"vm/{number}", 0, ns="gone")
        else:
            world.source.add(f"vm/{number}", 0, unprotected={"notes": "new"}, protected=True)
            world.there.add(f"vm/{number}", 0)
    done: list[Event] = []

    def listen(event: Event) -> None:
        is_note = isinstance(event, Note) and "set at" in event.text
        if is_note or isinstance(event, Removal):
            done.append(event)
            push.cancel()

    options = PushOptions(remove_vanished=True, sync_metadata=True, sync_protected=True, parallel=1)
    with world.target() as target:
        push = Push(world.datastore(), target, options, listen)
        with pytest.raises(Cancelled):
            push.run()
    assert len(done) == 1
    assert push.report.removed.groups + push.report.metadata_updates == 1
