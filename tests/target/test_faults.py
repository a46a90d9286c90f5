"""The faults that a target makes on purpose."""

from __future__ import annotations

import errno
import os

import h2.events as ev
import pytest

from pbs_push.target import Faults

from .client import Rest, open_session, token
from .conftest import ALICES_TOKEN, MakeTarget
from .samples import blob, send_chunk, sha256

PARAMS = {"store": "store", "backup-type": "host", "backup-id": "h", "backup-time": 1000}


def test_the_line_is_cut_after_some_chunks(make_target: MakeTarget) -> None:
    target = make_target(faults=Faults(close_after_chunks=2))
    with open_session(target.address, PARAMS, token(ALICES_TOKEN)) as session:
        session.call("POST", "/dynamic_index", {"archive-name": "a.didx"})
        send_chunk(session, "dynamic", 1, b"one")
        raw = blob(b"two")
        chunk = {"wid": 1, "digest": sha256(b"two"), "size": 3, "encoded-size": len(raw)}
        assert session.call("POST", "/dynamic_chunk", chunk, raw).status is None
        assert session.gone


def test_a_full_disk_is_a_400(make_target: MakeTarget) -> None:
    def full(_digest: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = make_target(faults=Faults(chunk_error=full))
    with open_session(target.address, PARAMS, token(ALICES_TOKEN)) as session:
        session.call("POST", "/dynamic_index", {"archive-name": "a.didx"})
        raw = blob(b"one")
        chunk = {"wid": 1, "digest": sha256(b"one"), "size": 3, "encoded-size": len(raw)}
        reply = session.call("POST", "/dynamic_chunk", chunk, raw)
        assert reply.status == 400
        assert reply.text == "No space left on device (os error 28)"


def test_garbage(make_target: MakeTarget) -> None:
    target = make_target(faults=Faults(garbage=b"SSH-2.0-OpenSSH\r\n"))
    with Rest(target.address) as rest:
        assert rest.socket.recv(100) == b"SSH-2.0-OpenSSH\r\n"
        assert rest.socket.recv(100) == b""


def test_goaway_on_the_way(make_target: MakeTarget) -> None:
    target = make_target(faults=Faults(goaway_after_requests=2))
    with open_session(target.address, PARAMS, token(ALICES_TOKEN)) as session:
        assert session.call("GET", "/").status == 200
        assert session.call("GET", "/").status == 200
        session.wait(session.start("GET", "/previous_backup_time")) if not session.gone else None
        assert session.gone
        assert any(isinstance(one, ev.ConnectionTerminated) for one in session.events)


def test_a_stream_is_reset(make_target: MakeTarget) -> None:
    target = make_target(faults=Faults(reset_streams={"GET /": 2}))
    with open_session(target.address, PARAMS, token(ALICES_TOKEN)) as session:
        assert session.call("GET", "/").status == 200
        assert session.call("GET", "/").error == "reset 2"
        assert session.call("GET", "/").status == 200


def test_a_ping_on_the_way(make_target: MakeTarget) -> None:
    target = make_target(faults=Faults(ping_after_requests=2))
    with open_session(target.address, PARAMS, token(ALICES_TOKEN)) as session:
        for _ in range(3):
            assert session.call("GET", "/").status == 200
        pings = [one.ping_data for one in session.events if isinstance(one, ev.PingReceived)]
        assert pings.count(b"faulttst") == 1


@pytest.mark.parametrize("kind", ["GET version", "GET /"])
def test_an_answer_is_late(make_target: MakeTarget, kind: str) -> None:
    target = make_target(faults=Faults(delays_s={kind: 0.01}))
    with Rest(target.address, token(ALICES_TOKEN)) as rest:
        assert rest.call("GET", "/api2/json/version").status == 200
    with open_session(target.address, PARAMS, token(ALICES_TOKEN)) as session:
        assert session.call("GET", "/").status == 200
