"""What fails for the moment is tried again: single snapshots, planning, removals; nothing else."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from shutil import rmtree
from typing import Any

import pytest

from pbs_push.demo.verify import verify_target
from pbs_push.errors import (
    AccessError,
    AuthError,
    BusyError,
    Cancelled,
    ChunkError,
    ConfigError,
    ConnectError,
    DeniedError,
    LimitError,
    ManifestError,
    NoSpaceError,
    NotOwnerError,
    PbsPushError,
    ProtocolError,
    ProxyError,
    ResetError,
    SourceError,
    StatusError,
    TlsError,
)
from pbs_push.push import retries as retries_module
from pbs_push.push.beginning import Beginning
from pbs_push.push.engine import Push
from pbs_push.push.events import Event, Retrying
from pbs_push.push.options import PushOptions
from pbs_push.push.retries import Retries, is_passing
from pbs_push.remote.rest import Rest
from pbs_push.remote.target import Target
from pbs_push.remote.tls import explain_tls_error
from pbs_push.target import Faults

from .world import World, verify


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries_module, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(retries_module, "_LONGEST_PAUSE_S", 0.1)


# -- the policy --


def damaged_handshake() -> TlsError:
    failure = ssl.SSLError(1, "[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC]")
    failure.reason = "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"
    error = explain_tls_error(failure, "there:8007")
    assert isinstance(error, TlsError)
    return error


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (ConnectError("refused"), True),
        (ResetError("the request was reset"), True),
        *((StatusError("GET x", status, "later"), True) for status in (408, 429, 502, 503, 504)),
        *((StatusError("GET x", status, "no"), False) for status in (400, 401, 404, 500, 501)),
        (BusyError("POST x", 400, "locked"), False),  # waited for elsewhere
        (NoSpaceError("POST x", 400, "disk full"), False),
        (NotOwnerError("GET x", 400, "not the owner"), False),
        (DeniedError("GET x", 403, "no right"), False),
        (TlsError("another certificate"), False),
        (damaged_handshake(), True),
        (AuthError("wrong password"), False),
        (ProxyError("not through here"), False),
        (ProtocolError("not HTTP/2"), False),
        (ChunkError("00", "/x", "missing"), False),
        (SourceError("unreadable", errno=5), False),
        (ManifestError("damaged"), False),
        (AccessError(("Datastore.Read",), "/x"), False),
        (ConfigError("wrong"), False),
        (Cancelled("stop"), False),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'status', '')}".strip(),
)
def test_which_errors_may_pass(error: PbsPushError, passing: bool) -> None:
    assert is_passing(error) is passing


def test_pauses_grow_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries_module, "_FIRST_PAUSE_S", 1.0)
    monkeypatch.setattr(retries_module, "_LONGEST_PAUSE_S", 60.0)
    retries, now, pauses = Retries(100, 1800.0, 0.0), 0.0, []
    while (pause := retries.pause(now)) is not None:
        pauses.append(pause)
        now += pause
    assert 1800 <= now <= 1801
    assert all(0.5 * 2**number <= pause <= 2**number for number, pause in enumerate(pauses[:6]))
    assert max(pauses) <= 60
    assert len({round(pause / 60, 3) for pause in pauses[7:-1]}) > 5, "they are not the same"


def test_no_more_tries_than_allowed() -> None:
    retries = Retries(3, 1800.0, 0.0)
    assert [retries.pause(0.0) is not None for _ in range(4)] == [True, True, True, False]
    assert Retries(0, 1800.0, 0.0).pause(0.0) is None
    assert Retries(3, 0.0, 0.0).pause(0.0) is None


def test_what_worked_in_between_counts_anew_in_time() -> None:
    retries = Retries(3, 100.0, 0.0)
    assert retries.pause(0.0) is not None
    assert retries.pause(99.0) is not None
    assert retries.pause(150.0, worked=True) is not None
    assert retries.pause(151.0, worked=True) is None, "not in number: it might go on for ever"


# -- a whole push --


def pushed(world: World, **options: Any) -> tuple[Push, list[Retrying]]:
    """Push with patience; what was tried again."""
    events: list[Event] = []
    with world.target() as target:
        run = Push(world.datastore(), target, PushOptions(**options), events.append)
        run.run()
    world.settle()
    return run, [event for event in events if isinstance(event, Retrying)]


def test_a_line_that_is_cut_costs_one_try(world: World) -> None:
    """Snapshots of a group stay in order: none is passed over."""
    world.source.add("vm/1", *range(6), archives={"root.pxar.didx": [f"{n}" for n in range(30)]})
    cuts = iter([True, False, True, True, False])

    def cut(kind: str, handled: bool) -> None:
        if kind == "POST finish" and not handled and next(cuts, False):
            raise ConnectionResetError

    world.serve(faults=Faults(on_request=cut))
    run, tried = pushed(world)
    assert run.report.exit_status == 0
    assert world.there.times("vm/1") == list(range(6))
    assert run.report.retries == len(tried) == 3
    assert run.report.to_dict()["retries"] == 3
    assert verify(world) == 6


def test_a_snapshot_that_never_gets_through_is_given_up_in_order(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    world.serve(faults=Faults(close_after_chunks=1))
    run, tried = pushed(world, retries=2)
    assert len(tried) == 2
    assert [event.number for event in tried] == [1, 2]
    assert run.report.exit_status == 1
    assert world.there.times("vm/1") == []


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Lets every other request whose path holds a word fail as if the line was down."""

    def install(method: str, word: str, *, about: str = "", after: bool = False) -> list[str]:
        failed: list[str] = []
        original = Rest._data
        lock = threading.Lock()

        def data(self: Rest, verb: str, path: str, *arguments: Any) -> Any:
            hit = verb == method and word in path and about in str(arguments)
            with lock:
                fails = hit and not failed.count(f"{arguments}")
                if fails:
                    failed.append(f"{arguments}")
            if fails and after:
                original(self, verb, path, *arguments)
            if fails:
                raise ConnectError(f"{verb} {path}: the line is down")
            return original(self, verb, path, *arguments)

        monkeypatch.setattr(Rest, "_data", data)
        return failed

    return install


def test_planning_goes_on_after_a_broken_line(
    world: World, flaky: Callable[..., list[str]]
) -> None:
    world.source.add("vm/1", 0, ns="a")
    world.source.add("vm/1", 0, ns="b")
    world.push()
    failed = flaky("GET", "/groups", about="'ns': 'a'")
    run, tried = pushed(world)
    assert run.report.exit_status == 0
    assert failed
    assert len(tried) == len(failed)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_removals_are_tried_again(
    world: World,
    flaky: Callable[..., list[str]],
    after: bool,
) -> None:
    """Also where the target did it, and only the answer was lost."""
    world.source.add("vm/1", 0, 1, 2)
    world.push()
    rmtree(world.source.folder("vm/1", 0))
    failed = flaky("DELETE", "/snapshots", after=after)
    run, tried = pushed(world, remove_vanished=True)
    assert run.report.exit_status == 0
    assert world.there.times("vm/1") == [1, 2]
    assert len(failed) == len(tried) == 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_namespace_is_created_after_all(
    world: World,
    flaky: Callable[..., list[str]],
    after: bool,
) -> None:
    world.source.add("vm/1", 0, ns="a")
    flaky("POST", "/namespace", after=after)
    run, _ = pushed(world)
    assert run.report.exit_status == 0
    assert world.there.times("vm/1", ns="a") == [0]


def test_a_target_that_was_never_reached_is_not_waited_for(world: World) -> None:
    world.source.add("vm/1", 0)
    with Target("root@pam!x@127.0.0.1:1:store1", "secret") as target:
        run = Push(world.datastore(), target, PushOptions())
        with pytest.raises(ConnectError):
            run.run()
    assert run.report.retries == 0


def test_stopping_ends_a_wait_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries_module, "_FIRST_PAUSE_S", 600.0)
    monkeypatch.setattr(retries_module, "_LONGEST_PAUSE_S", 600.0)
    world.source.add("vm/1", 0)
    world.serve(faults=Faults(close_after_chunks=1))
    with world.target() as target:
        run: Push

        def stop(event: Event) -> None:
            if isinstance(event, Retrying):
                run.cancel()

        run = Push(world.datastore(), target, PushOptions(), stop)
        with pytest.raises(Cancelled):
            run.run()
    assert run.report.retries == 1


def test_permanent_errors_are_not_tried_again(world: World) -> None:
    world.source.add("vm/1", 0)
    for path in world.source.chunk_files():
        path.write_bytes(b"damaged")
    run, tried = pushed(world)
    assert tried == []
    assert run.report.exit_status != 0


def test_off(world: World) -> None:
    world.source.add("vm/1", 0)
    world.serve(faults=Faults(close_after_chunks=1))
    for options in (PushOptions(retries=0), PushOptions(retry_for_s=0)):
        with world.target() as target:
            run = Push(world.datastore(), target, replace(options))
            run.run()
        assert run.report.retries == 0
        world.settle()


def test_what_a_try_took_counts() -> None:
    """A try that stood still until its own limit does not get that on top of ``--retry-for``."""
    retries = Retries(100, 1800.0, 0.0)
    now, tries = 0.0, 0
    while True:
        now += 900.0  # what `--timeout` lets it stand still
        tries += 1
        pause_s = retries.pause(now)
        if pause_s is None:
            break
        now += pause_s
    assert tries == 2
    assert now <= 1800 + 900 + 1
    assert Retries(100, 100.0, 0.0).pause(900.0) is None, "one was long enough"
    assert Retries(100, 100.0, 0.0).pause(900.0, worked=True) is not None


def test_what_follows_a_snapshot_is_done_where_its_last_answer_was_lost(world: World) -> None:
    """It counts as there already then, and is to be protected all the same."""
    world.source.add("vm/1", 0, protected=True)
    cuts = iter((True,))

    def cut(kind: str, handled: bool) -> None:
        if kind == "POST finish" and handled and next(cuts, False):
            raise ConnectionResetError

    world.serve(faults=Faults(on_request=cut))
    run, tried = pushed(world, sync_protected=True)
    assert (run.report.exit_status, len(tried)) == (0, 1)
    assert (world.there.folder("vm/1", 0) / ".protected").exists()


def test_a_folder_that_a_dead_target_left_is_removed_by_who_made_it(world: World) -> None:
    """A server that died removes nothing; and nothing else is removed without being asked."""
    world.source.add("vm/1", 0)
    world.source.add("vm/2", 0)
    world.there.group("vm/2")
    world.there.folder("vm/2", 0).mkdir()
    cuts = iter((True,))

    def cut(kind: str, handled: bool) -> None:
        folder = world.there.folder("vm/1", 0)
        if kind == "POST finish" and not handled and folder.exists() and next(cuts, False):
            kept = folder.with_name("kept")
            folder.rename(kept)  # so that the session does not remove it
            threading.Timer(0.01, lambda: kept.rename(folder)).start()
            raise ConnectionResetError

    world.serve(faults=Faults(on_request=cut))
    run, _ = pushed(world, parallel=1)
    assert world.there.times("vm/1") == [0]
    assert verify_target(world.source.path, world.there.path, all_snapshots=False).problems == ()
    assert run.report.exit_status == 3
    [error] = [one.error for one in run.report.outcomes if one.error is not None]
    assert "a backup of this time died there" in str(error)


def test_an_upload_of_a_log_is_tried_again(world: World) -> None:
    """Also where the target has it, and only the answer was lost."""
    for number in range(2):
        world.source.add(f"vm/{number}", 0, client_log=b"log")
        world.there.add(f"vm/{number}", 0)
    cuts = {False: iter((True,)), True: iter((True,))}

    def cut(kind: str, handled: bool) -> None:
        if kind == "POST upload-backup-log" and next(cuts[handled], False):
            raise ConnectionResetError

    world.serve(faults=Faults(on_request=cut))
    run, tried = pushed(world, parallel=1)
    assert run.report.exit_status == 0
    assert len(tried) == 2
    assert all((world.there.folder(f"vm/{n}", 0) / "client.log.blob").exists() for n in (0, 1))


def test_a_target_that_ends_the_line_without_an_answer_is_asked_again(world: World) -> None:
    """It comes as an answer that is no HTTP, and is none at all."""
    world.source.add("vm/1", 0, 1)
    world.there.add("vm/1", 0)
    cuts = iter((True,))

    def once(kind: str, handled: bool) -> None:
        if kind == "GET snapshots" and handled and next(cuts, False):
            raise ConnectionResetError

    world.serve(faults=Faults(on_request=once))
    run, tried = pushed(world, remove_vanished=True)
    assert run.report.exit_status == 0
    assert len(tried) == 1
    assert "closed the connection" in str(tried[0].error)


def test_no_memory_ends_a_push_with_a_report(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.source.add("vm/1", 0)

    def nothing(*_: object, **__: object) -> None:
        raise MemoryError("setting up the upload buffer: out of memory")

    monkeypatch.setattr(Beginning, "_transport", nothing)
    with world.target() as target:
        run = Push(world.datastore(), target, PushOptions())
        with pytest.raises(LimitError, match=r"upload buffer.*ulimit"):
            run.run()
    assert isinstance(run.report.error, LimitError)
    assert run.report.exit_status == 1
