"""Workers that are lost, or see another source: what of it is told, and what goes on."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from tests.faults.stores import half_snapshots

from pbs_push import (
    Result,
    Skip,
    Workers,
)
from pbs_push.errors import ConnectError, SourceError, WorkerLost
from pbs_push.push import coordinator, group_job
from pbs_push.push.group_job import SourceSeen
from pbs_push.source.datastore import SourceIdentity
from pbs_push.target import Faults

from .pools import SPAWN, Pools, no_job_threads, pushed
from .world import World, verify

# -- workers that are lost --


def killing(world: World, at: str = "POST dynamic_close") -> list[int]:
    """Let the target kill the process of the first session that comes so far."""
    killed: list[int] = []
    lock = threading.Lock()

    def strike(request: str, handled: bool) -> None:
        with lock:
            if request == at and not handled and not killed:
                ports = {process_of(port) for port in peers(world)} - {os.getpid(), None}
                victim = sorted(filter(None, ports))[0]
                killed.append(victim)
                os.kill(victim, signal.SIGKILL)

    world.serve(faults=Faults(on_request=strike))
    return killed


def peers(world: World) -> list[int]:
    """Ports from which somebody is connected to the target."""
    port = world.server.address[1]
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        here, there, state = line.split()[1:4]
        if state == "01" and int(there.split(":")[1], 16) == port:
            found.append(int(here.split(":")[1], 16))
    return found


def process_of(port: int) -> int | None:
    """The process with a connection from this port."""
    inodes = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if int(line.split()[1].split(":")[1], 16) == port
    }
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            names = {os.readlink(entry) for entry in folder.iterdir()}  # noqa: PTH115
        except OSError:
            continue
        if names & {f"socket:[{inode}]" for inode in inodes}:
            return int(folder.parent.name)
    return None


def test_a_process_that_is_killed_breaks_its_pool(world: World) -> None:
    """Its groups have failed, and those that nobody could take are said not to have been tried."""
    for number in range(6):
        world.source.add(f"vm/{number}", 0, 1)
    world.there.add("vm/9", 0)
    killed = killing(world)
    with ProcessPoolExecutor(2, mp_context=SPAWN) as pool:
        report, _ = pushed(world, pool, remove_vanished=True)
    assert killed
    errors = [one.error for one in report.outcomes if one.error is not None]
    assert errors
    assert all(isinstance(error, WorkerLost) for error in errors)
    assert "is lost: BrokenProcessPool" in str(errors[0])
    assert report.skips[Skip.NO_WORKER] >= 6
    assert report.counts[Result.FAILED] == len(errors) <= 2
    assert report.exit_status in (1, 3)
    assert report.remains == 12 - report.counts[Result.PUSHED]
    assert len(report.held_back) == 1, "nothing is removed where groups failed"
    assert world.there.has("vm/9")
    assert half_snapshots(world.there.path) == []
    again, _ = pushed(world, None)
    assert again.exit_status == 0
    assert verify_all(world) == 12


def verify_all(world: World) -> int:
    rmtree(world.there.path / "vm/9")
    return verify(world)


def test_a_dask_worker_that_is_killed_costs_its_group(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others go on, and Dask's own second try of the job is told that it is not wanted."""
    for number in range(5):
        world.source.add(f"vm/{number}", 0)
    with Pools() as pools:
        executor = pools["dask"]
        killed = killing(world)
        report, _ = pushed(world, executor)
    assert killed
    errors = [one.error for one in report.outcomes if one.error is not None]
    assert len(errors) == 1
    assert isinstance(errors[0], WorkerLost)
    assert report.counts[Result.PUSHED] == 4
    assert (report.exit_status, report.remains) == (3, 1)
    assert half_snapshots(world.there.path) == []
    again, _ = pushed(world, None)
    assert again.exit_status == 0
    assert verify(world) == 5


class Deaf(Executor):
    """Runs each job in a thread, and never says what came of it."""

    def __init__(self, run: Callable[[Any], Any]) -> None:
        self._run = run
        self.threads: list[threading.Thread] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        thread = threading.Thread(target=self._run, args=args)
        self.threads.append(thread)
        thread.start()
        return Future()


def test_a_worker_whose_executor_says_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection has ended, and that is enough."""
    monkeypatch.setattr(coordinator, "LOST_S", 0.05)
    world.source.add("vm/1", 0, 1)

    def dies(job: group_job.GroupJob) -> None:
        link = group_job.JobLink(job.address, job.key)
        link.greeted()
        link.send(b'{"hello":%d,"host":"elsewhere"}' % job.number)
        link.receive()
        link.close()

    executor = Deaf(dies)
    report, _ = pushed(world, Workers(executor, 1))
    for thread in executor.threads:
        thread.join()
    assert [str(one.error) for one in report.outcomes if one.error] == ["worker elsewhere is gone"]
    assert report.skips == {Skip.NOT_TRIED: 1}


def test_a_job_that_comes_twice_is_refused(world: World) -> None:
    """Dask runs a job again whose worker it takes for dead; the group is lost only once."""
    world.source.add("vm/1", 0)
    accounts = []

    class Twice(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            def both() -> Any:
                first = fn(*args)
                accounts.append(fn(*args))
                return first

            return super().submit(both)

    with Twice(1) as pool:
        report, _ = pushed(world, pool)
    assert report.exit_status == 0
    assert "does not wait for this job any more" in str(accounts[0].error)
    assert verify(world) == 1


def test_an_executor_that_takes_nothing(world: World) -> None:
    world.source.add("vm/1", 0)
    world.source.add("vm/2", 0)
    world.source.add("vm/3", 0)
    world.there.add("vm/3", 0)
    rmtree(world.source.folder("vm/3", 0))
    world.source.add("vm/3", 1)
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    report, _ = pushed(world, pool, remove_vanished=True)
    assert report.skips[Skip.NO_WORKER] == 3
    assert (report.exit_status, report.remains) == (3, 3)
    assert len(report.held_back) == 1
    pushed(world, None)
    report, _ = pushed(world, pool, remove_vanished=True)
    assert [str(one.error) for one in report.problems] == [
        "the executor is lost: RuntimeError: cannot schedule new futures after shutdown"
    ]


def test_a_bug_in_a_job_is_raised(
    pools: Pools, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise LookupError("a bug of the test")

    monkeypatch.setattr(group_job.GroupPush, "push", broken)
    world.source.add("vm/1", 0)
    with pytest.raises(RuntimeError, match="LookupError: a bug of the test"):
        pushed(world, pools["thread pool"])
    assert no_job_threads()


def test_a_worker_without_memory_fails_its_group(
    pools: Pools, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(group_job.GroupPush, "push", broken)
    world.source.add("vm/1", 0)
    report, _ = pushed(world, pools["thread pool"])
    assert "no more memory" in str(report.outcomes[0].error)
    assert group_job.host_name() in str(report.outcomes[0].error)


# -- what a worker sees --


class Elsewhere(ThreadPoolExecutor):
    """Workers that see something else at the source's path."""

    def __init__(self, change: Callable[[], None]) -> None:
        super().__init__(1)
        self._change = change

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._change()
        return super().submit(fn, *args)


def test_a_source_that_is_not_there_is_told_with_the_host(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    world.source.add("vm/2", 0)
    away = world.folder / "away"

    def unmount() -> None:
        if world.source.path.exists():
            world.source.path.rename(away)

    with Elsewhere(unmount) as pool:
        report, _ = pushed(world, pool)
    errors = [one.error for one in report.outcomes if one.error is not None]
    assert len(errors) == 2
    assert all(isinstance(error, SourceError) for error in errors)
    host = socket.gethostname()
    assert str(errors[0]).startswith(f"worker {host}: source {world.source.path} is not a dir")
    assert report.counts == {Result.FAILED: 2, Result.SKIPPED: 1}


def test_another_datastore_at_the_path_is_not_pushed(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    world.there.add("vm/1", 0)
    world.there.add("vm/1", -3)
    other = world.folder / "other"

    def mount_another() -> None:
        world.source.path.rename(world.folder / "away")
        (other / ".chunks").mkdir(parents=True)
        other.rename(world.source.path)

    with Elsewhere(mount_another) as pool:
        report, _ = pushed(world, pool, remove_vanished=True)
    assert "is another datastore than the one that the push was planned for" in str(
        next(one.error for one in report.outcomes if one.error)
    )
    assert world.there.times("vm/1") == [-3, 0], "and nothing has vanished"
    assert len(report.held_back) == 1


def test_a_source_is_the_same_by_inodes_on_another_machine() -> None:
    here = SourceIdentity((1, 2), (1, 3))
    assert SourceSeen.of(here).is_seen_as(here)
    moved = SourceIdentity((9, 2), (9, 3))
    assert not SourceSeen.of(here).is_seen_as(moved)
    assert SourceSeen(here, "another machine").is_seen_as(moved)
    assert not SourceSeen(here, "another machine").is_seen_as(SourceIdentity((9, 2), (9, 4)))
    assert not SourceSeen(here, "another machine").is_seen_as(SourceIdentity(None, None))


def test_where_no_machine_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    here = SourceSeen.of(SourceIdentity((1, 2), (1, 3)))
    monkeypatch.setattr(group_job, "_BOOT_ID", Path("/nonexistent/boot_id"))
    assert SourceSeen.of(here.identity).by != here.by
    assert SourceSeen.of(here.identity).is_seen_as(here.identity)


def test_a_push_that_cannot_be_reached(world: World) -> None:
    """Its address is another host's, or a firewall is between."""
    world.source.add("vm/1", 0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    class Misled(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            job = args[0]
            object.__setattr__(job, "address", ("127.0.0.1", port))
            return super().submit(fn, job)

    with Misled(1) as pool:
        report, _ = pushed(world, pool)
    error = report.outcomes[0].error
    assert isinstance(error, WorkerLost)
    assert f"cannot reach the push at 127.0.0.1:{port}" in str(error)


def test_no_address_to_listen_at(world: World) -> None:
    world.source.add("vm/1", 0)
    with ThreadPoolExecutor(1) as pool, pytest.raises(ConnectError, match="cannot listen"):
        pushed(world, Workers(pool, 1, "192.0.2.1"))
