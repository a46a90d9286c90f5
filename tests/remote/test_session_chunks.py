"""Chunks and entry lists of a session, over a real line."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from pbs_push.errors import ChunkError, ConnectError, ProtocolError, StatusError
from pbs_push.formats.index import open_index

from .servers import Identity, Line, Server, read_request
from .sessions import CHUNKS, LOGIN_PAGE, SETTINGS, SNAPSHOT, SWITCH, H2Server, uploading


def test_chunks_over_a_real_line(identity: Identity, tmp_path: Path) -> None:
    seen: list[bytes] = []

    def handler(peer: H2Server, stream: int, head: dict[str, str], body: bytes) -> None:
        digest = hashlib.sha256(body[12:]).hexdigest()
        assert f"&digest={digest}&" in head[":path"]
        seen.append(body)
        peer.answer(stream, 200, json.dumps({"data": digest}).encode())

    with Server(identity, H2Server(handler)) as server, uploading(server, tmp_path) as session:
        session.pump(lambda: session.chunks_acknowledged == CHUNKS)
        assert session.chunks_added == CHUNKS
    assert len(set(seen)) == CHUNKS


def test_an_entry_list_s_answer_is_looked_at(identity: Identity, tmp_path: Path) -> None:
    def handler(peer: H2Server, stream: int, head: dict[str, str], _body: bytes) -> None:
        peer.answer(stream, 200, LOGIN_PAGE if head[":method"] == "PUT" else b"")

    with Server(identity, H2Server(handler)) as server, uploading(server, tmp_path) as session:
        with open_index(tmp_path / "a.didx") as index:
            call, taken = session.append("dynamic", 1, index, limit=4096, count=CHUNKS)
        session.wait([call])
        assert taken == CHUNKS
        with pytest.raises(ProtocolError, match=f"PUT /dynamic_index of {SNAPSHOT}: .*Sign in"):
            call.body()


def test_a_line_cut_in_mid_body(identity: Identity, tmp_path: Path) -> None:
    def script(line: Line) -> None:
        read_request(line)
        line.send(SWITCH + SETTINGS)
        while len(server.received) < 50_000:
            line.read()
        line.reset()

    with (
        Server(identity, script) as server,
        uploading(server, tmp_path) as session,
        pytest.raises(ConnectError, match=f"127.0.0.1:{server.port} (broke|closed)"),
    ):
        session.pump(lambda: False)


def test_an_error_is_told_although_the_line_is_closed(identity: Identity, tmp_path: Path) -> None:
    """The target refuses the first chunk and goes away, while we are sending the others."""

    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.answer(stream, 400, b"disk full")
        peer.flush()
        peer.line.say_goodbye()
        peer.running = False

    with (
        Server(identity, H2Server(handler)) as server,
        uploading(server, tmp_path) as session,
        pytest.raises(StatusError, match=r"uploading chunk \w{64} of host/web.*disk full"),
    ):
        session.pump(lambda: False)


def test_the_first_failed_upload_is_told(identity: Identity, tmp_path: Path) -> None:
    numbers = itertools.count(1)

    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        if (number := next(numbers)) > 1:
            peer.answer(stream, 400, b"error %d" % (number - 1))
            if number == 2:
                peer.answer(stream - 2, 500, b"a later one")

    with (
        Server(identity, H2Server(handler)) as server,
        uploading(server, tmp_path) as session,
        pytest.raises(StatusError, match="error 1"),
    ):
        session.pump(lambda: False)


def test_a_missing_chunk_ends_the_session(identity: Identity, tmp_path: Path) -> None:
    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> None:
        peer.answer(stream, 200, b"")

    with Server(identity, H2Server(handler)) as server, uploading(server, tmp_path) as session:
        for folder in (tmp_path / ".chunks").iterdir():
            for file in folder.iterdir():
                file.unlink()
        with open_index(tmp_path / "a.didx") as index:
            session.add_chunks(index, np.array([7], np.uint32), writer_id=1, encrypted=False)
        with pytest.raises(ChunkError, match=r"/store/\.chunks/"):
            session.pump(lambda: False)
