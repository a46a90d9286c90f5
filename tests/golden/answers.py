"""REST answers to requests about the golden datastore, by protocol/rest.md.

One file a request, in the form in which a real server's are recorded: ``request``, ``status``,
``headers``, ``body``. Where the answer is a refusal, ``body`` is a part of its text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .content import BACKER, DAY, FIRST, NAME, TOKEN, USER
from .formats import Json
from .store import Store

COPY = "copy"
"""The datastore that may be changed: it begins as a copy."""

READER, NOBODY = "reader@pbs", "nobody@pbs"

USERS = f"""\
user: root@pam
	comment Superuser

user: {USER}

token: {TOKEN}

token: {USER}!off
	enable false

token: {USER}!late
	expire 1500000000

token: {USER}!bare

user: {READER}
	comment may look

user: {BACKER}

user: {NOBODY}

user: gone@pbs
	enable false

token: gone@pbs!job

user: late@pbs
	expire 1500000000
"""

RIGHTS = f"""\
acl:1:/:{USER},{TOKEN},{USER}!off,{USER}!late,gone@pbs,gone@pbs!job,late@pbs:Admin
acl:1:/datastore:{BACKER}:DatastoreBackup
acl:1:/datastore/{NAME}:{READER}:DatastoreAudit
acl:1:/datastore/{NAME}/site:{READER}:NoAccess
acl:1:/datastore/{COPY}:{READER}:DatastoreAudit
"""

JSON_TYPE = "application/json;charset=UTF-8"
LOGIN_FAILED = "authentication failed"

Records = dict[str, Json]


def admin(call: str, store: str = NAME) -> str:
    return f"/api2/json/admin/datastore/{store}/{call}"


def record(
    method: str,
    path: str,
    params: Json | None = None,
    status: int = 200,
    body: Any = None,
    *,
    auth: str | None = TOKEN,
    **request: Any,
) -> Json:
    """A request and its answer: ``body`` is the data, or a part of the reason.

    ``request``: ``secret``, ``scheme``, ``cookie`` and ``csrf`` of another login than the usual;
    ``content-type``, and the body as ``text``, which is filled up to ``length``, or ``hex``.
    """
    login = status == 401
    asked = {"method": method, "path": path, "params": params, "auth": auth or "none"}
    return {
        "request": asked | {name.replace("_", "-"): value for name, value in request.items()},
        "status": status,
        "headers": {
            "content-type": None if login or status == 414 else JSON_TYPE,
            "set-cookie-names": ["__Host-PBSAuthCookie"] if login else [],
        },
        "body": {"data": body} if status == 200 else body or "",
    }


# -- what is listed of the store --


def listed_groups(store: Store, ns: str, owner: str | None = None) -> list[Json]:
    """The groups of a namespace; with an owner, those that it owns."""
    found = []
    for group in store.namespaces[ns]:
        if not group["snapshots"] or owner not in (None, group["owner"]):
            continue
        newest = group["last-backup"]
        (files,) = (s["api-files"] for s in group["snapshots"] if s["backup-time"] == newest)
        shown = _named(group["group"]) | {
            "owner": group["owner"],
            "last-backup": newest,
            "backup-count": group["backup-count"],
            "files": [file["filename"] for file in files],
        }
        if group["comment"]:
            shown["comment"] = group["comment"]
        found.append(shown)
    return found


def listed_snapshots(store: Store, ns: str, only: str = "", owner: str | None = None) -> list[Json]:
    """The snapshots of a namespace, of groups that begin so."""
    return [
        _listed_snapshot(group, snapshot)
        for group in store.namespaces[ns]
        if group["group"].startswith(only) and owner in (None, group["owner"])
        for snapshot in group["snapshots"]
    ]


def _listed_snapshot(group: Json, snapshot: Json) -> Json:
    shown = _named(group["group"]) | {
        "backup-time": snapshot["backup-time"],
        "owner": group["owner"],
        "protected": snapshot["protected"],
        "files": snapshot["api-files"],
        "size": snapshot["api-size"],
        "verification": snapshot["verification"],
        "fingerprint": snapshot["fingerprint"],
        "comment": snapshot["comment"],
    }
    return {name: value for name, value in shown.items() if value is not None}


def _named(group: str) -> Json:
    backup_type, backup_id = group.split("/")
    return {"backup-type": backup_type, "backup-id": backup_id}


def keys(group: str, time: int | None = None, ns: str | None = None) -> Json:
    """The parameters that name a group or a snapshot."""
    named = _named(group) | ({} if time is None else {"backup-time": time})
    return named if ns is None else {"ns": ns, **named}


def _files_of(store: Store, group: str, time: int, ns: str = "") -> list[Json]:
    (files,) = (
        snapshot["api-files"]
        for entry in store.namespaces[ns]
        for snapshot in entry["snapshots"]
        if (entry["group"], snapshot["backup-time"]) == (group, time)
    )
    return list(files)


# -- requests that change nothing --


def reading(store: Store) -> Records:
    return dict(
        [
            *_of_namespaces(store),
            *_of_groups(store),
            *_of_snapshots(store),
            *_of_metadata(store),
            *_of_identities(store),
            *_of_odd_requests(),
        ]
    )


Named = Iterator[tuple[str, Json]]


def named(ns: str) -> str:
    """A namespace in a file's name."""
    return ns.replace("/", "-") or "root"


def _of_namespaces(store: Store) -> Named:
    path, names = admin("namespace"), list(store.namespaces)

    def below(parent: str, depth: int = 7) -> list[Json]:
        start = parent.count("/") + 1 if parent else 0
        inside = [ns for ns in names if not parent or f"{ns}/".startswith(f"{parent}/")]
        return [{"ns": ns} for ns in inside if len(ns.split("/")) * bool(ns) - start <= depth]

    everything = below("")
    yield "ns-list-of-all", record("GET", path, None, 200, everything)
    yield "ns-list-of-the-root", record("GET", path, {"parent": ""}, 200, everything)
    yield "ns-list-below", record("GET", path, {"parent": "d1/d2"}, 200, below("d1/d2"))
    limited = {"parent": "d1/d2", "max-depth": 2}
    yield "ns-list-to-a-depth", record("GET", path, limited, 200, below("d1/d2", 2))
    yield "ns-list-of-itself", record("GET", path, {"max-depth": 0}, 200, below("", 0))
    yield "ns-list-of-what-is-missing", record("GET", path, {"parent": "x"}, 200, [{"ns": "x"}])
    yield "ns-list-too-deep", record("GET", path, {"max-depth": 8}, 400)
    yield "ns-list-of-a-bad-name", record("GET", path, {"parent": "a//b"}, 400)
    yield "ns-list-with-a-slash", record("GET", path, {"parent": "d1/"}, 400)
    closed = record("GET", admin("namespace", "closed"), None, 400, "offline maintenance mode")
    yield "ns-list-while-offline", closed
    resting = record("GET", admin("namespace", "resting"), None, 200, [{"ns": ""}])
    yield "ns-list-while-read-only", resting


def _of_groups(store: Store) -> Named:
    path = admin("groups")
    for ns in ("", "bare", "d1", "d1/d2/d3/d4/d5/d6/d7", "site"):
        found = listed_groups(store, ns)
        yield f"groups-of-{named(ns)}", record("GET", path, {"ns": ns}, 200, found)
    yield "groups-without-ns", record("GET", path, None, 200, listed_groups(store, ""))
    yield "groups-of-no-namespace", record("GET", path, {"ns": "none"}, 400, "ENOENT")
    missing = record("GET", admin("groups", "nowhere"), None, 400, "no such datastore 'nowhere'")
    yield "groups-of-no-datastore", missing


def _of_snapshots(store: Store) -> Named:
    path = admin("snapshots")
    for ns in ("", "bare", "d1/d2/d3/d4/d5/d6/d7", "site"):
        found = listed_snapshots(store, ns)
        yield f"snapshots-of-{named(ns)}", record("GET", path, {"ns": ns}, 200, found)
    for group in ("ct/7", "ct/30", "host/pc", "host/sealed", "host/signed", "vm/101"):
        found = listed_snapshots(store, "", f"{group}")
        name = group.replace("/", "-")
        yield f"snapshots-of-group-{name}", record("GET", path, keys(group), 200, found)
    only = {"backup-type": "vm"}
    yield "snapshots-of-a-type", record("GET", path, only, 200, listed_snapshots(store, "", "vm/"))
    only = {"backup-id": "101"}
    found = listed_snapshots(store, "", "vm/101")
    yield "snapshots-of-an-id", record("GET", path, only, 200, found)
    yield "snapshots-of-no-group", record("GET", path, keys("vm/4"), 200, [])
    nowhere = keys("vm/4", ns="none")
    yield "snapshots-of-no-group-in-no-namespace", record("GET", path, nowhere, 200, [])
    yield "snapshots-of-no-namespace", record("GET", path, {"ns": "none"}, 400, "ENOENT")
    yield "snapshots-of-no-type", record("GET", path, keys("qemu/101"), 400)
    yield "snapshots-of-no-id", record("GET", path, keys("vm/.hidden"), 400)


def _of_metadata(store: Store) -> Named:
    path = admin("files")
    for group, time in (("host/sealed", FIRST), ("host/pc", FIRST + DAY), ("vm/101", FIRST)):
        found = _files_of(store, group, time)
        name = group.replace("/", "-")
        yield f"files-of-{name}", record("GET", path, keys(group, time), 200, found)
    found = _files_of(store, "vm/101", FIRST + DAY, "site")
    yield (
        "files-in-a-namespace",
        record("GET", path, keys("vm/101", FIRST + DAY, "site"), 200, found),
    )
    unfinished = keys("vm/101", FIRST + 4 * DAY)
    yield "files-of-an-unfinished-one", record("GET", path, unfinished, 400)
    yield "files-of-no-snapshot", record("GET", path, keys("vm/101", 5), 400)

    path = admin("notes")
    whole = record("GET", path, keys("host/pc", FIRST + 60), 200, "vor dem Umzug ✓\nund danach\n")
    yield "notes-of-many-lines", whole
    yield "notes-of-none", record("GET", path, keys("vm/101", FIRST), 200, "")
    yield "notes-of-an-unfinished-one", record("GET", path, unfinished, 400)
    path = admin("group-notes")
    notes = "Der Rechner im Büro\nzweite Zeile"
    yield "group-notes-of-two-lines", record("GET", path, keys("host/pc"), 200, notes)
    yield "group-notes-of-none", record("GET", path, keys("vm/101"), 200, "")
    path = admin("protected")
    yield "protected-it-is", record("GET", path, keys("vm/101", FIRST), 200, True)
    yield "protected-it-is-not", record("GET", path, keys("vm/101", FIRST + DAY), 200, False)


def _of_identities(store: Store) -> Named:
    names = [{"ns": ns} for ns in store.namespaces]

    def login(status: int, auth: str | None, **request: Any) -> Json:
        body = names if status == 200 else LOGIN_FAILED
        return record("GET", admin("namespace"), None, status, body, auth=auth, **request)

    yield "login-by-token", login(200, TOKEN)
    yield "login-by-token-with-a-blank", login(200, TOKEN, scheme="PBSAPIToken ")
    yield "login-by-ticket", login(200, USER)
    yield "login-by-ticket-under-the-other-name", login(200, USER, cookie="__Host-PBSAuthCookie")
    yield "login-by-nothing", login(401, None)
    yield "login-by-another-scheme", login(401, TOKEN, scheme="PVEAPIToken=")
    yield "login-with-a-wrong-secret", login(401, TOKEN, secret="wrong")
    yield "login-of-a-token-that-is-off", login(401, f"{USER}!off")
    yield "login-of-a-token-that-is-late", login(401, f"{USER}!late")
    yield "login-of-an-unknown-token", login(401, f"{USER}!other")
    yield "login-of-a-token-whose-user-is-off", login(401, "gone@pbs!job")
    path = admin("namespace")
    visible = [entry for entry in names if entry["ns"] != "site"]
    yield "rights-of-who-looks", record("GET", path, None, 200, visible, auth=READER)
    yield "rights-of-who-backs-up", record("GET", path, None, 200, names, auth=BACKER)
    refused = "permission check failed"
    yield "rights-of-nobody", record("GET", path, None, 403, refused, auth=NOBODY)
    yield "rights-of-a-token-alone", record("GET", path, None, 403, refused, auth=f"{USER}!bare")
    nowhere = record(
        "GET", admin("namespace", "nowhere"), None, 400, "no such datastore 'nowhere'", auth=NOBODY
    )
    yield "rights-in-no-datastore", nowhere
    path, owned = admin("groups"), listed_groups(store, "", BACKER)
    everything = listed_groups(store, "")
    yield "groups-for-who-looks", record("GET", path, None, 200, everything, auth=READER)
    yield "groups-for-who-backs-up", record("GET", path, None, 200, owned, auth=BACKER)
    needed = "missing Datastore.Audit|Datastore.Backup on /datastore/golden"
    yield "groups-for-nobody", record("GET", path, None, 403, needed, auth=NOBODY)
    hidden = record("GET", path, {"ns": "site"}, 403, refused, auth=READER)
    yield "groups-of-a-hidden-namespace", hidden
    path, owned = admin("snapshots"), listed_snapshots(store, "", owner=BACKER)
    yield "snapshots-for-who-backs-up", record("GET", path, None, 200, owned, auth=BACKER)
    foreign = record("GET", path, keys("vm/101"), 200, [], auth=BACKER)
    yield "snapshots-of-another-owner", foreign
    owner = "backup owner check failed (backer@pbs != sync@pbs)"
    notes = record("GET", admin("group-notes"), keys("vm/101"), 400, owner, auth=BACKER)
    yield "group-notes-of-another-owner", notes
    version = {"version": "4.2", "release": "3", "repoid": ""}
    for who in (TOKEN, NOBODY):
        answer = record("GET", "/api2/json/version", None, 200, version, auth=who)
        yield ("version" if who == TOKEN else "version-for-nobody"), answer
    anybody = record("GET", "/api2/json/version", None, 401, LOGIN_FAILED, auth=None)
    yield "version-for-anybody", anybody


def _of_odd_requests() -> Named:
    unknown = record("GET", admin("groups"), {"odd": 1}, 400, "parameter verification failed")
    yield "odd-parameter", unknown
    half = record("GET", admin("files"), {"backup-type": "vm"}, 400, "parameter verification")
    yield "odd-for-lack-of-parameters", half
    yield "odd-path", record("GET", "/api2/json/none", None, 404)
    yield "odd-method", record("PUT", admin("snapshots"), None, 404)
    path = admin("namespace")
    longest = f"{path}?parent="
    fits = longest + "x" * (3072 - len(longest) + 1)
    yield "odd-length-that-is-read", record("GET", fits, None, 400, "256 characters")
    yield "odd-length", record("GET", f"{fits}x", None, 414)
