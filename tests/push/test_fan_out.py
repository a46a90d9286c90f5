"""One source to several targets: each chunk read once, each target on its own."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pbs_push import (
    Cancelled,
    ChunkError,
    ConfigError,
    ConnectError,
    Datastore,
    FanOut,
    FanOutReport,
    FromTarget,
    Namespace,
    NoSpaceError,
    Planned,
    Push,
    PushOptions,
    Repository,
    Result,
    SnapshotEnded,
    SnapshotProgress,
    SnapshotStarted,
    Target,
    push_to_all,
)
from pbs_push.demo.pieces import Piece
from pbs_push.demo.verify import verify_target
from pbs_push.formats.keys import CryptKey
from pbs_push.push.events import Event
from pbs_push.push.sharing import Meeting
from pbs_push.target import Faults, Identities, TargetOptions, TargetServer
from pbs_push.target.store import create_datastore

from .opens import opens_of_chunks
from .world import ME, SECRET, STORE, Store, content_of

PATIENCE_S = 20.0
SIZE = 60_000
"""Of most chunks; they take 64 KiB of the room, which is given out so."""
WHOLE = 64 << 10


class Several:
    """A source, and as many targets as are asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.source = Store(folder / "source")
        self.faults: list[Faults] = []
        self.servers: list[TargetServer] = []
        self.repositories: list[Repository] = []
        self.targets: list[Target] = []
        self.events: list[FromTarget] = []
        self.listen: Callable[[FromTarget], None] = lambda _event: None

    def fill(self, groups: int = 3, chunks: int = 10, first: int = 0) -> int:
        """Groups of one snapshot, with chunks that no other has; how many these are."""
        for group in range(first, first + groups):
            pieces = [Piece(f"{group}: {number}", SIZE, SIZE) for number in range(chunks)]
            self.source.add(f"host/{group}", 1, archives={"root.pxar.didx": pieces}, blobs={})
        return groups * chunks

    def serve(self, number: int) -> Several:
        for n in range(number):
            path = self.path(n)
            create_datastore(path, all_chunk_folders=False)
            self.faults.append(Faults())
            server = TargetServer(
                {STORE: path},
                identities=Identities.simple({ME: SECRET}),
                options=TargetOptions(bad_login_delay_s=0),
                faults=self.faults[n],
            )
            self.servers.append(self.stack.enter_context(server))
            self.repositories.append(server.repository(STORE, ME))
        self.connect()
        return self

    def connect(self) -> None:
        """Targets anew: what was open to them is closed."""
        for target in self.targets:
            target.close()
        self.targets = [
            self.stack.enter_context(Target(repository, SECRET, server.fingerprint))
            for repository, server in zip(self.repositories, self.servers, strict=True)
        ]

    def path(self, number: int) -> Path:
        return self.folder / f"target {number}"

    def datastore(self) -> Datastore:
        return Datastore(self.source.path, name="source", lock_root=self.folder / "locks")

    def fan_out(self, *, room_bytes: int = 256 << 20, **options: Any) -> FanOut:
        asked = PushOptions(**{"retries": 0, **options})

        def heard(event: FromTarget) -> None:
            self.events.append(event)
            self.listen(event)

        return FanOut(self.datastore(), self.targets, asked, heard, room_bytes=room_bytes)

    def push(self, **options: Any) -> FanOutReport:
        return self.fan_out(**options).run()

    def check_equal(self, *numbers: int) -> None:
        """What these targets hold is what the source holds."""
        for number in numbers:
            found = verify_target(self.source.path, self.path(number))
            assert found.problems == (), found.problems

    def settle(self) -> None:
        """Wait until the targets have noticed that all connections are closed."""
        self.connect()
        for server in self.servers:
            for thread in list(server._threads):
                thread.join()

    def whole_or_none(self, number: int) -> set[str]:
        """Snapshots of a target, none of which is a half one."""
        self.settle()
        found = Store(self.path(number)).snapshots()
        for path in found:
            assert (self.path(number) / path / "index.json.blob").is_file(), path
        return found


@pytest.fixture
def several(tmp_path: Path) -> Iterator[Several]:
    with ExitStack() as stack:
        yield Several(tmp_path, stack)


def of(several: Several, number: int, kind: type[Event]) -> int:
    """How many events of a kind came from a target."""
    return sum(one.number == number and isinstance(one.event, kind) for one in several.events)


# -- each chunk is read once --


@pytest.mark.parametrize("number", [2, 3])
def test_each_chunk_file_is_opened_once_for_all(several: Several, number: int) -> None:
    chunks = several.fill()
    several.serve(number)
    with opens_of_chunks(several.source.path) as opened:
        report = several.push()
    assert report.exit_status == 0
    assert len(opened) == chunks
    assert set(opened.values()) == {1}
    several.check_equal(*range(number))
    reading = report.reading
    assert (reading.read_chunks, reading.taken_chunks) == (chunks, chunks * (number - 1))
    assert reading.again_chunks == 0
    for one in range(number):
        assert of(several, one, Planned) == 1
        assert of(several, one, SnapshotEnded) == 3
        assert report.reports[one].counts[Result.PUSHED] == 3
        assert sum(report.reading_of(one)[:3:2]) == chunks
    assert {one.target for one in several.events} == {one.repository for one in several.targets}


def test_the_same_by_the_function(several: Several) -> None:
    several.fill(1)
    several.serve(2)
    report = push_to_all(several.source.path, several.targets)
    assert report.exit_status == 0
    several.check_equal(0, 1)


@pytest.mark.parametrize("number", [1, 2])
def test_who_is_ahead_shares_what_it_lacks(several: Several, number: int) -> None:
    """One that has half of it: for what both lack, files are opened once, and once for the rest."""
    half = several.fill(2)
    several.serve(number + 1)
    assert Push(several.datastore(), several.targets[0], PushOptions()).run().exit_status == 0
    rest = several.fill(2, first=2)
    with opens_of_chunks(several.source.path) as opened:
        report = several.push()
    assert report.exit_status == 0
    assert len(opened) == half + rest
    assert set(opened.values()) == {1}
    assert report.reading.taken_chunks == number * rest + (number - 1) * half
    several.check_equal(*range(number + 1))


def test_groups_that_all_lack_come_first(several: Several) -> None:
    several.fill(2, chunks=20)
    several.serve(2)
    Push(several.datastore(), several.targets[0], PushOptions()).run()
    several.fill(2, chunks=5, first=5)
    several.push(parallel=1)
    begun = [
        str(one.event.snapshot.snapshot.group)
        for one in several.events
        if one.number == 1 and isinstance(one.event, SnapshotStarted)
    ]
    assert sorted(begun[:2]) == ["host/5", "host/6"]


@pytest.mark.parametrize("options", [{"verify_source": True}, {"encryption_key": "key"}])
def test_chunks_that_are_looked_at_before_are_read_once_too(
    several: Several, options: dict[str, Any]
) -> None:
    """What is read once is the file: each target's push decodes, or encrypts, by itself."""
    key = CryptKey(bytes(range(32))) if "encryption_key" in options else None
    if key is not None:
        options = {"encryption_key": key}
    chunks = several.fill(2)
    several.serve(2)
    contents: list[bytes] = []
    with opens_of_chunks(several.source.path) as opened:
        report = several.push(**options)
    assert report.exit_status == 0
    assert (len(opened), sum(opened.values())) == (chunks, chunks)
    for number in range(2) if key is not None else ():
        there = Store(several.path(number))
        for store, its_key in ((several.source, None), (there, key)):
            folder = store.folder("host/1", 1)
            contents.append(content_of(store.path, folder, "root.pxar.didx", its_key))
    assert len(set(contents)) <= 1
    if key is None:
        several.check_equal(0, 1)


# -- memory is bounded, and nobody waits --


def test_the_faster_one_does_not_wait_and_the_rest_is_read_again(several: Several) -> None:
    """The slower one takes no chunk before the faster one has ended."""
    chunks = several.fill(2, chunks=12)
    several.serve(2)
    over = threading.Event()
    several.faults[1].chunk_error = lambda _digest: _wait(over)

    def listen(event: FromTarget) -> None:
        if of(several, 0, SnapshotEnded) == 2:
            over.set()

    several.listen = listen
    report = several.push(room_bytes=5 * WHOLE)
    assert report.exit_status == 0
    several.check_equal(0, 1)
    assert report.most_held_bytes <= 5 * WHOLE
    reading = report.reading
    assert reading.read_chunks + reading.taken_chunks == 2 * chunks
    assert reading.read_chunks == chunks + reading.again_chunks
    assert 0 < reading.again_chunks < chunks
    assert reading.taken_chunks >= 4, "the room was of use"
    document = report.to_dict()
    assert document["reading"]["again-chunks"] == reading.again_chunks
    assert document["reading"]["room-bytes"] == 5 * WHOLE


def _wait(over: threading.Event) -> None:
    assert over.wait(PATIENCE_S), "the faster target waits for the slower one"


@pytest.mark.parametrize("room_bytes", [0, WHOLE])
def test_more_targets_than_there_is_room_for(several: Several, room_bytes: int) -> None:
    chunks = several.fill(2)
    several.serve(4)
    report = several.push(room_bytes=room_bytes)
    assert report.exit_status == 0
    several.check_equal(*range(4))
    reading = report.reading
    assert report.most_held_bytes <= room_bytes
    assert reading.read_chunks + reading.taken_chunks == 4 * chunks
    assert reading.read_chunks == chunks + reading.again_chunks
    if not room_bytes:
        assert reading.taken_chunks == 0


def test_nothing_is_held_when_all_is_over(several: Several) -> None:
    several.fill(2)
    several.serve(2)
    several.faults[1].chunk_error = _full
    fan_out = several.fan_out()
    fan_out.run()
    chunks = fan_out._sharing[0].chunks
    assert chunks.held_bytes <= 8 * WHOLE  # pieces of memory that wait for a use


# -- each fails by itself --


def test_one_that_cannot_be_reached(several: Several) -> None:
    several.fill()
    several.serve(3)
    several.servers[1].close()
    report = several.push()
    assert isinstance(report.reports[1].error, ConnectError)
    assert [one.exit_status for one in report.reports] == [0, ConnectError.exit_status, 0]
    assert report.exit_status == ConnectError.exit_status
    several.check_equal(0, 2)


@pytest.mark.parametrize("faults", [False, True], ids=["closed", "cut"])
def test_one_that_goes_in_the_middle(several: Several, faults: bool) -> None:
    """And the next run makes both equal."""
    several.fill()
    several.serve(2)
    seen = threading.Semaphore(5)

    def cut(kind: str, _handled: bool) -> None:
        if kind == "POST dynamic_chunk" and not seen.acquire(blocking=False):
            raise ConnectionResetError

    if faults:
        several.faults[1].on_request = cut
    else:
        several.faults[1].chunk_error = lambda _digest: _close(several.servers[1], seen)
    report = several.push()
    assert report.reports[0].exit_status == 0
    assert report.reports[1].exit_status != 0
    assert report.exit_status == report.reports[1].exit_status
    several.check_equal(0)
    assert len(several.whole_or_none(1)) == report.reports[1].counts[Result.PUSHED]
    if faults:
        several.faults[1].on_request = None
        assert several.push().exit_status == 0
        several.check_equal(0, 1)


def _close(server: TargetServer, seen: threading.Semaphore) -> None:
    if not seen.acquire(blocking=False):
        threading.Thread(target=server.close).start()
        raise ConnectionResetError


def _full(_digest: str) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_one_that_is_full(several: Several) -> None:
    several.fill()
    several.serve(2)
    several.faults[0].chunk_error = _full
    report = several.push()
    errors = [one.error for one in report.reports[0].outcomes if one.error is not None]
    assert errors
    assert all(isinstance(error, NoSpaceError) for error in errors)
    assert report.reports[1].exit_status == 0
    several.check_equal(1)
    assert several.whole_or_none(0) == set()


def test_a_damaged_chunk_is_told_by_each(several: Several) -> None:
    several.fill(2)
    chunk = several.source.chunk_of(Piece("0: 3", SIZE, SIZE))
    data = bytearray(chunk.read_bytes())
    data[40] ^= 1
    chunk.write_bytes(data)
    several.serve(2)
    report = several.push()
    for number, one in enumerate(report.reports):
        errors = [outcome.error for outcome in one.outcomes if outcome.error is not None]
        assert [type(error) for error in errors] == [ChunkError]
        assert one.counts[Result.PUSHED] == 1
        assert len(several.whole_or_none(number)) == 1


def test_what_vanished_is_removed_by_each(several: Several) -> None:
    several.fill(1)
    several.serve(2)
    for number, group in ((0, "host/gone"), (1, "host/other")):
        Store(several.path(number)).add(group, 0)
    report = several.push(remove_vanished=True, max_removals=1)
    assert report.exit_status == 0
    assert [one.removed.groups for one in report.reports] == [1, 1]
    several.check_equal(0, 1)


# -- stopping --


@pytest.mark.parametrize("kind", [SnapshotStarted, SnapshotProgress], ids=["started", "midway"])
def test_cancelling_stops_all_and_leaves_no_half_snapshot(
    several: Several, kind: type[Event]
) -> None:
    several.fill(4, chunks=60)
    several.serve(2)
    fan_out = several.fan_out()
    several.listen = lambda event: fan_out.cancel() if isinstance(event.event, kind) else None
    with pytest.raises(Cancelled):
        fan_out.run()
    assert any(isinstance(one.error, Cancelled) for one in fan_out.report.reports)
    assert fan_out.report.exit_status == Cancelled.exit_status
    for number in range(2):
        several.whole_or_none(number)
    several.listen = lambda _event: None
    assert several.push().exit_status == 0
    several.check_equal(0, 1)


def test_a_listener_that_fails_ends_all(several: Several) -> None:
    several.fill(1)
    several.serve(2)

    def listen(event: FromTarget) -> None:
        if event.number == 1 and isinstance(event.event, SnapshotStarted):
            raise RuntimeError("a bug of the caller")

    several.listen = listen
    with pytest.raises(RuntimeError, match="a bug of the caller"):
        several.push()
    assert several.whole_or_none(1) == set()


# -- what is asked --


def test_each_has_a_namespace_of_its_own(several: Several) -> None:
    chunks = several.fill(2)
    several.serve(2)
    common = PushOptions()
    there = replace(common, target_namespace=Namespace.parse("from/here"))
    targets: list[Any] = [several.targets[0], (several.targets[1], there)]
    with opens_of_chunks(several.source.path) as opened:
        report = FanOut(several.datastore(), targets, common).run()
    assert report.exit_status == 0
    assert sum(opened.values()) == chunks
    several.check_equal(0)
    assert Store(several.path(1)).times("host/0", ns="from/here") == [1]
    assert [one["target"]["ns"] for one in report.to_dict()["reports"]] == ["", "from/here"]


def test_a_plan_changes_nothing_and_may_be_carried_out(several: Several) -> None:
    several.fill(2)
    several.serve(3)
    several.servers[2].close()
    fan_out = several.fan_out()
    plans = fan_out.plan()
    assert [plan.to_push for plan in plans] == [2, 2, 0]
    assert isinstance(plans[2].error, ConnectError)
    assert several.whole_or_none(0) == set()
    several.targets.pop()
    assert several.fan_out().run(plans[:2]).exit_status == 0
    several.check_equal(0, 1)


def test_a_cancelled_plan(several: Several) -> None:
    several.serve(2)
    fan_out = several.fan_out()
    fan_out.cancel()
    with pytest.raises(Cancelled):
        fan_out.plan()


def test_the_rate_is_one_for_all(several: Several, tmp_path: Path) -> None:
    rate = tmp_path / "rate"
    rate.write_text("1 GiB")
    several.fill(1)
    several.serve(2)
    fan_out = several.fan_out(rate_file=rate)
    first, second = (push._run for push in fan_out.pushes)
    assert first.pacer is not None
    assert first.pacer is second.pacer
    rate.write_text("2 GiB")
    fan_out._limits.update()
    (told,) = several.events
    assert (told.number, getattr(told.event, "text", "")) == (
        0,
        "limit: 2.0 GiB/s (of all targets together)",
    )
    assert fan_out.run().exit_status == 0


def test_wrong_arguments(several: Several) -> None:
    several.serve(1)
    source, target = several.datastore(), several.targets[0]
    wrong: list[tuple[list[Any], str]] = [
        ([], "there are 0 targets"),
        ([target, target], "given twice"),
        ([target, "root@pam@other:store2"], "target"),
        ([(target, PushOptions(rate_out=5))], "rate_out of .* it must be as for the others"),
    ]
    for targets, text in wrong:
        with pytest.raises(ConfigError, match=text):
            FanOut(source, targets)


# -- where they meet --


def _nothing() -> None:
    pass


def _key(name: str) -> Any:
    return Namespace(), name


def test_a_meeting_waits_for_all_that_come_or_leave() -> None:
    meeting = Meeting(3, wait_s=PATIENCE_S)
    come = threading.Barrier(2, timeout=PATIENCE_S)
    ranks: list[list[str]] = []

    def arrive(member: int, work: dict[str, float]) -> None:
        meeting.arrive(member, {_key(name): size for name, size in work.items()}, member, _nothing)
        come.wait()
        ranks.append(sorted("abcd", key=lambda name: meeting.rank(_key(name))))

    threads = [
        threading.Thread(target=arrive, args=(0, {"a": 9.0, "b": 1.0, "c": 2.0})),
        threading.Thread(target=arrive, args=(1, {"b": 1.0, "c": 1.0, "d": 20.0})),
    ]
    for thread in threads:
        thread.start()
    meeting.leave(2)
    for thread in threads:
        thread.join()
    assert ranks == [["c", "b", "d", "a"]] * 2
    assert meeting.round_trip_s == 1


def test_a_meeting_does_not_wait_for_ever() -> None:
    meeting = Meeting(2, wait_s=0.01)
    meeting.arrive(0, {_key("a"): 1.0}, 0.5, _nothing)
    assert meeting.round_trip_s == 0.5
    assert meeting.rank(_key("a"))[0] == -1


def test_a_meeting_ends_when_it_is_cancelled() -> None:
    def cancelled() -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        Meeting(2, wait_s=PATIENCE_S).arrive(0, {}, 0.0, cancelled)
