"""REST of the target: rights and owning, tickets, keep-alive, maintenance, odd requests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pbs_push.names import AuthId
from pbs_push.target import Identities, Maintenance, TargetOptions, TargetServer
from pbs_push.target.rights import AUDIT, BACKUP, MODIFY, PRUNE, READ

from .client import UPGRADE, Reply, Rest, open_session, token, upgrade
from .conftest import ALICE, ALICES_TOKEN, BOB, SECRET, MakeTarget
from .samples import blob, finish

STORE = "/api2/json/admin/datastore/store"
GROUP = {"backup-type": "host", "backup-id": "h"}
SNAPSHOT = {**GROUP, "backup-time": 1000}
PARAMS = {"store": "store", **SNAPSHOT}

LISTS = ("GET groups", "GET snapshots")
READS = ("GET notes", "GET group-notes", "GET protected")
WRITES = ("PUT notes", "PUT group-notes", "PUT protected")
DELETES = ("DELETE groups", "DELETE snapshots")

ARGUMENTS: dict[str, dict[str, Any]] = {
    "GET groups": {},
    "GET snapshots": {},
    "GET notes": SNAPSHOT,
    "GET group-notes": GROUP,
    "GET protected": SNAPSHOT,
    "PUT notes": {**SNAPSHOT, "notes": "n"},
    "PUT group-notes": {**GROUP, "notes": "n"},
    "PUT protected": {**SNAPSHOT, "protected": "no"},
    "DELETE groups": GROUP,
    "DELETE snapshots": SNAPSHOT,
    "POST namespace": {"name": "x"},
    "GET namespace": {},
    "GET status": {},
}


def identities(*held: str) -> Identities:
    """Alice and her token may do everything; Bob has just these privileges."""
    everything = frozenset({AUDIT, BACKUP, MODIFY, PRUNE, READ})

    def privileges(who: AuthId, _path: str) -> frozenset[str]:
        return frozenset(held) if who.user == BOB else everything

    secrets = dict.fromkeys((ALICE, BOB, ALICES_TOKEN), SECRET)
    return Identities.simple(secrets, privileges=privileges)


def back_up(target: TargetServer, auth: dict[str, str], **changes: Any) -> None:
    params = {**PARAMS, **changes}
    with open_session(target.address, params, auth) as session:
        finish(session, params)


def log_in(target: TargetServer, user: str, password: str = SECRET) -> Reply:
    with Rest(target.address) as rest:
        login = {"username": user, "password": password}
        return rest.call("POST", "/api2/json/access/ticket", login)


def cookie(target: TargetServer, user: str) -> dict[str, str]:
    data = log_in(target, user).data
    return {
        "Cookie": f"PBSAuthCookie={data['ticket']}",
        "CSRFPreventionToken": data["CSRFPreventionToken"],
    }


def as_bob(target: TargetServer, request: str) -> int | None:
    method, _, tail = request.partition(" ")
    with Rest(target.address, cookie(target, BOB)) as rest:
        return rest.call(method, f"{STORE}/{tail}", ARGUMENTS[request]).status


def expectations() -> Iterator[tuple[str, tuple[str, ...], int]]:
    """Request, Bob's privileges, status; the group belongs to Alice's token."""
    for request in (*LISTS, *READS):
        yield request, (), 403
        yield request, (READ, MODIFY, PRUNE), 403
        yield request, (AUDIT,), 200
    for request in LISTS:
        yield request, (BACKUP,), 200
    for request in READS:
        yield request, (BACKUP,), 400
    for request in WRITES:
        yield request, (AUDIT, READ, PRUNE), 403
        yield request, (BACKUP,), 400
        yield request, (MODIFY,), 200
    for request in DELETES:
        yield request, (AUDIT, READ, BACKUP), 403
        yield request, (PRUNE,), 400
        yield request, (MODIFY,), 200
    for privilege, request in itertools.product((AUDIT, MODIFY, READ, BACKUP), ["GET namespace"]):
        yield request, (privilege,), 200
    yield "GET namespace", (PRUNE,), 403
    yield "POST namespace", (AUDIT, BACKUP, READ, PRUNE), 403
    yield "POST namespace", (MODIFY,), 200
    yield "GET status", (), 403
    yield "GET status", (BACKUP,), 200


@pytest.mark.parametrize(("request_", "held", "status"), list(expectations()))
def test_rights(make_target: MakeTarget, request_: str, held: tuple[str, ...], status: int) -> None:
    target = make_target(identities=identities(*held))
    back_up(target, token(ALICES_TOKEN))
    assert as_bob(target, request_) == status


def test_owning(make_target: MakeTarget) -> None:
    """A user owns what a token of his owns, not the reverse; nothing else helps with a log."""
    target = make_target(identities=identities(BACKUP))
    back_up(target, token(ALICES_TOKEN))
    back_up(target, cookie(target, ALICE), **{"backup-id": "hers"})
    path = f"{STORE}/upload-backup-log?backup-type=host&backup-time=1000&backup-id="
    log = blob(b"log")
    statuses = []
    for auth, backup_id in (
        (cookie(target, BOB), "h"),
        (token(ALICES_TOKEN), "hers"),
        (cookie(target, ALICE), "h"),
        (cookie(target, ALICE), "h"),
    ):
        with Rest(target.address, auth) as rest:
            statuses.append(rest.call("POST", path + backup_id, body=log).status)
    assert statuses == [400, 400, 200, 400]


def test_lists_show_owned_groups_to_a_user_with_backup_alone(make_target: MakeTarget) -> None:
    target = make_target(identities=identities(BACKUP))
    back_up(target, token(ALICES_TOKEN))
    back_up(target, cookie(target, BOB), **{"backup-id": "bobs"})
    with Rest(target.address, cookie(target, BOB)) as rest:
        groups = rest.call("GET", f"{STORE}/groups").data
        assert [group["backup-id"] for group in groups] == ["bobs"]
        status = rest.call("GET", f"{STORE}/status").data
        assert (status["total"], status["used"], status["avail"]) == (0, 0, 0)


def test_tickets_live_as_long_as_they_should(make_target: MakeTarget) -> None:
    now = [1_000_000.0]
    options = TargetOptions(bad_login_delay_s=0, clock=lambda: now[0])
    target = make_target(options=options)
    headers = cookie(target, ALICE)
    with Rest(target.address, headers) as rest:
        now[0] += 7199
        assert rest.call("GET", "/api2/json/version").status == 200
        ticket = headers["Cookie"].partition("=")[2]
        renewed = log_in(target, ALICE, ticket).data["ticket"]
        now[0] += 2
        assert rest.call("GET", "/api2/json/version").status == 401
        rest.auth = {"Cookie": f"PBSAuthCookie={renewed}"}
        assert rest.call("GET", "/api2/json/version").status == 200
    assert log_in(target, ALICE, ticket).status == 401
    assert log_in(target, BOB, renewed).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"PBSAPIToken={ALICES_TOKEN}"},
        {"Authorization": f"PBSAPIToken={ALICE}:{SECRET}"},
        {"Authorization": "PBSAPIToken"},
        {"Authorization": f"PBSAPIToken={ALICES_TOKEN}:wrong"},
        {"Authorization": "Basic YTpi"},
        {"Cookie": "PBSAuthCookie=PBS:alice@pbs:6B0344CC::x"},
        {"Cookie": "\x01"},
        {},
    ],
)
def test_bad_credentials(target: TargetServer, headers: dict[str, str]) -> None:
    with Rest(target.address, headers) as rest:
        for path in ("/api2/json/version", "/api2/json/backup", "/nothing"):
            reply = rest.call("GET", path)
            assert reply.status == 401
            assert reply.headers["set-cookie"].startswith("__Host-PBSAuthCookie=;")


def test_one_connection_carries_refusals_answers_and_an_upgrade(target: TargetServer) -> None:
    with Rest(target.address, token(ALICES_TOKEN)) as rest:
        assert rest.call("GET", f"{STORE}/nothing").status == 404
        assert rest.call("GET", "/api2/json/admin/datastore/x/groups").status == 400
        assert rest.call("GET", "/api2/json/admin/datastore/other/groups").status == 400
        assert rest.call("POST", f"{STORE}/namespace", {"name": "a"}).data == "a"
        assert rest.call("GET", "/api2/json/backup?store=store", headers=UPGRADE).status == 400
        rest.send(
            "GET",
            "//api2/json/backup?store=store&ns=a&backup-type=ct&backup-id=1&backup-time=1",
            headers=UPGRADE,
        )
        assert rest.receive().status == 101


def test_requests_in_one_go_are_answered_in_order(target: TargetServer) -> None:
    with Rest(target.address, token(ALICES_TOKEN)) as rest:
        rest.send("GET", "/api2/json/version")
        rest.send("GET", f"{STORE}/namespace")
        assert "version" in rest.receive().data
        assert rest.receive().data == [{"ns": ""}]


def test_what_is_no_http_is_refused(target: TargetServer) -> None:
    with Rest(target.address) as rest:
        rest.socket.sendall(b"nonsense\r\n\r\n")
        assert rest.receive().status == 400


def test_expect_continue(target: TargetServer) -> None:
    with Rest(target.address, token(ALICES_TOKEN)) as rest:
        form = "application/x-www-form-urlencoded"
        headers = {"Expect": "100-continue", "Content-Length": "6"}
        rest.send("POST", f"{STORE}/namespace?x=", headers=headers, content_type=form, body=None)
        rest.socket.sendall(b"name=a")
        replies = [rest.receive().status]
        if replies == [100]:
            replies.append(rest.receive().status)
        assert replies[-1] == 400


def test_maintenance(target: TargetServer) -> None:
    back_up(target, token(ALICES_TOKEN))
    later = {**PARAMS, "backup-time": 2000}
    with Rest(target.address, token(ALICES_TOKEN)) as rest:
        for mode, reading in (("read-only", 200), ("offline", 400)):
            target.maintenance["store"] = Maintenance(mode, "moving")  # type: ignore[arg-type]
            for request, arguments in ARGUMENTS.items():
                method, _, tail = request.partition(" ")
                reply = rest.call(method, f"{STORE}/{tail}", arguments)
                assert reply.status == (reading if method == "GET" else 400), request
            other, reply = upgrade(target.address, later, token(ALICES_TOKEN))
            other.close()
            assert "moving" in reply.text
        del target.maintenance["store"]
        assert rest.call("GET", f"{STORE}/groups").status == 200


def test_body_limit_of_older_servers(make_target: MakeTarget) -> None:
    target = make_target(options=TargetOptions(version=("3.3", "1")))
    with Rest(target.address, token(ALICES_TOKEN)) as rest:
        for length, status in ((65_535, 200), (65_536, 400)):
            body = b'{"name":"a"}'.ljust(length)
            reply = rest.call(
                "POST", f"{STORE}/namespace", body=body, content_type="application/json"
            )
            assert reply.status == status
        assert rest.call("GET", "/api2/json/version").data["version"] == "3.3"


def test_unfinished_groups_and_hidden_ones(target: TargetServer, tmp_path: Path) -> None:
    hidden = tmp_path / "store/vm/7/2020-01-01T00:00:00Z"
    hidden.mkdir(parents=True)
    with (
        open_session(target.address, PARAMS, token(ALICES_TOKEN)),
        Rest(target.address, token(ALICES_TOKEN)) as rest,
    ):
        (group,) = rest.call("GET", f"{STORE}/groups").data
        assert (group["last-backup"], group["files"]) == (1000, [])
        (snapshot,) = rest.call("GET", f"{STORE}/snapshots").data
        assert "size" not in snapshot


def test_a_folder_that_is_no_date_breaks_its_group(target: TargetServer, tmp_path: Path) -> None:
    back_up(target, token(ALICES_TOKEN))
    (tmp_path / "store/host/h/2020-13-01T00:00:00Z").mkdir()
    with Rest(target.address, token(ALICES_TOKEN)) as rest:
        assert rest.call("GET", f"{STORE}/snapshots").status == 400
