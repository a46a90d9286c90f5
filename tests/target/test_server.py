"""The server itself: many connections, stopping, its certificate, what it is started with."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pbs_push.errors import ConfigError, SourceError
from pbs_push.names import AuthId, Repository
from pbs_push.target import (
    CertificateFiles,
    Identities,
    TargetServer,
    create_datastore,
    store,
)

from .client import Rest, connect, open_session, token, upgrade
from .conftest import ALICES_TOKEN
from .samples import content, finish, send_dynamic

NOBODY = Identities({})


def test_thirty_two_sessions_at_once(target: TargetServer, tmp_path: Path) -> None:
    together = threading.Barrier(32)

    def back_up(number: int) -> None:
        params = {
            "store": "store",
            "backup-type": "vm",
            "backup-id": str(number),
            "backup-time": 1000,
        }
        with open_session(target.address, params, token(ALICES_TOKEN)) as session:
            together.wait(timeout=60)
            shared, own = content("shared", 90_000), content(str(number), 5000)
            send_dynamic(session, "a.didx", [shared, own])
            finish(session, params)

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(back_up, range(32)))
    assert len(list((tmp_path / "store").glob("vm/*/*/index.json.blob"))) == 32
    assert len(list((tmp_path / "store").glob(".chunks/*/*"))) == 33
    values = target.counters.snapshot()
    assert (values.sessions, values.chunks, values.new_chunks >= 33) == (32, 64, True)
    assert not list((tmp_path / "store").rglob("*.tmp_*"))


def test_a_connection_that_gets_no_thread_is_closed(
    target: TargetServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with socket.create_connection(target.address) as refused:
        assert refused.recv(1) == b""
    monkeypatch.setattr(threading.Thread, "start", started)
    params = {"store": "store", "backup-type": "vm", "backup-id": "1", "backup-time": 1000}
    with open_session(target.address, params, token(ALICES_TOKEN)) as session:
        assert session.call("GET", "/").status == 200
    target.close()


def test_close_ends_open_connections_and_threads(target: TargetServer) -> None:
    rest = Rest(target.address, token(ALICES_TOKEN))
    rest.call("GET", "/api2/json/version")
    silent = socket.create_connection(target.address)
    target.close()
    target.close()
    names = {thread.name for thread in threading.enumerate()}
    assert not {name for name in names if name.startswith("target-")}
    with rest.socket, silent:
        assert rest.socket.recv(1) == b""


def test_the_fingerprint_is_the_certificate_s(target: TargetServer) -> None:
    with connect(target.address) as line:
        der = line.getpeercert(binary_form=True)
        assert der is not None
        assert hashlib.sha256(der).digest() == target.fingerprint
        assert line.selected_alpn_protocol() is None


def test_each_server_has_a_certificate_of_its_own(tmp_path: Path) -> None:
    path = create_datastore(tmp_path / "one", all_chunk_folders=False)
    first, second = (TargetServer({"one": path}, identities=NOBODY) for _ in range(2))
    assert first.fingerprint != second.fingerprint


def test_a_given_certificate(tmp_path: Path) -> None:
    from pbs_push.target.certificate import self_signed

    files = self_signed(tmp_path)
    path = create_datastore(tmp_path / "one", all_chunk_folders=False)
    target = TargetServer({"one": path}, identities=NOBODY, certificate=files)
    pem = files.certificate.read_text()
    assert hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest() == target.fingerprint
    with pytest.raises(ConfigError, match="certificate"):
        TargetServer(
            {"one": path},
            identities=NOBODY,
            certificate=CertificateFiles(files.key, files.certificate),
        )


def test_sessions_are_resumed(target: TargetServer) -> None:
    with Rest(target.address, token(ALICES_TOKEN)) as rest:
        rest.call("GET", "/api2/json/version")
        session = rest.socket.session
        context = rest.socket.context
    raw = socket.create_connection(target.address)
    with context.wrap_socket(raw, session=session) as line:
        assert line.session_reused
        line.sendall(b"GET /api2/json/version HTTP/1.1\r\nHost: x\r\n\r\n")
        assert line.recv(1000)
    assert target.counters.snapshot().tls_resumed == 1


def test_how_a_client_names_it(target: TargetServer) -> None:
    host, port = target.address
    expected = Repository("store", host, port, AuthId.parse(ALICES_TOKEN))
    assert target.repository("store", ALICES_TOKEN) == expected
    assert target.repository("store", AuthId.parse(ALICES_TOKEN)) == expected


def test_what_it_cannot_be_started_with(tmp_path: Path, target: TargetServer) -> None:
    with pytest.raises(SourceError, match="not a datastore"):
        TargetServer({"one": tmp_path / "missing"}, identities=NOBODY)
    with pytest.raises(ConfigError, match="start it first"):
        _ = TargetServer({}, identities=NOBODY).address
    with pytest.raises(ConfigError, match="cannot listen"):
        TargetServer({}, identities=NOBODY, port=target.address[1]).start()


def test_creating_a_datastore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.CHUNK_FOLDER_COUNT == 65_536
    monkeypatch.setattr(store, "CHUNK_FOLDER_COUNT", 300)  # all take seconds to make and remove
    path = create_datastore(tmp_path / "one")
    folders = [folder.name for folder in (path / ".chunks").iterdir()]
    assert sorted(folders) == [f"{number:04x}" for number in range(300)]
    assert (path / ".chunks/0000").stat().st_mode & 0o777 == 0o750
    with pytest.raises(SourceError, match="there is one"):
        create_datastore(path)


def test_secrets_are_not_shown() -> None:
    identities = Identities.simple({"root@pam": "hunter2", "root@pam!t": "sesame"})
    assert "hunter2" not in repr(identities)
    assert "sesame" not in repr(identities)


def test_one_of_two_that_make_the_same_group_gets_it(target: TargetServer) -> None:
    params = {"store": "store", "backup-type": "vm", "backup-id": "1", "backup-time": 1000}

    statuses: list[int | None] = []

    def ask(_number: int) -> Rest:
        rest, reply = upgrade(target.address, params, token(ALICES_TOKEN))
        statuses.append(reply.status)
        return rest

    for _ in range(5):
        statuses.clear()
        with ThreadPoolExecutor(4) as pool:
            lines = list(pool.map(ask, range(4)))
        assert sorted(statuses) == [101, 400, 400, 400]
        for rest in lines:
            rest.close()
        params["backup-id"] += "1"


def test_the_key_of_a_certificate_is_private(tmp_path: Path) -> None:
    from pbs_push.target.certificate import self_signed

    before = os.umask(0)
    try:
        files = self_signed(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
