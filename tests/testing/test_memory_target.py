"""The stand-in for a target: what a real one would do, without a network."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.push.world import DAY, FIRST, World, hold_lock

import pbs_push
from pbs_push import (
    ConfigError,
    ConnectError,
    CryptKey,
    Datastore,
    DeniedError,
    PushOptions,
    Result,
    Skip,
)
from pbs_push.demo.pieces import SampleBytes
from pbs_push.demo.verify import verify_target
from pbs_push.names import Repository, format_backup_time
from pbs_push.remote.in_memory import InMemory
from pbs_push.target import TargetServer
from pbs_push.target.answers import Answer
from pbs_push.testing import MemoryTarget, write_snapshot

VM = "vm/100"
ONE, TWO, THREE = (f"{VM}/{format_backup_time(FIRST + number * DAY)}" for number in range(1, 4))
ONCE = PushOptions(retries=0)
KEY = CryptKey(bytes(range(32)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two snapshots of one group, and one of another in a namespace."""
    path = tmp_path / "source"
    for number, time in enumerate((ONE, TWO)):
        files = {"disk.img.fidx": bytes([number]) * 5_000_000, "vm.conf.blob": b"cores: 2"}
        write_snapshot(path, time, files)
    chunks = [bytes([number]) * 100 for number in range(5)]
    write_snapshot(path, f"host/web/{ONE[7:]}", {"root.didx": chunks}, "prod/eu")
    return path


@pytest.fixture
def target(tmp_path: Path) -> Iterator[MemoryTarget]:
    with MemoryTarget(tmp_path / "target") as made:
        yield made


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one but the pair in which an event loop wakes itself."""
    init = socket.socket.__init__

    def only_own(self: socket.socket, family: int = -1, *args: object, **more: object) -> None:
        assert family == socket.AF_UNIX, "a socket is made"
        init(self, family, *args, **more)  # type: ignore[arg-type]

    def fail(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a socket is used")

    monkeypatch.setattr(socket.socket, "__init__", only_own)
    for name in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, name, fail)
    monkeypatch.setattr(socket, "getaddrinfo", fail)


@pytest.mark.usefixtures("no_sockets")
def test_a_whole_datastore_without_a_socket(
    sample_datastore: Path, target: MemoryTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    start = threading.Thread.start

    def starting(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starting)
    report = pbs_push.push(sample_datastore, target)
    assert (report.exit_status, report.counts[Result.PUSHED]) == (0, 26)
    assert verify_target(sample_datastore, target.path).problems == ()
    assert len(target.holds()) == 26
    assert [name for name in started if name.startswith("target")] == []
    asked = len(target.asked)
    assert pbs_push.push(sample_datastore, target).counts[Result.PUSHED] == 0
    assert set(target.asked[asked:]) == {"GET namespace", "GET groups"}


@pytest.mark.usefixtures("no_sockets")
def test_under_a_key_with_a_proof(source: Path, target: MemoryTarget) -> None:
    report = pbs_push.push(source, target, replace(ONCE, encryption_key=KEY))
    assert report.exit_status == 0
    options = pbs_push.TargetVerifyOptions(
        key=KEY, sample=pbs_push.Sample.parse("all"), remote_verify="all"
    )
    proof = pbs_push.verify_target(source, target, options)
    assert (proof.counts[pbs_push.CopyVerdict.EQUAL], proof.exit_status) == (3, 0)
    found = pbs_push.verify_source(target.datastore(), pbs_push.VerifyOptions(key=KEY))
    assert (found.verdicts[pbs_push.Verdict.OK], found.damaged) == (3, False)


def test_it_is_asked_what_a_server_is_asked(source: Path, tmp_path: Path) -> None:
    """The same push over real TLS makes the same requests."""
    options = replace(ONCE, parallel=1, remove_vanished=True)
    with World(tmp_path / "world", source=source) as world:
        for _ in range(2):
            counted = world.push(parallel=1, remove_vanished=True).counted.requests
            with MemoryTarget(tmp_path / "target") as target:
                pbs_push.push(source, target, options)
                assert Counter(target.asked) == counted
    assert target.holds() == [ONE, TWO, f"prod/eu: host/web/{ONE[7:]}"]


@pytest.mark.usefixtures("no_sockets")
def test_in_an_event_loop(source: Path, target: MemoryTarget) -> None:
    async def follow() -> list[object]:
        return [event async for event in pbs_push.apush(source, target)]

    assert isinstance(asyncio.run(follow())[-1], pbs_push.Finished)
    assert len(target.holds()) == 3


def test_what_it_holds_before(source: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    old, gone = f"{VM}/2020-01-01T00:00:00Z", "ct/1/2020-01-01T00:00:00Z"
    write_snapshot(there, old, {"disk.img.fidx": bytes(9)}, owner="push@pbs!test")
    write_snapshot(there, gone, {"a.blob": b""}, owner="push@pbs!test", protected=True, notes="x")
    with MemoryTarget(there) as target:
        assert target.holds() == [gone, old]
        report = pbs_push.push(source, target, replace(ONCE, remove_vanished=True))
        assert target.holds() == [gone, ONE, TWO, f"prod/eu: host/web/{ONE[7:]}"]
        (kept,) = target.snapshots("ct/1")
        assert (kept.protected, kept.comment) == (True, "x")
    assert report.removed.snapshots == 1
    assert there.exists()


def test_what_was_not_given_a_folder_leaves_nothing() -> None:
    with MemoryTarget() as target:
        assert target.path.is_dir()
        assert target.holds() == []
    assert not target.path.exists()
    with pytest.raises(ConfigError, match="is closed"):
        target.groups()
    with pytest.raises(ConfigError, match="is closed"):
        target.open_snapshot(ONE)


# -- failures --


def test_a_request_that_is_refused(source: Path, target: MemoryTarget) -> None:
    target.refuse("POST finish", 500, "no more room")
    target.refuse("GET namespace", 403)
    with pytest.raises(DeniedError, match="refused by the test"):
        pbs_push.push(source, target, ONCE)
    report = pbs_push.push(source, target, ONCE)
    failed = [outcome for outcome in report.outcomes if outcome.result is Result.FAILED]
    assert ["no more room" in str(outcome.error) for outcome in failed] == [True]
    assert len(target.holds()) < 3
    assert pbs_push.push(source, target, ONCE).exit_status == 0
    assert len(target.holds()) == 3
    assert target.asked.count("POST finish") == 4


def test_one_that_dies_leaves_whole_snapshots_or_none(source: Path, target: MemoryTarget) -> None:
    target.die_after_chunks(1)
    report = pbs_push.push(source, target, ONCE)
    assert report.exit_status != 0
    assert (target.path / "vm/100").exists() is False
    target.die_after_chunks(None)
    assert pbs_push.push(source, target, ONCE).exit_status == 0
    assert verify_target(source, target.path).problems == ()


def test_a_line_that_is_cut_is_tried_again(source: Path, target: MemoryTarget) -> None:
    cut = iter([True])

    def on_request(kind: str, handled: bool) -> None:
        if kind == "POST fixed_close" and handled and next(cut, False):
            raise ConnectionResetError

    target.faults.on_request = on_request
    assert pbs_push.push(source, target, PushOptions(retries=2)).exit_status == 0
    assert verify_target(source, target.path).problems == ()


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 no", b""])
def test_one_that_is_no_server(source: Path, target: MemoryTarget, garbage: bytes) -> None:
    target.faults.garbage = garbage
    with pytest.raises(pbs_push.RemoteError):
        pbs_push.push(source, target, ONCE)


def test_what_comes_after_the_end_is_lost(target: MemoryTarget) -> None:
    line = target._line()
    line.send(b"GET / HTTP/1.1\r\n")  # not all of a request: nothing is answered
    assert line.receive() == b""
    line.close()
    line.send(b"\r\n")
    assert line.receive() == b""


class _Mute:
    closed = False

    def send(self, data: bytes) -> None:
        pass

    def receive(self) -> bytes:
        return b""

    def close(self) -> None:
        self.closed = True


def test_a_line_that_does_not_answer_is_not_waited_for() -> None:
    with (
        InMemory(Repository("store", "far.invalid"), "secret", _Mute) as target,
        pytest.raises(ConnectError, match="has not answered"),
    ):
        target.groups()


def test_rights_count(source: Path, tmp_path: Path) -> None:
    held = frozenset({"Datastore.Audit"})
    with (
        MemoryTarget(tmp_path / "there", privileges=lambda _who, _path: held) as target,
        pytest.raises(DeniedError),
    ):
        target.create_snapshot(ONE)
    with MemoryTarget(tmp_path / "there", privileges=lambda _who, _path: held) as target:
        assert pbs_push.push(source, target, ONCE).exit_status != 0
        assert target.holds() == []


def test_owners_and_locks_count(source: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    write_snapshot(there, f"{VM}/2020-01-01T00:00:00Z", {"a.blob": b""}, owner="other@pbs")
    write_snapshot(there, "host/web/2020-01-01T00:00:00Z", {"a.blob": b""}, "prod/eu")
    with MemoryTarget(there, auth_id="root@pam") as target:
        held = hold_lock(there / "ns/prod/ns/eu/host/web")
        with held:
            report = pbs_push.push(source, target, replace(ONCE, lock_wait_s=0))
        skips = {outcome.skip for outcome in report.outcomes if outcome.skip is not None}
        assert Skip.NOT_OWNED in skips
        errors = [type(outcome.error) for outcome in report.outcomes if outcome.error]
        assert errors == [pbs_push.BusyError]


def test_older_servers(source: Path, tmp_path: Path) -> None:
    with MemoryTarget(tmp_path / "there", version=("2.4", "1")) as target:
        assert pbs_push.push(source, target, ONCE).exit_status == 0
        assert str(target.features.version) == "2.4.1"


def test_a_limit_of_the_rate_is_kept(source: Path, target: MemoryTarget) -> None:
    options = replace(ONCE, rate_out=20_000_000)
    assert pbs_push.push(source, target, options).exit_status == 0


def test_a_push_that_is_cancelled(source: Path, target: MemoryTarget) -> None:
    push: pbs_push.Push

    def listener(event: pbs_push.Event) -> None:
        if isinstance(event, pbs_push.SnapshotStarted):
            push.cancel()

    push = pbs_push.Push(Datastore(source), target, ONCE, listener)
    with pytest.raises(pbs_push.Cancelled):
        push.run()
    assert target.holds() == []


def test_large_answers_come_in_parts(source: Path, target: MemoryTarget) -> None:
    """More than a server puts in line at once, without anybody who reads meanwhile."""
    content = bytes(range(256)) * 20_000
    with target.create_snapshot(ONE) as writer:
        writer.add_blob("a.blob", _noise(5 << 20))
        writer.add_archive("b.didx", [content])
        writer.finish()
    with target.open_snapshot(ONE) as reader:
        assert reader.read_blob("a.blob") == _noise(5 << 20)
        assert list(reader.read_archive("b.didx")) == [content]


def _noise(size: int) -> bytes:
    return SampleBytes(1).noise("a blob", size)


def test_a_check_that_fails_is_told_as_by_a_server(target: MemoryTarget) -> None:
    with target.create_snapshot(ONE) as writer:
        writer._session.wait([create := writer._session.create_dynamic("a.didx")])
        call = writer._session.upload_chunk(
            "dynamic", create.writer_id(), bytes(32), size=3, blob=b"no blob at all"
        )
        writer._session.wait([call])
        with pytest.raises(pbs_push.StatusError):
            call.body()


def test_answers_may_be_changed(target: MemoryTarget) -> None:
    def other(kind: str, answer: Answer) -> Answer:
        return (
            replace(answer, body=b'{"data": {"version": "9.9"}}') if "version" in kind else answer
        )

    target.faults.on_answer = other
    assert target.request("GET", "version") == {"version": "9.9"}


def test_it_is_no_server_that_listens(target: MemoryTarget) -> None:
    assert not isinstance(target, TargetServer)
    assert target.repository.host.endswith(".invalid")
