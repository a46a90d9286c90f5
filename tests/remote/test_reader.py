"""Reading a snapshot back: against the embedded target, and against servers that lie."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.push.world import ME, STRANGER, World, only, time

from pbs_push.errors import (
    AuthError,
    Cancelled,
    ConnectError,
    DeniedError,
    IndexFormatError,
    NotOwnerError,
    PbsPushError,
    ProtocolError,
    ResetError,
    StatusError,
    TlsError,
)
from pbs_push.formats.index import open_index
from pbs_push.names import MANIFEST_NAME, Namespace, Snapshot, format_backup_time
from pbs_push.remote import reader
from pbs_push.remote.reader import ReaderSession
from pbs_push.remote.session import Call
from pbs_push.remote.target import Target
from pbs_push.target import Identities, TargetOptions

from .servers import Identity, Line, Script, Server, answer
from .sessions import (
    LOGIN_PAGE,
    SECRET,
    SETTINGS,
    SNAPSHOT,
    SWITCH,
    H2Server,
    goaway,
    nothing,
    reads,
    replies,
    says,
    waits,
)

VM = "vm/100"
DIGEST = bytes(range(32))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        made.there.add(VM, 1)
        yield made


@contextlib.contextmanager
def reading(
    target: Target,
    snapshot: Snapshot,
    ns: str = "",
    cancelled: threading.Event | None = None,
) -> Iterator[ReaderSession]:
    stream = target.connect(cancelled or threading.Event())
    session = target.begin_reading(stream, Namespace.parse(ns), snapshot)
    try:
        yield session
    finally:
        session.close()


@contextlib.contextmanager
def reading_from(server: Server, timeout_s: float | None = None) -> Iterator[ReaderSession]:
    fingerprint = server.identity.fingerprint
    with (
        Target(server.repository, SECRET, fingerprint, timeout_s=timeout_s) as target,
        reading(target, SNAPSHOT) as session,
    ):
        yield session


def body_of(session: ReaderSession, call: Call) -> bytes:
    session.wait([call])
    return bytes(call.body())


def snapshot_of(number: int) -> Snapshot:
    return Snapshot.parse(f"{VM}/{format_backup_time(time(number))}")


# -- the embedded target --


def test_all_of_a_snapshot_is_read(world: World) -> None:
    folder = world.there.folder(VM, 1)
    with world.target() as target, reading(target, snapshot_of(1)) as session:
        manifest = session.manifest()
        blob = session.file("some.conf.blob")
        index = session.index("root.pxar.didx", 1 << 20)
        assert body_of(session, manifest) == (folder / MANIFEST_NAME).read_bytes()
        assert body_of(session, blob) == (folder / "some.conf.blob").read_bytes()
        session.wait([index])
        with index.index("root.pxar.didx") as there, open_index(folder / "root.pxar.didx") as here:
            assert there.entries.tobytes() == here.entries.tobytes()
            sizes = [int(end) for end in there.end_offsets]
            digests = [bytes(row) for row in there.digests]
        chunks = [session.chunk(digests[0], sizes[0]), session.chunk(digests[1], sizes[1])]
        session.wait(chunks)
        for digest, call in zip(digests, chunks, strict=True):
            path = world.there.path / ".chunks" / digest.hex()[:4] / digest.hex()
            assert bytes(call.body()) == path.read_bytes()
    world.settle()
    counted = world.server.counters.snapshot()
    assert (counted.readers, counted.goodbyes) == (1, 1)


def test_many_requests_take_one_round_trip(world: World) -> None:
    world.there.add(VM, 2, archives={"root.pxar.didx": tuple(f"p{i}" for i in range(50))})
    world.serve(TargetOptions(bad_login_delay_s=0, hold_answers_s=0.05))
    with world.target() as target, reading(target, snapshot_of(2)) as session:
        index = session.index("root.pxar.didx", 1 << 20)
        session.wait([index])
        with index.index("root.pxar.didx") as there:
            calls = [session.chunk(bytes(row), 10_000) for row in there.digests]
        session.wait(calls)
        assert all(call.body() for call in calls)
    assert len(calls) == 50
    assert world.server.counters.snapshot().flights == 3  # the upgrade, the index, all chunks


def test_whether_a_chunk_is_there_takes_no_download(world: World) -> None:
    world.there.chunk_of("b").unlink()
    with world.target() as target, reading(target, snapshot_of(1)) as session:
        index = session.index("root.pxar.didx", 1 << 20)
        session.wait([index])
        found = {}
        for label in "bc":
            call = session.has_chunk(bytes.fromhex(world.there.chunk_of(label).name))
            session.wait([call])
            found[label] = call
        found["c"].body()
        with pytest.raises(StatusError, match="reading file"):
            found["b"].body()


@pytest.mark.parametrize(
    ("privileges", "who", "error", "words"),
    [
        (("Audit",), ME, DeniedError, "no permissions on /datastore/store1"),
        (("Backup",), STRANGER, NotOwnerError, "owner check failed"),
    ],
)
def test_who_may_not_read(
    world: World, privileges: tuple[str, ...], who: str, error: type[PbsPushError], words: str
) -> None:
    held = frozenset(f"Datastore.{name}" for name in privileges)
    identities = Identities.simple(
        dict.fromkeys((ME, STRANGER), "secret"), privileges=lambda _who, _path: held
    )
    world.serve(identities=identities)
    with (
        world.target(who) as target,
        pytest.raises(error, match=words),
        reading(target, snapshot_of(1)),
    ):
        pass


def test_reading_takes_backup_alone_for_who_owns(world: World) -> None:
    world.serve(identities=only("Backup"))
    with world.target() as target, reading(target, snapshot_of(1)) as session:
        assert body_of(session, session.manifest())


def test_what_is_not_there(world: World) -> None:
    with world.target() as target:
        with pytest.raises(StatusError, match="does not exist"), reading(target, snapshot_of(2)):
            pass
        with (
            pytest.raises(StatusError, match="does not exist"),
            reading(target, snapshot_of(1), ns="a"),
        ):
            pass
        with reading(target, snapshot_of(1)) as session:
            calls = [session.file("no.blob"), session.file("no.fidx"), session.chunk(DIGEST, 9)]
            session.wait(calls)
            for call, status in zip(calls, (404, 400, 401), strict=True):
                with pytest.raises(PbsPushError) as caught:
                    call.body()
                if status == 401:
                    assert isinstance(caught.value, AuthError)
                else:
                    assert isinstance(caught.value, StatusError)
                    assert caught.value.status == status


def test_a_wrong_certificate_sees_no_credentials(world: World) -> None:
    world.serve()
    repository = world.server.repository("store1", ME)
    with Target(repository, SECRET, bytes(32)) as target, pytest.raises(TlsError):
        target.connect(threading.Event())


def test_a_ticket_that_ran_out_can_be_renewed(world: World) -> None:
    now = [1e9]
    world.serve(TargetOptions(bad_login_delay_s=0, clock=lambda: now[0]))
    with world.target("push@pbs") as target:
        target.api.features()
        now[0] += 10_000
        with pytest.raises(AuthError) as caught, reading(target, snapshot_of(1)):
            pass
        assert caught.value.renewable
        with reading(target, snapshot_of(1)) as session:
            assert body_of(session, session.manifest())


# -- servers that lie --


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        (replies(answer(200, LOGIN_PAGE)), ProtocolError, "does not change to proxmox-backup-r"),
        (replies(answer(403, b"")), DeniedError, "reading host/web"),
        (replies(b"rubbish\r\n\r\n"), ProtocolError, "not HTTP"),
        (replies(b""), ConnectError, "without an answer"),
    ],
)
def test_no_reader_session(
    identity: Identity, script: Script, error: type[PbsPushError], message: str
) -> None:
    with (
        Server(identity, script) as server,
        pytest.raises(error, match=message),
        reading_from(server),
    ):
        pass


@pytest.mark.parametrize(
    ("then", "error", "message"),
    [
        (nothing, ConnectError, "closed the connection|broke"),
        (Line.reset, ConnectError, "closed the connection|broke"),
        (reads(says(b"\xff" * 50, waits)), ProtocolError, "HTTP/2"),
        (reads(says(SETTINGS + goaway(0), waits)), ConnectError, "did not take the request"),
        (waits, ConnectError, "has not answered for"),
    ],
)
def test_a_session_that_breaks(
    identity: Identity,
    then: Script,
    error: type[PbsPushError],
    message: str,
) -> None:
    with (
        Server(identity, replies(SWITCH, then)) as server,
        pytest.raises(error, match=message),
        reading_from(server, timeout_s=0.3) as session,
    ):
        body_of(session, session.manifest())


def test_waiting_can_be_cancelled(identity: Identity) -> None:
    cancelled = threading.Event()
    with (
        Server(identity, replies(SWITCH, waits)) as server,
        Target(server.repository, SECRET, identity.fingerprint) as target,
        reading(target, SNAPSHOT, cancelled=cancelled) as session,
    ):
        call = session.manifest()
        cancelled.set()
        with pytest.raises(Cancelled):
            session.wait([call])


Lie = Callable[[H2Server, int], None]


def said(status: int, body: bytes) -> Lie:
    return lambda server, stream: server.answer(stream, status, body)


@pytest.mark.parametrize(
    ("lie", "ask", "error", "message"),
    [
        (said(200, bytes(1101)), "chunk", ProtocolError, "too long"),
        (said(200, bytes(5000)), "index", ProtocolError, "too long"),
        (said(200, b"x" * 101), "file", ProtocolError, "too long"),
        (said(200, b"rubbish"), "index", IndexFormatError, "disk.img.fidx"),
        (said(500, b"\x1b[31mred " * 900), "chunk", StatusError, r"red \[31mred"),
        (said(401, b""), "chunk", AuthError, "refuses"),
        (said(302, b""), "file", StatusError, "302"),
        (lambda server, stream: server.h2.reset_stream(stream, 2), "chunk", ResetError, "error 2"),
    ],
)
def test_answers_that_lie_are_errors(
    identity: Identity,
    lie: Lie,
    ask: str,
    error: type[PbsPushError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "CHUNK_SLACK", 1000)

    def handler(server: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        lie(server, stream)

    with Server(identity, H2Server(handler)) as server, reading_from(server) as session:
        call = {
            "chunk": lambda: session.chunk(DIGEST, 100),
            "index": lambda: session.index("disk.img.fidx", 4096),
            "file": lambda: session.file("a.blob", 100),
        }[ask]()
        session.wait([call])
        take = partial(call.index, "disk.img.fidx") if ask == "index" else call.body
        with pytest.raises(error, match=message) as caught:
            take()
        assert len(str(caught.value)) < 1000
        assert "\x1b" not in str(caught.value)


def test_a_large_index_goes_to_a_file(
    identity: Identity, monkeypatch: pytest.MonkeyPatch, spooled: Callable[[], list[str]]
) -> None:
    """And one that is cut in the middle leaves nothing behind."""
    monkeypatch.setattr(reader, "PART_BYTES", 4096)

    def handler(server: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        server.begin_file(stream, bytes(12_000))

    with Server(identity, H2Server(handler)) as server, reading_from(server) as session:
        call = session.index("disk.img.fidx", 1 << 20)
        session.pump(lambda: bool(spooled()))
        assert not call.done
    assert not spooled()
