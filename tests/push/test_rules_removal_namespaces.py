"""Every rule of protocol/push.md, "Vanished namespaces": which go, and all that keeps them."""

from __future__ import annotations

import shutil

import pytest

from pbs_push import Datastore
from pbs_push.errors import SourceError, StatusError
from pbs_push.names import Namespace
from pbs_push.remote.api import TargetApi

from .world import (
    MAY_ALL_AT_REMOTE,
    ME,
    STRANGER,
    World,
    access,
    hold_lock,
)


def test_vanished_namespaces_go_children_first(world: World) -> None:
    world.source.add("vm/1", 0)
    for ns in ("gone", "gone/below"):
        world.there.add("vm/1", 0, ns=ns)
    done = world.push(remove_vanished=True)
    assert not world.there.has_namespace("gone")
    removed = done.report.removed
    assert (removed.namespaces, removed.groups, removed.snapshots) == (2, 2, 2)
    assert done.counted.requests["DELETE namespace"] == 2
    told = [note for note in done.notes if "removed" in note]
    assert "gone/below" in told[0]


def test_only_below_the_anchor_and_within_max_depth(world: World) -> None:
    world.source.add("vm/1", 0, ns="a")
    for ns in ("x", "other", "x/gone", "x/gone2/below"):
        world.there.add("vm/9", 0, ns=ns)
    done = world.push(source_namespace="a", target_namespace="x", max_depth=1, remove_vanished=True)
    assert not world.there.has_namespace("x/gone")
    assert world.there.has_namespace("other")
    assert world.there.has("vm/9", ns="x/gone2/below"), "nothing beyond max-depth is touched"
    assert done.told("below it is beyond max-depth") == 1
    assert done.report.removed.namespaces == 1


def test_a_strangers_group_keeps_a_namespace_and_those_above(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/1", 0, ns="gone")
    world.there.add("vm/2", 0, ns="gone/below", owner=STRANGER)
    done = world.push(remove_vanished=True)
    assert len(world.there.snapshots()) == 3
    assert done.told(f"owned by {STRANGER}, not by the remote user {ME}") == 1
    assert done.told("gone/below below it stays") == 1
    assert done.report.exit_status == 0


def test_a_group_that_the_filters_leave_out_keeps_a_namespace(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.add("ct/1", 0, ns="gone")
    done = world.push(remove_vanished=True, group_filters=["type:vm"])
    assert world.there.has("ct/1", ns="gone")
    assert done.told("ct/1, which the group filters leave out") == 1


def test_each_group_that_keeps_a_namespace_is_told_of(world: World) -> None:
    world.source.add("vm/1", 1)
    for number in range(2, 6):
        world.there.add(f"vm/{number}", 1, ns="gone")
    with (
        hold_lock(world.there.folder("vm/2", 1, ns="gone")),
        hold_lock(world.there.folder("vm/4", 1, ns="gone")),
    ):
        pushed = world.push(remove_vanished=True, lock_wait_s=0.2)
    for number in (2, 4):
        assert pushed.told(f"target vm/{number} in namespace gone: vanished, 0 snapshots") == 1
    assert (pushed.report.removed.groups, pushed.report.exit_status) == (2, 0)
    assert pushed.told("it holds 2 snapshots, protected or in use") == 1
    assert world.there.has("vm/2", ns="gone")


def test_what_cannot_be_removed_keeps_a_namespace_and_is_a_problem(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_arguments: object) -> None:
        raise StatusError("DELETE", 400, "EIO: input/output error")

    monkeypatch.setattr(TargetApi, "delete_group", failing)
    world.source.add("vm/1", 1)
    world.there.add("vm/2", 1, ns="gone")
    pushed = world.push(remove_vanished=True)
    told = [problem.what for problem in pushed.report.problems]
    assert told == ["removing group target vm/2 in namespace gone"]
    assert pushed.report.exit_status == 3
    assert pushed.told("not all of it could be removed") == 1


def test_protected_snapshots_keep_a_namespace(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/1", 0, ns="gone")
    world.there.add("vm/2", 0, 1, ns="gone/below")
    (world.there.folder("vm/2", 1, ns="gone/below") / ".protected").touch()
    done = world.push(remove_vanished=True)
    assert world.there.times("vm/2", ns="gone/below") == [1]
    assert world.there.has("vm/1", ns="gone"), "one below stays"
    removed = done.report.removed
    assert (removed.namespaces, removed.snapshots, removed.protected) == (0, 1, 1)
    assert done.told("it holds 1 snapshot, protected or in use") == 1
    assert done.report.exit_status == 0


def test_a_namespace_that_the_user_may_not_see_has_not_vanished(world: World) -> None:
    world.source.add("vm/1", 0)
    world.source.add("vm/1", 0, ns="hidden")
    world.there.add("vm/9", 0, ns="hidden")
    text = MAY_ALL_AT_REMOTE + "acl:0:/datastore/source:alice@pbs:DatastoreReader\n"
    done = world.push(remove_vanished=True, **access(text))
    assert world.there.has("vm/9", ns="hidden")
    assert done.report.removed.namespaces == 0


def test_what_came_into_a_namespace_since_the_plan_keeps_it(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/1", 0, ns="gone")
    world.there.make_namespace("empty")
    plan, _ = world.plan(remove_vanished=True)
    world.there.add("vm/1", 1, ns="gone")
    world.there.add("vm/1", 1, ns="empty", owner=STRANGER)
    notes = world.push(plan=plan, remove_vanished=True).notes
    assert world.there.times("vm/1", ns="gone") == [0, 1]
    assert world.there.has("vm/1", ns="empty")
    assert any("a backup came into it" in note for note in notes)
    assert any(f"owned by {STRANGER}" in note for note in notes)


@pytest.mark.parametrize("came", [0, 3])
def test_a_new_backup_keeps_a_namespace_though_an_old_one_is_gone(world: World, came: int) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/1", 1, 2, ns="gone")
    plan, _ = world.plan(remove_vanished=True)
    shutil.rmtree(world.there.folder("vm/1", 1, ns="gone"))
    world.there.add("vm/1", came, ns="gone")
    notes = world.push(plan=plan, remove_vanished=True).notes
    assert world.there.times("vm/1", ns="gone") == sorted((2, came))
    assert any("a backup came into it" in note for note in notes)


@pytest.mark.parametrize("again", ["gone", "gone/below"])
def test_a_namespace_that_the_source_has_again_stays(world: World, again: str) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/1", 0, ns="x/gone")
    options = {"remove_vanished": True, "target_namespace": "x"}
    plan, _ = world.plan(**options)
    assert [gone.keep for gone in plan.vanished] == [None]
    world.source.make_namespace(again)
    notes = world.push(plan=plan, **options).notes
    assert world.there.times("vm/1", ns="x/gone") == [0]
    assert any("the source has it again" in note for note in notes)


def test_a_source_that_cannot_be_listed_again_keeps_namespaces(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/1", 0, ns="gone")
    plan, _ = world.plan(remove_vanished=True)

    def broken(*_arguments: object) -> list[Namespace]:
        raise SourceError("the disk is gone")

    monkeypatch.setattr(Datastore, "namespaces", broken)
    done = world.push(plan=plan, remove_vanished=True)
    assert world.there.times("vm/1", ns="gone") == [0]
    assert [str(problem.error) for problem in done.report.problems] == ["the disk is gone"]


def test_what_stays_meanwhile_keeps_what_is_above_it(world: World) -> None:
    """The server would delete all that is below, too."""
    world.source.add("vm/1", 0)
    world.there.add("vm/1", 0, ns="gone")
    world.there.add("vm/1", 0, ns="gone/below")
    plan, _ = world.plan(remove_vanished=True)
    assert [gone.keep for gone in plan.vanished] == [None, None]
    world.there.add("vm/2", 0, ns="gone/below", owner=STRANGER)
    done = world.push(plan=plan, remove_vanished=True)
    assert world.there.has("vm/2", ns="gone/below")
    assert world.there.has("vm/1", ns="gone")
    assert done.report.removed.namespaces == 0


def test_what_is_gone_meanwhile_is_fine(world: World) -> None:
    world.source.add("vm/1", 1)
    world.there.add("vm/1", 0)
    world.there.add("vm/1", -1)
    world.there.add("vm/2", 0)
    world.there.add("vm/1", 0, ns="gone")
    plan, _ = world.plan(remove_vanished=True)
    shutil.rmtree(world.there.folder("vm/1", 0))
    shutil.rmtree(world.there.path / "vm/2")
    shutil.rmtree(world.there.path / "ns/gone")
    notes = world.push(plan=plan, remove_vanished=True).notes
    assert sum("gone meanwhile" in note for note in notes) == 3
    assert world.there.times("vm/1") == [1]
