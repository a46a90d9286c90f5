"""A source that fails during a push: nothing is lost, nothing is removed, nothing is silent."""

from __future__ import annotations

import errno
import os
import shutil

import pytest

from pbs_push import Datastore, Push, PushOptions, Result
from pbs_push.errors import PbsPushError, SourceError
from pbs_push.formats.index import Index
from pbs_push.push.outcome import Skip
from pbs_push.push.plan import Plan
from pbs_push.source.items import SourceSnapshot
from pbs_push.source.snapshot import OpenSnapshot

from .world import MAY_ALL_AT_REMOTE, READER, STRANGER, World, access, time


def _empty(world: World) -> None:
    """What an unmounted file system leaves: an empty folder."""
    shutil.rmtree(world.source.path)
    world.source.path.mkdir()


def test_a_source_that_is_unmounted_meanwhile_has_not_vanished(world: World) -> None:
    world.source.add("vm/1", 1, 2)
    world.there.add("vm/1", 0)
    world.there.add("vm/9", 0)
    world.there.add("vm/9", 0, ns="gone")
    before = world.there.snapshots()
    source = world.datastore()
    plan, _ = world.plan(remove_vanished=True)
    assert plan.removals == 3
    _empty(world)
    done = world.push(source=source, plan=plan, remove_vanished=True)
    assert world.there.snapshots() == before
    assert done.report.counts == {Result.FAILED: 1, Result.SKIPPED: 1}
    assert done.report.skips == {Skip.NOT_TRIED: 1}
    assert "was it unmounted" in done.errors[0]
    assert done.report.exit_status == 1


def _vanished(world: World) -> tuple[Plan, Datastore, set[str]]:
    """A plan to remove one snapshot, one group and one namespace; its source, and what is there."""
    world.source.add("vm/1", 1)
    world.there.add("vm/1", 0, 1)
    world.there.add("vm/9", 0)
    world.there.add("vm/9", 0, ns="gone")
    before = world.there.snapshots()
    source = world.datastore()
    plan, _ = world.plan(remove_vanished=True)
    assert plan.removals == 3
    return plan, source, before


def test_nothing_to_push_and_unmounted_removes_nothing(world: World) -> None:
    plan, source, before = _vanished(world)
    _empty(world)
    done = world.push(source=source, plan=plan, remove_vanished=True)
    assert world.there.snapshots() == before
    assert len(done.report.problems) == 3
    assert all("was it unmounted" in text for text in done.errors)


@pytest.mark.parametrize("listing", ["snapshots", "groups", "namespaces"])
def test_a_source_that_is_unmounted_while_it_is_listed_has_not_vanished(
    world: World, monkeypatch: pytest.MonkeyPatch, listing: str
) -> None:
    plan, source, before = _vanished(world)
    real = getattr(Datastore, listing)

    def unmounted(self: Datastore, *arguments: object) -> object:
        _empty(world)
        (world.source.path / "vm" / "1").mkdir(parents=True)
        return real(self, *arguments)

    monkeypatch.setattr(Datastore, listing, unmounted)
    done = world.push(source=source, plan=plan, remove_vanished=True, allow_empty_source=True)
    gone = before - world.there.snapshots()
    kept = {"snapshots": "vm/1/", "groups": "vm/9/", "namespaces": "ns/gone/"}[listing]
    assert not [name for name in gone if name.startswith(kept)]
    assert any("was it unmounted" in text for text in done.errors)


def test_a_source_that_was_mounted_anew_before_the_push_is_the_source(world: World) -> None:
    world.source.add("vm/1", 1)
    world.there.add("vm/1", 0, 1)
    source = world.datastore()
    elsewhere = world.source.path.with_name("elsewhere")
    shutil.copytree(world.source.path, elsewhere)
    shutil.rmtree(world.source.path)
    world.source.path.mkdir()
    with pytest.raises(SourceError, match="not a datastore"):
        world.push(source=source, remove_vanished=True)
    world.source.path.rmdir()
    elsewhere.rename(world.source.path)
    done = world.push(source=source, remove_vanished=True)
    assert (done.errors, world.there.times("vm/1")) == ([], [1])


def test_pushes_that_share_a_source_do_not_disarm_each_others_guard(world: World) -> None:
    world.source.add("vm/1", 1)
    world.there.add("vm/1", 0, 1)
    shared = world.datastore()
    with world.target() as target:
        options = PushOptions(remove_vanished=True, allow_empty_source=True)
        first, second = Push(shared, target, options), Push(shared, target, options)
        plan = first.plan()
        elsewhere = world.source.path.with_name("elsewhere")
        shutil.copytree(world.source.path, elsewhere)
        _empty(world)
        world.source.path.rmdir()
        elsewhere.rename(world.source.path)
        second.plan()  # takes what is mounted now for its own source
        report = first.run(plan)
        assert report.removed.snapshots == 0
        assert "was it unmounted" in str(report.problems[0].error)
        assert world.there.times("vm/1") == [0, 1]


def test_a_chunk_store_that_is_gone_fails_the_snapshot(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    source = world.datastore()
    plan, _ = world.plan()
    shutil.rmtree(world.source.path / ".chunks")
    done = world.push(source=source, plan=plan)
    assert done.report.counts == {Result.FAILED: 1, Result.SKIPPED: 1}
    assert "open the chunk store" in done.errors[0]


PASSING = ("EACCES", "ENOLCK", "ENOTCONN", "ETIMEDOUT", "ESTALE", "EMFILE")
LASTING = ("EFBIG", "ELOOP", "ENOTDIR")


@pytest.mark.parametrize("name", PASSING + LASTING)
def test_an_error_that_may_pass_does_not_make_a_snapshot_unpushable(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    world.source.add("vm/1", 0, 1)
    code = getattr(errno, name)
    real = Datastore.open_snapshot
    failures = [OSError(code, os.strerror(code))]

    def once(self: Datastore, item: SourceSnapshot, *, lock: bool = True) -> OpenSnapshot:
        if item.snapshot.backup_time == time(0) and failures:
            raise SourceError.of("read its manifest", failures.pop())
        return real(self, item, lock=lock)

    monkeypatch.setattr(Datastore, "open_snapshot", once)
    assert world.push().report.exit_status == (1 if name in PASSING else 3)
    assert world.there.times("vm/1") == ([] if name in PASSING else [1])
    world.push()
    assert world.there.times("vm/1") == ([0, 1] if name in PASSING else [1])


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("what", ["manifest", "log"])
def test_an_io_error_that_comes_twice_is_damage(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str, times: int
) -> None:
    """Otherwise one bad sector would stop its group for ever (protocol/push.md, "Damage")."""
    world.source.add("vm/1", 0, client_log=b"log")
    world.source.add("vm/1", 1)
    failures = [OSError(errno.EIO, os.strerror(errno.EIO)) for _ in range(times)]
    owner, name = {
        "manifest": (Datastore, "open_snapshot"),
        "log": (OpenSnapshot, "client_log"),
    }[what]
    real = getattr(owner, name)

    def broken(*arguments: object, **more: object) -> object:
        if failures:
            raise SourceError.of("read it", failures.pop())
        return real(*arguments, **more)

    monkeypatch.setattr(owner, name, broken)
    done = world.push()
    assert done.report.exit_status == (0 if times == 1 else 3)
    lost = what == "manifest" and times == 2
    assert world.there.times("vm/1") == ([1] if lost else [0, 1])
    log = world.there.folder("vm/1", 0) / "client.log.blob"
    assert log.is_file() == (times == 1)


def _one_pushed_one_new(world: World) -> None:
    world.source.add("vm/1", 1)
    assert world.push().report.exit_status == 0
    world.source.add("vm/1", 2)


def test_previous_indexes_that_cannot_be_opened_any_more_are_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They save work; a table or a limit that is full keeps no snapshot back."""
    _one_pushed_one_new(world)
    real = OpenSnapshot.open_index

    def limited(self: OpenSnapshot, filename: str) -> Index:
        if self.manifest.snapshot.backup_time == time(1):
            raise PbsPushError("a table is full")
        return real(self, filename)

    monkeypatch.setattr(OpenSnapshot, "open_index", limited)
    done = world.push()
    assert done.errors == []
    assert done.counted.requests["previous"] > 0
    assert done.report.stats.sent_chunks == 0


def test_a_target_that_cannot_open_its_previous_index_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _one_pushed_one_new(world)

    def full(_path: object) -> Index:
        raise PbsPushError("a table is full")

    monkeypatch.setattr("pbs_push.target.stored_files.open_index", full)
    done = world.push()
    assert done.errors == []
    assert done.report.stats.fallbacks > 0


def _renamed(world: World) -> None:
    world.source.add("vm/1", 0, ns="new", archives={"disk.img.fidx": ("only here",)})
    world.source.add("vm/2", 0)
    world.there.add("vm/1", 0, ns="old")


def test_a_renamed_namespace_keeps_its_old_copy_if_the_new_one_fails(world: World) -> None:
    _renamed(world)
    world.source.chunk_of("only here").unlink()
    done = world.push(remove_vanished=True)
    assert done.report.counts == {Result.PUSHED: 1, Result.FAILED: 1}
    assert world.there.has("vm/1", ns="old")
    assert done.told("vanished target namespace old: the push had errors") == 1


@pytest.mark.parametrize("why", ["not owned", "no owner"])
def test_a_renamed_namespace_keeps_its_old_copy_if_the_new_one_is_left_out(
    world: World, why: str
) -> None:
    _renamed(world)
    if why == "not owned":
        world.there.group("vm/1", ns="new", owner=STRANGER)
    else:
        (world.source.path / "ns/new/vm/1/owner").unlink()
    world.there.add("vm/9", 0, ns="gone")
    done = world.push(remove_vanished=True)
    assert done.report.exit_status == 3
    assert world.there.has("vm/1", ns="old")
    assert done.told("vanished target namespace old: it holds vm/1, which is left out") == 1
    assert not world.there.has_namespace("gone"), "it has nothing to do with that"


def test_a_renamed_namespace_keeps_its_old_copy_if_the_new_one_may_not_be_made(
    world: World,
) -> None:
    _renamed(world)
    no_new = "acl:1:/remote/far/store1/new:alice@pbs:RemoteSyncPushOperator\n"
    text = READER + MAY_ALL_AT_REMOTE + no_new
    done = world.push(remove_vanished=True, **access(text))
    assert "Remote.DatastoreModify" in done.errors[0]
    assert world.there.has("vm/1", ns="old")


@pytest.mark.parametrize("name", ["vm", "ns"])
def test_a_file_where_a_folder_should_be_hides_what_was_there(world: World, name: str) -> None:
    world.source.add("vm/1", 0)
    world.source.add("ct/1", 0)
    world.source.add("vm/1", 0, ns="a")
    world.push()
    before = world.there.snapshots()
    shutil.rmtree(world.source.path / name)
    (world.source.path / name).write_bytes(b"")
    done = world.push(remove_vanished=True)
    assert world.there.snapshots() == before
    assert done.told(f"root namespace: {name}: it is a symbolic link, or no folder") == 1
    assert done.report.exit_status == 3, "removals were held back"


@pytest.mark.parametrize("content", [b"", bytes(40)], ids=["empty", "no blob"])
def test_a_log_that_cannot_be_read_keeps_no_snapshot_back(world: World, content: bytes) -> None:
    folder = world.source.add("vm/1", 0, client_log=b"log")
    world.source.add("vm/1", 1)
    (folder / "client.log.blob").write_bytes(content)
    done = world.push()
    assert done.report.counts == {Result.PUSHED: 2}
    assert [problem.what for problem in done.report.problems] == [
        "vm/1/2026-05-28T20:26:40Z: pushed without its client log"
    ]
    assert done.report.exit_status == 3


def test_a_log_that_may_be_readable_later_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once newer snapshots are at the target it would not be added any more."""
    world.source.add("vm/1", 0, client_log=b"log")
    world.source.add("vm/1", 1)
    real = OpenSnapshot.client_log
    failures = [OSError(errno.EMFILE, "Too many open files")]

    def once(self: OpenSnapshot) -> bytes | None:
        if failures:
            raise SourceError.of("read client.log.blob", failures.pop())
        return real(self)

    monkeypatch.setattr(OpenSnapshot, "client_log", once)
    assert world.push().report.counts == {Result.FAILED: 1, Result.SKIPPED: 1}
    assert world.push().report.exit_status == 0
    assert (world.there.folder("vm/1", 0) / "client.log.blob").is_file()


def test_a_snapshot_that_fails_was_not_pushed_without_its_log(world: World) -> None:
    folder = world.source.add("vm/1", 0, archives={"disk.img.fidx": ("lost",)}, client_log=b"log")
    (folder / "client.log.blob").write_bytes(b"")
    world.source.chunk_of("lost").unlink()
    done = world.push()
    assert done.report.counts == {Result.FAILED: 1}
    assert done.report.problems == []
