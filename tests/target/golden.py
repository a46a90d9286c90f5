"""A target with the golden datastore, and the requests of the golden set (`tests/golden`)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.references import GOLDEN

from pbs_push.target import Maintenance, TargetOptions, TargetServer, create_datastore

from .client import Reply, Rest
from .recordings import comparable, recorded_identities

SECRET = "secret"

Address = tuple[str, int]
Json = dict[str, Any]


def read(path: Path) -> Json:
    content: Json = json.loads(path.read_text(encoding="utf-8"))
    return content


def serve(directory: Path, *, copied: bool) -> Iterator[TargetServer]:
    """The stores ``golden``, ``copy`` (of it, or empty), ``resting`` and ``closed``."""
    stores = {}
    for name in ("golden", "copy", "resting", "closed"):
        stores[name] = create_datastore(directory / name, all_chunk_folders=False)
    for name in ("golden", "copy") if copied else ("golden",):
        shutil.copytree(GOLDEN / "datastore", stores[name], dirs_exist_ok=True)
    options = TargetOptions(bad_login_delay_s=0, compares_manifest=False)
    server = TargetServer(stores, identities=recorded_identities(GOLDEN), options=options)
    server.maintenance["resting"] = Maintenance("read-only", "disk check")
    server.maintenance["closed"] = Maintenance("offline", "moving house")
    with server:
        yield server


def login(address: Address, request: Json) -> dict[str, str]:
    """The headers of a request's login."""
    auth = request["auth"]
    if auth == "none":
        return {}
    if "!" in auth:
        scheme, secret = request.get("scheme", "PBSAPIToken="), request.get("secret", SECRET)
        return {"Authorization": f"{scheme}{auth}:{secret}"}
    with Rest(address) as rest:
        asked = {"username": auth, "password": SECRET}
        data = rest.call("POST", "/api2/json/access/ticket", asked).data
    cookie = request.get("cookie", "PBSAuthCookie")
    headers = {"Cookie": f"{cookie}={quote(data['ticket'], safe='')}"}
    csrf = {"none": None, "wrong": "0123ABCD:x"}.get(
        request.get("csrf", ""), data["CSRFPreventionToken"]
    )
    return headers | ({} if csrf is None else {"CSRFPreventionToken": csrf})


def ask(address: Address, record: Json) -> Reply:
    """Make a request, and compare the answer with what is expected."""
    request = record["request"]
    body = None
    if "text" in request:
        body = request["text"].ljust(request["length"]).encode()
    elif "hex" in request:
        body = bytes.fromhex(request["hex"])
    with Rest(address, login(address, request)) as rest:
        reply = rest.call(
            request["method"],
            request["path"],
            request["params"],
            body=body,
            content_type=request.get("content-type"),
        )
    check(record, reply)
    headers = record["headers"]
    assert reply.headers.get("content-type") == headers["content-type"]
    cookies = headers["set-cookie-names"]
    assert [reply.headers.get("set-cookie", "").partition("=")[0]] == (cookies or [""])
    return reply


def check(record: Json, reply: Reply) -> None:
    """Compare status, and data or a part of the reason."""
    asked, expected = record["request"], record["body"]
    assert reply.status == record["status"], (asked, expected, reply)
    if isinstance(expected, dict):
        found, wanted = reply.data, expected["data"]
        if isinstance(wanted, dict) and "repoid" in wanted:
            found = {**found, "repoid": ""}
        assert comparable(found) == comparable(wanted), asked
    else:
        assert expected in reply.text, asked
