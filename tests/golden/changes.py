"""Chains of REST requests that change the datastore ``copy``, by protocol/rest.md.

A chain begins with a copy of the golden datastore; its requests and answers are those of
`answers`, in an order that gives them.
"""

from __future__ import annotations

from typing import Any

from .answers import (
    COPY,
    LOGIN_FAILED,
    READER,
    admin,
    keys,
    listed_groups,
    listed_snapshots,
    record,
)
from .content import BACKER, DAY, FIRST, TOKEN, USER
from .formats import Json
from .store import Store


def changing(store: Store) -> dict[str, list[Json]]:
    return {
        "namespaces": _new_namespaces(),
        "bodies": _bodies(),
        "metadata": _metadata(),
        "logs": _logs(),
        "snapshots": _removed_snapshots(store),
        "groups": _removed_groups(store),
        "namespaces-removed": _removed_namespaces(store),
    }


def _new_namespaces() -> list[Json]:
    path = admin("namespace", COPY)

    def make(name: str, parent: str | None = None, status: int = 200, **more: Any) -> Json:
        params = {"name": name} | ({} if parent is None else {"parent": parent})
        whole = f"{parent}/{name}" if parent else name
        return record(
            "POST", path, params, status, more.pop("body", whole if status == 200 else ""), **more
        )

    listed = [{"ns": ns} for ns in ("new", "new/er", "new/er/est")]
    return [
        make("new"),
        make("new"),
        make("er", "new"),
        make("est", "new/er", content_type="application/json"),
        record("GET", path, {"parent": "new"}, 200, listed),
        make("x", "missing", 400),
        make("x", "d1/d2/d3/d4/d5/d6/d7", 400),
        make("n" * 32, ""),
        make("n" * 33, "", 400),
        make("a/b", "", 400),
        make(".", "", 400),
        record("POST", path, {}, 400, "parameter verification failed"),
        make("er", "new", auth=USER),
        make("x", None, 401, body=LOGIN_FAILED, auth=USER, csrf="none"),
        make("x", None, 401, body=LOGIN_FAILED, auth=USER, csrf="wrong"),
        make("x", None, 403, body=f"missing Datastore.Modify on /datastore/{COPY}", auth=READER),
        make("x", "new", 403, body=f"Datastore.Modify on /datastore/{COPY}/new", auth=BACKER),
    ]


def _bodies() -> list[Json]:
    path = admin("namespace", COPY)

    def send(status: int, body: Any, text: str, content_type: str, length: int) -> Json:
        more = {"text": text, "content_type": content_type, "length": length}
        return record("POST", path, None, status, body, **more)

    json_type, form = "application/json", "application/x-www-form-urlencoded"
    limit = 512 << 10
    return [
        send(200, "big", '{"name": "big"}', json_type, limit - 1),
        send(400, "Request body too large", '{"name": "big"}', json_type, limit),
        send(200, "form", "name=form", form, 9),
        send(400, "Request body too large", "name=form&parent=", form, limit),
        send(200, "typed", '{"name": "typed"}', f"{json_type};charset=UTF-8", 17),
        send(400, "", '{"name": ', json_type, 9),
        send(400, "unsupported content type", "name=x", "text/plain", 6),
    ]


def _metadata() -> list[Json]:
    def put(call: str, params: Json, status: int = 200, body: Any = None, **more: Any) -> Json:
        return record("PUT", admin(call, COPY), params, status, body, **more)

    def get(call: str, params: Json, body: Any) -> Json:
        return record("GET", admin(call, COPY), params, 200, body)

    first, group = keys("vm/101", FIRST), keys("vm/101")
    own, foreign = keys("vm/3", FIRST + 30), keys("vm/101", FIRST)
    return [
        put("notes", first | {"notes": "ä\nb"}),
        get("notes", first, "ä\nb"),
        put("notes", first | {"notes": ""}),
        get("notes", first, ""),
        put("notes", keys("vm/101", 5) | {"notes": "x"}, 400),
        put("notes", keys("vm/101", FIRST + 4 * DAY) | {"notes": "x"}, 400),
        put("notes", own | {"notes": "mine"}, auth=BACKER),
        put("notes", foreign | {"notes": "x"}, 400, "backup owner check failed", auth=BACKER),
        put("group-notes", group | {"notes": "all\nof it"}),
        get("group-notes", group, "all\nof it"),
        put("group-notes", keys("vm/4") | {"notes": "x"}, 400),
        put("protected", first | {"protected": False}),
        get("protected", first, False),
        put("protected", first | {"protected": "yes"}),
        put("protected", first | {"protected": 1}),
        get("protected", first, True),
        put("protected", keys("vm/101", 5) | {"protected": 1}, 400),
    ]


def _logs() -> list[Json]:
    def log(group: str, time: int, status: int, body: Any, raw: str, **more: Any) -> Json:
        asked = "&".join(f"{name}={value}" for name, value in keys(group, time).items())
        path = f"{admin('upload-backup-log', COPY)}?{asked}{more.pop('query', '')}"
        more |= {"hex": raw, "content_type": "application/octet-stream"}
        return record("POST", path, None, status, body, **more)

    good = "42ab3807be8370a1" + "2639f4cb" + b"123456789".hex()  # the CRC-32's known answer
    bad = good.replace("2639f4cb", "00000000")
    return [
        log("vm/101", FIRST, 400, "", bad),
        log("vm/101", FIRST, 400, "", b"this is no blob at all".hex()),
        log("vm/101", 5, 400, "", good),
        log("vm/101", FIRST, 400, "", good, query="&odd=1"),
        log("vm/101", FIRST, 400, "owner", good, auth=TOKEN),
        log("vm/101", FIRST, 200, None, good, auth=USER),
        log("vm/101", FIRST, 400, "backup already contains a log", good, auth=USER),
        log("vm/101", FIRST + 2 * DAY, 400, "backup already contains a log", good, auth=USER),
    ]


def _removed_snapshots(store: Store) -> list[Json]:
    path = admin("snapshots", COPY)

    def remove(params: Json, status: int = 200, body: Any = None, **more: Any) -> Json:
        return record("DELETE", path, params, status, body, **more)

    gone = "No such file or directory (os error 2)"
    left = [entry for entry in listed_groups(store, "") if entry["backup-id"] != "desk"]
    return [
        remove(keys("vm/101", FIRST + DAY)),
        remove(keys("vm/101", FIRST + DAY), 400, gone),
        remove(keys("vm/101", FIRST), 400),
        remove(keys("vm/101"), 400, "parameter verification failed"),
        remove(keys("vm/101", FIRST, "none"), 400, gone),
        remove(keys("host/deep", FIRST + 5 * DAY, "d1/d2/d3/d4/d5/d6/d7")),
        remove(keys("vm/desk", FIRST), 403, "Datastore.Modify|Datastore.Prune", auth=READER),
        remove(keys("vm/desk", FIRST)),
        record("GET", admin("snapshots", COPY), keys("vm/desk"), 200, []),
        record(
            "GET",
            admin("groups", COPY),
            None,
            200,
            [
                entry | ({"backup-count": 4} if entry["backup-id"] == "101" else {})
                for entry in left
            ],
        ),
    ]


def _counts(groups: int, snapshots: int, protected: int) -> Json:
    return {
        "removed-groups": groups,
        "removed-snapshots": snapshots,
        "protected-snapshots": protected,
    }


def _removed_groups(store: Store) -> list[Json]:
    path = admin("groups", COPY)

    def remove(params: Json, status: int = 200, body: Any = None, **more: Any) -> Json:
        return record("DELETE", path, params, status, body, **more)

    partially = "group only partially deleted due to protected snapshots"
    protected = [s for s in listed_snapshots(store, "", "ct/30") if s["protected"]]
    return [
        remove(keys("host/pc"), 200, _counts(1, 2, 0)),
        remove(keys("host/pc"), 400, "ENOENT"),
        remove(keys("vm/101", ns="none"), 400, "ENOENT"),
        remove(keys("ct/30"), 400, partially),
        record("GET", admin("snapshots", COPY), keys("ct/30"), 200, protected),
        remove(keys("ct/30") | {"error-on-protected": True}, 400, partially),
        remove(keys("ct/30") | {"error-on-protected": False}, 200, _counts(0, 0, 1)),
        remove(keys("vm/3"), 403, "Datastore.Modify|Datastore.Prune", auth=BACKER),
        remove(keys("vm/101", ns="site"), 200, _counts(1, 1, 0)),
        record("GET", path, {"ns": "site"}, 200, []),
    ]


def _removed_namespaces(store: Store) -> list[Json]:
    path = admin("namespace", COPY)

    def remove(ns: str, status: int = 200, body: Any = None, **more: Any) -> Json:
        return record("DELETE", path, {"ns": ns} | more, status, body)

    left = [{"ns": ns} for ns in store.namespaces if not ns.startswith("d1")]
    return [
        remove("bare", 200, _counts(0, 0, 0)),
        remove("none", 200, _counts(0, 0, 0)),
        remove("none", 400, "ENOENT", **{"delete-groups": True}),
        remove("site", 400, "only partially deleted"),
        record("GET", path, {"parent": "site"}, 200, [{"ns": "site"}]),
        remove("d1", 200, _counts(1, 1, 0), **{"delete-groups": True}),
        remove("", 400),
        record("GET", path, None, 200, [entry for entry in left if entry["ns"] != "bare"]),
    ]
