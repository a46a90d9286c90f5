"""The target's HTTP/2: limits on streams, windows and frames, also changed in mid-flight."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import h2.events as ev
import pytest
from h2.settings import SettingCodes

from pbs_push.errors import ConfigError
from pbs_push.target import SessionSettings, TargetOptions, TargetServer
from pbs_push.target.order import AnswerOrder

from .client import Reply, Session, open_session, token
from .conftest import ALICES_TOKEN, MakeTarget
from .samples import (
    CHUNK,
    content,
    dynamic_csum,
    finish,
    packed,
    send_chunk,
    send_dynamic,
    send_fixed,
)

PARAMS = {"store": "store", "backup-type": "host", "backup-id": "h", "backup-time": 1000}
TINY = SessionSettings(initial_window=1000, connection_window=65_535, max_frame_size=16_384)


def session_on(target: TargetServer, **more: Any) -> Any:
    return open_session(target.address, PARAMS, token(ALICES_TOKEN), **more)


def back_up(session: Session) -> None:
    """A whole backup with incompressible data of more than the tiny windows hold."""
    noise = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(8192))
    send_fixed(session, "a.fidx", CHUNK + 100, [noise * 16, noise[:100]])
    send_dynamic(session, "a.didx", [noise, content("x", 70_000)] * 3, wid=2)
    finish(session, PARAMS)


@pytest.mark.parametrize(
    "settings",
    [
        SessionSettings(),
        TINY,
        replace(TINY, initial_window=1, max_concurrent_streams=1),
        SessionSettings(max_frame_size=16_384),
        SessionSettings(initial_window=(1 << 31) - 1, connection_window=(1 << 31) - 1),
    ],
)
def test_a_backup_with_any_limits(make_target: MakeTarget, settings: SessionSettings) -> None:
    options = TargetOptions(session_settings=settings)
    with session_on(make_target(options=options)) as session:
        if settings.initial_window == 1:
            send_dynamic(session, "a.didx", [b"a"])
        else:
            back_up(session)


def test_settings_that_change_on_the_way(make_target: MakeTarget) -> None:
    wide = SessionSettings()
    changes = {2: TINY, 4: wide, 6: replace(TINY, max_frame_size=20_000), 9: wide}
    with session_on(make_target(options=TargetOptions(settings_changes=changes))) as session:
        back_up(session)
        assert session.http.remote_settings.max_frame_size == wide.max_frame_size
        changed = [one for one in session.events if isinstance(one, ev.RemoteSettingsChanged)]
        assert len(changed) == 1 + len(changes)


def test_a_window_that_shrinks_below_what_is_used(make_target: MakeTarget) -> None:
    """The stream that is under way gets its window back and comes to its end."""
    options = TargetOptions(settings_changes={3: TINY})
    with session_on(make_target(options=options)) as session:
        session.call("POST", "/dynamic_index", {"archive-name": "a.didx"})
        stream = session.http.get_next_available_stream_id()
        head = [(":method", "POST"), (":scheme", "https"), (":authority", "x")]
        path = (":path", "/speedtest")
        session.http.send_headers(stream, [*head, path])
        session.http.send_data(stream, bytes(16_000))
        session.replies[stream] = Reply()
        session.flush()
        assert session.call("GET", "/").status == 200
        while session.http.remote_settings.initial_window_size != TINY.initial_window:
            session.call("GET", "/")
        session.send_body(stream, bytes(100_000))
        assert session.wait(stream).status == 200


def test_streams_beyond_the_limit_are_refused(make_target: MakeTarget) -> None:
    settings = SessionSettings(max_concurrent_streams=10)
    with session_on(make_target(options=TargetOptions(session_settings=settings))) as session:
        session.http.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
        session.http.remote_settings.acknowledge()
        streams = [session.start("GET", "/", flush=False) for _ in range(12)]
        replies = [session.wait(stream) for stream in streams]
        assert [reply.status for reply in replies] == [200] * 10 + [None] * 2
        assert replies[-1].error == "reset 7"  # REFUSED_STREAM
        assert session.call("GET", "/").status == 200


def test_two_hundred_at_once_are_fine(target: TargetServer) -> None:
    with session_on(target) as session:
        streams = [session.start("GET", "/", flush=False) for _ in range(200)]
        assert {session.wait(stream).status for stream in streams} == {200}


def test_bodies_of_answers_keep_to_the_client_s_windows(target: TargetServer) -> None:
    with session_on(target) as session:
        send_dynamic(session, "a.didx", [content("p", 500)] * 4000)
        finish(session, PARAMS)
    later = {**PARAMS, "backup-time": 2000}
    with open_session(target.address, later, token(ALICES_TOKEN), window=0) as session:
        stream = session.start("GET", "/previous", {"archive-name": "a.didx"})
        assert session.wait_headers(stream).status == 200
        for _ in range(3):
            session.http.increment_flow_control_window(1000, stream)
            session.flush()
            session.call("GET", "/")
        assert len(session.replies[stream].body) == 3000
        session.http.increment_flow_control_window(1 << 20, stream)
        assert len(session.wait(stream).body) == 4096 + 4000 * 40


def test_a_ping_is_answered(target: TargetServer) -> None:
    with session_on(target) as session:
        session.http.ping(b"12345678")
        session.call("GET", "/")
        answers = [one for one in session.events if isinstance(one, ev.PingAckReceived)]
        assert [one.ping_data for one in answers] == [b"12345678"]


def test_garbage_instead_of_http2_ends_the_session(target: TargetServer) -> None:
    with session_on(target) as session:
        session.socket.sendall(bytes((0, 0, 1, 4, 0, 0, 0, 0, 0, 0)))  # SETTINGS of one byte
        while not session.gone:
            session.wait(session.start("GET", "/"))


def test_without_strict_order_only_what_is_wrong_is_refused(make_target: MakeTarget) -> None:
    target = make_target(options=TargetOptions(strict_order=False))
    with session_on(target) as session:
        session.call("POST", "/dynamic_index", {"archive-name": "a.didx"})
        digest = send_chunk(session, "dynamic", 1, b"abc")
        assert session.put("dynamic", 1, [digest], [0]).status == 200
        assert session.put("dynamic", 1, [digest], [3]).status == 200
        assert not [one for one in session.events if isinstance(one, ev.PingReceived)]


def test_counting(target: TargetServer) -> None:
    with session_on(target) as session:
        session.call("POST", "/dynamic_index", {"archive-name": "a.didx"})
        send_chunk(session, "dynamic", 1, b"abc")
        send_chunk(session, "dynamic", 1, b"abc")
        session.call("GET", "/previous", {"archive-name": "a.didx"})
    values = target.counters.snapshot()
    assert values.requests["POST dynamic_chunk"] == 2
    assert values.requests["previous"] == values.requests["upgrade"] == values.sessions == 1
    assert (values.chunks, values.new_chunks) == (2, 1)
    assert values.chunk_bytes == 2 * len(packed(b"abc"))
    assert values.bytes_in > values.chunk_bytes
    assert values.total_requests == 5
    target.counters.reset()
    assert target.counters.snapshot().total_requests == 0


def test_a_connection_window_below_what_http2_starts_with_is_refused() -> None:
    with pytest.raises(ConfigError, match="65535"):
        SessionSettings(connection_window=1000)


def test_answers_count_as_seen_when_their_ping_is_acknowledged() -> None:
    pings: list[bytes] = []
    order = AnswerOrder(pings.append, strict=True)
    order.begin()
    order.begin()
    assert (order.seen, order.batch, len(pings)) == (0, 1, 1)
    order.sent()
    order.acknowledged(b"whatever")
    assert (order.seen, order.batch) == (0, 2)
    order.acknowledged(pings[0])
    assert order.seen == 1


def test_a_client_that_ends_the_connection_together_with_a_request(target: TargetServer) -> None:
    with session_on(target) as session:
        session.start("POST", "/dynamic_index", {"archive-name": "a.didx"}, flush=False)
        session.http.close_connection()
        session.flush()
    target.close()
    assert target.counters.snapshot().sessions == 1


def test_a_large_answer_comes_whole_without_another_word_from_the_client(
    target: TargetServer,
) -> None:
    count, part = 60_000, 6_000
    with session_on(target) as session:
        session.call("POST", "/dynamic_index", {"archive-name": "a.didx"})
        digest = send_chunk(session, "dynamic", 1, b"x")
        for start in range(0, count, part):
            offsets = list(range(start, start + part))
            assert session.put("dynamic", 1, [digest] * part, offsets).status == 200
        csum = dynamic_csum([digest] * count, [1] * count)
        close = {"wid": 1, "chunk-count": count, "size": count, "csum": csum}
        assert session.call("POST", "/dynamic_close", close).status == 200
        finish(session, PARAMS)
    later = {**PARAMS, "backup-time": 2000}
    with open_session(target.address, later, token(ALICES_TOKEN)) as session:
        reply = session.call("GET", "/previous", {"archive-name": "a.didx"})
        assert len(reply.body) == 4096 + count * 40
