"""What a server may do to a backup session, and what is left of it then (protocol/backup.md)."""

from __future__ import annotations

import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pbs_push import Event, Push, PushOptions, Result, SnapshotEnded
from pbs_push.demo.pieces import Piece
from pbs_push.target import Faults, SessionSettings, TargetOptions, http1
from pbs_push.target.answers import Answer
from pbs_push.target.locks import try_lock

from .world import ME, MY_USER, SECRET, World, verify

# -- what a server may do to a session --

TINY = SessionSettings(
    max_concurrent_streams=1, initial_window=1, connection_window=65_535, max_frame_size=16_384
)
NARROW = SessionSettings(
    max_concurrent_streams=2, initial_window=65_535, connection_window=65_535, max_frame_size=16_384
)

SERVERS: dict[str, TargetOptions] = {
    "one stream at a time, windows of a byte": TargetOptions(session_settings=TINY),
    "small windows and frames": TargetOptions(session_settings=NARROW),
    "no stream window at first": TargetOptions(
        session_settings=SessionSettings(initial_window=0),
        settings_changes={1: SessionSettings(initial_window=30_000)},
    ),
    "settings that change": TargetOptions(
        settings_changes={
            2: NARROW,
            9: SessionSettings(max_concurrent_streams=50, initial_window=1 << 20),
            20: NARROW,
            30: SessionSettings(),
        }
    ),
    "fewer streams than are open": TargetOptions(
        settings_changes={20: SessionSettings(max_concurrent_streams=3)}
    ),
    "small bodies": TargetOptions(version=("3.4", "1")),
}


@pytest.mark.parametrize("kind", SERVERS)
def test_sessions_of_any_server(world: World, kind: str) -> None:
    count, size = (9, 40) if "byte" in kind else (60, 3000)
    many = [Piece(f"chunk {number}", size * (1 + number % 7), size) for number in range(count)]
    world.source.add("host/a", 0, archives={"root.pxar.didx": many, "b.pxar.didx": many[::-1]})
    world.source.add("host/a", 1, archives={"root.pxar.didx": many[1:], "c.img.fidx": ("new",)})
    world.serve(SERVERS[kind])
    done = world.push()
    assert done.errors == []
    assert verify(world) == 2


FAULTS: dict[str, Faults] = {
    "the line is cut": Faults(close_after_chunks=20),
    "goaway": Faults(goaway_after_requests=15),
    "a stream is reset": Faults(reset_streams={"POST dynamic_chunk": 5}),
    "the list is reset": Faults(reset_streams={"PUT dynamic_index": 1}),
    "the close is reset": Faults(reset_streams={"POST dynamic_close": 1}),
    "finish is reset": Faults(reset_streams={"POST finish": 1}),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_session_that_breaks_leaves_nothing(world: World, kind: str) -> None:
    labels = [f"chunk {number}" for number in range(60)]
    world.source.add("host/a", 0, archives={"root.pxar.didx": labels})
    world.serve(faults=FAULTS[kind])
    done = world.push()
    assert done.report.counts == {Result.FAILED: 1}
    assert done.report.exit_status == 1
    assert len(done.errors) == 1
    assert world.there.snapshots() == set()
    assert not world.there.has("host/a")
    world.serve()
    assert world.push().report.exit_status == 0, "a second run converges"
    assert verify(world) == 1


def test_pings_are_answered(world: World) -> None:
    world.source.add("host/a", 0, archives={"root.pxar.didx": [f"c {n}" for n in range(30)]})
    world.serve(faults=Faults(ping_after_requests=3))
    assert world.push().report.exit_status == 0


def test_a_full_disk_at_the_target(world: World) -> None:
    def full(_digest: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    world.source.add("host/a", 0)
    world.serve(faults=Faults(chunk_error=full))
    done = world.push()
    assert any("No space left" in text for text in done.errors)
    assert world.there.snapshots() == set()


def test_a_locked_group(world: World) -> None:
    world.source.add("host/a", 0)
    world.source.add("host/b", 0)
    world.there.group("host/a")
    lock = try_lock(world.there.path / "host/a", exclusive=True)
    assert lock is not None
    with lock:
        done = world.push(lock_wait_s=0)
    assert done.report.counts == {Result.PUSHED: 1, Result.FAILED: 1}
    assert any("group lock" in text for text in done.errors)


def test_a_ticket_that_runs_out_is_renewed_at_the_upgrade(world: World) -> None:
    """The target's clock leaps once, between snapshots; the pusher's does not."""
    leap = 0.0
    options = TargetOptions(
        bad_login_delay_s=0, ticket_lifetime_s=100, clock=lambda: time.time() + leap
    )
    world.serve(options)
    for group in ("vm/1", "vm/2", "vm/3"):
        world.source.add(group, 1, 2)

    def listen(event: Event) -> None:
        nonlocal leap
        if isinstance(event, SnapshotEnded):
            leap = 200.0  # once: a ticket that was renewed meanwhile must live

    with world.target(MY_USER) as target:
        report = Push(world.datastore(), target, PushOptions(parallel=3, retries=0), listen).run()
    assert report.counts == {Result.PUSHED: 6}
    assert verify(world) == 6


def test_a_secret_that_is_sent_back_is_not_shown(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a proxy, say, that explains at length what it does not like."""
    real = http1.RestConnection._handle

    def echo(self: http1.RestConnection, request: http1._Request) -> Answer:
        if "groups" in request.path:
            return Answer(400, f"bad request: {dict(request.headers)}".encode())
        return real(self, request)

    monkeypatch.setattr(http1.RestConnection, "_handle", echo)
    world.source.add("vm/1", 0)
    for who in (ME, MY_USER):
        done = world.push(who)
        assert "bad request: " in done.errors[0]
        assert SECRET not in done.errors[0]
        assert "PBS:" not in done.errors[0], "a ticket"
        assert "***" in done.errors[0]


def test_a_target_that_is_slow_holds_up_no_other(tmp_path: Path) -> None:
    """Nothing is shared between targets of one process, no lock either."""
    go_on = threading.Event()

    def hold(kind: str, handled: bool) -> None:
        if kind == "GET version" and not handled:
            assert go_on.wait(30)

    (tmp_path / "slow").mkdir()
    (tmp_path / "other").mkdir()
    with World(tmp_path / "slow") as slow, World(tmp_path / "other") as other:
        slow.serve(faults=Faults(on_request=hold))
        for world in (slow, other):
            world.source.add("vm/1", 0)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(slow.push)
            assert other.push().report.exit_status == 0
            assert not first.done()
            go_on.set()
            assert first.result().report.exit_status == 0
