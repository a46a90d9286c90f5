"""Replaying the recordings of a real server's backup protocol against the target.

The recordings hold no bodies, so the tests make bodies of their own of the same make, and put their
digests and checksums in place of the recorded ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pbs_push.access.acl import Acl
from pbs_push.names import AuthId
from pbs_push.target import Identities, Login

from .client import Reply, Rest, Session, open_session, token, upgrade
from .samples import ENCRYPTED, PLAIN, ZSTD, blob, content, packed, sha256

ZERO_CHUNK = "bb9f8df61474d25e71fa00722318cd387396ca1736605e1248821cc0de3d3af8"
PUSHER = "push@pbs!tok1"
SECRET = "secret"

Step = dict[str, Any]


def load(directory: Path, name: str) -> dict[str, Any]:
    recording: dict[str, Any] = json.loads((directory / f"{name}.json").read_text())
    return recording


def recorded_identities(directory: Path) -> Identities:
    """The users and tokens of the recordings' user.cfg, all with the same secret."""
    users, tokens = {}, {}
    for section in (directory / "config" / "user.cfg").read_text().split("\n\n"):
        head, *lines = section.strip().split("\n")
        kind, _, name = head.partition(": ")
        values = dict(line.strip().partition(" ")[::2] for line in lines)
        login = Login(SECRET, values.get("enable") != "false", int(values.get("expire", 0)))
        (users if kind == "user" else tokens)[AuthId.parse(name)] = login
    acl = Acl.load(directory / "config" / "acl.cfg")
    return Identities(users, tokens, lambda who, path: frozenset(acl.privileges(who, path)))


def chunk_content(digest: str, size: int) -> bytes:
    """The content that stands for a recorded chunk."""
    return content("" if digest == ZERO_CHUNK else digest, size)


class Replay:
    """Replays steps in a session. ``subst``: recorded digest or csum -> the one to send."""

    def __init__(self, address: tuple[str, int], session: Session | None = None) -> None:
        self.address = address
        self.session = session
        self.subst: dict[str, str] = {}
        self.bodies: dict[int, bytes] = {}
        self.expected: dict[int, int] = {}

    def know(self, digest: str, size: int) -> bytes:
        """Let a recorded digest stand for our content; returns that."""
        data = chunk_content(digest, size)
        self.subst[digest] = sha256(data)
        return data

    def run(self, steps: list[Step], **hooks: Any) -> list[Reply]:
        """Send the steps, comparing statuses. ``hooks``: ``before_N`` is called before step N."""
        replies = []
        for number, step in enumerate(steps):
            if f"before_{number}" in hooks:
                hooks[f"before_{number}"]()
            reply = self.send(number, step)
            assert reply.status == step["status"], (number, step["request"], reply)
            _compare_data(step, reply, self.subst)
            replies.append(reply)
        return replies

    def send(self, number: int, step: Step) -> Reply:
        request = step["request"]
        if request["path"].startswith("/api2/json/admin"):
            with Rest(self.address, token("push@pbs!tok1")) as rest:
                return rest.call(request["method"], request["path"], request.get("params"))
        assert self.session is not None
        params = {
            name: self.subst.get(str(value), value)
            for name, value in (request.get("params") or {}).items()
        }
        body = self.bodies.get(number)
        if body is None and "json" not in request and "body-bytes" in request:
            body = self._body(request, params)
        elif body is not None and "encoded-size" in params:
            params["encoded-size"] = len(body)
        json_body = self._json(request.get("json"))
        raw = json_body.encode() if isinstance(json_body, str) else body
        return self.session.call(
            request["method"],
            request["path"],
            params,
            raw,
            json_body=None if isinstance(json_body, str) else json_body,
            content_type=request.get("content-type"),
        )

    def _json(self, recorded: Any) -> Any:
        if not isinstance(recorded, dict) or "digest-list" not in recorded:
            return recorded
        digests = [self.subst.get(digest, digest) for digest in recorded["digest-list"]]
        return {**recorded, "digest-list": digests}

    def _body(self, request: dict[str, Any], params: dict[str, Any]) -> bytes:
        length, note = request["body-bytes"], request.get("body-note", "")
        if request["path"] == "/blob":
            return _blob_body(length, note)
        if request["path"].endswith("_chunk"):
            return self._chunk_body(request, params, note)
        return bytes(length)

    def _chunk_body(self, request: dict[str, Any], params: dict[str, Any], note: str) -> bytes:
        length, recorded = request["body-bytes"], request["params"]
        size, delta = recorded["size"], recorded["encoded-size"] - length
        if note.startswith("encrypted blob"):
            return ENCRYPTED + bytes(length - 8)
        if length <= 100:
            return bytes(length)  # a parameter is wrong, nobody looks at the body
        if note.startswith("wrong size"):
            size = 4 << 20
        data = chunk_content(recorded["digest"], size)
        if not note.startswith("wrong digest") and recorded["digest"].islower():
            params["digest"] = self.subst[recorded["digest"]] = sha256(data)
        raw = packed(data) if length < size else blob(data)
        raw = _spoil(raw, note)
        params["encoded-size"] = len(raw) + delta if delta > -1000 else recorded["encoded-size"]
        return raw


def _spoil(raw: bytes, note: str) -> bytes:
    if note.startswith("bad CRC"):
        return raw[:8] + bytes(4) + raw[12:]
    if note == "bad magic":
        return b"nonsense" + raw[8:]
    if note == "corrupt zstd data":
        middle = len(raw) // 2
        return raw[:middle] + bytes(byte ^ 0x55 for byte in raw[middle:])
    if note.startswith("trailing bytes"):
        return raw + b"x" * 20
    return raw


def _blob_body(length: int, note: str) -> bytes:
    if length < 12:
        return bytes(length)
    if note.startswith("encrypted magic"):
        return ENCRYPTED + bytes(length - 8)
    magic = ZSTD if note.startswith("compressed magic") else PLAIN
    raw = blob(bytes(length - 12), magic=magic)
    if note == "bad CRC":
        return raw[:8] + b"\1\2\3\4" + raw[12:]
    return b"nonsense" + raw[8:] if note == "bad magic" else raw


def _compare_data(step: Step, reply: Reply, subst: Mapping[str, str]) -> None:
    """Where the recorded answer is data, ours has to be the same."""
    recorded = step.get("body")
    if not isinstance(recorded, dict) or "data" not in recorded:
        return
    expected = recorded["data"]
    if isinstance(expected, str):
        expected = subst.get(expected, expected)
    assert comparable(reply.data) == comparable(expected), step["request"]


def comparable(data: Any) -> Any:
    """Lists come in no order; sizes of manifests and upids are each server's own."""
    if isinstance(data, list):
        return sorted((comparable(item) for item in data), key=json.dumps)
    if isinstance(data, dict):
        named = [data, *(file for file in data.get("files", ()) if isinstance(file, dict))]
        if any(file.get("filename") == "index.json.blob" for file in named):
            data = {name: value for name, value in data.items() if name != "size"}
        return {name: comparable(value) for name, value in sorted(data.items())}
    return data


@contextmanager
def session_of(address: tuple[str, int], **params: Any) -> Iterator[Replay]:
    """A replay in a new session in the namespace ``proto``."""
    asked = {
        "store": "fixdst",
        "ns": "proto",
        "backup-type": "host",
        "backup-id": "replay",
        "backup-time": 1790000000,
        **{name.replace("_", "-"): value for name, value in params.items()},
    }
    with open_session(address, asked, token(PUSHER)) as session:
        yield Replay(address, session)


def upgrade_step(
    address: tuple[str, int], step: Step, auth: Mapping[str, str]
) -> tuple[Rest, Reply]:
    request = step["request"]
    return upgrade(address, request["params"], auth, request["headers"], request["method"])
