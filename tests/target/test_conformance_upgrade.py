"""Recorded sessions of a PBS 4.2.3, replayed: who gets a session, and when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .client import Rest, open_session, token
from .recordings import PUSHER, Replay, load, upgrade_step
from .replays import HOST, Address, check_upgrade, open_params, replays, steps, ticket
from .samples import blob, finish, manifest, send_blob

UPGRADE_AUTH: dict[str, Callable[[Address], dict[str, str]]] = {
    "upgrade-bad-token": lambda _: token(PUSHER, "wrong"),
    "upgrade-unauthenticated": lambda _: {},
    "upgrade-with-ticket-cookie": lambda address: ticket(address, "push@pbs", csrf=True),
    "upgrade-with-ticket-cookie-without-csrf": lambda address: ticket(address, "push@pbs"),
    "upgrade-missing-datastore-no-privs": lambda address: ticket(address, "fixnone@pbs"),
    "upgrade-priv-fixbackup-token": lambda _: token("fixbackup@pbs!tok"),
    **{
        f"upgrade-priv-{user}{suffix}": (
            lambda address, user=user: ticket(address, f"{user}@pbs")  # type: ignore[misc]
        )
        for user in ("fixaudit", "fixbackup", "fixnone")
        for suffix in ("", "-missing-namespace")
    },
}
"""Who asks, where it is not the token of the recordings."""


PLAIN_UPGRADES = [
    "upgrade-backup-time-negative",
    "upgrade-backup-time-zero",
    "upgrade-benchmark-flag-other-id",
    "upgrade-benchmark-id-without-flag",
    "upgrade-benchmark-ok",
    "upgrade-datastore-offline-mode",
    "upgrade-datastore-read-only-mode",
    "upgrade-debug-flag",
    "upgrade-empty-namespace-parameter",
    "upgrade-invalid-backup-id",
    "upgrade-invalid-backup-time",
    "upgrade-invalid-backup-type",
    "upgrade-invalid-namespace",
    "upgrade-missing-datastore",
    "upgrade-missing-namespace",
    "upgrade-missing-namespace-nested",
    "upgrade-missing-parameter",
    "upgrade-missing-upgrade-header",
    "upgrade-no-cache-flag",
    "upgrade-post-method",
    "upgrade-unknown-parameter",
    "upgrade-websocket",
    "upgrade-without-connection-header",
    "upgrade-wrong-protocol",
    "upgrade-wrong-protocol-reader",
    *UPGRADE_AUTH,
]


replays(*PLAIN_UPGRADES)


@pytest.mark.parametrize("name", PLAIN_UPGRADES)
def test_upgrade(address: Address, recordings: Path, name: str) -> None:
    auth = UPGRADE_AUTH[name](address) if name in UPGRADE_AUTH else None
    check_upgrade(address, steps(recordings, name)[0], auth)


@replays("minimal-backup-ok", "upgrade-backup-time-newer", "upgrade-backup-time-equal-last")
@replays("upgrade-backup-time-older-than-last")
def test_minimal_backup_and_the_order_of_times(address: Address, recordings: Path) -> None:
    first, *others = steps(recordings, "minimal-backup-ok")
    rest, reply = upgrade_step(address, first, token(PUSHER))
    rest.close()
    assert reply.status == 101
    wait_for_group(address, "newer", present=False)
    params = first["request"]["params"]
    with open_session(address, params, token(PUSHER)) as session:
        replay = Replay(address, session)
        replay.bodies = {1: manifest(params)}
        replay.run(others)
    for name in ("equal-last", "older-than-last", "newer"):
        check_upgrade(address, steps(recordings, f"upgrade-backup-time-{name}")[0])


def wait_for_group(address: Address, backup_id: str, *, present: bool) -> None:
    """Until the server has noticed that a connection has gone."""
    keys = {"ns": "proto", "backup-type": "host", "backup-id": backup_id}
    path = "/api2/json/admin/datastore/fixdst/snapshots"
    with Rest(address, token(PUSHER)) as rest:
        while bool(rest.call("GET", path, keys).data) != present:
            pass


@replays("upgrade-ok", "upgrade-group-locked", "upgrade-same-group-other-namespace")
def test_group_lock(address: Address, recordings: Path) -> None:
    recorded = load(recordings, "upgrade-ok")
    params = recorded["steps"][0]["request"]["params"]
    with open_session(address, params, token(PUSHER)) as session:
        settings = session.http.remote_settings
        announced = {
            "MAX_CONCURRENT_STREAMS": settings.max_concurrent_streams,
            "INITIAL_WINDOW_SIZE": settings.initial_window_size,
            "MAX_FRAME_SIZE": settings.max_frame_size,
            "MAX_HEADER_LIST_SIZE": settings.max_header_list_size,
        }
        assert announced == recorded["server_settings"]
        session.call("GET", "/")
        assert session.http.outbound_flow_control_window == 32 << 20
        check_upgrade(address, steps(recordings, "upgrade-group-locked")[0])
        check_upgrade(address, steps(recordings, "upgrade-same-group-other-namespace")[0])


@replays(
    "upgrade-not-owner-other-user",
    "upgrade-not-owner-token-on-user-group",
    "upgrade-user-on-group-of-own-token",
)
def test_owners(address: Address, recordings: Path) -> None:
    user = ticket(address, "push@pbs")
    for group, owner in (("owned", user), ("ownedtok", token(PUSHER))):
        params = {**HOST, "store": "fixdst", "ns": "proto", "backup-id": group}
        with open_session(address, params, owner) as session:
            finish(session, params)
    other = ticket(address, "fixbackup@pbs")
    check_upgrade(address, steps(recordings, "upgrade-not-owner-other-user")[0], other)
    check_upgrade(address, steps(recordings, "upgrade-not-owner-token-on-user-group")[0])
    check_upgrade(address, steps(recordings, "upgrade-user-on-group-of-own-token")[0], user)


@replays("upgrade-directory-exists", "upgrade-older-than-dead-directory")
def test_dead_directory(address: Address, recordings: Path, tmp_path: Path) -> None:
    group = tmp_path / "fixdst/ns/proto/host/dead"
    (group / "2026-09-21T17:08:40Z").mkdir(parents=True)  # 1790010520
    (group / "owner").write_text(f"{PUSHER}\n")
    check_upgrade(address, steps(recordings, "upgrade-directory-exists")[0])
    check_upgrade(address, steps(recordings, "upgrade-older-than-dead-directory")[0])


@replays("upgrade-directly-after-finish-old-connection-open")
def test_group_is_free_when_finish_is_answered(address: Address, recordings: Path) -> None:
    done, again, ask = steps(recordings, "upgrade-directly-after-finish-old-connection-open")
    params = {**again["request"]["params"], "backup-time": 1790010660}
    with open_session(address, params, token(PUSHER)) as session:
        send_blob(session, "index.json.blob", manifest(params))
        Replay(address, session).run([done])
        with open_session(address, again["request"]["params"], token(PUSHER)) as second:
            Replay(address, second).run([ask])


@replays("rest-while-session-open", "rest-while-first-session-open")
def test_rest_while_a_session_is_open(address: Address, recordings: Path) -> None:
    conf = blob(b"123456789")
    listed = {"filename": "qemu-server.conf.blob", "crypt-mode": "none", "size": 21}
    listed["csum"] = "00" * 32
    done = [("run", 1790080010), ("run", 1790080020), ("run", 1790080030), ("idle", 1790080040)]
    for backup_id, time in done:
        params = open_params(backup_id, time)
        with open_session(address, params, token(PUSHER)) as session:
            send_blob(session, "qemu-server.conf.blob", conf)
            send_blob(session, "index.json.blob", manifest(params, [listed]))
            assert session.call("POST", "/finish").status == 200
    with open_session(address, open_params("run", 1790080050), token(PUSHER)) as session:
        send_blob(session, "qemu-server.conf.blob", conf)
        only_running, *others = steps(recordings, "rest-while-session-open")
        entry = only_running["body"]["data"][0]
        reply = Replay(address).send(0, only_running)
        assert entry in reply.data
        Replay(address).run(others)
    with Rest(address, token(PUSHER)) as rest:
        path = "/api2/json/admin/datastore/fixdst/groups"
        while rest.call("GET", path, {"ns": "open"}).data[0]["backup-count"] > 2:
            pass
    with open_session(address, open_params("first", 1790080060), token(PUSHER)) as session:
        send_blob(session, "qemu-server.conf.blob", conf)
        Replay(address).run(steps(recordings, "rest-while-first-session-open"))
