"""What a push waits for, as the target sees it: flights, handshakes and lists ."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from pbs_push.demo.pieces import Piece
from pbs_push.formats.keys import CryptKey
from pbs_push.names import MANIFEST_NAME
from pbs_push.push.schedule import ROUND_TRIPS_PER_SNAPSHOT
from pbs_push.remote import connection, supply
from pbs_push.remote.preface import Preface, PrefaceHabit
from pbs_push.target import TargetOptions, upgraded
from pbs_push.target.answers import Answer
from pbs_push.target.http1 import RestConnection, _Request
from pbs_push.target.http2 import SessionConnection
from pbs_push.target.session import BackupSession
from pbs_push.target.wire import Wire

from .world import World, whole

PATIENCE_S = 10.0
"""For what must happen; a test that waits so long fails."""

# -- flights --


class Snapshots(NamedTuple):
    """A first snapshot and a second, and the flights that they take.

    ``between`` changes what the source has of the first, once it is pushed.
    """

    first: dict[str, tuple[str | Piece, ...]]
    second: dict[str, tuple[str | Piece, ...]]
    flights: tuple[int, int]
    options: Mapping[str, Any] = MappingProxyType({})
    target: TargetOptions = TargetOptions(bad_login_delay_s=0)
    between: Callable[[World], object] = lambda _world: None


def _image(label: str) -> tuple[Piece, ...]:
    return (*(whole(f"piece {i}") for i in range(20)), whole(label))


def _prune(world: World) -> None:
    (world.source.folder("vm/1", 1) / MANIFEST_NAME).unlink()


def _replace(world: World) -> None:
    rmtree(world.source.folder("vm/1", 1))
    world.source.add("vm/1", 1, archives={"disk.img.fidx": _image("c"), "root.pxar.didx": "cd"})


def _damage(world: World) -> None:
    index = world.source.folder("vm/1", 1) / "disk.img.fidx"
    damaged = bytearray(index.read_bytes())
    damaged[4200] ^= 1
    index.write_bytes(damaged)


KEY = CryptKey(bytes(range(32)))
FIXED = ({"disk.img.fidx": _image("a")}, {"disk.img.fidx": _image("b")})
DYNAMIC = ({"root.pxar.didx": ("a", "b", "c")}, {"root.pxar.didx": ("a", "x", "c", "y")})
BOTH = tuple({**one, **other} for one, other in zip(FIXED, DYNAMIC, strict=True))
MANY = tuple(f"piece {number % 50}" for number in range(2000))
LONG = tuple(whole(f"piece {number % 50}") for number in range(6000))
HUGE = LONG * 19
"""Some 9 MiB of lists: more than wait in memory, and less than 200 of them."""
OLD = TargetOptions(version=("3.3", "1"), bad_login_delay_s=0)

CASES = {
    "fixed": Snapshots(*FIXED, (6, 6)),
    "dynamic": Snapshots(*DYNAMIC, (6, 6)),
    "both": Snapshots(*BOTH, (6, 6)),
    "unchanged": Snapshots(FIXED[0], FIXED[0], (6, 4)),
    "pruned at the source": Snapshots(*BOTH, (6, 7), between=_prune),
    "pruned and renamed": Snapshots(
        FIXED[0], {"new.img.fidx": FIXED[1]["disk.img.fidx"]}, (6, 7), between=_prune
    ),
    "damaged at the source": Snapshots(*FIXED, (6, 7), between=_damage),
    "another at the source": Snapshots(*BOTH, (6, 7), between=_replace),
    "encrypting": Snapshots(*BOTH, (6, 7), options={"encryption_key": KEY}),
    # Lists of a dynamic index go one after another, those of a fixed one together.
    "three lists": Snapshots({"root.pxar.didx": MANY}, DYNAMIC[1], (8, 6), target=OLD),
    "eight lists of an image": Snapshots({"disk.img.fidx": LONG}, FIXED[1], (6, 6), target=OLD),
    "more lists than memory holds": Snapshots(
        {"disk.img.fidx": HUGE}, FIXED[1], (6, 6), target=OLD
    ),
}


def _flights(folder: Path, case: Snapshots, quiet_s: float) -> tuple[int, int]:
    """Flights of both snapshots."""
    seen = []
    folder.mkdir()
    with World(folder) as world:
        world.serve(replace(case.target, hold_answers_s=quiet_s))
        for number, archives in ((1, case.first), (2, case.second)):
            world.source.add("vm/1", number, archives=archives)
            pushed = world.push(**case.options)
            seen.append(pushed.counted.flights)
            if number == 1:
                case.between(world)
    return seen[0], seen[1]


@pytest.mark.parametrize("name", CASES)
def test_the_target_sees_so_many_flights(tmp_path: Path, name: str) -> None:
    """Too short a silence makes two flights of one, on a busy machine; a longer one does not."""
    case = CASES[name]
    for quiet_s in (0.05, 0.2, 0.8, 3.2):
        seen = _flights(tmp_path / f"{quiet_s}", case, quiet_s)
        if seen == case.flights:
            break
    assert seen == case.flights


def test_round_trips_that_parallelism_is_chosen_by() -> None:
    assert CASES["both"].flights[1] == ROUND_TRIPS_PER_SNAPSHOT


def test_a_target_that_loses_early_bytes_costs_one_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one flight more for each snapshot from then on."""
    monkeypatch.setattr(connection, "EARLY_LOST_AFTER_S", 0.3)
    with World(tmp_path) as world:
        world.serve(TargetOptions(loses_early_bytes=True, hold_answers_s=0.2))
        for number in (1, 2, 3):
            world.source.add("vm/1", number, archives={"root.pxar.didx": ("a", str(number))})
        pushed = world.push()
    assert pushed.report.exit_status == 0
    assert pushed.counted.sessions == 4
    assert pushed.counted.flights >= 1 + 3 * 7 - 1
    assert [note for note in pushed.notes if "after the answer to the upgrade" in note]


def test_one_session_tries_it_while_others_go_the_sure_way() -> None:
    habit = PrefaceHabit()
    assert [habit.choose() for _ in range(3)] == [
        Preface.WITH_REQUEST,
        Preface.AFTER_ANSWER,
        Preface.AFTER_ANSWER,
    ]
    habit.refused(Preface.WITH_REQUEST)
    assert habit.choose() is Preface.WITH_REQUEST, "a lock that is held tells nothing"
    habit.took(Preface.AFTER_ANSWER)
    assert habit.choose() is Preface.AFTER_ANSWER
    habit.took(Preface.WITH_REQUEST)
    assert habit.choose() is Preface.WITH_REQUEST
    assert not habit.lost(Preface.WITH_REQUEST), "a target that took it once has other reasons"
    assert habit.choose() is Preface.WITH_REQUEST


def test_what_is_lost_is_not_tried_again() -> None:
    habit = PrefaceHabit()
    assert habit.lost(habit.choose())
    assert habit.choose() is Preface.AFTER_ANSWER
    assert habit.lost(Preface.WITH_REQUEST), "another session has found it out"
    assert habit.choose() is Preface.AFTER_ANSWER
    assert habit.lost(Preface.AFTER_ANSWER)
    assert habit.choose() is Preface.AFTER_PAUSE
    assert not habit.lost(Preface.AFTER_PAUSE)


def test_a_surer_way_that_fails_before_the_trial_has_told() -> None:
    habit = PrefaceHabit()
    trial, other = habit.choose(), habit.choose()
    assert habit.lost(other), "with a pause it may do"
    assert habit.choose() is Preface.AFTER_PAUSE
    assert habit.lost(trial)
    assert habit.choose() is Preface.AFTER_PAUSE


# -- entry lists --


class _OneByOne(SessionConnection):
    """Of the answers that are held, gives one more whenever the client waits for an answer."""

    def _release(self) -> None:
        self._send_answer(*self._held.pop(0))


@pytest.mark.parametrize("archive", ["disk.img.fidx", "root.pxar.didx"])
def test_entries_wait_for_more_until_a_list_is_full(
    world: World, monkeypatch: pytest.MonkeyPatch, archive: str
) -> None:
    """Chunks are acknowledged one at a time, yet as few lists go as the body limit allows."""
    monkeypatch.setattr(upgraded, "SessionConnection", _OneByOne)
    world.serve(TargetOptions(bad_login_delay_s=0, hold_answers_s=0.03))
    pieces = [whole("zero") for _ in range(12_800)]
    for number in range(0, 12_800, 800):
        pieces[number] = whole(f"piece {number}")
    world.source.add("vm/1", 1, archives={archive: pieces}, blobs={})
    pushed = world.push()
    assert pushed.counted.chunks == 17
    lists = {name: n for name, n in pushed.counted.requests.items() if name.startswith("PUT ")}
    assert list(lists.values()) == [2]


def test_a_previous_index_is_registered_without_its_body(world: World) -> None:
    pieces = [f"piece {number % 50}" for number in range(5000)]
    folder = world.source.add("vm/1", 1, archives={"root.pxar.didx": pieces})
    world.push()
    world.source.add("vm/1", 2, archives={"root.pxar.didx": ["new", *pieces]})
    pushed = world.push()
    assert pushed.counted.requests["previous"] == 2, "the manifest, and the index"
    assert pushed.counted.chunks == 1
    # A stream's first window has come by the time that the target learns it is not wanted.
    assert pushed.counted.bytes_out < (folder / "root.pxar.didx").stat().st_size / 4


# -- what is done at the same time --


def test_the_next_connection_is_open_before_a_snapshot_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``finish`` is answered once another handshake is over, for as many as come."""
    handshakes = threading.Condition()
    counted = 0
    expected = {1: True, 2: True, 3: False}
    waits: list[bool] = []
    before: dict[int, int] = {}
    shake_hands, init, finish = Wire.shake_hands, BackupSession.__init__, BackupSession.finish

    def counting(self: Wire) -> None:
        nonlocal counted
        shake_hands(self)
        with handshakes:
            counted += 1
            handshakes.notify_all()

    def begun(self: BackupSession, *args: Any, **more: Any) -> None:
        before[id(self)] = counted
        init(self, *args, **more)

    def held(self: BackupSession, *args: Any) -> Any:
        number = len(waits) + 1
        with handshakes:
            waits.append(
                not expected[number]
                or handshakes.wait_for(lambda: counted > before[id(self)], PATIENCE_S)
            )
        return finish(self, *args)

    monkeypatch.setattr(supply, "NEAR_S", 0.0)  # loopback is very near
    monkeypatch.setattr(Wire, "shake_hands", counting)
    monkeypatch.setattr(BackupSession, "__init__", begun)
    monkeypatch.setattr(BackupSession, "finish", held)
    world.source.add("vm/1", 1, 2, 3)
    pushed = world.push()
    assert waits == [True, True, True], "no connection was opened while a snapshot was finishing"
    assert pushed.counted.sessions == 3
    assert counted == before[max(before, key=before.__getitem__)], "one was opened for nothing"


def test_namespaces_are_asked_about_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lists of two namespaces are answered once both were asked for."""
    for ns in ("", "a", "b"):
        world.source.add("vm/1", 1, ns=ns)
    world.push()
    both = threading.Barrier(2, timeout=PATIENCE_S)
    alone: list[str] = []
    handle = RestConnection._handle

    def held(self: RestConnection, request: _Request) -> Answer:
        if request.components[-1:] == ["groups"] and request.query in ("ns=a", "ns=b"):
            try:
                both.wait()
            except threading.BrokenBarrierError:
                alone.append(request.query)
        return handle(self, request)

    monkeypatch.setattr(RestConnection, "_handle", held)
    again = world.push()
    assert alone == [], "the groups of one namespace were asked for after those of another"
    assert again.counted.requests["GET groups"] == 3
