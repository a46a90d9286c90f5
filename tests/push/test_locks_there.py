"""Locks at the target that are held, other pushes into the same groups, and plans gone old."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from pbs_push import Push, PushOptions, Result
from pbs_push.errors import AlreadyRunning, BusyError, Cancelled, NoSpaceError
from pbs_push.push import beginning, run_lock
from pbs_push.push.outcome import Finding, Skip
from pbs_push.push.patience import Patience
from pbs_push.push.run_lock import only_one
from pbs_push.target import Faults, TargetOptions
from pbs_push.target.locks import try_lock

from .world import Pushed, World, verify

LINGERING = TargetOptions(version=("4.0", "15"), lock_linger_s=2.0, bad_login_delay_s=0)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """A group's lock, as another backup holds it."""
    lock = try_lock(folder, exclusive=True)
    assert lock is not None
    with lock:
        yield


def meanwhile(world: World, change: Callable[[], object], **options: Any) -> Pushed:
    """Carry out a plan after something has changed."""
    plan, _ = world.plan(**options)
    change()
    return world.push(plan=plan, **options)


# -- waiting --


def test_pauses_grow_up_to_the_limit() -> None:
    patience = Patience(60)
    pauses = []
    while (pause := patience.pause()) is not None:
        pauses.append(pause)
    assert sum(pauses) == pytest.approx(60)
    assert pauses[0] < 0.2 < pauses[5] < pauses[-2] <= 6
    assert 12 < len(pauses) < 40
    patience.moved()
    assert patience.pause() is not None, "something happened: it counts anew"
    assert Patience(0).pause() is None


def test_a_lock_kept_after_finish_is_waited_for(world: World) -> None:
    """Servers before 4.0.16 keep it for a while (protocol/backup.md, "The group's lock")."""
    for name in ("vm/1", "vm/2", "vm/3", "vm/4"):
        world.source.add(name, 0, 1, 2, 3)
    world.serve(LINGERING)
    done = world.push(parallel=4)
    assert done.report.counts == {Result.PUSHED: 16}
    assert done.report.exit_status == 0
    assert done.told("waiting for the group at the target") == 4, "once for each group"
    assert verify(world) == 16


def test_a_lock_that_stays_held_fails_the_snapshot_after_a_while(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    world.source.add("vm/2", 0)
    world.there.group("vm/1")
    with held(world.there.path / "vm/1"):
        done = world.push(lock_wait_s=0.5)
    assert done.report.counts == {Result.PUSHED: 1, Result.FAILED: 1, Result.SKIPPED: 1}
    (failed,) = (one for one in done.report.outcomes if one.result is Result.FAILED)
    assert isinstance(failed.error, BusyError)
    assert failed.error.retryable
    assert "(--lock-wait)" in str(failed.error)
    assert done.counted.requests["upgrade"] > 3, "it was tried again"
    assert done.report.exit_status == 3


def test_cancelling_ends_the_wait(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.group("vm/1")
    with held(world.there.path / "vm/1"), world.target() as target:
        push = Push(world.datastore(), target, PushOptions(lock_wait_s=3600))
        threading.Timer(0.3, push.cancel).start()
        with pytest.raises(Cancelled):
            push.run()


def test_what_can_be_tried_again_says_so() -> None:
    kinds = (BusyError, NoSpaceError)
    assert all(kind("PUT /x", 400, "why").retryable for kind in kinds)
    assert Cancelled("stopped").retryable
    assert AlreadyRunning("runs").retryable


# -- plans gone old --


def test_what_came_meanwhile_is_no_failure(world: World) -> None:
    world.source.add("vm/1", 0, 1, 2)
    done = meanwhile(world, lambda: world.push(transfer_last=3))
    assert done.report.counts == {Result.ALREADY_THERE: 3}
    assert done.report.exit_status == 0


def test_older_than_what_came_meanwhile_is_no_failure(world: World) -> None:
    world.source.add("vm/1", 0, 1, 2, 4)
    done = meanwhile(world, lambda: world.there.add("vm/1", 3))
    assert done.outcomes["vm/1/2026-05-28T20:26:40Z"] == "skipped not_newer"
    assert world.there.times("vm/1") == [3, 4]
    assert done.report.exit_status == 0


def test_what_came_meanwhile_may_be_something_else(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    other = {"disk.img.fidx": ("a",), "root.pxar.didx": ("z",)}
    done = meanwhile(world, lambda: world.there.add("vm/1", 0, archives=other))
    assert done.report.skips == {Skip.OTHER_CONTENT: 1}
    (alert,) = done.report.alerts
    assert alert.finding is Finding.OTHER_CONTENT
    assert "bytes here" in alert.text
    assert world.there.times("vm/1") == [0, 1], "newer ones go on"
    assert done.report.exit_status == 3


def test_a_refusal_that_no_list_explains_is_an_error(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/2", 0)

    def spoil() -> None:
        world.there.group("vm/1")
        folder = world.there.folder("vm/1", -1)
        folder.mkdir()
        (folder / "index.json.blob").write_bytes(b"nothing")

    done = meanwhile(world, spoil)
    assert done.report.counts == {Result.FAILED: 1}
    assert any("decode backup manifest blob failed" in text for text in done.errors)


def test_a_dead_folder_says_what_to_do(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.group("vm/1")
    world.there.folder("vm/1", 0).mkdir()
    done = world.push()
    assert done.report.counts == {Result.FAILED: 1}
    assert any("died there" in text and "--remove-vanished" in text for text in done.errors)
    assert world.push(remove_vanished=True).report.exit_status == 0
    assert verify(world) == 1


def test_a_dead_folder_that_was_finished_meanwhile_is_not_removed(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.group("vm/1")
    world.there.folder("vm/1", 0).mkdir()

    def finish() -> None:
        world.there.folder("vm/1", 0).rmdir()
        world.there.add("vm/1", 0)

    done = meanwhile(world, finish, remove_vanished=True)
    assert done.report.counts == {Result.ALREADY_THERE: 1}
    assert done.report.removed.snapshots == 0
    assert verify(world) == 1


# -- two pushes at once --


def test_two_pushes_of_the_same_report_no_failure(world: World) -> None:
    """The second waits for the first on this host, and finds nothing left to do."""
    for name in ("vm/1", "vm/2", "ct/1"):
        world.source.add(name, 0, 1, 2)
    world.target().close()
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: world.push(), range(2)))
    assert [done.report.exit_status for done in both] == [0, 0]
    counts = [done.report.counts for done in both]
    assert {Result.PUSHED: 9} in counts
    assert verify(world) == 9


@pytest.mark.parametrize("parallel", [1, 4])
def test_two_pushes_that_share_no_lock_report_no_failure(world: World, parallel: int) -> None:
    """As from two hosts; here they differ in a filter that leaves nothing out."""
    for name in ("vm/1", "vm/2", "ct/1"):
        world.source.add(name, 0, 1, 2, 3)
    world.target().close()
    filters: list[dict[str, Any]] = [{}, {"group_filters": ["exclude:group:vm/77"]}]
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda more: world.push(parallel=parallel, **more), filters))
    assert [done.report.exit_status for done in both] == [0, 0]
    assert [done.errors for done in both] == [[], []]
    pushed = sum(done.report.counts[Result.PUSHED] for done in both)
    there = sum(done.report.counts[Result.ALREADY_THERE] for done in both)
    assert (pushed, pushed + there) == (12, 24)
    assert verify(world) == 12


def test_the_second_says_that_another_one_runs(world: World) -> None:
    world.source.add("vm/1", 0)
    begun, go_on = threading.Event(), threading.Event()

    def hold(kind: str, handled: bool) -> None:
        if kind == "POST finish" and not handled:
            begun.set()
            go_on.wait(30)

    world.serve(faults=Faults(on_request=hold))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(world.push)
        assert begun.wait(30)
        with pytest.raises(AlreadyRunning, match=r"another push .* \(process \d+\).*--lock-wait"):
            world.push(lock_wait_s=0.1)
        go_on.set()
        assert first.result().report.exit_status == 0


# -- the lock of our own --


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run_lock, "_folder", lambda: tmp_path)
    return tmp_path


def lock(key: str, told: list[str], wait_s: float = 0) -> Any:
    return only_one("pushing", key, wait_s, lambda _seconds: None, told.append)


def test_a_key_is_held_once(folder: Path) -> None:
    told: list[str] = []
    with lock("a", told), lock("b", told):
        with pytest.raises(AlreadyRunning), lock("a", told):
            pytest.fail("it was locked twice")
        assert len(list(folder.iterdir())) == 2
    with lock("a", told):
        pass
    assert list(folder.iterdir()) == [], "nothing is left"
    assert told == []


def test_it_is_free_after_an_error(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock("a", []):
        _ = 1 / 0
    with lock("a", []):
        pass


def test_a_file_that_was_left_is_no_lock(folder: Path) -> None:
    with lock("a", []):
        (path,) = folder.iterdir()
        kept = path.read_bytes()
    path.write_bytes(kept)
    with lock("a", []):
        pass


def test_without_a_place_for_locks_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "_folder", lambda: tmp_path / "missing")
    told: list[str] = []
    with lock("a", told), lock("a", told):
        pass
    assert len(told) == 2
    assert all("no lock is kept" in text for text in told)


@pytest.mark.parametrize("kind", ["link", "somebody else's"])
def test_a_folder_in_anybodys_hand_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    monkeypatch.setattr(run_lock, "OF_OTHERS", tmp_path)
    if kind == "link":
        (tmp_path / "pbs-push-12345").symlink_to(tmp_path)
    else:
        (tmp_path / "pbs-push-12345").mkdir()
    with pytest.raises(PermissionError):
        run_lock._folder()


def test_cron_and_a_login_share_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "OF_OTHERS", tmp_path)
    me = os.getuid()
    monkeypatch.setattr("os.geteuid", lambda: me or 4711)
    monkeypatch.setattr(run_lock.stat, "S_ISDIR", lambda _mode: True)
    places = set()
    for value in (None, "", "/run/user/1"):
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        if value is not None:
            monkeypatch.setenv("XDG_RUNTIME_DIR", value)
        with suppress(PermissionError):  # the folder is root's, where root runs this
            run_lock._folder()
        places |= set(tmp_path.iterdir())
    assert len(places) == 1


def test_a_file_that_its_holder_removed_is_not_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking: the lock of a file without a name keeps nobody out."""
    path = tmp_path / "lock"
    flock = run_lock.fcntl.flock

    def removed(lock_fd: int, operation: int) -> None:
        path.unlink()
        path.touch()
        flock(lock_fd, operation)

    with monkeypatch.context() as patched:
        patched.setattr(run_lock.fcntl, "flock", removed)
        assert run_lock._try(path) is None
    lock_fd = run_lock._try(path)
    assert lock_fd is not None
    os.close(lock_fd)


def test_waiting_counts_anew_when_whoever_holds_the_lock_gets_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is held for much longer than the limit, and something comes there again and again."""
    monkeypatch.setattr(beginning, "_LOOK_AFTER_S", 0.1)
    world.source.add("vm/1", 50)
    world.there.add("vm/1", 0)

    def pushing() -> None:
        with held(world.there.path / "vm" / "1"):
            for number in range(1, 12):
                sleep(0.2)
                world.there.add("vm/1", number)

    other = threading.Thread(target=pushing)
    other.start()
    sleep(0.1)
    done = world.push(lock_wait_s=1.0)
    other.join()
    assert done.report.counts == {Result.PUSHED: 1}


def test_a_full_disk_at_the_target_can_be_tried_again(world: World) -> None:
    def full(_digest: str) -> None:
        raise OSError(28, "No space left on device")

    world.source.add("vm/1", 0)
    world.serve(faults=Faults(chunk_error=full))
    done = world.push()
    (failed,) = (one for one in done.report.outcomes if one.result is Result.FAILED)
    assert isinstance(failed.error, NoSpaceError)
    assert failed.error.retryable
