"""``--protect-source``: what is to be copied is protected at the source until it is."""

from __future__ import annotations

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pbs_push import Push, PushOptions, SnapshotStarted, SourceMarked, verify_source
from pbs_push.cli.results import plan_lines, summary_lines
from pbs_push.errors import Cancelled, ConfigError
from pbs_push.names import Namespace, Repository
from pbs_push.push.events import Event
from pbs_push.push.source_marks import place_of

from .world import STORE, World, time

OTHER = "other.example:8007:tank"


def place(world: World, namespace: str = "") -> str:
    if not hasattr(world, "server"):
        world.serve()
    return place_of(world.server.repository(STORE, "root@pam"), Namespace.parse(namespace))


def marks(world: World) -> dict[str, tuple[str, ...]]:
    """The snapshots of the source that are marked, or protected (``user``), by their folders."""
    source = world.datastore()
    found = {}
    for namespace in source.namespaces():
        for group in source.groups(namespace):
            for item in source.snapshots(group).snapshots:
                if item.protected or item.waits_for:
                    found[item.disk_path] = ("user",) * item.protected + item.waits_for
    return found


def told(events: list[Event]) -> list[tuple[int, int]]:
    return [(one.protected, one.freed) for one in events if isinstance(one, SourceMarked)]


def left(world: World, name: str, number: int, which: str, ns: str = "") -> None:
    """A mark of a push that died."""
    source = world.datastore()
    for group in source.groups(Namespace.parse(ns)):
        if str(group.group) == name:
            item = source.snapshots(group).snapshots[number]
            assert source.marks().set(item, which)


def test_all_is_protected_before_anything_moves_and_freed_as_it_comes_there(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    world.source.add("ct/2", 0, ns="a")
    here, there = place(world), place(world, "a")
    seen: list[dict[str, tuple[str, ...]]] = []

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, SnapshotStarted):
            seen.append(marks(world))

    events: list[Event] = []
    options = PushOptions(protect_source=True, parallel=1)
    with world.target() as target:
        report = Push(world.datastore(), target, options, listen).run()
    assert report.exit_status == 0
    one, two, three = (
        str(folder.relative_to(world.source.path))
        for folder in (
            world.source.folder("vm/1", 0),
            world.source.folder("vm/1", 1),
            world.source.folder("ct/2", 0, ns="a"),
        )
    )
    assert seen[0] == {one: (here,), two: (here,), three: (there,)}
    assert [len(one) for one in seen] == [3, 2, 1], "each is freed when it is there"
    assert marks(world) == {}
    assert (report.source_protected, report.source_freed) == (3, 3)
    assert told(events) == [(3, 0), (3, 3)]
    assert report.to_dict()["source-protected"] == report.to_dict()["source-freed"] == 3
    assert "source          3 snapshots protected, 3 freed" in list(summary_lines(report))


def test_marks_are_the_push_s_own_where_an_executor_pushes_the_groups(world: World) -> None:
    """What failed stays marked; workers, which may see the source read only, touch none."""
    world.source.add("vm/1", 0, 1)
    world.source.add("ct/2", 0, ns="a")
    broken = world.source.folder("ct/2", 0, ns="a")
    (broken / "disk.img.fidx").unlink(missing_ok=True)
    (broken / "index.json.blob").write_bytes(b"no manifest")
    options = PushOptions(protect_source=True)
    here, there = place(world), place(world, "a")
    left(world, "ct/2", 0, there, ns="a")
    with ThreadPoolExecutor(2) as pool, world.target() as target:
        report = Push(world.datastore(), target, options, executor=pool).run()
    assert report.exit_status == 3
    assert here not in {which for found in marks(world).values() for which in found}
    assert (report.source_protected, report.source_freed) == (2, 2)
    assert list(marks(world)) == [str(broken.relative_to(world.source.path))]


def test_it_is_off_unless_asked_for(world: World) -> None:
    folder = world.source.add("vm/1", 0)
    before = folder.stat().st_mtime_ns
    assert world.push().report.exit_status == 0
    assert folder.stat().st_mtime_ns == before
    assert "protect" not in "\n".join(summary_lines(world.push().report))


def test_a_push_and_a_verification_leave_a_source_as_it_is(world: World) -> None:
    world.source.add("vm/1", 0, 1, client_log=b"log", protected=True)
    world.source.add("ct/2", 0, ns="a")

    def all_there() -> dict[str, tuple[int, int, int, bytes]]:
        found = {}
        for path in world.source.path.rglob("*"):
            state = path.stat()
            content = b"" if path.is_dir() else path.read_bytes()
            found[str(path)] = (state.st_mode, state.st_mtime_ns, state.st_ino, content)
        return found

    before = all_there()
    everything = {"remove_vanished": True, "sync_metadata": True, "sync_protected": True}
    assert world.push(verify_source=True, **everything).report.exit_status == 0
    assert world.push(**everything).report.exit_status == 0
    assert verify_source(world.datastore()).exit_status == 0
    assert all_there() == before
    world.source.add("ct/2", 1, ns="a")
    names = set(all_there())
    world.push(protect_source=True, **everything)
    after = all_there()
    assert set(after) == names
    assert [name for name in before if after[name][3] != before[name][3]] == []


def test_a_dry_run_marks_nothing(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    left(world, "vm/1", 0, place(world))
    before = marks(world)
    plan, _ = world.plan(protect_source=True)
    assert plan.to_push == 2
    assert marks(world) == before


def test_a_plan_shows_what_is_to_be_freed(world: World) -> None:
    world.source.add("vm/1", 0)
    world.push()
    left(world, "vm/1", 0, place(world))
    with world.target() as target:
        push = Push(world.datastore(), target, PushOptions(protect_source=True))
        plan = push.plan()
        lines = list(plan_lines(plan, push.forecast(plan)))
    assert any(line.startswith("free     vm/1/") for line in lines), lines
    (group,) = plan.to_dict()["namespaces"][0]["groups"]
    assert len(group["free"]) == 1
    assert len(marks(world)) == 1


@pytest.mark.parametrize("after", ["copied", "gone on"])
def test_what_failed_stays_protected_until_it_is_copied(world: World, after: str) -> None:
    world.source.add("vm/1", 0)
    broken = world.source.add("vm/1", 1, archives={"disk.img.fidx": ("x",)})
    world.source.add("vm/1", 2)
    chunk = world.source.chunk_of("x")
    content = chunk.read_bytes()
    chunk.unlink()
    done = world.push(protect_source=True)
    assert done.report.exit_status == 3
    assert len(marks(world)) == 2, "the one that failed, and the one behind it"
    assert (done.report.source_protected, done.report.source_freed) == (3, 1)
    if after == "copied":
        chunk.write_bytes(content)
        assert world.push(protect_source=True).report.exit_status == 0
    else:
        assert world.push(protect_source=True, skip_damaged=True).report.exit_status == 3
        assert list(marks(world)) == [str(broken.relative_to(world.source.path))]
        world.push(protect_source=True)  # it can never be pushed any more
    assert marks(world) == {}


def test_a_push_that_is_stopped_keeps_the_rest(world: World) -> None:
    world.source.add("vm/1", 0, 1, 2)

    def listen(event: Event) -> None:
        if isinstance(event, SnapshotStarted) and event.snapshot.snapshot.backup_time != time(0):
            push.cancel()

    with world.target() as target:
        push = Push(world.datastore(), target, PushOptions(protect_source=True), listen)
        with pytest.raises(Cancelled):
            push.run()
    world.settle()
    assert (push.report.source_protected, push.report.source_freed) == (3, 1)
    assert len(marks(world)) == 2
    assert world.push(protect_source=True).report.exit_status == 0
    assert marks(world) == {}


def test_what_dead_runs_left_is_cleared(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    world.source.add("ct/2", 0)
    world.push()
    for which in (("vm/1", 0), ("vm/1", 1), ("ct/2", 0)):
        left(world, *which, place(world))
    done = world.push(protect_source=True, group_filters=["type:vm"])
    assert list(marks(world)) == [
        str(world.source.folder("ct/2", 0).relative_to(world.source.path))
    ], "what a push does not look at is another's"
    assert (done.report.source_protected, done.report.source_freed) == (0, 2)
    assert told(done.events) == [(0, 2)]
    world.push(protect_source=True)
    assert marks(world) == {}


def test_a_push_without_it_says_what_is_left_and_touches_nothing(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    left(world, "vm/1", 1, place(world))
    left(world, "vm/1", 0, OTHER)
    done = world.push()
    assert done.report.exit_status == 0
    assert done.told("keeps 1 snapshot of the source from prune") == 1
    assert len(marks(world)) == 2


def test_marks_of_other_targets_stay(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    left(world, "vm/1", 0, OTHER)
    world.push(protect_source=True)
    assert list(marks(world).values()) == [(OTHER,)]
    assert world.push(protect_source=True).report.source_freed == 0


def test_another_namespace_there_is_another_place(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.make_namespace("x")
    left(world, "vm/1", 0, place(world))
    world.push(protect_source=True, target_namespace="x")
    assert list(marks(world).values()) == [(place(world),)]


def test_what_a_user_protects_is_never_touched(world: World) -> None:
    one = world.source.add("vm/1", 0, protected=True)
    two = world.source.add("vm/1", 1)

    def listen(event: Event) -> None:
        if isinstance(event, SnapshotStarted):
            (two / ".protected").open("w").close()  # as PBS does it, meanwhile

    before = (one / ".protected").stat()
    with world.target() as target:
        Push(world.datastore(), target, PushOptions(protect_source=True), listen).run()
    assert (one / ".protected").stat() == before
    assert set(marks(world).values()) == {("user",)}
    assert len(marks(world)) == 2


@pytest.mark.parametrize("first", [True, False], ids=["pushed now", "pushed before"])
def test_marks_are_not_copied(world: World, first: bool) -> None:
    world.source.add("vm/1", 0)
    world.source.add("vm/1", 1, protected=True)
    if not first:
        world.push()
    left(world, "vm/1", 0, OTHER)
    done = world.push(sync_protected=True, protect_source=True)
    assert done.report.exit_status == 0
    assert done.report.metadata_updates == 1
    assert not (world.there.folder("vm/1", 0) / ".protected").exists()
    assert (world.there.folder("vm/1", 1) / ".protected").exists()


def test_a_source_that_cannot_be_written_to(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.source.add("vm/1", 0, ns="a")
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    with pytest.raises(ConfigError, match=r"--protect-source: cannot write in source .*read only"):
        world.push(protect_source=True)
    assert not world.there.has_namespace("a"), "nothing has moved"
    with pytest.raises(ConfigError, match="cannot write in source"):
        world.plan(protect_source=True)
    assert world.push().report.exit_status == 0
    assert world.push(protect_source=True).report.exit_status == 0, "nothing is to be protected"


def test_one_that_cannot_be_marked_is_a_problem_and_is_pushed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = world.source.add("vm/1", 0)
    world.source.add("vm/2", 0)
    link = os.link

    def denied(name: str, *rest: str, src_dir_fd: int, **more: object) -> None:
        if Path(f"/proc/self/fd/{src_dir_fd}").readlink().is_relative_to(one):
            raise PermissionError(13, "Permission denied")
        link(name, *rest, src_dir_fd=src_dir_fd, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", denied)
    done = world.push(protect_source=True)
    assert done.report.exit_status == 3
    (error,) = done.errors
    assert "protecting it at the source" in error
    assert "Permission denied" in error
    assert (done.report.source_protected, done.report.source_freed) == (1, 1)
    assert list(done.outcomes.values()) == ["pushed", "pushed"]


def test_one_that_cannot_be_freed_is_a_problem(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.source.add("vm/1", 0)
    unlink = os.unlink

    def denied(name: str, **more: object) -> None:
        if name == ".protected":
            raise OSError(30, "Read-only file system")
        unlink(name, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "unlink", denied)
    done = world.push(protect_source=True)
    assert done.report.exit_status == 3
    assert "ending its protection at the source" in done.errors[0]
    monkeypatch.undo()
    assert world.push(protect_source=True).report.source_freed == 1
    assert marks(world) == {}


def test_one_that_is_being_removed_is_no_problem(world: World, tmp_path: Path) -> None:
    world.source.add("vm/1", 0, 1)
    gone = world.source.folder("vm/1", 0)
    with world.target() as target:
        events: list[Event] = []
        push = Push(world.datastore(), target, PushOptions(protect_source=True), events.append)
        plan = push.plan()
        gone.rename(tmp_path / "gone")
        report = push.run(plan)
    assert report.exit_status == 0
    assert (report.source_protected, report.source_freed) == (1, 1)


def test_one_that_is_locked_now_is_told_and_no_problem(world: World) -> None:
    folder = world.source.add("vm/1", 0)
    world.push()
    left(world, "vm/1", 0, place(world))
    folder_fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(folder_fd, fcntl.LOCK_EX)
        done = world.push(protect_source=True)
    finally:
        os.close(folder_fd)
    assert done.report.exit_status == 0
    assert done.told("ending its protection at the source: ") == 1
    assert len(marks(world)) == 1


def test_the_place_of_a_mark() -> None:
    root, below = Namespace(), Namespace.parse("a/b")
    assert place_of(Repository("tank", "H.example", 8008), root) == "h.example:8008:tank"
    assert place_of(Repository("tank", "::1"), below) == "[::1]:8007:tank:a/b"
    assert place_of(Repository("tank", "bücher.example"), root).startswith("xn--bcher-kva.example:")
