"""What is told on every run (protocol/push.md, "What cannot be normal"), and what is not."""

from __future__ import annotations

import os
from pathlib import Path
from time import time as now
from typing import Any

import pytest

from pbs_push import Result, Skip
from pbs_push.formats.keys import CryptKey
from pbs_push.names import MANIFEST_NAME, Group, Namespace, Snapshot, placed, route
from pbs_push.push.outcome import Finding
from pbs_push.push.sameness import difference_in_list, difference_in_manifest
from pbs_push.remote.models import SnapshotItem
from pbs_push.remote.reading import read
from pbs_push.source.datastore import Datastore

from .world import DAY, FIRST, ME, STRANGER, Pushed, World, only, time, verify

OTHER = {"disk.img.fidx": ("a",), "root.pxar.didx": ("b", "c", "d")}
SAME_SIZES = {"disk.img.fidx": ("z",), "root.pxar.didx": ("y", "c")}
KEY = CryptKey(bytes(range(32)))


def findings(done: Pushed) -> list[Finding]:
    return [alert.finding for alert in done.report.alerts]


def lists(done: Pushed) -> int:
    return done.counted.requests.get("GET snapshots", 0)


# -- normal life --


def test_a_target_that_thins_out_is_normal(world: World) -> None:
    world.source.add("vm/1", *range(6))
    world.push()
    for number in (1, 2, 4):
        world.there.folder("vm/1", number).rename(world.folder / f"pruned {number}")
    done = world.push()
    assert done.report.exit_status == 0
    assert done.report.alerts == []
    assert lists(done) == 0
    world.source.add("vm/1", 6)
    assert world.push().report.exit_status == 0


def test_transfer_last_is_normal(world: World) -> None:
    world.source.add("vm/1", *range(4))
    assert world.push(transfer_last=2).report.exit_status == 0
    assert world.push(transfer_last=2).report.exit_status == 0


def test_a_source_that_lost_its_newest_is_normal(world: World) -> None:
    world.source.add("vm/1", 0, 1, 2)
    world.push()
    world.source.folder("vm/1", 2).rename(world.folder / "lost")
    done = world.push()
    assert done.report.exit_status == 0
    assert done.report.alerts == []
    assert lists(done) == 1, "since the target's newest is none of the source's"


def test_a_source_that_keeps_less_is_normal(world: World) -> None:
    world.source.add("vm/1", 1)
    world.there.add("vm/1", 0)
    assert world.push().report.exit_status == 0
    assert world.there.times("vm/1") == [0, 1]


def test_a_target_with_newer_ones_alone_is_0_if_it_has_something_in_common(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    world.there.add("vm/1", 0, 5)
    done = world.push()
    assert done.report.skips == {Skip.NOT_NEWER: 1}
    assert done.report.exit_status == 0


# -- what cannot be normal --


def in_future(world: World, days: float) -> None:
    """A snapshot at the target that many days ahead of the clock."""
    number = round((now() - FIRST) / DAY + days)
    ahead = world.there.add("vm/1", number)
    assert ahead.is_dir()


def test_a_newest_one_dated_in_the_future_is_told_on_every_run(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    world.source.add("vm/2", 0)
    world.there.add("vm/1", 0)
    in_future(world, 3)
    for _ in range(2):
        done = world.push()
        assert findings(done) == [Finding.FUTURE]
        assert done.told("vm/1: the target's newest snapshot is dated in the future, 20") == 1
        assert done.report.exit_status == 3
    assert world.there.times("vm/2") == [0], "others go on"


def test_a_clock_that_is_some_hours_off_is_none(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/1", 0)
    in_future(world, 0.4)
    assert findings(world.push()) == []


def test_nothing_in_common_is_told_on_every_run(world: World) -> None:
    """Found with one list for all groups of a namespace."""
    for name in ("vm/1", "vm/2", "vm/3"):
        world.source.add(name, 0, 1)
    for name in ("vm/1", "vm/2"):
        world.there.add(name, 2, 3)
    world.there.add("vm/3", 0, 1)
    for _ in range(2):
        done = world.push()
        assert findings(done) == [Finding.UNRELATED] * 2
        assert lists(done) == 1
        assert done.report.exit_status == 3
        assert done.told("vm/1: none of the source's snapshots is at the target") == 1


def test_nothing_of_an_unrelated_group_is_changed(world: World) -> None:
    folder = world.source.add("vm/1", 0)
    (folder.parent / "notes").write_text("ours")
    world.there.add("vm/1", 2, 3)
    done = world.push(remove_vanished=True, sync_metadata=True)
    assert world.there.times("vm/1") == [2, 3]
    assert not (world.there.path / "vm/1/notes").exists()
    (held,) = done.report.held_back
    assert held.what == "2 vanished snapshots of target vm/1"


def test_others_groups_are_not_looked_at(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/1", 2, owner=STRANGER)
    in_future(world, 3)
    assert findings(world.push()) == []


# -- the same time, other content --


def test_other_sizes_are_seen_in_lists(world: World) -> None:
    world.source.add("vm/1", 0, 1, 2)
    world.there.add("vm/1", 0, archives=OTHER)
    world.there.add("vm/1", 1)
    for _ in range(2):
        done = world.push(remove_vanished=True)
        (alert,) = done.report.alerts
        assert alert.finding is Finding.OTHER_CONTENT
        assert "root.pxar.didx is 10000 bytes here, 15000 there" in alert.text
        assert done.report.skips == {Skip.OTHER_CONTENT: 1}
        assert done.report.exit_status == 3
    assert world.there.times("vm/1") == [0, 1, 2]


@pytest.mark.parametrize("newest", [True, False])
def test_other_csums_are_seen_in_the_previous_manifest(world: World, *, newest: bool) -> None:
    """It is fetched anyway where something is pushed: nothing more is asked for."""
    world.source.add("vm/1", 0)
    world.there.add("vm/1", 0, archives=SAME_SIZES)
    world.source.add("vm/1", 1)
    if not newest:
        world.there.add("vm/1", -1)
    done = world.push()
    assert lists(done) == 0
    (alert,) = done.report.alerts
    assert alert.finding is Finding.OTHER_CONTENT
    assert "disk.img.fidx has csum" in alert.text
    assert done.report.counts == {
        Result.PUSHED: 1, Result.SKIPPED: 1, Result.ALREADY_THERE: 0,
    }  # fmt: skip
    assert done.report.exit_status == 3
    assert world.there.times("vm/1")[-1] == 1, "newer ones go on"


def test_nothing_of_a_group_with_other_content_is_changed(world: World) -> None:
    world.source.add("vm/1", 0, client_log=b"ours")
    world.source.rewrite_manifest(world.source.folder("vm/1", 0), notes="ours")
    world.there.add("vm/1", -1)
    world.there.add("vm/1", 0, archives=OTHER)
    done = world.push(remove_vanished=True, sync_metadata=True, sync_protected=True)
    assert world.there.times("vm/1") == [-1, 0]
    there = world.there.folder("vm/1", 0)
    assert not (there / "client.log.blob").exists()
    assert "notes" not in world.there.unprotected(there)
    assert [held.what for held in done.report.held_back] == ["1 vanished snapshot of target vm/1"]
    assert done.report.logs_added == done.report.metadata_updates == 0


def test_what_is_found_while_pushing_keeps_notes_and_flags_from_the_group(world: World) -> None:
    """Csums are seen with the previous manifest, long after the lists."""
    folder = world.source.add("vm/1", 0)
    (folder / ".protected").touch()
    (folder.parent / "notes").write_text("ours")
    world.there.add("vm/1", 0, archives=SAME_SIZES)
    world.source.add("vm/1", 1)
    done = world.push(sync_metadata=True, sync_protected=True)
    assert findings(done) == [Finding.OTHER_CONTENT]
    assert done.report.metadata_updates == 0
    assert not (world.there.path / "vm/1/notes").exists()
    assert not (world.there.folder("vm/1", 0) / ".protected").exists()


def test_nothing_dead_is_removed_from_a_group_with_other_content(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    world.there.add("vm/1", 0, archives=OTHER)
    world.there.folder("vm/1", 1).mkdir()
    plan, _ = world.plan(remove_vanished=True)
    (group,) = plan.namespaces[0].groups
    assert group.dead == ()
    world.push(remove_vanished=True)
    assert world.there.folder("vm/1", 1).is_dir()


def test_a_late_log_does_not_go_to_other_content(world: World) -> None:
    """The list that tells whether there is a log tells of the files, too."""
    world.source.add("vm/1", 0, client_log=b"ours")
    world.there.add("vm/1", 0, archives=OTHER)
    done = world.push()
    assert findings(done) == [Finding.OTHER_CONTENT]
    assert done.report.logs_added == 0
    assert not (world.there.folder("vm/1", 0) / "client.log.blob").exists()
    assert done.report.exit_status == 3


def test_nothing_goes_to_a_broken_snapshot(world: World) -> None:
    folder = world.source.add("vm/1", 0, 1, client_log=b"ours")
    world.push()
    there = world.there.folder("vm/1", 1)
    (there / "disk.img.fidx").unlink()
    (there / "client.log.blob").unlink()
    world.source.rewrite_manifest(folder, notes="ours")
    done = world.push(sync_metadata=True)
    assert findings(done) == [Finding.BROKEN]
    assert done.report.logs_added == 0
    assert "notes" not in world.there.unprotected(there)


def test_a_broken_newest_one_is_told_of_once_and_that_it_is_buried(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    world.push()
    (world.there.folder("vm/1", 1) / "disk.img.fidx").unlink()
    world.source.add("vm/1", 2)
    done = world.push()
    assert findings(done) == [Finding.BROKEN]
    assert done.told("vm/1: 1 snapshot is pushed on top of the broken one, which no push") == 1
    assert world.there.times("vm/1") == [0, 1, 2]
    assert done.report.exit_status == 3


def test_a_newest_one_without_a_readable_manifest_is_named(world: World) -> None:
    """A server reads it before it begins another backup, and says no more than that it cannot."""
    world.source.add("vm/1", 0, 1)
    world.push()
    (world.there.folder("vm/1", 1) / MANIFEST_NAME).write_bytes(b"rubbish")
    world.source.add("vm/1", 2)
    done = world.push()
    (error,) = done.errors
    assert "the manifest of vm/1/2026-05-29" in error
    assert "remove that snapshot there" in error


def test_nothing_is_removed_where_only_csums_differ(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/1", -1)
    world.there.add("vm/1", 0, archives=SAME_SIZES)
    world.source.add("vm/1", 1)
    done = world.push(remove_vanished=True)
    assert world.there.times("vm/1") == [-1, 0, 1]
    assert findings(done) == [Finding.OTHER_CONTENT]
    assert len(done.report.held_back) == 1
    assert done.report.exit_status == 3


@pytest.mark.parametrize("options", [{}, {"remove_vanished": True}])
def test_a_copy_that_was_encrypted_on_the_way_is_the_same(
    world: World, options: dict[str, Any]
) -> None:
    world.source.add("vm/1", 0, 1)
    world.push(encryption_key=KEY)
    world.source.add("vm/1", 2)
    for key in (KEY, None, CryptKey(bytes(32))):
        assert findings(world.push(encryption_key=key, **options)) == []


def test_another_copy_under_the_same_key_is_seen(world: World) -> None:
    world.source.add("vm/1", 0)
    world.push(encryption_key=KEY)
    world.source.folder("vm/1", 0).rename(world.folder / "gone")
    world.source.add("vm/1", 0, archives=SAME_SIZES)
    world.source.add("vm/1", 1)
    done = world.push(encryption_key=KEY)
    (alert,) = done.report.alerts
    assert "made from another snapshot" in alert.text


def test_what_is_pushed_now_is_never_another(world: World) -> None:
    world.source.add("vm/1", *range(4), client_log=b"log")
    world.source.add("vm/2", *range(4), encrypted=True)
    for _ in range(2):
        done = world.push(remove_vanished=True, sync_metadata=True)
        assert done.report.alerts == []
        assert done.report.exit_status == 0
    assert verify(world) == 8


# -- broken at the target --


def test_a_newest_one_without_its_index_is_broken(world: World) -> None:
    """As a server that died after an early manifest left it: the list of groups shows its files."""
    world.source.add("vm/1", 0, 1)
    world.push()
    (world.there.folder("vm/1", 1) / "disk.img.fidx").rename(
        world.there.folder("vm/1", 1) / "disk.img.tmp_fidx"
    )
    for _ in range(2):
        done = world.push()
        assert lists(done) == 0
        assert findings(done) == [Finding.BROKEN]
        assert "it lacks disk.img.fidx" in done.report.alerts[0].text
        assert done.report.counts[Result.ALREADY_THERE] == 0
        assert done.report.skips == {Skip.NOT_NEWER: 1, Skip.BROKEN: 1}
        assert done.report.exit_status == 3
    world.source.add("vm/1", 2)
    assert world.push().report.exit_status == 3
    assert world.there.times("vm/1") == [0, 1, 2]


@pytest.mark.parametrize("here", [True, False], ids=["kept here", "pruned here"])
def test_a_newest_one_with_a_damaged_index_is_broken(world: World, *, here: bool) -> None:
    """A push asks for it, where it sends something."""
    world.source.add("vm/1", 0)
    world.push()
    (world.there.folder("vm/1", 0) / "root.pxar.didx").write_bytes(b"short")
    if not here:
        world.source.folder("vm/1", 0).rename(world.folder / "pruned")
    world.source.add("vm/1", 1, archives=OTHER)
    done = world.push()
    (alert,) = done.report.alerts
    assert alert.finding is Finding.BROKEN
    assert "root.pxar.didx is missing or damaged there" in alert.text
    assert done.report.counts[Result.ALREADY_THERE] == 0
    assert done.report.counts[Result.PUSHED] == 1
    assert done.report.exit_status == 3


@pytest.mark.parametrize("kind", ["dead", "unreadable"])
def test_one_without_a_readable_manifest_is_broken(world: World, kind: str) -> None:
    world.source.add("vm/1", 0, 1, 2)
    world.push()
    manifest = world.there.folder("vm/1", 1) / MANIFEST_NAME
    manifest.unlink()
    if kind == "unreadable":
        manifest.write_bytes(b"nothing")
    done = world.push(remove_vanished=True)
    assert findings(done) == [Finding.BROKEN]
    assert "it has no readable manifest" in done.report.alerts[0].text
    assert done.report.counts == {Result.ALREADY_THERE: 2, Result.SKIPPED: 1}
    assert done.report.exit_status == 3


def test_one_that_is_written_just_now_is_not_broken(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    world.there.add("vm/1", 0)
    world.there.folder("vm/1", 1).mkdir()
    plan, report = world.plan(remove_vanished=True)
    assert plan.namespaces[0].groups[0].alerts == ()
    assert report.problems == []


# -- not owned, where the target hides it --


def test_a_group_that_the_target_hides_is_not_owned(world: World) -> None:
    world.source.add("vm/1", 0, 1, 2)
    world.source.add("vm/2", 0, 1)
    world.there.add("vm/1", -1, owner=STRANGER)
    world.serve(identities=only("Backup"))
    done = world.push()
    assert done.report.skips == {Skip.NOT_OWNED: 3}
    assert done.report.counts == {Result.PUSHED: 2, Result.SKIPPED: 3}
    assert done.told(f"someone else than the remote user {ME}") == 1
    assert done.errors == []
    assert done.report.exit_status == 3
    assert world.there.times("vm/2") == [0, 1]


def test_a_hidden_group_blocks_no_removals_elsewhere(world: World) -> None:
    world.source.add("vm/1", 0)
    world.source.add("vm/2", 1)
    world.source.add("vm/3", 0, ns="a")
    world.there.add("vm/1", -1, owner=STRANGER)
    world.there.add("vm/2", 0, 1)
    world.there.add("vm/4", 0, ns="a")
    world.there.add("vm/5", 0, ns="gone")
    done = world.push(remove_vanished=True)
    assert done.report.skips == {Skip.NOT_OWNED: 1}
    assert not world.there.has_namespace("gone")
    assert not world.there.has("vm/4", ns="a")
    assert world.there.times("vm/2") == [1]


# -- symbolic links --


def test_links_give_a_line(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    world.source.add("vm/2", 0)
    elsewhere = world.folder / "elsewhere"
    (world.source.path / "vm/2").rename(elsewhere)
    (world.source.path / "vm/2").symlink_to(elsewhere)
    world.source.folder("vm/1", 2).symlink_to(world.source.folder("vm/1", 1))
    done = world.push()
    assert done.told("source root namespace: vm/2: it is a symbolic link") == 1
    assert done.told("vm/1: folder '2026-05-30T20:26:40Z' skipped: it is a symbolic link") == 1
    assert done.report.exit_status == 0, "a server does not see them either"
    world.there.add("vm/2", 0)
    done = world.push(remove_vanished=True)
    assert world.there.has("vm/2")
    assert done.report.exit_status == 3, "held back"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_manifest_that_is_no_file_is_damage(world: World, kind: str) -> None:
    folder = world.source.add("vm/1", 0)
    world.source.add("vm/1", 1)
    path = folder / MANIFEST_NAME
    path.rename(folder / "other")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("other")
    done = world.push()
    assert done.report.counts == {Result.FAILED: 1, Result.PUSHED: 1}
    assert done.report.exit_status == 3
    assert done.told("left behind, since it is damaged at the source") == 1


def test_a_time_before_1970_warns(world: World) -> None:
    folder = world.source.add("vm/1", 0)
    folder.rename(folder.parent / "1969-12-31T23:59:59Z")
    world.source.add("vm/1", 1)
    done = world.push()
    assert done.report.skips == {Skip.UNSUPPORTED: 1}
    assert done.told("before 1970-01-01T00:00:01Z: 1969-12-31T23:59:59Z") == 1


# -- names on both sides --


def test_lines_show_where_a_namespace_lands(world: World) -> None:
    for ns in ("prod", "prod/a"):
        world.source.add("vm/1", 0, ns=ns)
    done = world.push(source_namespace="prod", target_namespace="site1/prod")
    assert set(done.outcomes) == {
        "prod → site1/prod: vm/1/2026-05-28T20:26:40Z",
        "prod/a → site1/prod/a: vm/1/2026-05-28T20:26:40Z",
    }


@pytest.mark.parametrize(
    ("source", "target", "text"),
    [
        ("", "", "x"),
        ("a", "a", "a: x"),
        ("", "a/b", "root → a/b: x"),
        ("a/b", "", "a/b → root: x"),
    ],
)
def test_where_something_is_placed(source: str, target: str, text: str) -> None:
    namespaces = Namespace.parse(source), Namespace.parse(target)
    assert placed(*namespaces, "x") == text
    assert route(*namespaces) == text.removesuffix("x").removesuffix(": ")


# -- comparing --


def listed(world: World, folder: Path, changes: dict[str, Any]) -> SnapshotItem:
    """The snapshot's entry in a list, with changes by file; a size of -1 leaves it out."""
    keys = ("filename", "crypt-mode", "size")
    files = [{key: file[key] for key in keys} for file in world.source.manifest(folder)["files"]]
    for file in files:
        file.update(changes.get(file["filename"], {}))
    files = [file for file in files if file["size"] != -1]
    files += [*changes.get("more", []), {"filename": MANIFEST_NAME}]
    files.append({"filename": "client.log.blob"})
    return read(
        SnapshotItem,
        {"backup-type": "vm", "backup-id": "1", "backup-time": 1, "size": 1, "files": files},
        "a list",
    )


LISTS: dict[str, tuple[dict[str, Any], str | None]] = {
    "the same": ({}, None),
    "no sizes": ({"disk.img.fidx": {"size": None}}, None),
    "no modes": ({"disk.img.fidx": {"crypt-mode": None}}, None),
    "a size": ({"disk.img.fidx": {"size": 7}}, "disk.img.fidx is 5000 bytes here, 7 there"),
    "a mode": (
        {"disk.img.fidx": {"crypt-mode": "sign-only"}},
        "disk.img.fidx has crypt-mode none here, sign-only there",
    ),
    "one less": ({"disk.img.fidx": {"size": -1}}, "disk.img.fidx is here and not there"),
    "one more": ({"more": [{"filename": "x.blob"}]}, "x.blob is there and not here"),
}


@pytest.mark.parametrize("case", LISTS)
def test_differences_in_lists(world: World, case: str) -> None:
    changes, expected = LISTS[case]
    folder = world.source.add("vm/1", 0)
    with Datastore(world.source.path).open_snapshot(first(world)) as opened:
        manifest = opened.manifest
    assert difference_in_list(manifest, listed(world, folder, changes)) == expected
    assert difference_in_manifest(manifest, manifest, None) is None


def first(world: World) -> Any:
    store = Datastore(world.source.path)
    (group,) = store.groups(Namespace())
    assert Snapshot(Group("vm", "1"), time(0)) == store.snapshots(group).snapshots[0].snapshot
    return store.snapshots(group).snapshots[0]
