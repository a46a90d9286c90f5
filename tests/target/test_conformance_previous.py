"""Recorded sessions of a PBS 4.2.3, replayed: what a session takes from the snapshot before."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from .client import Rest, Session, open_session, token, upgrade
from .recordings import PUSHER, ZERO_CHUNK, Replay, chunk_content, session_of, upgrade_step
from .replays import HOST, Address, open_params, replays, steps
from .samples import (
    CHUNK,
    blob,
    content,
    finish,
    fixed_csum,
    manifest,
    send_blob,
    send_dynamic,
    send_fixed,
    sha256,
)


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
