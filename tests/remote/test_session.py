"""What follows the upgrade: calls and their answers, however the server behaves."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pbs_push.errors import (
    AuthError,
    ConnectError,
    DeniedError,
    IndexFormatError,
    PbsPushError,
    ProtocolError,
    StatusError,
)
from pbs_push.formats.blob import encode_blob
from pbs_push.formats.index_writer import fixed_index_bytes
from pbs_push.formats.manifest import Manifest
from pbs_push.names import MANIFEST_NAME, Namespace, Snapshot
from pbs_push.remote.pacing import Pacer
from pbs_push.remote.target import Target
from pbs_push.target import Identities, TargetServer, create_datastore

from .servers import Identity, Line, Script, Server
from .sessions import (
    LOGIN_PAGE,
    SETTINGS,
    SNAPSHOT,
    SWITCH,
    H2Server,
    finish,
    goaway,
    nothing,
    reads,
    replies,
    says,
    session_with,
    waits,
)


@pytest.mark.parametrize(
    ("then", "error", "message"),
    [
        (nothing, ConnectError, "closed the connection|broke"),
        (Line.say_goodbye, ConnectError, "closed the connection|broke"),
        (Line.reset, ConnectError, "closed the connection|broke"),
        (reads(says(b"HTTP/1.1 400 Bad Request\r\n\r\n", waits)), ProtocolError, "HTTP/2"),
        (reads(says(b"\xff" * 50, waits)), ProtocolError, "HTTP/2"),
        (reads(says(SETTINGS + goaway(0), waits)), ConnectError, "did not take the request"),
        (reads(says(SETTINGS + goaway(11), waits)), ConnectError, "error 11, bye"),
        (reads(says(SETTINGS, waits)), ConnectError, "has not answered for"),
        (waits, ConnectError, "has not answered for"),
    ],
)
def test_no_session(
    identity: Identity,
    then: Script,
    error: type[PbsPushError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        Server(identity, replies(SWITCH, then)) as server,
        pytest.raises(PbsPushError, match=message) as caught,
    ):
        finish(server, timeout_s=0.3)
    assert type(caught.value) is error
    text = str(caught.value)
    assert f"127.0.0.1:{server.port}" in text or str(SNAPSHOT) in text


def test_a_goaway_with_the_settings(identity: Identity) -> None:
    with (
        Server(identity, replies(SWITCH + SETTINGS + goaway(0), waits)) as server,
        pytest.raises(ConnectError, match=f"{SNAPSHOT}: the target takes no more requests"),
    ):
        finish(server)


def test_the_last_answer_counts_although_the_line_is_closed(identity: Identity) -> None:
    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.answer(stream, 200, b'{"data":null}')
        peer.flush()
        peer.line.say_goodbye()
        peer.running = False

    for _ in range(5):
        with Server(identity, H2Server(handler)) as server:
            finish(server)


ANSWERED = bytes.fromhex("000001 01 05 00000001 88")
"""Headers of stream 1 and its end: status 200."""


@pytest.mark.parametrize(
    "then",
    [
        says(SETTINGS + ANSWERED + b"\xff" * 50, waits),
        says(SETTINGS + ANSWERED + goaway(11), waits),
        says(SETTINGS + ANSWERED, says(b"\xff" * 50)),
        says(SETTINGS + ANSWERED, Line.reset),
        says(SETTINGS + ANSWERED, Line.spoil),
    ],
)
def test_the_last_answer_counts_whatever_comes_behind_it(identity: Identity, then: Script) -> None:
    """It is whole: the target has the snapshot, and what breaks afterwards changes nothing."""
    with Server(identity, replies(SWITCH, reads(then))) as server:
        finish(server)


def test_a_session_ends_in_order(identity: Identity) -> None:
    """A server that sees the line just end may log an error for a backup that is all right."""
    ends: list[object] = []

    class Peer(H2Server):
        def __call__(self, line: Line) -> None:
            super().__call__(line)
            ends.append(line.ends_in_order())

    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.answer(stream, 200, b'{"data":null}')

    with Server(identity, Peer(handler)) as server:
        finish(server)
    with Server(identity, Peer(lambda *_: None)) as server, session_with(server) as session:
        session.finish()
        session.pump(lambda: session.state.settings_seen)
    assert ends == [True, False]


@pytest.mark.parametrize("paced", [False, True])
def test_calls_over_a_real_line(identity: Identity, paced: bool) -> None:
    seen: dict[str, bytes] = {}

    def handler(peer: H2Server, stream: int, head: dict[str, str], body: bytes) -> None:
        seen[head[":path"]] = body
        peer.answer(stream, 200, json.dumps({"data": len(seen)}).encode())

    big = os.urandom(3_000_000)
    pacer = Pacer(50_000_000) if paced else None
    with (
        Server(identity, H2Server(handler)) as server,
        session_with(server, pacer=pacer) as session,
    ):
        calls = [
            session.create_fixed("a.img.fidx", 5, bytes(32)),
            session.create_dynamic("b.pxar.didx"),
            session.upload_blob("c.blob", big),
            session.close_writer("fixed", 1, chunk_count=2, size=5, csum=bytes(32)),
            session.previous_index("a.img.fidx"),
            session.register_previous("a.img.fidx"),
            session.speedtest(b"x"),
            session.finish(),
        ]
        assert not calls[0].done
        session.wait(calls)
        assert calls[0].writer_id() in range(1, 9)
        assert not calls[0].refused
        assert session.state.sent_bytes == len(big) + 1
    assert session.state.sent_bytes == len(big) + 1  # also of a closed session
    zeros = "00" * 32
    assert seen == {
        f"/fixed_index?archive-name=a.img.fidx&size=5&reuse-csum={zeros}": b"",
        "/dynamic_index?archive-name=b.pxar.didx": b"",
        "/blob?file-name=c.blob&encoded-size=3000000": big,
        f"/fixed_close?wid=1&chunk-count=2&size=5&csum={zeros}": b"",
        "/previous?archive-name=a.img.fidx": b"",
        "/speedtest": b"x",
        "/finish": b"",
    }


@pytest.mark.parametrize(
    ("status", "body", "error", "message"),
    [
        (400, b"no valid previous backup", StatusError, "POST /fixed_index a.fidx of host/web"),
        (401, b"", AuthError, "refuses"),
        (403, b"no", DeniedError, "no"),
        (200, b"", ProtocolError, "no writer id in the answer: an empty answer"),
        (200, b"[1]", ProtocolError, "POST /fixed_index a.fidx of .* not that of a Proxmox Backup"),
        (200, b'{"data":null}', ProtocolError, "no writer id"),
        (200, b'{"data":true}', ProtocolError, "no writer id"),
        (200, b'{"data":65536}', ProtocolError, "no writer id"),
        (200, b'{"data":-1}', ProtocolError, "no writer id"),
        (200, b'{"data":"1"}', ProtocolError, "no writer id"),
        (200, b"\xff\xfe{", ProtocolError, "not that of a Proxmox Backup Server"),
        (200, b"[" * 60_000, ProtocolError, "not that of a Proxmox Backup Server"),
    ],
)
def test_odd_answers(
    identity: Identity, status: int, body: bytes, error: type[PbsPushError], message: str
) -> None:
    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.h2.send_headers(stream, [(":status", str(status))], end_stream=not body)
        for at in range(0, min(len(body), 16_000), 8000):
            peer.h2.send_data(stream, body[at : at + 8000])
        if body:
            peer.h2.end_stream(stream)

    with Server(identity, H2Server(handler)) as server, session_with(server) as session:
        call = session.create_fixed("a.fidx", 5)
        with pytest.raises(ProtocolError, match="not answered"):
            call.body()
        session.wait([call])
        with pytest.raises(error, match=message):
            call.writer_id()


@pytest.mark.parametrize(
    "body",
    [LOGIN_PAGE, b"null", b"[]", b'"done"', b'{"data":', b"{}x", b"\xff", b" ", b"[" * 60_000],
    ids=lambda body: repr(body[:10]),
)
def test_an_answer_of_something_else_is_no_success(identity: Identity, body: bytes) -> None:
    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.h2.send_headers(stream, [(":status", "200"), ("content-type", "text/html")])
        for at in range(0, min(len(body), 16_000), 8000):
            peer.h2.send_data(stream, body[at : at + 8000])
        peer.h2.end_stream(stream)

    with Server(identity, H2Server(handler)) as server, session_with(server) as session:
        calls = {
            "POST /finish": session.finish(),
            "POST /fixed_close": session.close_writer(
                "fixed", 1, chunk_count=1, size=1, csum=bytes(32)
            ),
            "POST /dynamic_chunk": session.upload_chunk(
                "dynamic", 1, bytes(32), size=1, blob=bytes(13)
            ),
            "POST /blob a.blob": session.upload_blob("a.blob", bytes(12)),
            "POST /speedtest": session.speedtest(b"x"),
        }
        file = session.register_previous("a.blob")
        session.wait([*calls.values(), file])
        file.body()  # any content will do
        for request, call in calls.items():
            with pytest.raises(ProtocolError, match=f"{request} of {SNAPSHOT}: .* from a proxy"):
                call.body()


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data":null}', b' {"data": "x", "more": [1]}\n'])
def test_an_answer_may_be_empty_or_any_object(identity: Identity, body: bytes) -> None:
    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.answer(stream, 200, body)

    with Server(identity, H2Server(handler)) as server, session_with(server) as session:
        calls = [session.finish(), session.upload_blob("a.blob", bytes(12))]
        session.wait(calls)
        assert [call.body() for call in calls] == [body, body]


def test_a_reset_call_is_told(identity: Identity) -> None:
    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.h2.reset_stream(stream, 2)

    with Server(identity, H2Server(handler)) as server, session_with(server) as session:
        call = session.finish()
        session.wait([call])
        assert not call.refused
        with pytest.raises(ProtocolError, match=r"reset the request .HTTP/2 error 2"):
            call.body()


def test_a_large_previous_index_goes_through_a_file(
    identity: Identity, monkeypatch: pytest.MonkeyPatch, spooled: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr("pbs_push.remote.session._PART_BYTES", 10_000)
    content = fixed_index_bytes(os.urandom(32 * 300), 300 << 22)
    kept: list[list[str]] = []

    def handler(peer: H2Server, stream: int, head: dict[str, str], _body: bytes) -> None:
        small = "small" in head[":path"]
        peer.begin_file(stream, content[:4000] if small else content)
        if small:
            kept.append(spooled())
        peer.h2.end_stream(stream)

    with Server(identity, H2Server(handler)) as server, session_with(server) as session:
        large = session.previous_index("a.img.fidx")
        session.wait([large])
        assert len(spooled()) == 1
        with large.index("a.img.fidx") as index:
            assert len(index) == 300
            assert bytes(index.digests) == content[4096:]
        small = session.previous_index("small.img.fidx")
        session.wait([small])
        with pytest.raises(IndexFormatError, match=r"small\.img\.fidx"):
            small.index("small.img.fidx")
    assert kept == [[]]
    assert spooled() == []


def test_many_previous_indexes_share_the_memory_that_one_takes(
    identity: Identity, monkeypatch: pytest.MonkeyPatch, spooled: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr("pbs_push.remote.session._PART_BYTES", 20_000)
    content = fixed_index_bytes(os.urandom(32 * 200), 200 << 22)

    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.begin_file(stream, content)
        peer.h2.end_stream(stream)

    with Server(identity, H2Server(handler)) as server, session_with(server) as session:
        calls = [session.previous_index(f"{number}.img.fidx") for number in range(5)]
        session.wait(calls)
        assert len(spooled()) == 4, "all but the first"
        for call in calls:
            with call.index("it") as index:
                assert bytes(index.digests) == content[4096:]


def test_a_session_that_is_closed_keeps_no_part_of_an_index(
    identity: Identity, monkeypatch: pytest.MonkeyPatch, spooled: Callable[[], list[str]]
) -> None:
    """Also where an error, which the report has, still refers to all there was."""
    monkeypatch.setattr("pbs_push.remote.session._PART_BYTES", 500)

    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.h2.send_headers(stream, [(":status", "200")])
        peer.h2.send_data(stream, bytes(1000))
        peer.h2.send_data(stream, bytes(1000))

    with Server(identity, H2Server(handler)) as server, session_with(server) as session:
        call = session.previous_index("a.img.fidx")
        session.pump(lambda: bool(spooled()))
        session.close()
        assert spooled() == []
        with pytest.raises(ProtocolError, match="not answered"):
            call.index("a.img.fidx")


def test_a_whole_backup_at_the_embedded_target(tmp_path: Path) -> None:
    path = create_datastore(tmp_path / "target", all_chunk_folders=False)
    identities = Identities.simple({"root@pam!push": "secret"})
    with TargetServer({"store1": path}, identities=identities) as server:
        repository = server.repository("store1", "root@pam!push")
        with Target(repository, "secret", server.fingerprint) as target:
            reused = []
            for backup_time in (SNAPSHOT.backup_time, SNAPSHOT.backup_time + 1):
                stream = target.connect(threading.Event())
                reused.append(stream.session_reused)
                session = target.begin_backup(
                    stream,
                    Namespace(),
                    Snapshot(SNAPSHOT.group, backup_time),
                    chunks_path="",
                    transport=target.transport(),
                )
                manifest = Manifest(Snapshot(SNAPSHOT.group, backup_time), files=()).encode()
                blob = encode_blob(b"a configuration")
                calls = [
                    session.upload_blob("a.conf.blob", blob),
                    session.upload_blob(MANIFEST_NAME, manifest),
                ]
                early = session.previous_index("a.fidx")
                session.wait([*calls, early])
                assert [call.body() for call in calls] == [b'{"data":null}'] * 2
                assert early.refused
                done = session.finish()
                session.wait([done])
                done.body()
                session.close()
            with pytest.raises(StatusError, match="backup timestamp is older than last backup"):
                target.begin_backup(
                    target.connect(threading.Event()),
                    Namespace(),
                    SNAPSHOT,
                    chunks_path="",
                    transport=target.transport(),
                )
            assert len(target.api.snapshots(Namespace())) == 2
    assert reused == [False, True]
