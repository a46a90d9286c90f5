"""The reader protocol of the target: who may read what, and how it is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.push.world import ME, SECRET, STORE, STRANGER, Store, World, hold_lock, time

from pbs_push.formats.index import parse_index
from pbs_push.names import MANIFEST_NAME
from pbs_push.target import Identities, TargetOptions, TargetServer, verifying
from pbs_push.target.locks import try_lock

from .client import Reply, Rest, Session, token, upgrade

READER = {"Upgrade": "proxmox-backup-reader-protocol-v1", "Connection": "Upgrade"}
PATH = "/api2/json/reader"
VM = "vm/100"
KEYS = {"store": STORE, "backup-type": "vm", "backup-id": "100", "backup-time": time(1)}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A target with one snapshot, as a backup would have left it there."""
    with World(tmp_path) as made:
        made.there.add(VM, 1)
        yield made


def serve(world: World, *privileges: str, options: TargetOptions | None = None) -> TargetServer:
    """The target, where everybody has just these privileges; all without any."""
    held = frozenset(f"Datastore.{name}" for name in privileges)
    names = (ME, "push@pbs", "push@pbs!other", STRANGER)
    identities = Identities.simple(dict.fromkeys(names, SECRET))
    if privileges:
        identities = Identities(identities.users, identities.tokens, lambda _who, _path: held)
    return world.serve(options, identities=identities)


def ask(
    server: TargetServer,
    who: str = ME,
    headers: Mapping[str, str] = READER,
    **changes: Any,
) -> Reply:
    """The answer to an upgrade; the connection is closed."""
    rest, reply = upgrade(
        server.address, {**KEYS, **changes}, login(server, who), headers, path=PATH
    )
    rest.close()
    return reply


def login(server: TargetServer, who: str) -> dict[str, str]:
    if "!" in who:
        return token(who, SECRET)
    with Rest(server.address) as rest:
        form = {"username": who, "password": SECRET}
        data = rest.call("POST", "/api2/json/access/ticket", form).data
    return {"Cookie": f"PBSAuthCookie={data['ticket']}"}


@contextlib.contextmanager
def reading(server: TargetServer, who: str = ME, **changes: object) -> Iterator[Session]:
    rest, reply = upgrade(
        server.address, {**KEYS, **changes}, login(server, who), READER, path=PATH
    )
    with rest:
        assert reply.status == 101, reply
        yield Session(rest)


def test_the_upgrade_is_answered_as_by_a_real_server(world: World) -> None:
    server = serve(world)
    reply = ask(server, debug=1)
    assert reply.status == 101
    assert {name: value for name, value in reply.headers.items() if name != "date"} == {
        "connection": "upgrade",
        "upgrade": "proxmox-backup-reader-protocol-v1",
    }
    assert server.counters.snapshot().requests == {"GET reader": 1}


@pytest.mark.parametrize(
    ("privileges", "who", "status", "text"),
    [
        (("Read",), STRANGER, 101, ""),
        (("Backup",), ME, 101, ""),
        (("Backup",), "push@pbs", 101, ""),
        (("Backup",), "push@pbs!other", 400, "backup owner check failed!"),
        (("Backup",), STRANGER, 400, "backup owner check failed!"),
        (("Audit", "Modify", "Verify", "Prune"), ME, 400, f"no permissions on /datastore/{STORE}"),
    ],
)
def test_who_may_read(
    world: World, privileges: tuple[str, ...], who: str, status: int, text: str
) -> None:
    reply = ask(serve(world, *privileges), who)
    assert (reply.status, reply.text) == (status, text)


@pytest.mark.parametrize(
    ("changes", "headers", "text"),
    [
        ({"backup-time": time(2)}, READER, "does not exist."),
        ({"ns": "a/b"}, READER, "snapshot vm/100/2026-05-29T20:26:40Z does not exist."),
        ({"backup-id": "../100"}, READER, "parameter verification failed"),
        ({"benchmark": 1}, READER, "parameter verification failed"),
        ({"store": "elsewhere"}, READER, "elsewhere"),
        ({}, {"Upgrade": "proxmox-backup-protocol-v1"}, "invalid protocol name"),
        ({}, {}, "missing Upgrade header"),
    ],
)
def test_upgrades_that_are_refused(
    world: World, changes: dict[str, object], headers: dict[str, str], text: str
) -> None:
    reply = ask(serve(world), headers=headers, **changes)
    assert reply.status == 400
    assert text in reply.text


def test_a_backup_is_not_read_while_it_is_written_or_removed(world: World) -> None:
    server = serve(world)
    folder = world.there.folder(VM, 1)
    lock = try_lock(folder, exclusive=True)
    assert lock is not None
    with lock:
        reply = ask(server)
    assert reply.status == 400
    assert "unable to acquire shared snapshot lock" in reply.text
    with hold_lock(folder):  # shared: others may read, too
        assert ask(server).status == 101


def test_files_come_as_they_lie_on_disk(world: World) -> None:
    folder = world.there.folder(VM, 1)
    with reading(serve(world)) as session:
        for name in (MANIFEST_NAME, "some.conf.blob", "disk.img.fidx", "root.pxar.didx"):
            reply = session.call("GET", "/download", {"file-name": name})
            assert reply.status == 200
            assert reply.headers == {"content-type": "application/octet-stream"}
            assert reply.body == (folder / name).read_bytes()


def test_only_chunks_of_downloaded_indexes_are_given(world: World) -> None:
    folder = world.there.folder(VM, 1)
    digests = {
        name: parse_index((folder / name).read_bytes(), name).digests[0].tobytes().hex()
        for name in ("disk.img.fidx", "root.pxar.didx")
    }
    with reading(serve(world)) as session:
        session.call("GET", "/download", {"file-name": "disk.img.fidx"})
        reply = session.call("GET", "/chunk", {"digest": digests["disk.img.fidx"]})
        path = world.there.path / ".chunks" / digests["disk.img.fidx"][:4]
        content = (path / digests["disk.img.fidx"]).read_bytes()
        assert reply.status == 200
        assert reply.body == content
        assert reply.headers["content-length"] == str(len(content))
        refused = session.call("GET", "/chunk", {"digest": digests["root.pxar.didx"]})
        assert refused.status == 401
        assert "not allowed" in refused.text
    with reading(world.server) as session:  # what one connection may read, another may not
        assert session.call("GET", "/chunk", {"digest": digests["disk.img.fidx"]}).status == 401


def test_a_chunk_asked_for_before_its_index_was_seen_is_refused(world: World) -> None:
    digest = world.there.chunk_of("a").name
    with reading(serve(world)) as session:
        index = session.start("GET", "/download", {"file-name": "disk.img.fidx"}, flush=False)
        chunk = session.start("GET", "/chunk", {"digest": digest})
        assert session.wait(index).status == 200
        assert session.wait(chunk).status == 401
        assert session.call("GET", "/chunk", {"digest": digest}).status == 200


@pytest.mark.parametrize(
    ("path", "params", "status", "text"),
    [
        ("/download", {"file-name": "client.log.blob"}, 404, "failed - not found"),
        ("/download", {"file-name": "no.fidx"}, 400, "Unable to open fixed index"),
        ("/download", {"file-name": "no.didx"}, 400, "Unable to open dynamic index"),
        ("/download", {"file-name": "x.txt"}, 400, 'unknown archive type: "x.txt"'),
        ("/download", {"file-name": "../owner.blob"}, 400, "verification failed"),
        ("/download", {}, 400, "verification failed"),
        ("/download", {"file-name": "some.conf.blob", "more": "1"}, 400, "verification failed"),
        ("/chunk", {"digest": "AB" * 32}, 400, "verification failed"),
        ("/chunk", {"digest": "ab" * 32}, 401, "not allowed"),
        ("/nowhere", {}, 404, "not found"),
        ("/previous", {}, 404, "not found"),
        ("/finish", {}, 404, "not found"),
    ],
)
def test_requests_that_are_refused(
    world: World, path: str, params: dict[str, str], status: int, text: str
) -> None:
    with reading(serve(world)) as session:
        reply = session.call("GET", path, params)
        assert reply.status == status
        assert text in reply.text
        assert session.call("GET", "/").status == 200  # the session goes on


def test_nothing_can_be_written_on_a_readers_connection(world: World) -> None:
    with reading(serve(world)) as session:
        for path in ("/blob", "/finish", "/dynamic_index", "/chunk"):
            assert session.call("POST", path, body=b"").status == 404


def test_damaged_and_missing_files(world: World) -> None:
    folder = world.there.folder(VM, 1)
    chunk = world.there.chunk_of("a")
    chunk.unlink()
    (folder / "root.pxar.didx").write_bytes(b"rubbish")
    with reading(serve(world)) as session:
        reply = session.call("GET", "/download", {"file-name": "root.pxar.didx"})
        assert reply.status == 400
        assert "Unable to open dynamic index" in reply.text
        session.call("GET", "/download", {"file-name": "disk.img.fidx"})
        reply = session.call("GET", "/chunk", {"digest": chunk.name})
        assert reply.status == 400
        assert reply.text.startswith("reading file")
        assert "failed: No such file or directory" in reply.text


def test_a_flipped_bit_comes_as_it_is(world: World) -> None:
    chunk = world.there.chunk_of("a")
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 1
    chunk.write_bytes(data)
    with reading(serve(world)) as session:
        session.call("GET", "/download", {"file-name": "disk.img.fidx"})
        assert session.call("GET", "/chunk", {"digest": chunk.name}).body == bytes(data)


def test_speedtest_and_the_list(world: World) -> None:
    with reading(serve(world)) as session:
        reply = session.call("GET", "/speedtest")
        assert reply.status == 200
        assert len(reply.body) == 1 << 20
        names = [entry["subdir"] for entry in session.call("GET", "/").data]
        assert names == ["chunk", "download", "speedtest"]


def test_a_snapshot_that_is_read_is_not_deleted(world: World) -> None:
    server = serve(world)
    where = f"/api2/json/admin/datastore/{STORE}/snapshots"
    params = {name: value for name, value in KEYS.items() if name != "store"}
    with Rest(server.address, token(ME, SECRET)) as rest:
        with reading(server):
            reply = rest.call("DELETE", where, params)
            assert reply.status == 400
            assert "unable to acquire snapshot lock" in reply.text
            assert world.there.times(VM) == [1]
        while (reply := rest.call("DELETE", where, params)).status == 400:
            assert "lock" in reply.text  # the server notices by itself that a line has ended
        assert reply.status == 200
    assert not world.there.has(VM)


# -- tasks --

VERIFY = f"/api2/json/admin/datastore/{STORE}/verify"


def verify(rest: Rest, **params: object) -> str:
    """Start a verification; its UPID."""
    reply = rest.call("POST", VERIFY, {"ignore-verified": 0, **params})
    assert reply.status == 200, reply
    upid: str = reply.data
    return upid


def task_path(upid: str, what: str) -> str:
    return f"/api2/json/nodes/localhost/tasks/{upid.replace('/', '%2F')}/{what}"


def ended(rest: Rest, upid: str) -> dict[str, object]:
    """The task's status, once it has ended."""
    status: dict[str, object] = {"status": "running"}
    while status["status"] == "running":
        status = rest.call("GET", task_path(upid, "status")).data
    return status


def states(there: Store, *numbers: int) -> list[str]:
    return [
        there.unprotected(there.folder(VM, number))["verify_state"]["state"] for number in numbers
    ]


def test_a_verification_finds_and_renames_what_is_bad(world: World) -> None:
    there = world.there
    there.add(VM, 2, archives={"disk.img.fidx": ("d",)})
    flipped = there.chunk_of("b")
    flipped.write_bytes(flipped.read_bytes()[:-1] + b"\x00")
    server = serve(world)
    with Rest(server.address, token(ME, SECRET)) as rest:
        upid = verify(rest, **{"backup-type": "vm", "backup-id": "100"})
        status = ended(rest, upid)
        lines = [entry["t"] for entry in rest.call("GET", task_path(upid, "log")).data]
        rest.call("GET", task_path(upid, "log"), {"start": 1, "limit": 1})
    assert status["upid"] == upid
    assert status["type"] == "verify_group"
    assert (status["user"], status["tokenid"]) == ("push@pbs", "job")
    assert status["exitstatus"] == "verification failed - please check the log for details"
    assert states(there, 1, 2) == ["failed", "ok"]
    assert not flipped.exists()
    assert flipped.with_name(f"{flipped.name}.0.bad").exists()
    assert any("corrupted chunk renamed" in line for line in lines)
    assert there.unprotected(there.folder(VM, 1))["verify_state"]["upid"] == upid


def test_what_a_verification_covers(world: World) -> None:
    there = world.there
    there.add(VM, 2)
    there.add("ct/1", 1, ns="a")
    server = serve(world)
    with Rest(server.address, token(ME, SECRET)) as rest:
        snapshot = {"backup-type": "vm", "backup-id": "100", "backup-time": time(1)}
        assert ended(rest, verify(rest, **snapshot))["exitstatus"] == "OK"
        assert "verify_state" not in there.unprotected(there.folder(VM, 2))
        assert ended(rest, verify(rest, **{"max-depth": 0}))["type"] == "verify"
        assert states(there, 1, 2) == ["ok", "ok"]
        assert "verify_state" not in there.unprotected(there.folder("ct/1", 1, ns="a"))
        first = there.unprotected(there.folder(VM, 1))["verify_state"]
        recent = verify(rest, **{"ignore-verified": 1, "ns": ""})
        ended(rest, recent)
        assert there.unprotected(there.folder(VM, 1))["verify_state"] == first
        again = verify(rest, **{"ignore-verified": 1, "outdated-after": 0})
        ended(rest, again)
        assert there.unprotected(there.folder(VM, 1))["verify_state"]["upid"] == again
        assert "verify_state" in there.unprotected(there.folder("ct/1", 1, ns="a"))
        for wrong in ({"backup-type": "vm"}, {"backup-time": 1}):
            assert rest.call("POST", VERIFY, wrong).status == 400


def test_a_verification_looks_at_files_too(world: World) -> None:
    there = world.there
    folder = there.folder(VM, 1)
    (folder / "some.conf.blob").unlink()
    there.add(VM, 2, 3)
    text = there.manifest(there.folder(VM, 2))
    text["files"][0]["csum"] = "00" * 32
    there.write_manifest(there.folder(VM, 2), text)
    (there.folder(VM, 3) / MANIFEST_NAME).write_bytes(b"rubbish")
    with Rest(serve(world).address, token(ME, SECRET)) as rest:
        assert "failed" in str(ended(rest, verify(rest))["exitstatus"])
    assert states(there, 1, 2) == ["failed", "failed"]


def test_encrypted_chunks_are_verified_by_their_crc(world: World) -> None:
    there = world.there
    there.add("ct/7", 1, encrypted=True)
    with Rest(serve(world).address, token(ME, SECRET)) as rest:
        assert ended(rest, verify(rest))["exitstatus"] == "OK"
        for path in there.chunk_files():
            path.write_bytes(path.read_bytes()[:-1])
        assert "failed" in str(ended(rest, verify(rest))["exitstatus"])


@pytest.mark.parametrize(
    ("privileges", "who", "status"),
    [
        (("Verify",), STRANGER, 200),
        (("Backup",), ME, 200),
        (("Backup",), STRANGER, 400),
        (("Read", "Audit"), ME, 403),
    ],
)
def test_who_may_verify(world: World, privileges: tuple[str, ...], who: str, status: int) -> None:
    server = serve(world, *privileges)
    with Rest(server.address) as rest:
        if "!" in who:
            headers = token(who, SECRET)
        else:
            form = {"username": who, "password": SECRET}
            data = rest.call("POST", "/api2/json/access/ticket", form).data
            headers = {
                "Cookie": f"PBSAuthCookie={data['ticket']}",
                "CSRFPreventionToken": data["CSRFPreventionToken"],
            }
        rest.auth = headers
        reply = rest.call("POST", VERIFY, {"backup-type": "vm", "backup-id": "100"})
    assert reply.status == status
    world.settle()
    if status == 200:
        assert states(world.there, 1) == ["ok"]


def test_of_groups_that_are_not_owned_a_verification_with_backup_alone_takes_none(
    world: World,
) -> None:
    world.there.add("ct/9", 1, owner=STRANGER)
    with Rest(serve(world, "Backup").address, token(ME, SECRET)) as rest:
        ended(rest, verify(rest))
    assert states(world.there, 1) == ["ok"]
    assert "verify_state" not in world.there.unprotected(world.there.folder("ct/9", 1))


def test_tasks_are_shown_to_who_started_them(world: World) -> None:
    server = serve(world)
    with Rest(server.address, token(ME, SECRET)) as rest:
        upid = verify(rest)
        ended(rest, upid)
        for path in (
            task_path(upid, "status").replace("localhost", "elsewhere"),
            task_path("UPID:nothing:", "status"),
            task_path("nothing", "log"),
        ):
            assert rest.call("GET", path).status == 400
        assert rest.call("GET", task_path(upid, "stop")).status == 404
    with Rest(server.address, token("push@pbs!other", SECRET)) as rest:
        assert rest.call("GET", task_path(upid, "status")).status == 403
    with Rest(server.address, login(server, "push@pbs")) as rest:
        assert json.loads(rest.call("GET", task_path(upid, "status")).body)["data"]["upid"] == upid


def test_a_locked_snapshot_is_left_out_of_a_verification(world: World) -> None:
    server = serve(world)
    lock = try_lock(world.there.folder(VM, 1), exclusive=True)
    assert lock is not None
    with lock, Rest(server.address, token(ME, SECRET)) as rest:
        upid = verify(rest)
        assert ended(rest, upid)["exitstatus"] == "OK"
        assert "SKIPPED" in rest.call("GET", task_path(upid, "log")).text
    assert "verify_state" not in world.there.unprotected(world.there.folder(VM, 1))


def test_a_task_that_breaks_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **_more: object) -> None:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(verifying._Run, "snapshot", broken)
    with Rest(serve(world).address, token(ME, SECRET)) as rest:
        upid = verify(rest)
        status = ended(rest, upid)
    assert status["exitstatus"] == "the disk is on fire"
