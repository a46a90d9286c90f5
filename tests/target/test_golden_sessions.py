"""Sessions about the golden datastore: each answer, and what lies at the target in the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.references import GOLDEN

from pbs_push.formats.manifest import Manifest
from pbs_push.target import TargetServer

from .client import UPGRADE, Reply, Session, open_session, token, upgrade
from .golden import Address, Json, check, login, read, serve
from .samples import content, manifest, send_blob, send_dynamic

NAMES = sorted(path.stem for path in (GOLDEN / "sessions").glob("*.json"))
DATASTORE = GOLDEN / "datastore"


@pytest.fixture
def target(tmp_path: Path) -> Iterator[TargetServer]:
    yield from serve(tmp_path, copied=False)


@pytest.mark.parametrize("name", NAMES)
def test_session(target: TargetServer, tmp_path: Path, name: str) -> None:
    sessions = read(GOLDEN / "sessions" / f"{name}.json")["sessions"]
    assert sessions
    for session in sessions:
        run(target.address, session)
    for path in (path for session in sessions for path in session.get("same", ())):
        compare(DATASTORE / path, tmp_path / "copy" / path)


def run(address: Address, session: Json) -> None:
    """An upgrade, and the steps of the session that it begins."""
    request = session["request"]
    auth = login(address, request)
    while True:
        rest, reply = upgrade(
            address,
            request["params"],
            auth,
            request.get("headers", UPGRADE),
            request.get("method", "GET"),
        )
        # What was not finished is given up soon, and not at once.
        if "lock" not in reply.text:
            break
        rest.close()
    with rest:
        if session["status"] == 101:
            assert reply.status == 101, (request, reply)
            opened = Session(rest)
            for step in session.get("steps", ()):
                check_step(step, opened)
        else:
            check(session, reply)


def check_step(step: Json, session: Session) -> Reply:
    request = step["request"]
    body = body_of(request)
    sent = {}
    if "json" in request:
        sent = {"json_body": request["json"]}
    elif body is not None and request["method"] == "POST":
        sent = {"body": body, "content_type": "application/octet-stream"}
    reply = session.call(request["method"], request["path"], request["params"], **sent)
    if body is not None and request["method"] == "GET":
        assert (reply.status, without_its_own(reply.body)) == (200, without_its_own(body))
    else:
        check(step, reply)
    return reply


def body_of(request: Json) -> bytes | None:
    """The bytes that a request sends or, of GET previous, gets."""
    if "hex" in request:
        return bytes.fromhex(request["hex"])
    if "file" not in request:
        return None
    if request["file"] == "chunk":
        digest = request["params"]["digest"]
        return (DATASTORE / ".chunks" / digest[:4] / digest).read_bytes()
    return (DATASTORE / request["file"]).read_bytes()


def without_its_own(index: bytes) -> bytes:
    """An index without uuid and ctime, which are each writer's own."""
    return index[:8] + index[32:]


def compare(golden: Path, stored: Path) -> None:
    """Bytes, but for an index's uuid and ctime, and a server's own words in a manifest."""
    left, right = golden.read_bytes(), stored.read_bytes()
    if golden.suffix in {".fidx", ".didx"}:
        assert without_its_own(left) == without_its_own(right), stored
    elif golden.name == "index.json.blob":
        ours, theirs = Manifest.decode(left), Manifest.decode(right)
        for manifest in (ours, theirs):
            manifest.unprotected.pop("chunk_upload_stats")
        assert ours == theirs
    else:
        assert left == right, stored


def test_what_a_server_keeps_of_a_manifest(target: TargetServer, tmp_path: Path) -> None:
    """See protocol/datastore.md, "What a server keeps"."""
    params = {
        "store": "copy",
        "backup-type": "host",
        "backup-id": "a",
        "backup-time": 1_790_000_000,
    }
    file = {"filename": "x.img.fidx", "crypt-mode": "none", "size": 1, "csum": "00" * 32, "odd": 1}
    with open_session(target.address, params, token("sync@pbs!job")) as session:
        send_dynamic(session, "a.pxar.didx", [content("a", 700)] * 2)
        members = manifest(params, [file], unprotected={"notes": "n", "x": 1}, y=2)
        send_blob(session, "index.json.blob", members)
        assert session.call("POST", "/finish").status == 200
    path = tmp_path / "copy/host/a/2026-09-21T14:13:20Z/index.json.blob"
    stored = json.loads(Manifest.decode(path.read_bytes()).to_json())
    assert "y" not in stored
    assert "odd" not in stored["files"][0]
    assert stored["signature"] is None
    statistics = stored["unprotected"].pop("chunk_upload_stats")
    assert stored["unprotected"] == {"notes": "n", "x": 1}
    assert (statistics["count"], statistics["size"], statistics["duplicates"]) == (1, 700, 0)
