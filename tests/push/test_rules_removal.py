"""Rules of protocol/push.md for what vanished: what goes at the target, and all that keeps it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pbs_push import Datastore, Result
from pbs_push.errors import SourceError, StatusError
from pbs_push.names import AuthId, Namespace, Snapshot
from pbs_push.remote.api import TargetApi
from pbs_push.remote.models import DeleteStatistics
from pbs_push.source.items import SnapshotList, SourceGroup
from pbs_push.target import Identities, TargetOptions
from pbs_push.target.identities import DATASTORE_PRIVILEGES

from .world import (
    MAY_ALL_AT_REMOTE,
    ME,
    MY_USER,
    READER,
    SECRET,
    STRANGER,
    World,
    access,
    hold_lock,
    only,
    time,
)

# -- remove-vanished: snapshots --


def vanishing(world: World) -> None:
    """The source has 2 and 3, the target 0 to 2."""
    world.source.add("vm/1", 2, 3)
    world.there.add("vm/1", 0, 1, 2)


def test_vanished_snapshots_are_forgotten_and_counted(world: World) -> None:
    vanishing(world)
    done = world.push(remove_vanished=True)
    assert world.there.times("vm/1") == [2, 3]
    assert done.report.removed.snapshots == 2
    assert done.told("removed, it vanished from the source") == 2
    assert done.report.exit_status == 0


def test_without_the_option_nothing_is_removed(world: World) -> None:
    vanishing(world)
    world.there.add("vm/2", 0)
    world.there.add("vm/2", 0, ns="gone")
    done = world.push()
    assert world.there.times("vm/1") == [0, 1, 2, 3]
    assert not any(kind.startswith("DELETE") for kind in done.counted.requests)
    assert "GET snapshots" not in done.counted.requests


def test_protected_snapshots_are_kept_and_counted(world: World) -> None:
    vanishing(world)
    (world.there.folder("vm/1", 0) / ".protected").touch()
    done = world.push(remove_vanished=True)
    assert world.there.times("vm/1") == [0, 2, 3]
    assert (done.report.removed.snapshots, done.report.removed.protected) == (1, 1)
    assert done.told("protected at the target: it stays") == 1
    assert done.report.exit_status == 0


def test_filtered_ones_have_not_vanished(world: World) -> None:
    vanishing(world)
    world.push(remove_vanished=True, verified_only=True, transfer_last=1)
    assert world.there.times("vm/1") == [2]


def test_one_that_runs_at_the_target_stays(world: World) -> None:
    vanishing(world)
    (world.there.folder("vm/1", 0) / "index.json.blob").unlink()
    lock = hold_lock(world.there.folder("vm/1", 0))
    with lock:
        done = world.push(remove_vanished=True)
    assert world.there.times("vm/1") == [0, 2, 3]
    assert done.report.removed.snapshots == 1, "only what the target confirmed"
    assert done.told("it is unfinished and may be in use") == 1
    assert done.report.exit_status == 0


def test_one_that_cannot_be_removed_is_a_problem_and_not_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = TargetApi.delete_snapshot

    def failing(self: TargetApi, namespace: Namespace, snapshot: Snapshot) -> None:
        if str(snapshot.group) == "vm/1" and snapshot.backup_time == time(0):
            raise StatusError("DELETE", 400, "EIO: input/output error")
        delete(self, namespace, snapshot)

    monkeypatch.setattr(TargetApi, "delete_snapshot", failing)
    vanishing(world)
    done = world.push(remove_vanished=True)
    assert done.report.removed.snapshots == 1
    assert world.there.times("vm/1") == [0, 2, 3]
    assert done.report.exit_status == 3
    assert any("removing target vm/1" in text for text in done.errors)


def test_one_that_is_in_use_stays_for_now(world: World) -> None:
    """A restore or a verification reads it: that is normal life."""
    vanishing(world)
    with hold_lock(world.there.folder("vm/1", 0)):
        done = world.push(remove_vanished=True, lock_wait_s=0.2)
    assert done.report.removed.snapshots == 1
    assert world.there.times("vm/1") == [0, 2, 3]
    assert done.told("vanished, but stays: it is in use at the target") == 1
    assert done.report.exit_status == 0
    assert world.push(remove_vanished=True).report.removed.snapshots == 1


def test_what_was_just_pushed_lets_its_predecessor_go(world: World) -> None:
    """Servers before 4.0.16 keep the lock of the previous snapshot for a while after `finish`."""
    world.serve(TargetOptions(bad_login_delay_s=0, version=("3.4", "1"), lock_linger_s=0.6))
    world.source.add("vm/1", 0)
    world.push()
    world.source.add("vm/1", 1)
    shutil.rmtree(world.source.folder("vm/1", 0))
    done = world.push(remove_vanished=True, allow_empty_source=True)
    assert world.there.times("vm/1") == [1]
    assert done.report.removed.snapshots == 1
    assert done.told("waiting, it is in use at the target") == 1


def test_a_vanished_group_into_which_a_backup_runs_stays_for_now(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/2", 0)
    with hold_lock(world.there.path / "vm" / "2"):
        done = world.push(remove_vanished=True, lock_wait_s=0.2)
    assert world.there.has("vm/2")
    assert done.report.exit_status == 0
    assert done.report.removed.kept_groups == 1
    assert done.told("in use at the target: while destroying group ':vm/2'") >= 1
    assert world.push(remove_vanished=True).report.removed.groups == 1


def test_an_error_in_the_group_keeps_its_vanished_snapshots(world: World) -> None:
    vanishing(world)
    world.source.add("vm/1", 4, archives={"disk.img.fidx": ("lost",)})
    world.source.chunk_of("lost").unlink()
    world.source.add("vm/2", 1)
    world.there.add("vm/2", 0)
    world.there.add("vm/3", 0)
    done = world.push(remove_vanished=True)
    assert world.there.times("vm/1") == [0, 1, 2, 3]
    assert world.there.times("vm/2") == [1], "the other group had none"
    assert world.there.has("vm/3"), "the namespace had one"
    assert done.told("1 vanished group of target root namespace: the push of root") == 1
    assert len(done.report.held_back) == 2, "and the snapshots of the group"
    assert done.report.exit_status == 3


def test_an_empty_source_group_does_not_empty_the_targets(world: World) -> None:
    world.source.group("vm/1")
    world.source.add("vm/2", 0)
    world.there.add("vm/1", 0, 1)
    done = world.push(remove_vanished=True)
    assert world.there.times("vm/1") == [0, 1]
    assert done.told("2 vanished snapshots of target vm/1: the group is empty at the source") == 1
    assert done.report.exit_status == 3
    world.push(remove_vanished=True, allow_empty_source=True)
    assert not world.there.has("vm/1")


# -- remove-vanished: groups --


def test_vanished_groups_only_ours_and_of_the_filters(world: World) -> None:
    world.source.add("vm/1", 0)
    for name, owner in (("vm/2", ME), ("vm/3", STRANGER), ("vm/4", MY_USER), ("ct/5", ME)):
        world.there.add(name, 0, 1, owner=owner)
    done = world.push(remove_vanished=True, group_filters=["type:vm"])
    left = {name for name in ("vm/2", "vm/3", "vm/4", "ct/5") if world.there.has(name)}
    assert left == {"vm/3", "vm/4", "ct/5"}
    assert (done.report.removed.groups, done.report.removed.snapshots) == (1, 2)


@pytest.mark.parametrize("ns", ["", "gone"], ids=["groups", "those of a namespace"])
def test_several_groups_are_removed_at_once(
    world: World, ns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes round trips: the first one is removed only while the second one is."""
    world.source.add("vm/1", 1)
    for number in range(2, 6):
        world.there.add(f"vm/{number}", 1, ns=ns)
    together = threading.Barrier(2)
    delete = TargetApi.delete_group

    def delete_with_another(api: TargetApi, *arguments: Any) -> DeleteStatistics:
        together.wait(timeout=60)
        return delete(api, *arguments)

    monkeypatch.setattr(TargetApi, "delete_group", delete_with_another)
    pushed = world.push(remove_vanished=True)
    assert (pushed.report.exit_status, pushed.report.removed.groups) == (0, 4)


def test_a_group_that_the_filters_leave_out_has_not_vanished(world: World) -> None:
    world.source.add("vm/1", 0)
    world.source.add("ct/1", 5)
    world.there.add("ct/1", 0)
    world.push(remove_vanished=True, group_filters=["type:vm"])
    assert world.there.times("ct/1") == [0]


def test_a_group_that_the_user_may_not_read_has_not_vanished(world: World) -> None:
    world.source.add("vm/1", 0, owner="alice@pbs")
    world.source.add("vm/2", 5, owner="bob@pbs")
    world.there.add("vm/2", 0)
    backup = "acl:1:/datastore/source:alice@pbs:DatastoreBackup\n"
    done = world.push(remove_vanished=True, **access(MAY_ALL_AT_REMOTE + backup))
    assert world.there.times("vm/2") == [0]
    assert done.report.removed.groups == 0


def test_protected_snapshots_keep_their_group(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/2", 0, 1, 2)
    (world.there.folder("vm/2", 1) / ".protected").touch()
    plan, _ = world.plan(remove_vanished=True)
    (gone,) = plan.namespaces[0].vanished
    assert (gone.snapshots, gone.protected, plan.removals) == (2, 1, 2)
    done = world.push(remove_vanished=True)
    assert world.there.times("vm/2") == [1]
    removed = done.report.removed
    assert (removed.groups, removed.snapshots, removed.protected) == (0, 2, 1)
    assert done.report.exit_status == 0


def test_a_refused_removal_of_a_group_counts_nothing(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/2", 0, 1)
    world.serve(identities=only("Audit", "Backup"))
    done = world.push(remove_vanished=True)
    assert world.there.times("vm/2") == [0, 1]
    assert (done.report.removed.groups, done.report.removed.snapshots) == (0, 0)
    assert any("removing group target vm/2" in text for text in done.errors)
    assert done.report.exit_status == 3


@pytest.mark.parametrize("came", [0, 3])
def test_a_group_that_got_a_backup_stays_though_it_lost_one(world: World, came: int) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/9", 1, 2)
    plan, _ = world.plan(remove_vanished=True)
    shutil.rmtree(world.there.folder("vm/9", 1))
    world.there.add("vm/9", came)
    done = world.push(plan=plan, remove_vanished=True)
    assert world.there.times("vm/9") == sorted((2, came))
    assert done.told("a backup came into it") == 1
    assert done.report.exit_status == 0


def test_an_empty_source_namespace_does_not_empty_the_targets(world: World) -> None:
    world.source.make_namespace("a")
    world.source.add("vm/1", 0)
    world.there.add("vm/1", 0, ns="a")
    done = world.push(remove_vanished=True)
    assert world.there.has("vm/1", ns="a")
    assert done.told("namespace a is empty") == 1
    done = world.push(remove_vanished=True, allow_empty_source=True)
    assert not world.there.has("vm/1", ns="a")
    assert done.report.removed.groups == 1


def test_an_empty_source_removes_nothing(world: World) -> None:
    """A disk that is not mounted, say."""
    world.there.add("vm/1", 0)
    world.there.add("vm/1", 0, ns="a")
    done = world.push(remove_vanished=True)
    assert len(world.there.snapshots()) == 2
    assert done.told("the source is empty") == 1
    world.push(remove_vanished=True, allow_empty_source=True)
    assert world.there.snapshots() == set()


def test_a_group_that_cannot_be_listed_keeps_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.source.add("vm/1", 0)
    world.source.add("vm/2", 0)
    world.there.add("vm/3", 0)
    world.there.add("vm/3", 0, ns="gone")
    real = Datastore.contents

    def broken(
        self: Datastore, namespace: Namespace, links: list[str]
    ) -> Iterator[tuple[SourceGroup, SnapshotList | SourceError]]:
        for group, found in real(self, namespace, links):
            error = SourceError("read source group vm/2: Input/output error")
            yield group, error if str(group.group) == "vm/2" else found

    monkeypatch.setattr(Datastore, "contents", broken)
    done = world.push(remove_vanished=True)
    assert world.there.times("vm/1") == [0], "the push goes on"
    assert world.there.has("vm/3")
    assert world.there.has("vm/3", ns="gone")
    assert done.told("vanished target namespace gone: the push had errors") == 1
    assert done.told("vanished groups of target root namespace: not all groups") == 1
    assert done.report.exit_status == 3


# -- remove-vanished: rights and limits --


@pytest.mark.parametrize(
    ("role", "missing", "left"),
    [
        ("RemoteSyncPushOperator", {"Prune", "Modify"}, {"0 1", "vm/2", "gone"}),
        ("RemoteDatastorePowerUser", {"Modify"}, {"gone"}),
        ("RemoteDatastoreAdmin", set(), set()),
    ],
)
def test_a_missing_right_fails_just_that_step(
    world: World, role: str, missing: set[str], left: set[str]
) -> None:
    world.source.add("vm/1", 1)
    world.there.add("vm/1", 0)
    world.there.add("vm/2", 0)
    world.there.add("vm/1", 0, ns="gone")
    text = READER + f"acl:1:/remote/far:alice@pbs:{role}\n"
    done = world.push(remove_vanished=True, **access(text))
    assert {
        name
        for name, there in (
            ("0 1", world.there.times("vm/1") == [0, 1]),
            ("vm/2", world.there.has("vm/2")),
            ("gone", world.there.has_namespace("gone")),
        )
        if there
    } == left
    assert done.report.counts[Result.PUSHED] == 1
    names = {
        "Prune": "'Remote.DatastorePrune' on '/remote/far/store1'",
        "Modify": "'Remote.DatastoreModify' on '/remote/far/store1/gone'",
    }
    assert len(done.errors) == len(missing)
    assert all(any(names[one] in text for text in done.errors) for one in missing)
    assert done.report.exit_status == (3 if missing else 0)


@pytest.mark.parametrize("may_prune", ["", "/x"], ids=["the root", "the mapped one"])
def test_pruning_is_checked_on_the_mapped_namespace(world: World, may_prune: str) -> None:
    world.source.add("vm/1", 1)
    world.there.add("vm/1", 0, ns="x")
    text = READER + "".join(
        f"acl:0:/remote/far/store1{path}:alice@pbs:"
        f"{'RemoteDatastorePowerUser' if path == may_prune else 'RemoteSyncPushOperator'}\n"
        for path in ("", "/x")
    )
    done = world.push(remove_vanished=True, target_namespace="x", **access(text))
    if may_prune:
        assert done.errors == []
        assert world.there.times("vm/1", ns="x") == [1]
    else:
        (error,) = done.errors
        assert "'Remote.DatastorePrune' on '/remote/far/store1/x'" in error
        assert world.there.times("vm/1", ns="x") == [0, 1]


def test_a_missing_right_to_prune_does_not_keep_namespaces(world: World) -> None:
    world.source.add("vm/1", 1)
    world.there.add("vm/2", 0)
    world.there.add("vm/1", 0, ns="gone")
    text = (
        READER
        + "acl:1:/remote/far:alice@pbs:RemoteSyncPushOperator\n"
        + "acl:1:/remote/far/store1/gone:alice@pbs:RemoteDatastoreAdmin\n"
    )
    done = world.push(remove_vanished=True, **access(text))
    assert world.there.has("vm/2")
    assert not world.there.has_namespace("gone")
    assert len(done.report.problems) == 1


def test_a_namespace_that_may_not_be_pushed_does_not_keep_others(world: World) -> None:
    world.source.add("vm/1", 0)
    world.source.add("vm/1", 0, ns="a")
    world.there.add("vm/9", 0, ns="a")
    world.there.add("vm/9", 0, ns="gone")
    done = world.push(
        remove_vanished=True,
        **access(READER + MAY_ALL_AT_REMOTE + "acl:1:/remote/far/store1/a:alice@pbs:NoAccess\n"),
    )
    assert len(done.report.problems) == 1
    assert world.there.has("vm/9", ns="a")
    assert not world.there.has_namespace("gone")


def test_a_namespace_that_cannot_be_made_keeps_all(world: World) -> None:
    world.source.add("vm/1", 0, ns="a/b")
    world.there.add("vm/9", 0, ns="gone")

    def rights(_who: AuthId, path: str) -> frozenset[str]:
        missing = {"Datastore.Modify"} if path == "/datastore/store1/a" else set()
        return DATASTORE_PRIVILEGES - missing

    world.serve(identities=Identities.simple({ME: SECRET}, privileges=rights))
    done = world.push(remove_vanished=True)
    assert [problem.what for problem in done.report.problems] == [
        "creating target namespace a/b, for source namespace a/b"
    ]
    assert world.there.has_namespace("gone")
    assert done.told("vanished target namespace gone: the push had errors") == 1


@pytest.mark.parametrize(
    ("limits", "removed"),
    [
        ({"max_removals": 3}, True),
        ({"max_removals": 2}, False),
        ({"max_removals": "60%"}, True),
        ({"max_removals": "50%"}, False),
    ],
)
def test_too_many_removals_are_none(world: World, limits: dict[str, int], *, removed: bool) -> None:
    world.source.add("vm/1", 1, 2, 3)
    world.there.add("vm/1", 0, 1, 2)
    world.there.add("vm/2", 0)
    world.there.add("vm/1", 0, ns="gone")
    done = world.push(remove_vanished=True, **limits)
    assert world.there.times("vm/1") == ([1, 2, 3] if removed else [0, 1, 2, 3])
    assert world.there.has("vm/2") is not removed
    assert world.there.has_namespace("gone") is not removed
    assert done.report.removed.snapshots == (3 if removed else 0)
    assert done.report.exit_status == (0 if removed else 3)
    held = [str(one) for one in done.report.held_back]
    assert removed or ("3" in held[0] and "max-removals" in held[0] and len(held) == 1)
    assert removed or not any(kind.startswith("DELETE") for kind in done.counted.requests)


def test_protected_ones_do_not_count_as_removals(world: World) -> None:
    vanishing(world)
    (world.there.folder("vm/1", 0) / ".protected").touch()
    world.push(remove_vanished=True, max_removals=1)
    assert world.there.times("vm/1") == [0, 2, 3]


def test_a_dry_run_shows_exactly_what_goes(world: World) -> None:
    world.source.add("vm/1", 2, 3)
    world.source.add("vm/5", 0, ns="a")
    world.there.add("vm/1", 0, 1, 2)
    (world.there.folder("vm/1", 0) / ".protected").touch()
    world.there.add("vm/2", 0, 1)
    world.there.add("vm/3", 0, owner=STRANGER)
    world.there.add("ct/4", 0, 1, ns="gone")
    world.there.add("ct/4", 0, ns="gone/below")
    world.there.add("ct/4", 0, ns="kept", owner=STRANGER)
    before = world.there.snapshots()
    plan, _ = world.plan(remove_vanished=True)
    assert world.there.snapshots() == before
    counted = world.server.counters.snapshot()
    assert not any(kind.startswith(("POST", "PUT", "DELETE")) for kind in counted.requests)

    planned = {
        f"{item.target.disk_path}/{gone.snapshot}".lstrip("/")
        for item in plan.namespaces
        for group in item.groups
        for gone in group.vanished
        if not gone.protected
    }
    groups = [
        f"{item.target.disk_path}/{gone.group}/".lstrip("/")
        for item in plan.namespaces
        for gone in item.vanished
    ]
    groups += [f"{gone.namespace.disk_path}/" for gone in plan.vanished if gone.keep is None]
    planned |= {name for name in before if name.startswith(tuple(groups))}
    pushed = {
        f"{item.target.disk_path}/{snapshot.snapshot}".lstrip("/")
        for item in plan.namespaces
        for group in item.groups
        for snapshot in group.snapshots
    }
    done = world.push(remove_vanished=True)
    after = world.there.snapshots()
    assert before - after == planned
    assert after - before == pushed
    assert plan.removals == done.report.removed.snapshots == len(planned) == 6
    assert sum(gone.keep is None for gone in plan.vanished) == done.report.removed.namespaces == 2
    assert [str(ns) for item in plan.namespaces for ns in item.create] == ["a"]


# -- versions --


OLD_DELETES = TargetOptions(version=("3.2", "10"), bad_login_delay_s=0)
"""No statistics, and ``error-on-protected`` is an unknown parameter."""


def test_before_3_2_11_deletes_tell_nothing(world: World) -> None:
    world.serve(OLD_DELETES)
    world.source.add("vm/1", 0)
    for name in ("vm/2", "vm/3"):
        world.there.add(name, 0, 1)
        world.there.add(name, 0, 1, ns="gone")
    done = world.push(remove_vanished=True)
    assert done.report.exit_status == 0
    assert world.there.snapshots() == {"vm/1/2026-05-28T20:26:40Z"}
    removed = done.report.removed
    assert (removed.groups, removed.namespaces, removed.snapshots) == (4, 1, 0)
    assert done.told("the counts are incomplete") == 1, "once, not for each call"
    assert done.told("3.2.10") == 1


def test_before_3_2_11_groups_alone_are_told_too(world: World) -> None:
    world.serve(OLD_DELETES)
    world.source.add("vm/1", 0)
    world.there.add("vm/2", 0)
    assert world.push().told("3.2.10") == 0, "it does not matter"
    assert world.push(remove_vanished=True).told("the counts are incomplete") == 1
    assert world.push(remove_vanished=True).told("the counts are incomplete") == 1


def test_before_3_2_11_protected_ones_are_looked_for(world: World) -> None:
    """A refused delete removed others (protocol/rest.md, "Deleting"), so the rest is counted."""
    world.serve(OLD_DELETES)
    world.source.add("vm/1", 0)
    for ns in ("", "gone"):
        world.there.add("vm/2", 0, 1, 2, ns=ns)
        (world.there.folder("vm/2", 1, ns=ns) / ".protected").touch()
    done = world.push(remove_vanished=True)
    assert world.there.times("vm/2") == world.there.times("vm/2", ns="gone") == [1]
    removed = done.report.removed
    assert (removed.groups, removed.namespaces) == (0, 0)
    assert (removed.snapshots, removed.protected) == (4, 2)
    assert done.report.exit_status == 0
