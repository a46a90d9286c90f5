"""Which groups are pushed when, and how many at once, as the target sees it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pbs_push._native.transport import Transport
from pbs_push.push.schedule import LEAST_PARALLEL, buffer_share, chosen_parallel
from pbs_push.remote.target import Target
from pbs_push.target import Faults
from pbs_push.target.session import BackupSession

from .world import World, whole

PATIENCE_S = 10.0
"""For what must happen; a test that waits so long fails."""


def _meet(monkeypatch: pytest.MonkeyPatch, sessions: int) -> list[bool]:
    """Finish sessions once so many of them want to be finished; whether they met, for each."""
    together = threading.Barrier(sessions, timeout=PATIENCE_S)
    met: list[bool] = []
    finish = BackupSession.finish

    def held(self: BackupSession, *args: Any) -> None:
        try:
            together.wait()
        except threading.BrokenBarrierError:
            met.append(False)
        else:
            met.append(True)
        finish(self, *args)

    monkeypatch.setattr(BackupSession, "finish", held)
    return met


def _groups(world: World, count: int) -> None:
    for number in range(count):
        world.source.add(f"vm/{number}", 1)


def _check_pushed_at_once(world: World, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    _groups(world, count)
    met = _meet(monkeypatch, count)
    assert world.push().report.exit_status == 0
    assert met == [True] * count


def test_some_groups_are_pushed_at_once_unless_told_otherwise(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _check_pushed_at_once(world, monkeypatch, LEAST_PARALLEL)


def test_the_measured_round_trip_brings_more_groups_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    round_trip_s, groups = 0.03, 12
    assert chosen_parallel(round_trip_s, groups) == groups
    requests = ("GET version", "GET namespace", "GET groups")
    world.serve(faults=Faults(delays_s=dict.fromkeys(requests, round_trip_s)))
    _check_pushed_at_once(world, monkeypatch, groups)


def test_no_more_groups_at_once_than_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = most = 0
    lock = threading.Lock()
    init, finish = BackupSession.__init__, BackupSession.finish

    def begun(self: BackupSession, *args: Any, **more: Any) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        init(self, *args, **more)

    def finished(self: BackupSession, *args: Any) -> None:
        nonlocal running
        with lock:
            running -= 1
        finish(self, *args)

    monkeypatch.setattr(BackupSession, "__init__", begun)
    monkeypatch.setattr(BackupSession, "finish", finished)
    _groups(world, 6)
    met = _meet(monkeypatch, 2)
    assert world.push(parallel=2).counted.sessions == 6
    assert met == [True] * 6
    assert most == 2


def test_the_largest_group_is_pushed_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    init = BackupSession.__init__

    def noting(self: BackupSession, place: Any, *args: Any, **more: Any) -> None:
        begun.append(str(place.snapshot.group))
        init(self, place, *args, **more)

    monkeypatch.setattr(BackupSession, "__init__", noting)
    for name, length in (("vm/1", 10), ("vm/2", 2000), ("vm/3", 500)):
        archives = {"disk.img.fidx": tuple(whole(f"piece {n % 7}") for n in range(length))}
        world.source.add(name, 1, archives=archives)
    world.push(parallel=1)
    assert begun == ["vm/2", "vm/3", "vm/1"]


class _Noting:
    """A transport that notes how much it may read ahead."""

    def __init__(self, transport: Transport, noted: list[int]) -> None:
        self._transport = transport
        self._noted = noted

    def attach_uploads(self, chunks_fd: int, *, buffer_bytes: int, **more: Any) -> None:
        self._noted.append(buffer_bytes)
        self._transport.attach_uploads(chunks_fd, buffer_bytes=buffer_bytes, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@pytest.mark.parametrize(
    ("options", "bytes_each"),
    [
        ({"parallel": 1}, buffer_share(1)),
        ({"parallel": 5}, buffer_share(5)),
        ({"parallel": 64}, buffer_share(6)),  # there are no more groups
        ({"parallel": 5, "buffer_bytes": 1 << 20}, 1 << 20),
    ],
)
def test_groups_pushed_at_once_share_the_memory_for_reading_ahead(
    world: World, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], bytes_each: int
) -> None:
    noted: list[int] = []
    transport = Target.transport
    monkeypatch.setattr(Target, "transport", lambda self: _Noting(transport(self), noted))
    _groups(world, 6)
    assert world.push(**options).report.exit_status == 0
    assert noted == [bytes_each] * 6
