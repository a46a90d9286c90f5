"""Every rule of protocol/access.md and protocol/push.md, on an embedded target: what is pushed."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from pbs_push import Result, Skip, Target
from pbs_push.errors import AccessError, ConfigError, DeniedError, RemoteError
from pbs_push.names import AuthId
from pbs_push.push import rate_limits
from pbs_push.push.events import NamespaceCreated
from pbs_push.remote.pacing import Pacer
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

ALICES_TOKEN = AuthId.parse("alice@pbs!t")

# -- who may push into which group --


@pytest.mark.parametrize(
    ("me", "owner", "pushed"),
    [(ME, ME, True), (MY_USER, ME, True), (ME, MY_USER, False), (ME, STRANGER, False)],
)
def test_owned_groups_are_pushed_others_told(
    world: World, me: str, owner: str, *, pushed: bool
) -> None:
    world.source.add("vm/1", 0, 1)
    world.there.add("vm/1", 0, owner=owner)
    world.there.add("vm/1", -1, owner=owner)
    done = world.push(me, remove_vanished=True)
    if pushed:
        assert done.report.counts[Result.PUSHED] == 1
        assert done.report.exit_status == 0
        assert world.there.times("vm/1") == [0, 1]
        return
    assert done.told(f"owned by {owner}, not by the remote user {me}") == 1
    assert done.report.skips == {Skip.NOT_OWNED: 2}
    assert done.report.exit_status == 5
    assert world.there.times("vm/1") == [-1, 0], "neither pushed nor pruned"
    assert "upgrade" not in done.counted.requests


def test_not_owned_ones_do_not_stop_the_others(world: World) -> None:
    world.source.add("vm/1", 0)
    world.source.add("vm/2", 0)
    world.there.add("vm/1", -1, owner=STRANGER)
    done = world.push()
    assert done.report.exit_status == 3, "what should be there is not"
    assert world.there.times("vm/2") == [0]
    left_out = world.push(group_filters=["exclude:group:vm/1"])
    assert left_out.report.exit_status == 0, "unless it should not"


def test_new_groups_belong_to_the_remote_user(world: World) -> None:
    world.source.add("vm/1", 0, owner="root@pam")
    world.push()
    assert (world.there.path / "vm/1/owner").read_text().strip() == ME


# -- which snapshots --


def test_groups_that_a_server_refuses(world: World) -> None:
    world.source.add("host/benchmark", 0)
    world.source.add("vm/1", 0)
    world.source.group("ct/1")
    (world.source.add("vm/2", 0).parent / "owner").unlink()
    done = world.push()
    assert done.report.skips == {Skip.UNSUPPORTED: 1, Skip.NO_OWNER: 1}
    assert done.told("host/benchmark: skipped") == 1
    assert done.told("vm/2: skipped: its group has no readable owner") == 1
    assert done.told("ct/1: the group is empty at the source") == 1
    assert world.there.snapshots() == {
        str(world.there.folder("vm/1", 0).relative_to(world.there.path))
    }
    assert done.report.exit_status == 3, "vm/2 should be there"
    (world.source.path / "vm/2/owner").write_text(ME)
    assert world.push().report.exit_status == 0, "a server keeps benchmarks to itself"


def test_in_progress_and_dead_ones_stay(world: World) -> None:
    dead = world.source.add("vm/1", 0, 1)
    (dead / "index.json.blob").unlink()
    done = world.push()
    assert done.report.skips == {Skip.IN_PROGRESS: 1}
    assert world.there.times("vm/1") == [0]


def test_only_newer_than_the_targets_newest_finished_one(world: World) -> None:
    world.source.add("vm/1", 0, 1, 2)
    world.there.add("vm/1", 1)
    done = world.push()
    assert world.there.times("vm/1") == [1, 2]
    assert (done.report.skips[Skip.NOT_NEWER], done.report.counts[Result.ALREADY_THERE]) == (1, 1)


def test_not_older_ones_either_where_the_targets_newest_failed_its_verification(
    world: World,
) -> None:
    world.source.add("vm/1", 0, 1, 2)
    world.there.rewrite_manifest(
        world.there.add("vm/1", 1), verify_state={"state": "failed", "upid": "U"}
    )
    done = world.push()
    assert world.there.times("vm/1") == [1, 2], "a server would take it; the order would break"
    assert done.report.exit_status == 0
    assert done.report.stats.sent_chunks == 3, "there is no previous one to reuse"


def test_unfinished_ones_at_the_target_do_not_count(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    running = world.there.add("vm/1", 7)
    (running / "index.json.blob").unlink()
    assert world.push().report.exit_status == 0
    assert world.there.times("vm/1") == [0, 1, 7]


def test_a_dead_folder_of_the_same_time_is_told(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    world.there.folder("vm/1", 0).mkdir(parents=True)
    (world.there.path / "vm/1/owner").write_text(ME)
    done = world.push()
    assert done.report.exit_status == 1
    assert any("already exists" in text for text in done.errors)
    assert world.there.times("vm/1") == [0], "the later one would make it impossible to push"


def test_a_dead_folder_in_the_way_is_forgotten_with_remove_vanished(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    world.there.add("vm/1", -1)
    world.there.folder("vm/1", 0).mkdir(parents=True)
    world.there.folder("vm/1", -2).mkdir(parents=True)
    plan, _ = world.plan(remove_vanished=True)
    (group,) = plan.namespaces[0].groups
    assert [item.snapshot.backup_time for item in group.dead] == [time(0)]
    assert plan.removals == 3
    done = world.push(remove_vanished=True)
    assert done.report.exit_status == 0
    assert world.there.times("vm/1") == [0, 1]
    assert done.told("removed, it was dead, and in the way of a push") == 1
    assert done.report.removed.snapshots == 3


@pytest.mark.parametrize("why", ["running", "no right", "too many"])
def test_a_folder_in_the_way_that_must_stay(world: World, why: str) -> None:
    world.source.add("vm/1", 0)
    world.there.group("vm/1")
    folder = world.there.folder("vm/1", 0)
    folder.mkdir()
    options: dict[str, object] = {"remove_vanished": True}
    if why == "no right":
        text = READER + "acl:1:/remote/far:alice@pbs:RemoteSyncPushOperator\n"
        options |= access(text)
    if why == "too many":
        options["max_removals"] = 0
    with hold_lock(folder) if why == "running" else nullcontext():
        done = world.push(**options)
    assert folder.is_dir()
    assert done.report.exit_status != 0
    assert done.report.removed.snapshots == 0


def test_transfer_last_counts_after_the_filters(world: World) -> None:
    state = {"state": "ok", "upid": "U"}
    for number in range(5):
        verified = {"verify_state": state} if number != 4 else {}
        world.source.add("vm/1", number, unprotected=verified)
    done = world.push(verified_only=True, transfer_last=2)
    assert world.there.times("vm/1") == [2, 3]
    assert done.report.skips == {Skip.NOT_VERIFIED: 1, Skip.TRANSFER_LAST: 2}


def test_encrypted_only_takes_no_signed_ones(world: World) -> None:
    world.source.add("vm/1", 0)
    world.source.add("vm/2", 0, encrypted=True)
    world.source.sign_only(world.source.add("vm/3", 0))
    done = world.push(encrypted_only=True)
    assert {Path(name).parent.name for name in world.there.snapshots()} == {"2"}
    assert done.report.skips == {Skip.NOT_ENCRYPTED: 2}


def test_group_filters_and_their_order(world: World) -> None:
    for name in ("vm/100", "vm/99", "vm/x", "ct/7", "host/a"):
        world.source.add(name, 0)
    done = world.push(group_filters=["type:vm", "group:host/a", "exclude:regex:vm/x$"], parallel=1)
    assert {str(Path(name).parent) for name in world.there.snapshots()} == {
        "vm/99",
        "vm/100",
        "host/a",
    }
    assert done.report.skips == {Skip.FILTERED: 2}
    plan, _ = world.plan(target_namespace="new")
    (root,) = plan.namespaces
    names = [str(group.source.group) for group in root.groups]
    assert names == ["ct/7", "host/a", "vm/99", "vm/100", "vm/x"]


def test_of_groups_without_work_a_plan_has_the_outcomes_alone(world: World) -> None:
    world.source.add("vm/1", 0)
    world.source.add("vm/2", 0)
    world.push()
    world.source.add("vm/2", 1)
    world.source.group("vm/3")
    (root,) = world.plan()[0].namespaces
    assert [str(group.source.group) for group in root.groups] == ["vm/2", "vm/3"]
    assert [str(outcome.group) for outcome in root.settled] == ["vm/1"]
    assert [str(outcome.group) for outcome in root.outcomes()] == ["vm/2", "vm/1"]
    assert (root.looked_at, root.finished) == (3, 3)
    done = world.push()
    assert done.report.groups == 3
    assert done.report.counts == {Result.PUSHED: 1, Result.ALREADY_THERE: 2}


def test_a_failure_stops_its_group_and_no_other(world: World) -> None:
    world.source.add("vm/1", 0)
    world.source.add("vm/1", 1, archives={"disk.img.fidx": ("lost",)})
    world.source.add("vm/1", 2)
    world.source.add("vm/2", 0, 1)
    world.source.chunk_of("lost").unlink()
    done = world.push()
    assert world.there.times("vm/1") == [0]
    assert world.there.times("vm/2") == [0, 1]
    assert done.report.exit_status == 3
    assert done.report.counts == {Result.PUSHED: 3, Result.FAILED: 1, Result.SKIPPED: 1}
    assert done.report.skips == {Skip.NOT_TRIED: 1}


def test_an_unreadable_manifest_fails_and_the_group_goes_on(world: World) -> None:
    world.source.add("vm/1", 0, 1, 2)
    (world.source.folder("vm/1", 1) / "index.json.blob").write_bytes(b"no blob")
    done = world.push()
    assert world.there.times("vm/1") == [0, 2]
    assert done.report.counts == {Result.PUSHED: 2, Result.FAILED: 1}
    assert done.report.exit_status == 3
    assert any("vm/1/2026-05-29" in text and "manifest" in text for text in done.errors)


def test_so_does_one_that_is_too_large_to_be_a_manifest(world: World) -> None:
    world.source.add("vm/1", 0, 1, 2)
    os.truncate(world.source.folder("vm/1", 1) / "index.json.blob", 64 << 20)
    done = world.push()
    assert world.there.times("vm/1") == [0, 2]
    assert done.report.counts == {Result.PUSHED: 2, Result.FAILED: 1}


# -- namespaces --


def test_namespaces_are_mapped_and_made_with_their_parents(world: World) -> None:
    world.source.add("vm/1", 0, ns="a/b/c")
    world.source.add("ct/1", 0, ns="a/b")
    world.source.add("ct/2", 0, ns="other")
    done = world.push(source_namespace="a/b", target_namespace="x/y")
    assert [str(ns) for ns in done.report.created_namespaces] == ["x", "x/y", "x/y/c"]
    assert world.there.times("vm/1", ns="x/y/c") == [0]
    assert world.there.times("ct/1", ns="x/y") == [0]
    assert len(world.there.snapshots()) == 2
    assert done.counted.requests["POST namespace"] == 3
    assert done.counted.requests["GET namespace"] == 1


def test_max_depth(world: World) -> None:
    for ns in ("", "a", "a/b"):
        world.source.add("vm/1", 0, ns=ns)
    world.push(max_depth=1)
    assert world.there.has_namespace("a")
    assert not world.there.has_namespace("a/b")


def test_namespaces_are_made_below_the_deepest_that_is_seen(world: World) -> None:
    """Those above may exist unseen, and creating them is refused."""
    world.source.add("vm/1", 0, ns="new")
    world.there.make_namespace("corp/team")

    def rights(who: AuthId, path: str) -> frozenset[str]:
        inside = path.startswith("/datastore/store1/corp/team")
        return DATASTORE_PRIVILEGES if inside else frozenset()

    world.serve(identities=Identities.simple({ME: SECRET}, privileges=rights))
    done = world.push(target_namespace="corp/team")
    assert done.report.exit_status == 0
    assert [str(ns) for ns in done.report.created_namespaces] == ["corp/team/new"]


def test_too_deep_is_found_before_anything_is_sent(world: World) -> None:
    world.source.add("vm/1", 0, ns="a/b/c/d")
    with pytest.raises(ConfigError, match="4 levels below"):
        world.push(target_namespace="1/2/3/4")
    with pytest.raises(ConfigError, match="max-depth 4"):
        world.push(target_namespace="1/2/3/4", max_depth=4)
    counted = world.server.counters.snapshot()
    assert not any(kind.startswith(("POST", "PUT", "DELETE")) for kind in counted.requests)


def test_a_source_anchor_that_does_not_exist(world: World) -> None:
    with pytest.raises(ConfigError, match="has no namespace nowhere"):
        world.push(source_namespace="nowhere")


def test_a_namespace_that_fails_does_not_stop_the_others(world: World) -> None:
    world.source.add("vm/1", 0)
    world.source.add("vm/1", 0, ns="a")
    world.source.add("vm/1", 0, ns="b")
    world.there.make_namespace("b")

    def rights(_who: AuthId, path: str) -> frozenset[str]:
        return (
            DATASTORE_PRIVILEGES
            if path != "/datastore/store1"
            else DATASTORE_PRIVILEGES - {"Datastore.Modify"}
        )

    world.serve(identities=Identities.simple({ME: SECRET}, privileges=rights))
    done = world.push()
    assert done.report.counts == {Result.PUSHED: 2}
    (problem,) = done.report.problems
    assert problem.what == "creating target namespace a, for source namespace a"
    assert isinstance(problem.error, DeniedError)
    assert "Datastore.Modify" in str(problem.error)
    assert done.report.exit_status == 3


def test_no_right_to_write_at_the_target(world: World) -> None:
    world.source.add("vm/1", 0)
    world.serve(identities=only("Audit"))
    done = world.push()
    assert done.report.exit_status == 4
    assert any("Datastore.Backup" in text for text in done.errors)
    assert world.there.snapshots() == set()


# -- the local access control list --


def test_source_namespaces_and_groups_are_filtered_by_the_list(world: World) -> None:
    world.source.add("vm/1", 0, owner="alice@pbs")
    world.source.add("vm/2", 0, owner="alice@pbs!t")
    world.source.add("vm/3", 0, owner="bob@pbs")
    world.source.add("vm/4", 0, ns="a", owner="bob@pbs")
    world.source.add("vm/5", 0, ns="b", owner="bob@pbs")
    text = (
        MAY_ALL_AT_REMOTE
        + "acl:0:/datastore/source:alice@pbs:DatastoreBackup\n"
        + "acl:1:/datastore/source/a:alice@pbs:DatastoreReader\n"
    )
    done = world.push(**access(text))
    assert {Path(name).parent.name for name in world.there.snapshots()} == {"1", "2", "4"}
    assert done.report.skips == {Skip.NO_RIGHT: 1}
    assert not world.there.has_namespace("b")
    assert done.report.exit_status == 0


def test_a_token_does_not_own_what_its_user_owns(world: World) -> None:
    world.source.add("vm/1", 0, owner="alice@pbs")
    world.source.add("vm/2", 0, owner="alice@pbs!t")
    both = "alice@pbs,alice@pbs!t"
    text = (
        f"acl:1:/remote:{both}:RemoteSyncPushOperator\n"
        f"acl:1:/datastore/source:{both}:DatastoreBackup\n"
    )
    world.push(**access(text, ALICES_TOKEN))
    assert {Path(name).parent.name for name in world.there.snapshots()} == {"2"}


def test_a_user_who_sees_nothing_is_told_so(world: World) -> None:
    """Nothing was pushed because nothing could be: never a silent 0."""
    world.source.add("vm/1", 0, ns="a")
    with pytest.raises(AccessError) as caught:
        world.push(source_namespace="a", **access(MAY_ALL_AT_REMOTE))
    text = "missing permissions 'Datastore.Read|Datastore.Backup' on '/datastore/source/a'"
    assert str(caught.value) == text
    assert caught.value.exit_status == 4


def test_a_user_who_may_read_no_group_is_told_so(world: World) -> None:
    world.source.add("vm/1", 0, owner="bob@pbs")
    done = world.push(**access(MAY_ALL_AT_REMOTE + "acl:1:/datastore:alice@pbs:DatastoreBackup\n"))
    assert done.report.skips == {Skip.NO_RIGHT: 1}
    assert done.report.exit_status == 5


def test_the_target_is_checked_on_the_mapped_path(world: World) -> None:
    world.source.add("vm/1", 0, ns="a/b")
    world.source.add("vm/2", 0, ns="a/c")
    for ns in ("x/b", "x/c"):
        world.there.make_namespace(ns)
    text = (
        READER
        + "acl:0:/remote/far/store1/x:alice@pbs:RemoteSyncPushOperator\n"
        + "acl:1:/remote/far/store1/x/b:alice@pbs:RemoteSyncPushOperator\n"
        + "acl:1:/remote/far/store1/a:alice@pbs:RemoteSyncPushOperator\n"
    )
    done = world.push(source_namespace="a", target_namespace="x", **access(text))
    assert world.there.times("vm/1", ns="x/b") == [0]
    assert done.errors == [
        "source namespace a/c → x/c: missing permissions 'Remote.DatastoreBackup' on "
        "'/remote/far/store1/x/c'"
    ]
    assert done.report.exit_status == 3


def test_creating_a_namespace_needs_its_own_right(world: World) -> None:
    world.source.add("vm/1", 0)
    world.source.add("vm/1", 0, ns="a")
    text = READER + "acl:1:/remote/far:alice@pbs:RemoteSyncPushOperator\n"
    done = world.push(**access(text))
    assert done.errors == [
        "source namespace a: missing permissions 'Remote.DatastoreModify' on '/remote/far/store1/a'"
    ]
    assert world.there.times("vm/1") == [0]
    assert not world.there.has_namespace("a")


def test_each_namespace_that_is_made_needs_the_right(world: World) -> None:
    world.source.add("vm/1", 0)
    text = (
        READER
        + "acl:1:/remote/far:alice@pbs:RemoteSyncPushOperator\n"
        + "acl:1:/remote/far/store1/x/y:alice@pbs:RemoteDatastoreAdmin\n"
    )
    done = world.push(target_namespace="x/y", **access(text))
    (error,) = done.errors
    assert "'Remote.DatastoreModify' on '/remote/far/store1/x'" in error
    assert not world.there.has_namespace("x")


def test_namespaces_are_handled_and_made_parents_first(world: World) -> None:
    for ns in ("a/b/c", "a", "a/b", ""):
        world.source.add("vm/1", 0, ns=ns)
    plan, _ = world.plan(target_namespace="x/y")
    assert [str(item.source) for item in plan.namespaces] == ["", "a", "a/b", "a/b/c"]
    done = world.push(target_namespace="x/y")
    made = [str(event.namespace) for event in done.events if isinstance(event, NamespaceCreated)]
    assert made == ["x", "x/y", "x/y/a", "x/y/a/b", "x/y/a/b/c"]
    assert [str(namespace) for namespace in done.report.created_namespaces] == made


def test_depths_are_those_of_all_namespaces_seen_or_not(world: World) -> None:
    """Before the local user's rights count (protocol/push.md, "Before anything moves")."""
    world.source.add("vm/1", 0)
    world.source.make_namespace("/".join("abcdefg"))
    text = MAY_ALL_AT_REMOTE + "acl:0:/datastore/source:alice@pbs:DatastoreReader\n"
    with pytest.raises(ConfigError, match="a/b/c/d/e/f/g cannot be pushed"):
        world.push(target_namespace="x", **access(text))
    assert world.there.snapshots() == set()


def test_what_has_no_name_only_root_may_use(world: World) -> None:
    world.source.add("vm/1", 0)
    options = access(MAY_ALL_AT_REMOTE + READER)
    for name in ("source_name", "remote_name"):
        with pytest.raises(ConfigError, match="only root@pam"):
            world.push(**{**options, name: None})
    options = access("", AuthId.parse("root@pam"))
    done = world.push(**{**options, "source_name": None, "remote_name": None})
    assert done.report.exit_status == 0


# -- versions --


def test_a_target_without_namespaces_stops_at_once(world: World) -> None:
    world.source.add("vm/1", 0)
    world.serve(TargetOptions(version=("2.1", "0")))
    with pytest.raises(RemoteError, match=r"2\.1\.0, which has no namespaces"):
        world.push()
    requests = world.server.counters.snapshot().requests
    assert set(requests) <= {"GET version", "GET namespace", "GET groups"}, "just looking"


def test_version_3_takes_smaller_bodies(world: World) -> None:
    many = [f"chunk {number}" for number in range(30)] * 70
    world.source.add("host/a", 0, archives={"root.pxar.didx": many})
    world.serve(TargetOptions(version=("3.4", "1")))
    done = world.push()
    assert done.report.exit_status == 0
    assert done.counted.requests["PUT dynamic_index"] >= 3
    assert done.report.stats.entry_lists == done.counted.requests["PUT dynamic_index"]


# -- options --


def test_one_rate_limit_for_all_connections(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Pacer] = []
    used: set[int] = set()

    class Watched(Pacer):
        def __init__(self, rate: int | None, burst: int | None = None) -> None:
            assert (rate, burst) == (50 << 20, 4 << 20)
            super().__init__(rate, burst)
            made.append(self)

    begin = Target.start_backup

    def watch(self: Target, *args: object, **more: object) -> object:
        used.add(id(more["pacer"]))
        return begin(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(rate_limits, "Pacer", Watched)
    monkeypatch.setattr(Target, "start_backup", watch)
    for number in range(4):
        world.source.add(f"vm/{number}", 0)
    done = world.push(rate_out=50 << 20, burst_out=4 << 20, parallel=4)
    assert done.report.exit_status == 0
    assert used == {id(made[0])}
    assert len(made) == 1
    used.clear()
    world.source.add("vm/9", 0)
    world.push()
    assert used == {id(None)}


@pytest.mark.parametrize(
    "options",
    [
        {"transfer_last": 0},
        {"max_removals": -1, "remove_vanished": True},
        {"max_removals": "101%", "remove_vanished": True},
        {"max_removals": 5},
        {"allow_empty_source": True},
        {"rate_out": 0},
        {"burst_out": 5},
        {"parallel": 0},
        {"parallel": 65},
        {"read_ahead": 0},
    ],
)
def test_options_out_of_range(world: World, options: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        world.push(**options)
