"""The same push by threads, pools of Python's and a Dask cluster: equal stores and reports."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from tests.connect_proxy import NOWHERE, ConnectProxy
from tests.faults.stores import half_snapshots

from pbs_push import (
    Checkpointed,
    Datastore,
    Event,
    Note,
    Push,
    PushOptions,
    Report,
    Result,
    Retrying,
    Skip,
    SnapshotEnded,
    SnapshotProgress,
    SnapshotStarted,
    Target,
    Workers,
    apush,
    push,
)
from pbs_push.errors import Cancelled, ConfigError, WorkerLost
from pbs_push.formats.keys import CryptKey
from pbs_push.push import coordinator, dask_workers, group_job, job_channel, rate_limits
from pbs_push.push.executors import workers_for
from pbs_push.push.group_job import run_job
from pbs_push.remote import job_link
from pbs_push.target import Faults

from .pools import EXECUTORS, MANY, Pools, no_job_threads, pushed
from .world import CHUNK, ME, SECRET, STORE, World, content_of, verify, whole


def told(report: Report, folder: Path) -> dict[str, Any]:
    """A report without what differs from push to push: times, folders, the order of groups."""
    found = report.to_dict()
    for name in ("began", "ended", "seconds", "source", "target"):
        del found[name]
    for name in ("outcomes", "problems", "alerts", "held-back"):
        texts = [str(one).replace(str(folder), "") for one in found[name]]
        found[name] = sorted(texts)
    return found


def lives(world: World) -> Any:
    """Two datastores with all that may come of a group; what is left is to be pushed."""
    source = world.source
    source.add("vm/1", 0, 1)
    source.add("vm/2", 0)
    source.add("vm/2", 1, ns="a")
    source.add("ct/3", 0, 1, 2)
    source.add("ct/9", 0)
    pushed(world, None)
    source.add("vm/1", 2, 3, archives={"disk.img.fidx": ("d",), "root.pxar.didx": ("b", "e")})
    rmtree(source.folder("ct/3", 0))
    rmtree(source.path / "ct/9")
    source.rewrite_manifest(source.folder("vm/2", 0), notes="better")
    source.add("vm/2", 3, ns="a", protected=True, client_log=b"log")
    source.add("host/bad", 0, archives={"root.pxar.didx": ("lost", "kept")})
    source.add("host/bad", 1)
    source.chunk_of("lost").unlink()
    source.add("host/late", *range(4))


@pytest.fixture(scope="module")
def by_threads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What threads of the push report of ``lives``."""
    folder = tmp_path_factory.mktemp("threads")
    with World(folder) as world:
        lives(world)
        report, events = pushed(world, None, **ALL)
        kinds = sorted(type(event).__name__ for event in events if not is_passing(event))
        return {"report": told(report, folder), "there": world.there.snapshots(), "kinds": kinds}


ALL: dict[str, Any] = {"remove_vanished": True, "sync_metadata": True, "sync_protected": True}


def is_passing(event: Event) -> bool:
    """What there may be more or less of."""
    return isinstance(event, SnapshotProgress)


@pytest.mark.parametrize("kind", EXECUTORS)
def test_the_same_by_all_executors(
    kind: str, pools: Pools, world: World, by_threads: dict[str, Any]
) -> None:
    lives(world)
    report, events = pushed(world, pools[kind], **ALL)
    assert told(report, world.folder) == by_threads["report"]
    assert report.counts[Result.PUSHED] == 7
    assert report.removed.groups == report.removed.snapshots - 1 == 0 or report.held_back
    assert world.there.snapshots() == by_threads["there"]
    assert (
        sorted(type(event).__name__ for event in events if not is_passing(event))
        == by_threads["kinds"]
    )
    assert half_snapshots(world.there.path) == []
    # Events of one snapshot come in order, whoever pushes it.
    for event in events:
        if isinstance(event, SnapshotEnded) and event.outcome.result is Result.PUSHED:
            mine = [
                type(other).__name__
                for other in events
                if isinstance(other, SnapshotStarted)
                and other.snapshot.snapshot.backup_time == event.outcome.newest
                and other.snapshot.snapshot.group == event.outcome.group
                and other.snapshot.namespace == event.outcome.namespace
                and events.index(other) < events.index(event)
            ]
            assert mine == ["SnapshotStarted"]
    assert no_job_threads()


@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_under_a_key_with_checkpoints(kind: str, pools: Pools, world: World) -> None:
    """The key travels in the job; checkpoints are made and removed by workers, remembered here."""
    key = CryptKey(bytes(range(7, 39)))
    world.source.add("vm/1", 0, archives={"disk.img.fidx": [whole(f"p{n}") for n in range(12)]})
    report, events = pushed(
        world, pools[kind], encryption_key=key, checkpoint=f"{4 * CHUNK >> 20}MiB"
    )
    assert (report.exit_status, report.counts[Result.PUSHED]) == (0, 1)
    assert any(isinstance(event, Checkpointed) for event in events)
    assert report.stats.checkpoints > 0
    assert world.there.times("vm/1") == [0]
    here, there = world.source.folder("vm/1", 0), world.there.folder("vm/1", 0)
    name = "disk.img.fidx"
    assert content_of(world.there.path, there, name, key) == content_of(
        world.source.path, here, name, None
    )


def test_through_a_proxy(pools: Pools, world: World) -> None:
    for number in range(3):
        world.source.add(f"vm/{number}", 0)
    with ConnectProxy(world.serve().address, "joe:hunter2") as proxy:
        there = f"{ME}@{NOWHERE}:8007:{STORE}"
        with Target(there, SECRET, world.server.fingerprint, proxy=proxy.url) as target:
            report = push(world.datastore(), target, executor=pools["processes"])
        world.settle()
    assert report.exit_status == 0
    assert verify(world) == 3


@pytest.mark.parametrize("kind", ["thread pool", "dask"])
def test_workers_try_again(
    kind: str, pools: Pools, world: World, quickly: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that is cut in the middle costs a try, which is counted and told."""
    cut: list[str] = []
    lock = threading.Lock()

    def strike(request: str, handled: bool) -> None:
        with lock:
            if request == "POST fixed_close" and not handled and not cut:
                cut.append(request)
                raise ConnectionResetError

    world.serve(faults=Faults(on_request=strike))
    world.source.add("vm/1", 0)
    world.source.add("vm/2", 0)
    report, events = pushed(world, pools[kind], retries=3)
    assert cut
    assert (report.exit_status, report.retries) == (0, 1)
    assert [type(event) for event in events].count(Retrying) == 1
    assert verify(world) == 2


# -- stopping --


@pytest.mark.parametrize("kind", EXECUTORS)
def test_cancelling_leaves_no_half_snapshot(kind: str, pools: Pools, world: World) -> None:
    for group in ("host/a", "host/b", "host/c", "host/d"):
        world.source.add(group, 0, 1, archives={"root.pxar.didx": MANY})
    world.there.add("host/gone", 0)
    begun: list[Event] = []

    def listen(event: Event) -> None:
        if isinstance(event, SnapshotProgress):
            begun.append(event)
            running.cancel()

    with world.target() as target:
        options = PushOptions(remove_vanished=True, rate_out=2 << 20)
        running = Push(world.datastore(), target, options, listen, pools[kind])
        with pytest.raises(Cancelled):
            running.run()
    world.settle()
    assert begun
    report = running.report
    assert report.counts[Result.FAILED] == 0
    assert report.stats.requests > 0, "what was sent of snapshots that were dropped is counted"
    assert half_snapshots(world.there.path) == []
    assert len(world.there.snapshots()) - 1 <= report.counts[Result.PUSHED] + 2
    assert world.there.has("host/gone")
    assert no_job_threads()


def test_groups_that_no_worker_has_taken_are_given_up(world: World) -> None:
    """All of the executor's workers do something else, for longer than anybody waits."""
    world.source.add("vm/1", 0)
    busy = threading.Event()

    class Busy(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future = super().submit(fn, *args, **kwargs)
            if fn is run_job:
                running.cancel()
            return future

    with Busy(1) as pool:
        pool.submit(busy.wait)
        with world.target() as target:
            running = Push(world.datastore(), target, None, None, pool)
            with pytest.raises(Cancelled):
                running.run()
        busy.set()
    assert running.report.remains == 1


def test_what_a_listener_raises_ends_the_push(pools: Pools, world: World) -> None:
    world.source.add("vm/1", *range(6))
    world.source.add("vm/2", *range(6))

    def listen(event: Event) -> None:
        if isinstance(event, SnapshotEnded):
            raise ZeroDivisionError("of the test")

    with pytest.raises(ZeroDivisionError, match="of the test"):
        pushed(world, pools["thread pool"], listen)
    assert half_snapshots(world.there.path) == []
    assert no_job_threads()


def test_no_snapshot_is_begun_after_so_long(pools: Pools, world: World) -> None:
    """The time counts from the beginning of the push, not of the job."""
    world.source.add("vm/1", 0)
    report, _ = pushed(world, pools["processes"], max_duration_s=0)
    assert report.skips == {Skip.OUT_OF_TIME: 1}
    assert (report.exit_status, report.remains) == (3, 1)


# -- limits --


def test_a_rate_limit_holds_over_all_jobs_together(
    pools: Pools, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the shares may add up to is looked at whenever one is told."""
    limit, seen, members = 8 << 20, [], []
    due = job_channel.RateShares.due

    def watched(self: Any) -> Any:
        shares = due(self)
        seen.append(self.most)
        members.append(len(self._members))
        return shares

    monkeypatch.setattr(job_channel.RateShares, "due", watched)
    for number in range(4):
        world.source.add(f"host/{number}", 0, archives={"root.pxar.didx": MANY[:20]})
    report, _ = pushed(world, pools["processes"], rate_out=limit, burst_out=limit)
    assert report.exit_status == 0
    assert max(members) == 2
    assert 0 < max(seen) <= limit
    assert verify(world) == 4


def test_a_rate_that_changes_reaches_the_jobs(
    pools: Pools, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At first it would take over an hour."""
    monkeypatch.setattr(rate_limits, "LOOK_EVERY_S", 0.01)
    path = world.folder / "rate"
    path.write_text("100")
    world.source.add("vm/1", 0, archives={"root.pxar.didx": MANY[:4]})

    def listen(event: Event) -> None:
        if isinstance(event, SnapshotStarted):
            path.write_text("off")

    report, events = pushed(world, pools["processes"], listen, rate_file=path)
    assert report.exit_status == 0
    assert Note("info", "no rate limit") in events


# -- the library --


def test_how_many_at_once(world: World) -> None:
    for number in range(5):
        world.source.add(f"vm/{number}", 0)
    most, now, lock = [0], [0], threading.Lock()

    class Counting(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])

            def counted() -> Any:
                try:
                    return fn(*args)
                finally:
                    with lock:
                        now[0] -= 1

            return super().submit(counted)

    with Counting(3) as pool:
        pushed(world, pool)
        assert most == [3]
        most[0] = 0
        pushed(world, pool, parallel=2, target_namespace="x")
    assert most == [2]


def test_a_job_asks_for_no_more_than_a_thread(pools: Pools, world: World) -> None:
    """What was found out about the target travels with it: no request and no connection more."""
    for number in range(4):
        world.source.add(f"vm/{number}", 0, 1)
    asked = []
    for place, executor in enumerate((None, pools["thread pool"])):
        world.serve() if place == 0 else world.server.counters.reset()
        pushed(world, executor, parallel=2, target_namespace=f"n{place}")
        counted = world.server.counters.snapshot()
        asked.append((counted.requests, counted.connections))
    assert asked[0][0] == asked[1][0]
    assert abs(asked[0][1] - asked[1][1]) <= 1, "one that was opened ahead"


def test_lines_that_are_told_once_are_told_once(
    pools: Pools, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def push_one(self: Any, _plan: Any) -> Any:
        self._run.note_once("warning", "something about all of it")
        raise Cancelled("enough")

    monkeypatch.setattr(group_job.GroupPush, "push", push_one)
    for number in range(3):
        world.source.add(f"vm/{number}", 0)
    report, events = pushed(world, pools["thread pool"])
    assert events.count(Note("warning", "something about all of it")) == 1
    assert "lost the push" in str(report.outcomes[0].error)


def test_what_is_no_executor_is_refused(world: World) -> None:
    with world.target() as target:
        with pytest.raises(ConfigError, match="must be an Executor of"):
            Push(world.datastore(), target, executor=7)  # type: ignore[arg-type]
        with ThreadPoolExecutor(1) as pool, pytest.raises(ConfigError, match="port -1"):
            Workers(pool, port=-1)


def test_an_event_loop_takes_workers_too(pools: Pools, world: World) -> None:
    import asyncio

    world.source.add("vm/1", 0)

    async def go() -> int:
        with world.target() as target:
            events = [
                event
                async for event in apush(world.datastore(), target, executor=pools["thread pool"])
            ]
        return len(events)

    assert asyncio.run(go()) > 3
    world.settle()
    assert verify(world) == 1


def test_a_waiting_push_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "LATE_S", 0.0)
    world.source.add("vm/1", 0)
    free = threading.Event()

    def listen(event: Event) -> None:
        if isinstance(event, Note) and "no worker has taken" in event.text:
            free.set()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(free.wait)
        report, events = pushed(world, Workers(pool, 1, warning="look out"), listen)
    assert report.exit_status == 0
    assert Note("warning", "look out") in events


# -- Dask --


def test_dask_workers_are_counted_and_warned_of(pools: Pools) -> None:
    assert pools["dask"]
    made = dask_workers.dask_workers(pools.client)
    assert (made.at_once, made.host, made.listen, made.warning) == (2, "127.0.0.1", None, None)
    asked = dask_workers.dask_workers(pools.client, host="nas", port=99)
    assert (asked.host, asked.port, asked.listen) == ("nas", 99, "")
    assert workers_for(made) is made


class Cluster:
    """A client of some cluster, as far as it is looked at."""

    def __init__(self, address: str, threads: int) -> None:
        self.address = address
        self.scheduler = self
        self._threads = threads

    def nthreads(self) -> dict[str, int]:
        return {f"{self.address}/{n}": 1 for n in range(self._threads)}

    def get_executor(self, *, pure: bool) -> Executor:
        return ThreadPoolExecutor(1)


@pytest.mark.parametrize(
    ("address", "host", "warned"),
    [
        ("tcp://[::1]:8786", "::1", True),
        ("tcp://127.0.0.1:8786", "127.0.0.1", False),
        ("tls://127.0.0.1:8786", "127.0.0.1", False),
        ("inproc://10.1.1.1/9/1", "127.0.0.1", False),
    ],
)
def test_a_cluster_without_tls_is_warned_of(address: str, host: str, warned: bool) -> None:
    made = dask_workers.dask_workers(Cluster(address, 3))
    assert (made.at_once, made.host) == (3, host)
    assert (made.warning is not None) is warned


def test_a_cluster_without_workers(world: World) -> None:
    with pytest.raises(WorkerLost, match=r"the Dask cluster at .* has no workers"):
        dask_workers.dask_workers(Cluster("tcp://127.0.0.1:1", 0))


def test_a_scheduler_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_workers, "CONNECT_S", "0.1s")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(WorkerLost, match=f"cannot reach the Dask scheduler at 127.0.0.1:{port}"):
        dask_workers.connect(f"127.0.0.1:{port}")
    with pytest.raises(ConfigError, match="Dask scheduler 'nosuch://x'"):
        dask_workers.connect("nosuch://x")


def test_run_job_is_what_workers_are_given() -> None:
    """By its name, so that a worker needs nothing but the package."""
    assert (run_job.__module__, run_job.__qualname__) == ("pbs_push.push.group_job", "run_job")
    assert Datastore.__module__ == "pbs_push.source.datastore"


def test_many_at_once_come_in_and_go_home(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than may be strangers come at the same time; and none of those that are done waits for
    a connection whose number another one has by now: that would be until the limit."""
    monkeypatch.setattr(job_link, "SEND_S", 3600.0)
    monkeypatch.setattr(job_channel, "MAX_STRANGERS", 2)
    for number in range(1, 61):
        world.source.add(f"vm/{number}", 0, archives={"disk.img.fidx": [whole("one")]}, blobs={})
    with ThreadPoolExecutor(16) as pool, world.target() as target:
        report = push(world.datastore(), target, PushOptions(parallel=16), executor=pool)
    world.settle()
    assert report.exit_status == 0, report.problems
    assert report.counts[Result.PUSHED] == 60
    verify(world)
