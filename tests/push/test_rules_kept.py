"""Removals that a second look forbids: each of these once deleted what should stay."""

from __future__ import annotations

import errno
import shutil
from typing import Any

import pytest

from pbs_push import Datastore
from pbs_push.errors import SourceError

from .world import STRANGER, World, access


def test_a_source_with_only_a_running_backup_counts_as_empty(world: World) -> None:
    folder = world.source.add("vm/1", 5)
    (folder / "index.json.blob").unlink()
    for name in ("vm/1", "vm/2", "ct/3"):
        world.there.add(name, 0, 1)
    world.there.add("vm/5", 0, ns="prod")
    before = world.there.snapshots()
    done = world.push(remove_vanished=True)
    assert world.there.snapshots() == before
    assert done.told("no finished snapshot") >= 1


def test_an_empty_source_is_told_of_and_one_that_cannot_be_planned_is_not_empty(
    world: World,
) -> None:
    world.source.group("vm/1")
    plan, _ = world.plan()
    assert plan.notes == ("the source holds no finished snapshot to push",)
    world.source.add("vm/1", 0)
    text = "acl:1:/remote:alice@pbs:RemoteAudit\nacl:1:/datastore:alice@pbs:DatastoreReader\n"
    plan, report = world.plan(**access(text))
    assert (len(report.problems), plan.notes) == (1, ())
    world.there.group("vm/1", owner=STRANGER)
    plan, _ = world.plan()
    assert plan.notes == (), "what may not be pushed is there all the same"


def test_one_that_was_protected_since_the_plan_stays_and_is_counted(world: World) -> None:
    world.source.add("vm/1", 1)
    world.there.add("vm/1", 0, 1)
    plan, _ = world.plan(remove_vanished=True)
    (world.there.folder("vm/1", 0) / ".protected").touch()
    done = world.push(plan=plan, remove_vanished=True)
    assert (done.report.exit_status, done.report.removed.protected) == (0, 1)
    assert done.told("vanished, but protected") == 1
    assert world.there.times("vm/1") == [0, 1]


def test_an_empty_group_does_not_make_a_source_full(world: World) -> None:
    world.source.group("vm/1")
    world.there.add("vm/1", 0)
    world.there.add("vm/2", 0)
    world.there.add("vm/9", 0, ns="old")
    before = world.there.snapshots()
    world.push(remove_vanished=True)
    assert world.there.snapshots() == before


def test_a_namespace_with_a_group_that_is_not_shown_stays(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/9", 0, ns="old")
    hidden = world.there.add("vm/7", 0, ns="old")
    (hidden.parent / "owner").unlink()  # a server does not list it
    done = world.push(remove_vanished=True)
    assert hidden.is_dir()
    assert not world.there.has("vm/9", ns="old")
    assert done.told("the target keeps it") == 1
    assert done.report.removed.namespaces == 0


@pytest.mark.parametrize("link", ["vm", "ns", "vm/1", "vm/1/2026-05-28T20:26:40Z"])
def test_what_lies_behind_a_link_has_not_vanished(world: World, link: str) -> None:
    world.source.add("vm/1", 0, 1)
    world.source.add("ct/2", 0)
    world.source.add("vm/3", 0, ns="a")
    world.push()
    before = world.there.snapshots()
    place = world.source.path / link
    moved = world.folder / "elsewhere"
    shutil.move(place, moved)
    place.symlink_to(moved, target_is_directory=True)
    done = world.push(remove_vanished=True)
    assert world.there.snapshots() == before
    assert done.told("symbolic link") >= 1


def test_a_group_that_changed_since_the_plan_stays(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/2", 0)
    world.there.add("vm/3", 0)
    world.there.add("vm/4", 0)

    plan, _ = world.plan(remove_vanished=True)
    world.there.add("vm/2", 1)
    (world.there.path / "vm/3/owner").write_text("stranger@pbs\n")
    world.source.add("vm/4", 0)
    done = world.push(plan=plan, remove_vanished=True)
    for name in ("vm/2", "vm/3", "vm/4"):
        assert world.there.has(name), name
    assert done.report.removed.groups == 0


def test_a_percentage_is_of_what_could_be_removed(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/2", 0, 1)
    world.there.add("vm/3", *range(20), owner="stranger@pbs")
    before = world.there.snapshots()
    world.push(remove_vanished=True, max_removals="10%")
    assert before <= world.there.snapshots()


def test_a_passing_error_leaves_the_snapshot_to_the_next_push(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.source.add("vm/1", 0, 1, 2)
    real = Datastore.open_snapshot
    failures = [OSError(errno.ENOLCK, "No locks available")]

    def open_snapshot(self: Datastore, *arguments: Any, **more: Any) -> Any:
        if failures:
            raise SourceError.of("lock the snapshot", failures.pop())
        return real(self, *arguments, **more)

    monkeypatch.setattr(Datastore, "open_snapshot", open_snapshot)
    assert world.push().report.exit_status != 0
    assert world.there.snapshots() == set()
    assert world.push().report.exit_status == 0
    assert len(world.there.snapshots()) == 3


# -- a target that would have nothing left --


def test_what_vanished_stays_while_the_target_has_nothing_else(world: World) -> None:
    """The source's are all older than the target's newest, so none of them can be pushed."""
    world.source.add("vm/1", 1, 2)
    world.there.add("vm/1", 0, 3)
    plan, _ = world.plan(remove_vanished=True)
    assert plan.removals == 0
    done = world.push(remove_vanished=True)
    assert world.there.times("vm/1") == [0, 3]
    assert done.told("older ones cannot be, while a newer one is at the target") == 1
    (held,) = done.report.held_back
    assert held.what == "2 vanished snapshots of target vm/1"
    assert done.report.exit_status == 3
    world.source.add("vm/1", 4)
    assert world.push(remove_vanished=True).report.removed.snapshots == 2
    assert world.there.times("vm/1") == [4]


def test_it_goes_where_an_empty_source_would_do(world: World) -> None:
    """And then what the source has can be pushed."""
    world.source.add("vm/1", 1, 2)
    world.there.add("vm/1", 0, 3)
    assert world.push(remove_vanished=True, allow_empty_source=True).report.removed.snapshots == 2
    assert world.push(remove_vanished=True).report.exit_status == 0
    assert world.there.times("vm/1") == [1, 2]


def test_it_stays_too_if_what_was_to_come_is_gone(world: World) -> None:
    world.source.add("vm/1", 1, 4)
    world.there.add("vm/1", 0, 3)
    plan, _ = world.plan(remove_vanished=True)
    assert plan.removals == 2
    shutil.rmtree(world.source.folder("vm/1", 4))
    done = world.push(plan=plan, remove_vanished=True)
    assert world.there.times("vm/1") == [0, 3]
    assert done.told("has no other snapshot of the source's") == 1


def test_it_stays_too_if_the_target_lost_the_others(world: World) -> None:
    world.source.add("vm/1", 1, 2)
    world.there.add("vm/1", 0, 1)
    world.there.add("vm/1", 3)
    plan, _ = world.plan(remove_vanished=True)
    assert plan.removals == 2
    shutil.rmtree(world.there.folder("vm/1", 1))
    world.push(plan=plan, remove_vanished=True)
    assert world.there.times("vm/1") == [0, 3]


def test_what_the_source_has_again_stays(world: World) -> None:
    world.source.add("vm/1", 1)
    world.there.add("vm/1", 0, 1)
    plan, _ = world.plan(remove_vanished=True)
    world.source.add("vm/1", 0)
    done = world.push(plan=plan, remove_vanished=True)
    assert world.there.times("vm/1") == [0, 1]
    assert done.report.removed.snapshots == 0


def test_a_group_that_is_gone_since_the_plan_keeps_its_snapshots_there(world: World) -> None:
    world.source.add("vm/1", 1)
    world.source.add("vm/2", 1)
    world.there.add("vm/1", 0, 1)
    plan, _ = world.plan(remove_vanished=True)
    shutil.rmtree(world.source.path / "vm/1")
    done = world.push(plan=plan, remove_vanished=True)
    assert world.there.times("vm/1") == [0, 1]
    assert done.told("is gone since it was listed") == 1
    assert done.report.exit_status == 3, "that is for the next push"
