"""What the tests share that replay recorded sessions of a real PBS: which, and in which state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .client import Rest, token
from .recordings import PUSHER, ZERO_CHUNK, Replay, load, upgrade_step
from .samples import CHUNK, content, fixed_csum, send_chunk

Address = tuple[str, int]


REPLAYED: set[str] = set()
"""The recordings that a test here has; `test_every_recording_is_replayed` compares."""


def replays(*names: str) -> Callable[[Any], Any]:
    REPLAYED.update(names)
    return lambda test: test


def steps(recordings: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = load(recordings, name)["steps"]
    return found


HOST = {"backup-type": "host", "backup-id": "replay", "backup-time": 1790000000}
FILE = {"filename": "x.img.fidx", "crypt-mode": "none", "size": 1, "csum": "00" * 32}


def ticket(address: Address, user: str, *, csrf: bool = False) -> dict[str, str]:
    with Rest(address) as rest:
        login = {"username": user, "password": "secret"}
        data = rest.call("POST", "/api2/json/access/ticket", login).data
    headers = {"Cookie": f"PBSAuthCookie={data['ticket']}"}
    return headers | ({"CSRFPreventionToken": data["CSRFPreventionToken"]} if csrf else {})


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


def open_params(backup_id: str, time: int) -> dict[str, Any]:
    return {
        "store": "fixdst",
        "ns": "open",
        "backup-type": "vm",
        "backup-id": backup_id,
        "backup-time": time,
    }
