"""Every recorded session of a real PBS 4.2.3, replayed against the target: the same statuses.

Also the same data, where the answer is data that does not depend on the machine. Where a recording
continues another one's session they are replayed as a chain.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pbs_push.formats.manifest import Manifest
from pbs_push.target import TargetServer

from .client import Rest, Session, entries, open_session, token, upgrade
from .recordings import (
    PUSHER,
    ZERO_CHUNK,
    Replay,
    chunk_content,
    load,
    session_of,
    upgrade_step,
)
from .samples import (
    CHUNK,
    ENCRYPTED,
    blob,
    content,
    dynamic_csum,
    finish,
    fixed_csum,
    manifest,
    packed,
    send_blob,
    send_chunk,
    send_dynamic,
    send_fixed,
    sha256,
)

pytestmark = pytest.mark.usefixtures("fixtures_dir")

REPLAYED: set[str] = set()
"""The recordings that a test here has; `test_every_recording_is_replayed` compares."""

Address = tuple[str, int]


def replays(*names: str) -> Callable[[Any], Any]:
    REPLAYED.update(names)
    return lambda test: test


@pytest.fixture
def recordings(fixtures_dir: Path) -> Path:
    return fixtures_dir / "protocol"


@pytest.fixture
def address(recorded_target: TargetServer) -> Address:
    return recorded_target.address


def steps(recordings: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = load(recordings, name)["steps"]
    return found


@replays(
    "fixed-chunk-ok-and-duplicate",
    "fixed-chunk-errors",
    "fixed-chunk-second-small-chunk",
    "put-fixed-index-ok",
    "put-fixed-index-errors",
    "put-is-not-atomic",
)
def test_fixed_writer(address: Address, recordings: Path) -> None:
    """One session, its parts in the order in which they were recorded."""
    with session_of(address) as replay:
        for name in (
            "fixed-chunk-ok-and-duplicate",
            "fixed-chunk-errors",
            "fixed-chunk-second-small-chunk",
            "put-fixed-index-ok",
        ):
            replay.run(steps(recordings, name))
        digest = replay.subst[ZERO_CHUNK]
        compact = json.dumps(entries(1, [digest], [0]), separators=(",", ":")).encode()
        replay.bodies = {18: compact, 19: compact, 20: compact}
        replay.run(steps(recordings, "put-fixed-index-errors"))
        replay.bodies = {}
        (reply,) = replay.run(steps(recordings, "put-is-not-atomic"))
        assert "(8 != 1)" in reply.text


@replays("dynamic-ok", "dynamic-append-errors", "dynamic-close-errors")
def test_dynamic_writer(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        first = steps(recordings, "dynamic-ok")
        replay.run(first)
        replay.run(steps(recordings, "dynamic-append-errors"))
        digests = [replay.subst[step["request"]["params"]["digest"]] for step in first[1:4]]
        recorded = "1ef46f89650c7433d3b136deae4a1bdcf29fb309c6162c4305584e93e4fe716a"
        replay.subst[recorded] = dynamic_csum(digests, [1000, 1001, 1002])
        replay.run(steps(recordings, "dynamic-close-errors"))


@replays("dynamic-close-empty")
def test_an_empty_dynamic_index_cannot_be_closed(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        replay.session.call("POST", "/dynamic_index", {"archive-name": "e.pxar.didx"})
        replay.run(steps(recordings, "dynamic-close-empty"))


@replays("encrypted-chunk")
def test_encrypted_chunk(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        replay.session.call("POST", "/fixed_index", {"archive-name": "a.fidx", "size": 9 << 20})
        replay.run(steps(recordings, "encrypted-chunk"))


@replays("chunk-upload-cancelled-then-again")
def test_upload_cancelled_then_again(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        session = replay.session
        session.call("POST", "/fixed_index", {"archive-name": "a.fidx", "size": 4 << 20})
        upload, put = steps(recordings, "chunk-upload-cancelled-then-again")
        stream = session.http.get_next_available_stream_id()
        headers = [(":method", "POST"), (":scheme", "https"), (":authority", "x")]
        session.http.send_headers(stream, [*headers, (":path", "/fixed_chunk?wid=1")])
        session.http.send_data(stream, bytes(1 << 20))
        session.reset(stream)
        replay.run([upload, put])


def open_two_entry_writer(replay: Replay) -> Callable[[], None]:
    """Writer 1, an image of two chunks with the first entry appended; returns what appends more."""
    session = replay.session
    session.call("POST", "/fixed_index", {"archive-name": "a.img.fidx", "size": 2 * CHUNK})
    zero = send_chunk(session, "fixed", 1, replay.know(ZERO_CHUNK, CHUNK))
    other = send_chunk(session, "fixed", 1, content("other", CHUNK))
    session.put("fixed", 1, [zero], [0])
    recorded = "03ae066c707c588592d9e27aa2444ca98423e0999024f1ceaa11a153790b37de"
    replay.subst[recorded] = fixed_csum([zero, other])
    return lambda: session.put("fixed", 1, [other], [CHUNK])


@replays("fixed-close-errors")
def test_fixed_close_errors(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        append_more = open_two_entry_writer(replay)
        replay.run(steps(recordings, "fixed-close-errors"), before_2=append_more)


@replays("finish-manifest-missing")
def test_finish_without_manifest(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        open_two_entry_writer(replay)()
        replay.run(steps(recordings, "finish-manifest-missing"))


@replays("fixed-close-with-hole")
def test_close_with_hole(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        session = replay.session
        session.call("POST", "/fixed_index", {"archive-name": "h.fidx", "size": 3 * CHUNK})
        zero = send_chunk(session, "fixed", 1, bytes(CHUNK))
        session.put("fixed", 1, [zero, zero, zero], [0, 0, 2 * CHUNK])
        (step,) = steps(recordings, "fixed-close-with-hole")
        csum = fixed_csum([zero, "00" * 32, zero])
        replay.subst[step["request"]["params"]["csum"]] = csum
        replay.run([step])


@replays(
    "index-create-errors",
    "fixed-index-create-json-body",
    "index-create-same-name-twice",
    "fixed-index-create-without-size",
    "fixed-index-create-reuse-csum-no-previous",
)
def test_creating_indexes(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        for name in (
            "index-create-errors",
            "fixed-index-create-reuse-csum-no-previous",
            "fixed-index-create-json-body",
            "index-create-same-name-twice",
            "fixed-index-create-without-size",
        ):
            replay.run(steps(recordings, name))


@pytest.mark.parametrize(
    "name",
    [
        "blob-ok",
        "blob-errors",
        "blob-size-limit",
        "previous-no-previous",
        "session-root-listing",
        "speedtest",
        "unknown-path",
        "finish-no-files",
    ],
)
def test_in_a_fresh_session(address: Address, recordings: Path, name: str) -> None:
    with session_of(address) as replay:
        replay.run(steps(recordings, name))


replays("blob-ok", "blob-errors", "blob-size-limit", "previous-no-previous")
replays("session-root-listing", "speedtest", "unknown-path", "finish-no-files")


@replays("wid-unknown")
def test_unknown_writer(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        replay.run(steps(recordings, "wid-unknown"))


@replays("finish-after-speedtest-only", "finish-manifest-missing-only-blobs")
def test_finish_with_too_little(address: Address, recordings: Path) -> None:
    with session_of(address, backup_id="speed") as replay:
        replay.session.call("POST", "/speedtest", None, b"x")
        replay.run(steps(recordings, "finish-after-speedtest-only"))
    with session_of(address, backup_id="blobs") as replay:
        send_blob(replay.session, "a.blob", blob(b"a"))
        replay.run(steps(recordings, "finish-manifest-missing-only-blobs"))


HOST = {"backup-type": "host", "backup-id": "replay", "backup-time": 1790000000}
_FILE = {"filename": "x.img.fidx", "crypt-mode": "none", "size": 1, "csum": "00" * 32}

MANIFESTS = {
    "finish-manifest-crypt-mode-bad": manifest(HOST, [{**_FILE, "crypt-mode": "bogus"}]),
    "finish-manifest-encrypted-blob": ENCRYPTED + bytes(136),
    "finish-manifest-lists-missing-file": manifest(HOST, [_FILE], unprotected={}),
    "finish-manifest-missing-fields": blob(b'{"files":[]}'),
    "finish-manifest-no-files": manifest(HOST),
    "finish-manifest-not-json": blob(b"nonsense"),
    "finish-manifest-of-other-snapshot": manifest({**HOST, "backup-id": "other"}),
    "finish-manifest-without-unprotected": manifest(HOST),
    "finish-manifest-wrong-csum": manifest(HOST, [{**_FILE, "filename": "a.blob"}]),
}
replays(*MANIFESTS)


def with_crc(raw: bytes) -> bytes:
    """The blob with a right CRC, also where its header is the long one."""
    head = 44 if raw[:8] == ENCRYPTED else 12
    return raw[:8] + zlib.crc32(raw[head:]).to_bytes(4, "little") + raw[12:]


@pytest.mark.parametrize("name", MANIFESTS)
def test_finish_with_a_manifest(address: Address, recordings: Path, name: str) -> None:
    with session_of(address) as replay:
        replay.bodies = {0: with_crc(MANIFESTS[name])}
        replay.run(steps(recordings, name))


@replays("finish-open-writer-then-ok")
def test_finish_with_an_open_writer(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        session = replay.session
        session.call("POST", "/dynamic_index", {"archive-name": "o.pxar.didx"})
        digest = send_chunk(session, "dynamic", 1, content("o", 500))
        session.put("dynamic", 1, [digest], [0])
        recorded = steps(recordings, "finish-open-writer-then-ok")
        replay.subst[recorded[1]["request"]["params"]["csum"]] = dynamic_csum([digest], [500])
        replay.bodies = {2: manifest(HOST)}
        replay.run(recorded)


@replays("after-finish")
def test_after_finish(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        finish(replay.session, HOST)
        replay.bodies = {4: manifest(HOST)}
        replay.run(steps(recordings, "after-finish"))


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


def check_upgrade(
    address: Address, step: dict[str, Any], auth: dict[str, str] | None = None
) -> None:
    rest, reply = upgrade_step(address, step, token(PUSHER) if auth is None else auth)
    rest.close()
    assert reply.status == step["status"], (step, reply)
    for name in ("upgrade", "connection"):
        assert reply.headers.get(name) == step["headers"].get(name)
    if step.get("set-cookie-names"):
        assert reply.headers["set-cookie"].startswith(step["set-cookie-names"][0])
    if isinstance(step.get("body"), str) and "/" not in step["body"]:
        assert reply.text == step["body"]


def ticket(address: Address, user: str, *, csrf: bool = False) -> dict[str, str]:
    with Rest(address) as rest:
        login = {"username": user, "password": "secret"}
        data = rest.call("POST", "/api2/json/access/ticket", login).data
    headers = {"Cookie": f"PBSAuthCookie={data['ticket']}"}
    return headers | ({"CSRFPreventionToken": data["CSRFPreventionToken"]} if csrf else {})


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


@replays("put-size-limit")
def test_put_size_limit(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        session = replay.session
        session.call("POST", "/fixed_index", {"archive-name": "b.fidx", "size": 1 << 40})
        digest = send_chunk(session, "fixed", 1, bytes(CHUNK))
        for step in steps(recordings, "put-size-limit")[:-1]:
            count, length = step.get("entries", 100), step["request"]["body-bytes"]
            offsets = [position * CHUNK for position in range(count)]
            body = json.dumps(entries(1, [digest] * count, offsets), separators=(",", ":"))
            if "entries" in step:
                assert len(body) == length
            piece = 1000 if "content-type" not in step["request"] else None
            reply = session.call(
                "PUT",
                "/fixed_index",
                None,
                body.ljust(length).encode(),
                content_type="application/json",
                chunk=piece,
            )
            assert reply.status == step["status"], step
        replay.run(steps(recordings, "put-size-limit")[-1:])


@replays("put-size-limit-dynamic")
def test_put_size_limit_dynamic(address: Address, recordings: Path) -> None:
    fits, too_large = steps(recordings, "put-size-limit-dynamic")
    with session_of(address) as replay:
        session = replay.session
        session.call("POST", "/dynamic_index", {"archive-name": "b.didx"})
        digest = send_chunk(session, "dynamic", 1, bytes(64))
        for step, start in ((fits, 0), (too_large, 7107 * 64)):
            offsets = [start + position * 64 for position in range(step["entries"])]
            body = json.dumps(
                entries(1, [digest] * len(offsets), offsets), separators=(",", ":")
            ).encode()
            if start == 0:
                assert len(body) == step["request"]["body-bytes"]
            assert len(body) < 512 << 10 or start
            reply = session.call(
                "PUT", "/dynamic_index", None, body, content_type="application/json"
            )
            assert reply.status == step["status"]


@replays("query-length-in-session")
def test_query_length(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        session = replay.session
        for step in steps(recordings, "query-length-in-session"):
            name = "x" * (step["request"]["query-bytes"] - len("archive-name="))
            reply = session.call("GET", "/previous", {"archive-name": name})
            assert reply.status == step["status"], step
        assert session.gone


def back_up_previous(address: Address, time: int) -> None:
    """The snapshot that the ``previous-*`` recordings speak of: 3,000 and 2,000 entries."""
    params = {
        "store": "fixdst",
        "ns": "proto",
        "backup-type": "vm",
        "backup-id": "prev",
        "backup-time": time,
    }
    with open_session(address, params, token(PUSHER)) as session:
        send_fixed(session, "drive-scsi0.img.fidx", 3000 * CHUNK, [bytes(CHUNK)] * 3000)
        send_dynamic(session, "root.pxar.didx", [content("d", 1000)] * 2000, wid=2)
        send_blob(session, "qemu-server.conf.blob", blob(b"hello"))
        finish(session, params)


def next_session(address: Address, **more: Any) -> Any:
    params = {
        "store": "fixdst",
        "ns": "proto",
        "backup-type": "vm",
        "backup-id": "prev",
        "backup-time": 1790060000,
    }
    return open_session(address, params, token(PUSHER), **more)


def put_all(session: Any, kind: str) -> Any:
    """A PUT of all the previous index's entries, into a writer of its own."""
    count = 3000 if kind == "fixed" else 2000
    data = bytes(CHUNK) if kind == "fixed" else content("d", 1000)
    digest = sha256(data)
    create = {"archive-name": f"n.{kind[0]}idx"}
    if kind == "fixed":
        create["size"] = 3000 * CHUNK  # type: ignore[assignment]
    wid = session.call("POST", f"/{kind}_index", create).data
    offsets = [position * len(data) for position in range(count)]
    return session.put(kind, wid, [digest] * count, offsets)


@replays("previous-ok-and-missing", "previous-not-fetched-put-fails")
def test_previous(address: Address, recordings: Path) -> None:
    back_up_previous(address, 1790040010)
    with next_session(address) as session:
        recorded = steps(recordings, "previous-ok-and-missing")
        replies = Replay(address, session).run(recorded)
        for number, length in ((2, 100096), (3, 84096), (4, 17)):
            assert len(replies[number].body) == length
            assert "content-length" not in replies[number].headers
            assert replies[number].headers["content-type"] == "application/octet-stream"
    wait_for_free_group(address)
    (step,) = steps(recordings, "previous-not-fetched-put-fails")
    with next_session(address) as session:
        assert put_all(session, "fixed").status == step["status"]


def wait_for_free_group(address: Address) -> None:
    params = {
        "store": "fixdst",
        "ns": "proto",
        "backup-type": "vm",
        "backup-id": "prev",
        "backup-time": 1790059999,
    }
    status = None
    while status != 101:
        rest, reply = upgrade(address, params, token(PUSHER))
        rest.close()
        status = reply.status
    keys = {"ns": "proto", "backup-type": "vm", "backup-id": "prev"}
    with Rest(address, token(PUSHER)) as rest:
        path = "/api2/json/admin/datastore/fixdst/snapshots"
        while len(rest.call("GET", path, keys).data) > 1:
            pass


UNREAD = {
    "previous-rst-after-headers-dynamic": ("dynamic", True, False),
    "previous-rst-after-headers-fixed": ("fixed", True, False),
    "previous-window-0-dynamic": ("dynamic", False, True),
    "previous-window-0-fixed": ("fixed", False, True),
    "previous-window-0-rst-after-headers-fixed": ("fixed", True, True),
}
replays(*UNREAD)


@pytest.mark.parametrize("name", UNREAD)
def test_previous_that_is_not_read(address: Address, recordings: Path, name: str) -> None:
    kind, reset, no_window = UNREAD[name]
    back_up_previous(address, 1790050010)
    get, put, *others = steps(recordings, name)
    with next_session(address, **({"window": 0} if no_window else {})) as session:
        stream = session.start("GET", get["request"]["path"], get["request"]["params"])
        assert session.wait_headers(stream).status == get["status"]
        if reset:
            session.reset(stream)
        assert put_all(session, kind).status == put["status"]
        for step in others:
            assert session.call("GET", step["request"]["path"]).data == step["body"]["data"]


@replays("previous-rst-together-with-request-fixed")
def test_previous_reset_together_with_the_request(address: Address, recordings: Path) -> None:
    back_up_previous(address, 1790050010)
    get, put = steps(recordings, "previous-rst-together-with-request-fixed")
    with next_session(address) as session:
        path, params = get["request"]["path"], get["request"]["params"]
        stream = session.start("GET", path, params, flush=False)
        session.reset(stream)
        assert session.call("GET", "/previous_backup_time").status == 200
        assert session.replies[stream].status is None
        assert put_all(session, "fixed").status == put["status"]


# reuse-csum: an image of twelve chunks, its second version differs in two entries.

V1 = "213ffbcacb3a29f2b786cab210c8ad3eb62d7c584cced639402a2e5f3e4ae473"
V2 = "57c302e862539523471580fd7478ba0bace095f0c72c454a5a51a68dcf857837"
CHANGED = {5: "3aedcf7409f3813e8149292ea4cf3c4b18a011e4939e02e2954342060956f3d7"}
FIRST = "89135ebf175d1450b3e9e95f49fc6fa59efb50419d89d14e900c2480cbaffd50"


def image_v2(recordings: Path) -> list[str]:
    listed: list[str] = steps(recordings, "rst-previous-then-finish")[2]["request"]["json"][
        "digest-list"
    ]
    return listed


def image_v1(recordings: Path) -> list[str]:
    v2 = image_v2(recordings)
    return [*v2[:5], ZERO_CHUNK, *v2[6:9], ZERO_CHUNK, *v2[10:]]


def back_up_image(
    address: Address,
    digests: list[str],
    *,
    time: int,
    tail: int = CHUNK,
    backup_id: str = "reuse",
    **unprotected: Any,
) -> list[str]:
    """A finished snapshot with the image; returns the digests of our contents."""
    params = {
        "store": "fixdst",
        "ns": "proto",
        "backup-type": "vm",
        "backup-id": backup_id,
        "backup-time": time,
    }
    sizes = [CHUNK] * (len(digests) - 1) + [tail]
    data = [chunk_content(*pair) for pair in zip(digests, sizes, strict=True)]
    with open_session(address, params, token(PUSHER)) as session:
        ours = send_fixed(session, "drive-scsi0.img.fidx", sum(sizes), data)
        finish(session, params, **unprotected)
    return ours


def reuse_replay(address: Address, time: int, backup_id: str = "reuse") -> Any:
    return session_of(address, backup_type="vm", backup_id=backup_id, backup_time=time)


def check_image(tmp_path: Path, backup_id: str, expected: list[str]) -> None:
    """What the real server's verify looked at, on disk: the newest index and its chunks."""
    group = tmp_path / "fixdst/ns/proto/vm" / backup_id
    newest = max(path for path in group.iterdir() if path.is_dir())
    raw = (newest / "drive-scsi0.img.fidx").read_bytes()[4096:]
    found = [raw[at : at + 32].hex() for at in range(0, len(raw), 32)]
    assert found == expected
    for digest in found:
        assert (tmp_path / "fixdst/.chunks" / digest[:4] / digest).is_file()


def without_verify(recorded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The steps but for the REST call verify, which protocol/rest.md has not."""
    return [step for step in recorded if not step["request"]["path"].endswith("/verify")]


@replays("reuse-csum-end-to-end", "reuse-csum-unchanged")
def test_reuse_csum(address: Address, recordings: Path, tmp_path: Path) -> None:
    v1 = back_up_image(address, image_v1(recordings), time=1790070010)
    v2 = [digest_of(digest) for digest in image_v2(recordings)]
    first, *others = without_verify(steps(recordings, "reuse-csum-end-to-end"))
    params = first["request"]["params"]
    with open_session(address, params, token(PUSHER)) as session:
        replay = Replay(address, session)
        replay.subst = {V1: fixed_csum(v1), V2: fixed_csum(v2), FIRST: digest_of(FIRST)}
        replay.bodies = {5: manifest(params)}
        replay.run(others)
    check_image(tmp_path, "reuse", v2)
    with reuse_replay(address, 1790070031) as replay:
        replay.subst = {V2: fixed_csum(v2)}
        replay.bodies = {2: manifest(params)}
        replay.run(without_verify(steps(recordings, "reuse-csum-unchanged")))
    check_image(tmp_path, "reuse", v2)


def digest_of(recorded: str, size: int = CHUNK) -> str:
    return sha256(chunk_content(recorded, size))


@replays("fixed-index-create-reuse-csum-errors", "reuse-csum-clone-details")
def test_reuse_csum_errors(address: Address, recordings: Path) -> None:
    v1 = back_up_image(address, image_v1(recordings), time=1790070010)
    known = {V1: fixed_csum(v1), V1.upper(): fixed_csum(v1).upper(), FIRST: digest_of(FIRST)}
    for name in ("fixed-index-create-reuse-csum-errors", "reuse-csum-clone-details"):
        with contextlib.ExitStack() as stack:
            replay = enter_when_free(stack, address)
            replay.subst = dict(known)
            replay.run(steps(recordings, name))


def enter_when_free(stack: contextlib.ExitStack, address: Address) -> Replay:
    """A session in the group, as soon as the one before has been given up."""
    params = {
        "store": "fixdst",
        "ns": "proto",
        "backup-type": "vm",
        "backup-id": "reuse",
        "backup-time": 1790070020,
    }
    while True:
        rest, reply = upgrade(address, params, token(PUSHER))
        stack.callback(rest.close)
        if reply.status == 101:
            return Replay(address, Session(rest))


@replays("reuse-csum-partial-tail-resized", "reuse-csum-partial-tail-forgotten")
def test_reuse_csum_with_a_resized_tail(address: Address, recordings: Path, tmp_path: Path) -> None:
    resized = without_verify(steps(recordings, "reuse-csum-partial-tail-resized"))
    old = "4db02fcded87eef6a326cf97237ddab9a9fa3b6a0e7cfe1095946863ad4804c9"
    new = "0f60bfafb92d9200eea0ec0fa923a1459876ed65e63b73f4cc08aef5d4ed31b8"
    before = back_up_image(
        address, image_v1(recordings)[:4], time=1790070050, tail=1000, backup_id="reusetail"
    )
    tail = resized[1]["request"]["params"]["digest"]
    after = [*before[:3], digest_of(tail, 2000)]
    with reuse_replay(address, 1790070060, "reusetail") as replay:
        replay.subst = {old: fixed_csum(before), new: fixed_csum(after)}
        replay.bodies = {4: manifest(HOST)}
        replay.run(resized)
    check_image(tmp_path, "reusetail", after)
    with reuse_replay(address, 1790070070, "reusetail") as replay:
        replay.subst = {new: fixed_csum(after)}
        replay.bodies = {2: manifest(HOST)}
        replay.run(without_verify(steps(recordings, "reuse-csum-partial-tail-forgotten")))
    check_image(tmp_path, "reusetail", after)  # the real server's verify found this damaged


@replays("previous-last-snapshot-verify-failed")
def test_last_snapshot_failed_its_verification(address: Address, recordings: Path) -> None:
    back_up_image(
        address,
        [ZERO_CHUNK],
        time=1790070070,
        backup_id="reusetail",
        verify_state={"upid": "UPID:x", "state": "failed"},
    )
    first, *others, older = steps(recordings, "previous-last-snapshot-verify-failed")
    with open_session(address, first["request"]["params"], token(PUSHER)) as session:
        Replay(address, session).run(others)
    while (status := upgrade_status(address, older)) == 400:
        pass  # the server has not noticed yet that the session before is over
    assert status == older["status"]


def upgrade_status(address: Address, step: dict[str, Any]) -> int | None:
    rest, reply = upgrade_step(address, step, token(PUSHER))
    rest.close()
    return reply.status


@replays("rst-previous-then-finish", "stalled-previous-then-finish")
@pytest.mark.parametrize("way", ["rst", "stalled"])
def test_whole_backup_of_known_chunks(
    address: Address, recordings: Path, tmp_path: Path, way: str
) -> None:
    v2 = back_up_image(address, image_v2(recordings), time=1790070040)
    get, *others = without_verify(steps(recordings, f"{way}-previous-then-finish"))
    params = open_params("reuse", 1790070041) | {"ns": "proto"}
    with open_session(address, params, token(PUSHER), window=0) as session:
        replay = Replay(address, session)
        stream = session.start("GET", get["request"]["path"], get["request"]["params"])
        assert session.wait_headers(stream).status == get["status"]
        if way == "rst":
            session.reset(stream)
        replay.subst = {recorded: digest_of(recorded) for recorded in image_v2(recordings)}
        replay.subst[V2] = fixed_csum(v2)
        replay.bodies = {3: manifest(HOST)}
        replay.run(others)
    check_image(tmp_path, "reuse", v2)


def open_params(backup_id: str, time: int) -> dict[str, Any]:
    return {
        "store": "fixdst",
        "ns": "open",
        "backup-type": "vm",
        "backup-id": backup_id,
        "backup-time": time,
    }


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


@replays("pipelining")
@pytest.mark.parametrize("count", [2, 10])
def test_pipelining(address: Address, recordings: Path, count: int) -> None:
    """A real server refuses by chance; the target always does, but never a pipelined fixed PUT."""
    results = load(recordings, "pipelining")["results"]
    assert results["two-small"]["refused-PUTs"] > 0
    assert results["chunk-then-put-of-it"]["refused-PUTs"] == 200
    fixed = results["fixed-40-puts-pipelined-then-close"]
    with session_of(address) as replay:
        session = replay.session
        session.call("POST", "/dynamic_index", {"archive-name": "p.pxar.didx"})
        digest = send_chunk(session, "dynamic", 1, content("p", 1000))
        bodies = [entries(1, [digest], [1000 * number]) for number in range(count)]
        streams = [
            session.start("PUT", "/dynamic_index", json_body=body, flush=False) for body in bodies
        ]
        first, *others = [session.wait(stream).status for stream in streams]
        assert first == 200
        assert others == [400] * (count - 1)
        assert refused_close(session, digest) == 400
        assert refused_chunk(session) == 400
        assert fixed_puts(session, digest) == ([200] * fixed["ok"], fixed["close"])


def refused_close(session: Any, digest: str) -> int | None:
    put = entries(1, [digest], [1000])
    session.start("PUT", "/dynamic_index", json_body=put, flush=False)
    close = {
        "wid": 1,
        "chunk-count": 2,
        "size": 2000,
        "csum": dynamic_csum([digest] * 2, [1000] * 2),
    }
    status: int | None = session.call("POST", "/dynamic_close", close).status
    return status


def refused_chunk(session: Any) -> int | None:
    data = content("q", 1000)
    raw = packed(data)
    chunk = {"wid": 1, "digest": sha256(data), "size": 1000, "encoded-size": len(raw)}
    session.start("POST", "/dynamic_chunk", chunk, raw, flush=False)
    status: int | None = session.put("dynamic", 1, [sha256(data)], [2000]).status
    return status


def fixed_puts(session: Any, _digest: str) -> tuple[list[int | None], int | None]:
    session.call("POST", "/fixed_index", {"archive-name": "p.fidx", "size": 40 * CHUNK})
    zero = send_chunk(session, "fixed", 2, bytes(CHUNK))
    streams = [
        session.start(
            "PUT", "/fixed_index", json_body=entries(2, [zero], [CHUNK * number]), flush=False
        )
        for number in range(40)
    ]
    statuses = [session.wait(stream).status for stream in streams]
    close = {
        "wid": 2,
        "chunk-count": 40,
        "size": 40 * CHUNK,
        "csum": fixed_csum([zero] * 40),
    }
    return statuses, session.call("POST", "/fixed_close", close).status


def test_every_recording_is_replayed(recordings: Path) -> None:
    assert {path.stem for path in recordings.glob("*.json")} == REPLAYED


def test_the_manifest_is_completed_as_a_real_server_does(address: Address, tmp_path: Path) -> None:
    """What a real server kept and added (protocol/datastore.md, "What a server keeps")."""
    with session_of(address) as replay:
        session = replay.session
        send_dynamic(session, "a.pxar.didx", [content("a", 700)] * 2)
        members = manifest(HOST, [{**_FILE, "odd": 1}], unprotected={"notes": "n", "x": 1}, y=2)
        send_blob(session, "index.json.blob", members)
        assert session.call("POST", "/finish").status == 200
    path = tmp_path / "fixdst/ns/proto/host/replay/2026-09-21T14:13:20Z/index.json.blob"
    stored = json.loads(Manifest.decode(path.read_bytes()).to_json())
    assert "y" not in stored
    assert "odd" not in stored["files"][0]
    assert stored["signature"] is None
    statistics = stored["unprotected"].pop("chunk_upload_stats")
    assert stored["unprotected"] == {"notes": "n", "x": 1}
    assert (statistics["count"], statistics["size"], statistics["duplicates"]) == (1, 700, 0)
