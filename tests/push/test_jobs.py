"""Jobs as values, what they tell as texts, and the channel that they tell it by: each by itself."""
# ruff: noqa: S301  (of what was pickled here)

from __future__ import annotations

import json
import pickle
import socket
import time as clock
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbs_push import PushOptions, Target, errors
from pbs_push.access.acl import Acl
from pbs_push.access.rights import Access
from pbs_push.errors import (
    AccessError,
    AuthError,
    ChunkError,
    ConnectError,
    InvalidName,
    PbsPushError,
    ProtocolError,
    SourceError,
    StatusError,
    TlsError,
)
from pbs_push.formats.keys import CryptKey
from pbs_push.names import AuthId, Group, Namespace, Snapshot
from pbs_push.push import job_channel
from pbs_push.push.document import Sides
from pbs_push.push.events import (
    Checkpointed,
    Event,
    Note,
    Removal,
    Retrying,
    SnapshotEnded,
    SnapshotProgress,
    SnapshotStarted,
)
from pbs_push.push.group_job import GroupJob, SourceSeen
from pbs_push.push.job_channel import JobChannel, JobState
from pbs_push.push.job_words import message_of, packed, text_of, unpacked
from pbs_push.push.outcome import (
    Alert,
    Finding,
    HeldBack,
    Outcome,
    Problem,
    Result,
    Skip,
    TransferStats,
)
from pbs_push.push.plan import GroupPlan
from pbs_push.push.report import Report
from pbs_push.push.run import Run
from pbs_push.remote.job_link import JobLink
from pbs_push.remote.login import Habits, Login
from pbs_push.remote.preface import Preface
from pbs_push.remote.proxy import Proxy
from pbs_push.source.datastore import SourceIdentity
from pbs_push.source.items import SourceGroup, SourceSnapshot

from .world import ME, SECRET, World

ITEM = SourceSnapshot(
    Namespace.parse("a"), Snapshot.parse("vm/1/2026-05-28T20:30:03Z"), True, False
)

ERRORS: list[PbsPushError] = [
    SourceError("unreadable", errno=5),
    SourceError("damaged", damage=True),
    ChunkError("ab" * 32, "/store/ab", "missing", fault="missing", archive="x.fidx", errno=2),
    AccessError(("Datastore.Read", "Datastore.Backup"), "/datastore/x", partial=True),
    StatusError("GET x", 502, "later"),
    errors.NoSpaceError("POST x", 400, "disk full"),
    InvalidName("not a name"),
    ConnectError("gone\n\udcff"),
]


def lasting(error: PbsPushError, **facts: Any) -> PbsPushError:
    for name, fact in facts.items():
        setattr(error, name, fact)
    return error


ERRORS += [lasting(TlsError("x"), may_pass=True), lasting(AuthError("y"), renewable=True)]


def same_error(one: PbsPushError, other: Any) -> bool:
    return (type(one), str(one), vars(one)) == (type(other), str(other), vars(other))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_travel(error: PbsPushError) -> None:
    """By pickle, in accounts, and as texts, in events; without what led to them."""
    error.__cause__ = ValueError("x")
    assert same_error(error, pickle.loads(pickle.dumps(error)))
    assert same_error(error, unpacked(json.loads(json.dumps(packed(error)))))
    assert pickle.loads(pickle.dumps(error)).to_dict() == error.to_dict()


def test_all_of_the_exception_tree_can_be_pickled() -> None:
    kinds = [found for found in vars(errors).values() if isinstance(found, type)]
    for kind in kinds:
        if issubclass(kind, PbsPushError):
            made = kind.__new__(kind, "what happened")
            assert same_error(made, pickle.loads(pickle.dumps(made)))


def test_an_error_that_only_its_module_knows_is_told_as_what_it_is_a_kind_of() -> None:
    class Special(SourceError):
        pass

    told = unpacked(packed(Special("odd", errno=3)))
    assert (type(told), str(told), told.errno) == (SourceError, "odd", 3)


# -- jobs --


@pytest.fixture(scope="module")
def a_job(tmp_path_factory: pytest.TempPathFactory) -> GroupJob:
    return made_job(tmp_path_factory.mktemp("job"))


def made_job(folder: Path, **options: Any) -> GroupJob:
    world = World(folder)
    world.source.group("vm/1")
    group = SourceGroup(Namespace(), Group("vm", "1"), AuthId.parse(ME))
    failed = Outcome.of(Namespace(), ITEM.snapshot, Result.FAILED, error=ERRORS[2])
    plan = GroupPlan(group, Namespace.parse("x"), 7, (ITEM,), outcomes=(failed,))
    login = Login(
        Target("root@pam!push@host:store", SECRET).repository,
        Target("root@pam!push@host:store", SECRET).login.secret,
        b"x" * 32,
        30.0,
        Proxy.parse("http://joe:hunter2@proxy:3128"),
    )
    seen = SourceSeen.of(SourceIdentity((1, 2), (1, 3)))
    habits = Habits(0.1, True, Preface.AFTER_PAUSE)
    made = PushOptions(**options)
    key = b"key of the channel, never shown."
    source = world.datastore()
    return GroupJob(4, plan, True, source, seen, login, habits, made, 9, ("127.0.0.1", 1), key)


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "source_namespace": st.sampled_from(["", "a/b"]),
        "group_filters": st.lists(st.sampled_from(["type:vm", "group:ct/1", "regex:^x"])),
        "keep_daily": st.integers(1, 9),
        "max_removals": st.sampled_from([3, "10%"]),
        "bwlimit": st.sampled_from(["08:00-18:00 10MiB; else off", 4096]),
        "checkpoint": st.sampled_from(["auto", "off", "4GiB", "15m"]),
        "retries": st.integers(0, 99),
        "encryption_key": st.binary(min_size=32, max_size=32).map(CryptKey),
        "access": st.just(
            Access(Acl.parse("acl:1:/remote/x:alice@pbs:Admin\n", "x"), AuthId.parse("alice@pbs"))
        ),
        "source_name": st.text(max_size=5),
    },
)


@settings(max_examples=40)
@given(options=OPTIONS)
def test_a_job_goes_through_pickle_and_comes_out_the_same(
    a_job: GroupJob, options: dict[str, Any]
) -> None:
    if "max_removals" in options:
        options["remove_vanished"] = True
    job = replace(a_job, options=PushOptions(**options))
    back = pickle.loads(pickle.dumps(job))
    for one in fields(GroupJob):
        if one.name not in ("source", "plan"):
            assert getattr(back, one.name) == getattr(job, one.name)
    assert back.source.path == job.source.path
    assert (back.source.name, back.source._lock_root) == (job.source.name, job.source._lock_root)
    assert back.login.secret.get_secret_value() == SECRET
    assert back.login.proxy.authorization == job.login.proxy.authorization  # type: ignore[union-attr]
    assert same_error(ERRORS[2], back.plan.outcomes[0].error)
    assert back.options.encryption_key == job.options.encryption_key


def test_a_job_shows_no_secret(tmp_path: Path) -> None:
    key = CryptKey(b"the encryption key of thirty-two")
    job = made_job(tmp_path, encryption_key=key)
    for shown in (repr(job), str(job), f"{job.login}"):
        for secret in (SECRET + "'", "hunter2", "never shown", "encryption key of"):
            assert secret not in shown


def test_a_target_made_again_logs_in_as_the_first_did(world: World) -> None:
    world.source.add("vm/1", 0)
    with world.target() as first, Target.of(pickle.loads(pickle.dumps(first.login))) as second:
        assert second.repository == first.repository
        assert second.habits == Habits()
        first.plain_only = bool(first.features)
        second.learn(first.habits)
        assert second.habits == first.habits
        assert second.features == first.features
        assert world.server.counters.snapshot().requests == {"GET version": 1}
        second.learn(Habits(0.0, False, Preface.AFTER_PAUSE))
        assert (second.plain_only, second.habits.preface) == (True, Preface.AFTER_PAUSE)


# -- reports --


def test_parts_of_reports_add_up() -> None:
    """A report to which parts are added has what it would have if all had come to it."""
    whole, sum_ = Report(), Report()
    for number in range(3):
        part = Report()
        part.remains = 4
        sum_.remains += 4
        whole.remains += 4
        for report in (whole, part):
            fill(report, number)
        sum_.take(part.part(4))
    left = whole.to_dict(), sum_.to_dict()
    for document in left:
        del document["began"], document["ended"]
    assert left[0] == left[1]
    assert pickle.loads(pickle.dumps(part.part(4))).counts == part.part(4).counts


def fill(report: Report, number: int) -> None:
    def outcome(result: Result, **more: Any) -> Outcome:
        snapshot = Snapshot(Group("vm", str(number)), 9)
        return Outcome.of(Namespace(), snapshot, result, **more)

    report.add(outcome(Result.PUSHED, stats=TransferStats(1, 2, 3)))
    report.add(outcome(Result.ALREADY_THERE))
    report.add(outcome(Result.FAILED, error=ConnectError("gone")))
    report.add(outcome(Result.SKIPPED, skip=Skip.NO_WORKER))
    report.is_not_there(outcome(Result.SKIPPED, skip=Skip.BROKEN))
    report.add_problem(Problem("doing", ConnectError("x")))
    report.add_alert(Alert(Finding.BROKEN, Namespace(), Namespace(), Group("vm", "1"), "look"))
    report.hold_back(HeldBack("this", "that"))
    report.count_removed(groups=1, snapshots=2, protected=3)
    report.count_kept(groups=1)
    report.count(logs_added=1, metadata_updates=2)
    report.count_spent(TransferStats(requests=5))
    report.count_retry()


def test_sides_of_a_report_are_values() -> None:
    sides = Sides("x", Namespace(), None, Namespace())
    assert pickle.loads(pickle.dumps(sides)) == sides


# -- what jobs say --


TEXT = st.text(max_size=20)
STATS = st.builds(TransferStats, *[st.integers(0, 1 << 60)] * 5)
OUTCOMES = st.builds(
    Outcome.of,
    st.sampled_from([Namespace(), Namespace.parse("a/b")]),
    st.just(ITEM.snapshot),
    st.sampled_from(Result),
    skip=st.none() | st.sampled_from(Skip),
    stats=STATS,
    detail=TEXT,
    target=st.none() | st.just(Namespace.parse("c")),
)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(SnapshotStarted, st.just(ITEM), st.just(Namespace())),
    st.builds(SnapshotProgress, st.just(ITEM), *[st.integers(0)] * 4),
    st.builds(SnapshotEnded, OUTCOMES),
    st.builds(Note, st.sampled_from(["info", "warning", "error"]), TEXT),
    st.builds(Removal, st.sampled_from(["snapshot", "group"]), st.just(Namespace()), TEXT, TEXT),
    st.builds(Checkpointed, st.just(ITEM), st.integers(0), st.integers(0)),
)


@given(event=EVENTS)
def test_events_are_told_as_they_are(event: Event) -> None:
    assert unpacked(message_of(text_of({"event": packed(event)}))["event"]) == event


def test_a_retry_is_told_with_its_error() -> None:
    event = Retrying("GET x", ERRORS[4], 3, 1.5)
    back = unpacked(json.loads(json.dumps(packed(event))))
    assert (back.what, back.number, back.wait_s) == ("GET x", 3, 1.5)
    assert same_error(back.error, event.error)


def test_nothing_else_can_be_told() -> None:
    with pytest.raises(TypeError, match="a value of type PosixPath"):
        packed(Path("/x"))
    with pytest.raises(TypeError, match="a value of type bytes"):
        packed((1, b"x"))


WORDS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["tuple", "enum", "error", "Outcome", "Skip", "Note", "SourceError", "x"]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=20,
)


@given(value=WORDS)
def test_any_value_is_read_or_refused(value: Any) -> None:
    try:
        unpacked(json.loads(json.dumps(value)))
    except ProtocolError:
        return


@pytest.mark.parametrize(
    "text",
    [b"", b"[1]", b"{", b"[" * 1500, b"\xff", b"{" + b"[" * 1900, b'{"a":' + b"1," * 3000],
    ids=lambda text: repr(text[:8]),
)
def test_any_text_is_a_message_or_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        message_of(text)


def test_an_error_takes_no_methods_from_a_text() -> None:
    told: Any = unpacked(
        ["error", "SourceError", "x", {"to_dict": "y", "__class__": 7, "errno": 5}]
    )
    assert callable(told.to_dict)
    assert (type(told), told.errno) == (SourceError, 5)


# -- the channel --


@dataclass
class Channel:
    """A channel with a run that tells what it hears."""

    run: Run
    channel: JobChannel
    events: list[Event]

    def worker(self, key: bytes | None = None) -> JobLink:
        link = JobLink(("127.0.0.1", self.channel.port), key or self.channel.key)
        try:
            link.greeted()
        except ConnectError:
            link.close()
            raise
        return link

    def begun(self, number: int = 1) -> tuple[JobLink, JobState]:
        state = self.channel.expect(number, PLAN)
        link = self.worker()
        link.send(text_of({"hello": number, "host": "there"}))
        assert "begin" in message_of(link.receive()[0])
        return link, state


PLAN = GroupPlan(
    SourceGroup(Namespace(), Group("vm", "1"), AuthId.parse(ME)), Namespace(), None, (ITEM,)
)


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[Channel]:
    events: list[Event] = []
    world = World(tmp_path)
    with Target("push@pbs!job@127.0.0.1:store1", SECRET) as target:
        run = Run(world.datastore(), target, PushOptions(), events.append)
        with JobChannel(run, "127.0.0.1") as made:
            yield Channel(run, made, events)


def ends(link: JobLink) -> bool:
    with pytest.raises(ConnectError):
        link.receive()
    link.close()
    return True


def until(what: Callable[[], Any]) -> None:
    deadline = clock.monotonic() + 20
    while not what():
        assert clock.monotonic() < deadline
        clock.sleep(0.005)


def test_who_does_not_know_the_key_says_nothing(channel: Channel) -> None:
    channel.channel.expect(1, PLAN)
    link = channel.worker(b"another key of thirty-two bytes.")
    link.send(text_of({"hello": 1, "host": "there"}))
    assert ends(link)
    assert channel.events == []


@pytest.mark.parametrize(
    "message",
    [
        {"hello": "1", "host": "there"},
        {"host": "there"},
        {"event": packed(Note("error", "mine"))},
        {"hello": 1, "host": "x" * 2000},
    ],
    ids=lambda message: str(message)[:30],
)
def test_the_first_word_says_which_job_it_is(channel: Channel, message: dict[str, Any]) -> None:
    channel.channel.expect(1, PLAN)
    link = channel.worker()
    link.send(text_of(message))
    assert ends(link)
    assert channel.events == []


@pytest.mark.parametrize(
    "message",
    [
        {"event": ["Path", "/etc"]},
        {"event": packed(ITEM)},
        {"event": 7},
        {"what": "is this"},
        {"once": ["loud", "text"]},
        {"once": 7},
    ],
    ids=str,
)
def test_a_job_that_talks_nonsense_is_lost(channel: Channel, message: dict[str, Any]) -> None:
    link, state = channel.begun()
    link.send(text_of(message))
    assert ends(link)
    assert state.over.wait(20)
    assert state.lost_at is not None
    assert [type(event) for event in channel.events] == [Note]
    assert channel.channel.error is None


def test_a_job_may_not_tell_for_ever(channel: Channel) -> None:
    """What a push takes in is bounded by what the job has to do."""
    link, state = channel.begun()
    ended = SnapshotEnded(Outcome.of(Namespace(), ITEM.snapshot, Result.PUSHED))
    text = text_of({"event": packed(ended)})
    for _ in range(40):
        with suppress(ConnectError):
            link.send(text)
    assert ends(link)
    assert state.over.wait(20)
    assert len(state.outcomes) < 30


def test_nothing_is_heard_after_the_end(channel: Channel) -> None:
    link, state = channel.begun()
    link.send(text_of({"once": ["info", "one"]}))
    link.send(text_of({"bye": True}))
    link.send(text_of({"once": ["info", "two"]}))
    assert state.over.wait(20)
    link.close()
    until(lambda: not channel.channel._connections)
    assert channel.events == [Note("info", "one")]
    assert state.lost_at is None


def test_a_job_is_told_to_stop(channel: Channel) -> None:
    link, _ = channel.begun()
    other, _ = channel.begun(2)
    channel.channel.dismiss(1)
    assert message_of(link.receive()[0]) == {"cancel": True}
    channel.run.cancelled.set()
    assert message_of(other.receive()[0]) == {"cancel": True}
    link.close()
    other.close()


def test_strangers_are_few_and_do_not_stay(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_channel, "MAX_STRANGERS", 2)
    first, second, third = [channel.worker() for _ in range(3)]
    assert ends(first), "the oldest makes room"
    monkeypatch.setattr(job_channel, "STRANGER_S", 0.0)
    assert all(ends(link) for link in (second, third))
    monkeypatch.setattr(job_channel, "STRANGER_S", 60.0)
    link, _ = channel.begun()
    link.close()


def test_a_channel_that_ends_ends_its_jobs(channel: Channel) -> None:
    link, _ = channel.begun()

    def broken() -> None:
        raise ZeroDivisionError("of the test")

    channel.channel._look = broken  # type: ignore[method-assign]
    assert ends(link)
    assert isinstance(channel.channel.error, ZeroDivisionError)
    assert channel.run.cancelled.is_set()


def test_a_machine_that_vanishes_is_noticed(channel: Channel) -> None:
    """By the system, on both ends: while nothing is said, and while something is on its way."""
    link, _ = channel.begun()
    for line in (link._socket, channel.channel._connections[1].line._socket):
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert 0 < line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 15
        assert 0 < line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 60_000
    link.close()


def test_a_connection_that_ends_before_it_says_anything(channel: Channel) -> None:
    channel.worker().close()
    until(lambda: not channel.channel._strangers)
    assert channel.events == []
