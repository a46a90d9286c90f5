"""Hostile targets, over all phases of a push: each ends in a clear error of ours, in bounded time.

Each is honest but for one thing. The limit is short, so whatever stands still or trickles has to
be given up; a push that does not end by itself is ended by the timeout of the tests.
"""

from __future__ import annotations

import json
import tracemalloc
import zlib
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from tests.remote.servers import Identity, answer
from tests.remote.sessions import SWITCH, H2Server, frame

from .conftest import Cli
from .server import (
    ESCAPE,
    SECRET,
    H2Handler,
    Handler,
    HostileTarget,
    data,
    echoes,
    floods,
    hangs,
    raw,
    trickles,
)

TIMEOUT_S: Final = "0.3"
OK = b"HTTP/1.1 200 OK\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
TEXT = (ESCAPE + SECRET + "\n\r\x00").encode()


def body(content: bytes, *headers: str) -> Handler:
    return raw(answer(200, content, *headers))


def lines(*text: str) -> bytes:
    return "\r\n".join([*text, "", ""]).encode("latin-1", "replace")


# -- any request of REST: tried with the first one --

ANY: Final[dict[str, Handler]] = {
    "rubbish with our credentials": echoes(lambda sent: f"{sent}{ESCAPE}\r\n\r\n".encode()),
    "a status line that holds them": echoes(lambda sent: lines(f"HTTP/1.1 {sent} OK")),
    "a reason that holds them": echoes(lambda sent: lines(f"HTTP/1.1 500 {sent}", "a b: c")),
    "a header that is none": echoes(lambda sent: lines("HTTP/1.1 200 OK", f"{sent} x: y")),
    "a value that is none": echoes(lambda sent: lines("HTTP/1.1 200 OK", f"x: {sent}\x00")),
    "an encoding that holds them": echoes(
        lambda sent: answer(200, b"x", f"content-encoding: {sent}")
    ),
    "a redirect that holds them": echoes(lambda sent: answer(302, b"", f"location: //x/{sent}")),
    "an error that holds them": echoes(lambda sent: answer(500, (sent + ESCAPE).encode())),
    "an error that holds a part": echoes(lambda sent: answer(400, sent[:-7].encode())),
    "a refusal that holds them": echoes(lambda sent: answer(403, sent.encode())),
    "a body that holds them": echoes(lambda sent: answer(200, f"<html>{sent}</html>".encode())),
    "JSON that holds them": echoes(lambda sent: answer(200, json.dumps({"x": sent}).encode())),
    "interim answers without end": trickles(b"", INTERIM),
    "interim answers, fast": floods(b"", INTERIM, 64 << 20),
    "a head of a byte at a time": trickles(OK + b"x: ", b"y"),
    "a head without end": floods(OK + b"x: ", b"y", 64 << 20),
    "headers without end": floods(OK, b"x: y\r\n", 64 << 20),
    "a body of a byte at a time": trickles(OK + b"content-length: 9000\r\n\r\n", b"{"),
    "pieces of a byte": trickles(CHUNKED, b"1\r\n{\r\n"),
    "extensions of pieces, without end": trickles(CHUNKED + b"1;", b"a" * 64),
    "a piece of no size": raw(CHUNKED + b"zz\r\n"),
    "a body without end": floods(OK + b"\r\n", b" ", 64 << 20),
    "a body without end, slowly": trickles(OK + b"\r\n", b" "),
    "trailers without end": floods(CHUNKED + b"0\r\n", b"x: y\r\n", 64 << 20),
    "a length that is none": raw(OK + b"content-length: -1\r\n\r\n{}"),
    "two lengths": raw(OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\n{}"),
    "less than it says": raw(OK + b"content-length: 90\r\n\r\n{}"),
    "no HTTP/1.1": raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "another protocol": raw(lines("HTTP/1.1 101 Switching", "connection: upgrade", "upgrade: x")),
    "nothing": raw(),
    "nothing, for long": hangs(),
    "a head, and nothing": hangs(OK + b"content-length: 9\r\n\r\n"),
    "no content": raw(lines("HTTP/1.1 204 No Content")),
    "a bomb": body(zlib.compress(b'{"data":[' + b"{}," * (20 << 20)), "content-encoding: deflate"),
    "a bomb of blanks": body(zlib.compress(b" " * (200 << 20)), "content-encoding: deflate"),
    "a compression that is broken": body(b"\x78\x9cxxxx", "content-encoding: deflate"),
    "another compression": body(b"\x1f\x8b\x08", "content-encoding: gzip"),
    "two compressions": body(b"x", "content-encoding: deflate, deflate"),
    "no JSON": body(TEXT),
    "no UTF-8": body(b'{"data":"\xff\xfe"}'),
    "JSON, deep": body(b'{"data":' + b"[" * 200_000),
    "JSON, wide": body(b'{"data":[' + b"{}," * 3_000_000 + b"{}]}"),
    "a number without end": body(b'{"data":' + b"9" * 1_000_000 + b"}"),
    "no data": body(b"{}"),
    "a list of nothing": body(b'{"data":[null,[],7]}'),
    "never the right credentials": echoes(lambda sent: answer(401, (sent + ESCAPE).encode())),
    "busy, and a secret": raw(answer(503, TEXT)),
    "a date from nowhere": raw(answer(429, TEXT, f"retry-after: {'9' * 4000}")),
}
"""None of them is a version."""

# -- what an answer says, and may not --

LONG_AGO, FAR = -(1 << 62), 1 << 62
ANSWERS: Final[dict[str, tuple[str, object]]] = {
    "a version that holds a secret": ("GET version", {"version": ESCAPE + SECRET}),
    "a version of long numbers": ("GET version", {"version": "9" * 5000 + ".1"}),
    "a version that is old": ("GET version", {"version": "1.1", "release": ESCAPE}),
    "a version that is a list": ("GET version", {"version": ["4", "2"]}),
    "a namespace that holds a secret": ("GET namespace", [{"ns": f"{ESCAPE}/{SECRET}"}]),
    "a namespace named by the secret": ("GET namespace", [{"ns": SECRET}]),
    "a namespace outside": ("GET namespace", [{"ns": "../../../etc"}]),
    "a namespace that is absolute": ("GET namespace", [{"ns": "/etc"}]),
    "a namespace, too deep": ("GET namespace", [{"ns": "/".join("abcdefgh" * 4)}]),
    "a namespace, too long": ("GET namespace", [{"ns": "a" * 100_000}]),
    "a namespace that is a number": ("GET namespace", [{"ns": 7}]),
    "a namespace of half a pair": ("GET namespace", [{"ns": "\ud800"}]),
    "a namespace without a name": ("GET namespace", [{}]),
    "more namespaces than there may be": ("GET namespace", [{"ns": ""}] * 100_002),
    "groups that are no list": ("GET groups", {ESCAPE: SECRET}),
    "a group that is none": ("GET groups", [{"backup-type": "vm"}]),
    "a group of wrong types": ("GET groups", [{"backup-type": "vm", "backup-id": {"a": SECRET}}]),
    "files that are no list": (
        "GET groups",
        [{"backup-type": "vm", "backup-id": "1", "files": ESCAPE}],
    ),
    "a time that is none": (
        "GET groups",
        [{"backup-type": "vm", "backup-id": "1", "last-backup": SECRET}],
    ),
    "a group of somebody with escapes": (
        "GET groups",
        [{"backup-type": "vm", "backup-id": "1", "owner": f"{ESCAPE}@pbs", "backup-count": 1}],
    ),
}
BETRAYED: Final[dict[str, list[object]]] = {
    "a group named by the secret": [{"backup-type": "ct", "backup-id": SECRET}],
    "a group of a user named by it": [
        {"backup-type": "vm", "backup-id": "1", "owner": f"{SECRET}@pbs", "backup-count": 1}
    ],
    "a file named by it": [{"backup-type": "vm", "backup-id": "1", "files": [f"{SECRET}.blob"]}],
}
HARMLESS: Final[dict[str, list[object]]] = {
    "a group outside": [{"backup-type": "vm", "backup-id": "../../x"}],
    "a group of another type": [{"backup-type": ESCAPE, "backup-id": SECRET}],
    "times beyond all": [
        {
            "backup-type": "ct",
            "backup-id": str(at),
            "last-backup": time,
            "files": ["index.json.blob"],
        }
        for at, time in enumerate((LONG_AGO, FAR))
    ],
    "counts beyond all": [{"backup-type": "ct", "backup-id": "1", "backup-count": FAR}],
    "notes with escapes": [{"backup-type": "ct", "backup-id": "1", "comment": ESCAPE * 100}],
    "a group twice": [{"backup-type": "ct", "backup-id": "1"}] * 2,
    "names of files with escapes": [
        {"backup-type": "ct", "backup-id": "1", "files": [ESCAPE, "../../x", ""]}
    ],
}
"""Of groups that are none of ours: the push goes on."""

# -- logging in --

LOGINS: Final[dict[str, Handler]] = {
    "no ticket": body(b'{"data":{}}'),
    "a ticket that is a number": body(b'{"data":{"ticket":7,"CSRFPreventionToken":"x"}}'),
    "a ticket that ends a header": body(
        json.dumps({"data": {"ticket": "x\r\ny: z", "CSRFPreventionToken": "x"}}).encode()
    ),
    "two cookies": body(
        b'{"data":{"CSRFPreventionToken":"x"}}',
        "set-cookie: __Host-PBSAuthCookie=a; path=/; secure",
        "set-cookie: __Host-PBSAuthCookie=b; path=/x; secure",
    ),
    "the password, sent back": echoes(lambda sent: answer(401, sent.encode())),
    "never an answer": hangs(),
    "an answer that trickles": trickles(OK + b"content-length: 900\r\n\r\n", b"{"),
}

# -- the upgrade --

UPGRADES: Final[dict[str, Handler]] = {
    "no change of protocol": raw(answer(200, TEXT)),
    "a change to nothing": raw(SWITCH + TEXT),
    "a change, and silence": hangs(SWITCH),
    "a change to another": raw(lines("HTTP/1.1 101 S", "connection: upgrade", "upgrade: nothing")),
    "interim answers, fast": floods(b"", INTERIM),
    "interim answers without end": trickles(b"", INTERIM),
    "a head that trickles": trickles(b"HTTP/1.1 101 S\r\nx: ", b"y"),
    "an error without end": floods(b"HTTP/1.1 400 Bad\r\n\r\n", b"x"),
    "an error that trickles": trickles(b"HTTP/1.1 400 Bad\r\n\r\n", b"x"),
    "credentials in the status line": echoes(lambda sent: f"HTTP/1.1 {sent}\r\n\r\n".encode()),
    "credentials in a header": echoes(lambda sent: lines("HTTP/1.1 101 S", f"{sent}")),
    "credentials in an error": echoes(lambda sent: answer(400, sent.encode())),
    "credentials in a redirect": echoes(lambda sent: answer(307, b"", f"location: /{sent}")),
    "credentials behind the change": echoes(lambda sent: SWITCH + sent.encode()),
    "goodbye with a secret": raw(
        SWITCH + frame(4, 0, 0, b"") + frame(7, 0, 0, bytes(7) + b"\x01" + TEXT)
    ),
    "a frame too long": raw(SWITCH + b"\xff\xff\xff\x04\0\0\0\0\0"),
    "settings without end": floods(SWITCH, frame(4, 0, 0, bytes((0, 3, 0, 0, 0, 9))), 64 << 20),
    "pings without end": floods(
        SWITCH + frame(4, 0, 0, b""), frame(6, 0, 0, b"pingping"), 64 << 20
    ),
}


# -- in a session --


def says(*parts: bytes) -> H2Handler:
    """Raw frames instead of an answer; ``S`` in a head stands for the stream's id."""

    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> bool:
        peer.flush()
        for part in parts:
            peer.line.send(part.replace(b"SSSS", stream.to_bytes(4, "big")))
        return True

    return handler


def h2(kind: int, flags: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + b"SSSS" + payload


def refuses(status: int, content: bytes, path: str = "") -> H2Handler:
    def handler(peer: H2Server, stream: int, head: dict[str, str], _body: bytes) -> bool:
        if not head[":path"].startswith(path):
            return False
        peer.answer(stream, status, content)
        return True

    return handler


def silent(path: str) -> H2Handler:
    return lambda _peer, _stream, head, _body: head[":path"].startswith(path)


def flooding(first: bytes, again: bytes, pause: bool) -> H2Handler:
    """Frames without end, slowly or fast."""

    def handler(peer: H2Server, stream: int, _head: dict[str, str], _body: bytes) -> bool:
        peer.flush()
        number = stream.to_bytes(4, "big")
        peer.line.send(first.replace(b"SSSS", number))
        mended = (trickles if pause else floods)(b"", again.replace(b"SSSS", number))
        mended(peer.line, None)  # type: ignore[arg-type]
        return True

    return handler


HEAD_OK = h2(1, 4, b"\x88")
SESSIONS: Final[dict[str, H2Handler]] = {
    "a reset without a code": says(h2(3, 0, bytes(4))),
    "a reset": says(h2(3, 0, b"\0\0\0\x02")),
    "a reset of an unknown code": says(h2(3, 0, b"\xff\xff\xff\xff")),
    "a refusal of each stream": says(h2(3, 0, b"\0\0\0\x07")),
    "goodbye with a secret": says(frame(7, 0, 0, bytes(7) + b"\x02" + TEXT)),
    "an error that holds a secret": refuses(400, TEXT),
    "an error of a chunk that holds one": refuses(400, TEXT, "/dynamic_chunk"),
    "an error at the close": refuses(500, TEXT, "/fixed_close"),
    "an error at the end": refuses(400, TEXT, "/finish"),
    "a page of a proxy": refuses(200, b"<html>" + TEXT),
    "a writer that is none": refuses(200, b'{"data":-1}'),
    "a writer of a huge number": refuses(200, b'{"data":' + b"9" * 5000 + b"}"),
    "a writer that is text": refuses(200, json.dumps({"data": ESCAPE + SECRET}).encode()),
    "JSON, deep": refuses(200, b"[" * 10_000),
    "a chunk that is never acknowledged": silent("/fixed_chunk"),
    "a close that is never answered": silent("/dynamic_close"),
    "an end that is never answered": silent("/finish"),
    "a status that is none": says(h2(1, 5, b"\x08\x03abc")),
    "no status": says(h2(1, 5, b"\x00\x01x\x01y")),
    "HPACK beyond the table": says(h2(1, 5, b"\xff\xff\xff\xff\x0f")),
    "HPACK, a size without end": says(h2(1, 5, b"\x3f" + b"\xff" * 40)),
    "HPACK, a text without end": says(h2(1, 5, b"\x00\x7f\xff\xff\xff\x07x")),
    "headers that do not end": flooding(h2(1, 0, b"\x88"), h2(9, 0, b"\x88" * 40), pause=False),
    "headers that do not end, slowly": flooding(h2(1, 0, b"\x88"), h2(9, 0, b""), pause=True),
    "a push": says(h2(5, 4, b"\0\0\0\x02\x82")),
    "data of no stream": says(frame(0, 0, 9999, b"x")),
    "data before the head": says(h2(0, 1, b"x")),
    "data beyond the window": flooding(HEAD_OK, h2(0, 0, bytes(16_384)), pause=False),
    "data of a byte at a time": flooding(HEAD_OK, h2(0, 0, b" "), pause=True),
    "data of nothing": flooding(HEAD_OK, h2(0, 0, b""), pause=True),
    "padding alone": flooding(HEAD_OK, h2(0, 8, b"\x09" + bytes(9)), pause=True),
    "padding beyond the frame": says(HEAD_OK + h2(0, 8, b"\xff")),
    "a window too large": says(frame(8, 0, 0, b"\x7f\xff\xff\xff")),
    "a window that grows by nothing": says(frame(8, 0, 0, bytes(4))),
    "windows of a byte": flooding(b"", frame(8, 0, 0, b"\0\0\0\x01"), pause=True),
    "settings that are wrong": says(frame(4, 0, 0, bytes((0, 5, 0, 0, 0, 1)))),
    "a ping of a wrong size": says(frame(6, 0, 0, b"x")),
    "no more streams": says(frame(4, 0, 0, bytes((0, 3, 0, 0, 0, 0)))),
    "no more window": says(frame(4, 0, 0, bytes((0, 4, 0, 0, 0, 0)))),
    "pings": flooding(b"", frame(6, 0, 0, b"pingping"), pause=True),
    "unknown frames": flooding(b"", frame(0xFA, 0, 0, b"x"), pause=True),
}


class Case(NamedTuple):
    """A hostile target, and how it is pushed to."""

    rest: dict[str, Handler]
    session: H2Handler | None = None
    user: str = "me@pbs!push"
    options: tuple[str, ...] = ()
    groups: list[object] | None = None
    may_succeed: bool = False


GONE: Final[list[object]] = [
    {"backup-type": "vm", "backup-id": "9", "owner": "me@pbs!push", "backup-count": 1}
]
REMOVING = ("--remove-vanished",)


def all_cases() -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for name, handler in ANY.items():
        cases[f"any: {name}"] = Case({"GET version": handler})
    for name in ("a body of a byte at a time", "no JSON", "nothing, for long", "JSON, wide"):
        cases[f"groups: {name}"] = Case({"GET groups": ANY[name]})
    for name, (what, value) in ANSWERS.items():
        options = ("--remote-ns", "a") if what == "GET namespace" else ()
        cases[f"answer: {name}"] = Case({what: raw(data(value))}, options=options)
    for name, groups in HARMLESS.items():
        cases[f"harmless: {name}"] = Case({}, groups=groups, may_succeed=True)
    for name, groups in BETRAYED.items():
        cases[f"betrayed: {name}"] = Case({}, groups=groups, options=REMOVING)
    for name, handler in LOGINS.items():
        cases[f"login: {name}"] = Case({"POST ticket": handler}, user="me@pbs")
    for name, handler in UPGRADES.items():
        cases[f"upgrade: {name}"] = Case({"GET backup": handler})
    for name, session in SESSIONS.items():
        cases[f"session: {name}"] = Case({}, session)
    for name in ("nothing, for long", "an error that holds them", "a head of a byte at a time"):
        rest = {"DELETE groups": ANY[name]}
        harmless = name == "an error that holds them"  # a look shows that it is gone
        cases[f"removal: {name}"] = Case(rest, options=REMOVING, groups=GONE, may_succeed=harmless)
    return cases


CASES: Final = all_cases()


def test_there_are_enough() -> None:
    assert len(CASES) >= 120


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", CASES)
def test_a_hostile_target(name: str, identity: Identity, source: Path, cli: Cli) -> None:
    """One line that people can read, without control characters and without what we have sent."""
    case = CASES[name]
    with HostileTarget(identity, case.rest, case.session, case.groups) as target:
        ran = cli(
            "push", source, target.repository(case.user),
            "--fingerprint", identity.fingerprint.hex(),
            "--timeout", TIMEOUT_S, "--retries", "0", "--lock-wait", "0", *case.options,
        )  # fmt: skip
    assert target.asked, "it was never asked anything"
    if case.may_succeed and ran.status == 0:
        return
    assert ran.status in (1, 3, 4, 5), ran
    assert ran.err.strip(), ran


@pytest.mark.parametrize("name", ["a bomb", "a bomb of blanks", "JSON, wide", "JSON, deep"])
def test_a_bomb_takes_little_memory(name: str, identity: Identity, source: Path, cli: Cli) -> None:
    for what in ("GET version", "GET groups", "GET namespace"):
        with HostileTarget(identity, {what: ANY[name]}) as target:
            there = ("--remote-ns", "a") if what == "GET namespace" else ()
            arguments = ("push", source, target.repository(), "--retries", "0", *there)
            tracemalloc.start()
            try:
                ran = cli(*arguments, "--fingerprint", identity.fingerprint.hex())
                _now, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert ran.status != 0
        assert peak < 64 << 20, (what, peak >> 20)
