"""REST requests: credentials, errors with their context, and answers that are none."""

from __future__ import annotations

import contextlib
import gzip
import json
import traceback
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from http import HTTPStatus
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from pbs_push.errors import (
    AuthError,
    ConnectError,
    DeniedError,
    InvalidName,
    PbsPushError,
    ProtocolError,
    StatusError,
    TlsError,
)
from pbs_push.names import MANIFEST_NAME, AuthId, Group, Namespace, Repository, Snapshot
from pbs_push.remote import rest as rest_module
from pbs_push.remote.answers import raise_for_status
from pbs_push.remote.api import TargetApi
from pbs_push.remote.auth import TicketAuth, TokenAuth
from pbs_push.remote.features import Features, Version
from pbs_push.remote.limits import Limits
from pbs_push.remote.rest import Rest
from pbs_push.remote.target import Target
from pbs_push.remote.tls import TrustContext
from pbs_push.remote.words import Words, shown_reason

from .servers import Asked, Identity, Line, Script, Server, answer, http, read_request

Handler = Callable[[Asked], bytes]
SECRET = "correct horse battery"
TICKET = "PBS:me@pbs:1234::a+b/c=="
GROUP = Group("vm", "100")
SNAPSHOT = Snapshot(GROUP, 1_795_000_000)
NEW = Features.of(Version(4, 2, 3))
OLD = Features.of(Version(3, 0, 0))


def data(value: object, *headers: str) -> bytes:
    return answer(200, json.dumps({"data": value}).encode(), *headers)


class World:
    """A server that answers by a function, and a client of it."""

    def __init__(self, server: Server, rest: Rest, asked: list[Asked]) -> None:
        self.server = server
        self.rest = rest
        self.asked = asked
        self.api = TargetApi(rest, "store1")


@contextlib.contextmanager
def world(
    identity: Identity,
    script: Handler | Script,
    *,
    raw: bool = False,
    timeout_s: float | None = None,
) -> Iterator[World]:
    asked: list[Asked] = []
    behaviour: Script = script if raw else http(script, asked)  # type: ignore[assignment,arg-type]
    with Server(identity, behaviour) as server:
        repository = Repository.parse(server.repository)
        context, limits = TrustContext(identity.fingerprint), Limits.of(timeout_s)
        with Rest(repository, context, limits, Words(SECRET)) as rest:
            rest.use(TokenAuth(repository.auth_id, SecretStr(SECRET)))
            yield World(server, rest, asked)


# -- what is sent --


def test_requests_carry_parameters_and_a_token(identity: Identity) -> None:
    with world(identity, lambda _: data(None)) as it:
        params: dict[str, str | int | bool | None] = {
            "ns": "a/b",
            "flag": True,
            "off": False,
            "n": 7,
            "not": None,
            "empty": "",
        }
        it.rest.get("some/path", params)
        it.rest.delete("some/path", params)
        it.rest.post("some/path", params)
        it.rest.put("some/path", params)
        it.rest.upload("some/path", params, b"\x00raw")
    sent = {"ns": "a/b", "flag": "1", "off": "0", "n": "7", "empty": ""}
    assert [request.method for request in it.asked] == ["GET", "DELETE", "POST", "PUT", "POST"]
    get, delete, post, put, upload = it.asked
    assert get.query == delete.query == upload.query == sent
    assert post.form == put.form == sent
    assert post.query == put.query == {}
    assert upload.body == b"\x00raw"
    token = f"PBSAPIToken=root@pam!push:{quote(SECRET, safe='')}"
    for request in it.asked:
        assert request.path == "/api2/json/some/path"
        assert request.headers["authorization"] == token
        assert "cookie" not in request.headers
        assert "csrfpreventiontoken" not in request.headers
    assert it.server.connections == 1  # kept alive
    assert it.rest.round_trip_s > 0


def test_the_calls_of_a_datastore(identity: Identity) -> None:
    with world(identity, lambda r: data([] if r.method == "GET" else None)) as it:
        inner = Namespace.parse("a/b")
        it.api.namespaces(Namespace())
        it.api.namespaces(inner, 2)
        it.api.create_namespace(Namespace.parse("a"))
        it.api.create_namespace(inner)
        it.api.groups(inner)
        it.api.snapshots(Namespace(), GROUP)
        it.api.delete_snapshot(inner, SNAPSHOT)
        it.api.set_notes(inner, SNAPSHOT, "two\nlines")
        it.api.set_group_notes(inner, GROUP, "")
        it.api.set_protected(inner, SNAPSHOT, protected=True)
        it.api.upload_log(inner, SNAPSHOT, b"blob")
        assert it.api.delete_group(inner, GROUP, NEW).removed_snapshots == 0
        it.api.delete_group(inner, GROUP, OLD)
        it.api.delete_empty_namespace(inner)
    base = "/api2/json/admin/datastore/store1"
    group = {"ns": "a/b", "backup-type": "vm", "backup-id": "100"}
    snapshot = {**group, "backup-time": "1795000000"}
    shown = [
        (r.method, r.path.removeprefix(base), r.form if r.method in ("POST", "PUT") else r.query)
        for r in it.asked
        if "upload" not in r.path
    ]
    assert shown == [
        ("GET", "/namespace", {}),
        ("GET", "/namespace", {"parent": "a/b", "max-depth": "2"}),
        ("POST", "/namespace", {"name": "a"}),
        ("POST", "/namespace", {"name": "b", "parent": "a"}),
        ("GET", "/groups", {"ns": "a/b"}),
        ("GET", "/snapshots", {**group, "ns": ""}),
        ("DELETE", "/snapshots", snapshot),
        ("PUT", "/notes", {**snapshot, "notes": "two\nlines"}),
        ("PUT", "/group-notes", {**group, "notes": ""}),
        ("PUT", "/protected", {**snapshot, "protected": "1"}),
        ("DELETE", "/groups", {**group, "error-on-protected": "0"}),
        ("DELETE", "/groups", group),
        ("DELETE", "/namespace", {"ns": "a/b", "delete-groups": "0"}),
    ]
    (log,) = [r for r in it.asked if "upload" in r.path]
    assert (log.path, log.query, log.body) == (f"{base}/upload-backup-log", snapshot, b"blob")


# -- tickets --


class Logins:
    """Answers logins, and other requests only with the newest ticket."""

    def __init__(self, *, http_only: bool = False, lifetime: int = 1000) -> None:
        self.http_only = http_only
        self.lifetime = lifetime
        self.passwords: list[str] = []
        self.uses = 0

    @property
    def ticket(self) -> str:
        return f"{TICKET}{len(self.passwords)}"

    def __call__(self, request: Asked) -> bytes:
        if request.path.endswith("/access/ticket"):
            assert request.form["username"] == "me@pbs"
            self.passwords.append(request.form["password"])
            self.uses = 0
            if self.http_only:
                cookie = f"__Host-PBSAuthCookie={quote(self.ticket)}; Secure; Path=/; HttpOnly"
                fields = {"ticket-info": "PBS:me@pbs:1234", "CSRFPreventionToken": "csrf"}
                return data(fields, f"set-cookie: {cookie}")
            return data({"ticket": self.ticket, "CSRFPreventionToken": "csrf"})
        name = "__Host-PBSAuthCookie" if self.http_only else "PBSAuthCookie"
        value = quote(self.ticket) if self.http_only else quote(self.ticket, safe="")
        self.uses += 1
        if request.headers.get("cookie") != f"{name}={value}" or self.uses > self.lifetime:
            return answer(
                401, b"authentication failed", "set-cookie: __Host-PBSAuthCookie=; Path=/"
            )
        if request.method != "GET" and request.headers.get("csrfpreventiontoken") != "csrf":
            return answer(401, b"authentication failed - no CSRF token")
        return data("fine")


@contextlib.contextmanager
def logged_in(identity: Identity, logins: Logins) -> Iterator[World]:
    with world(identity, logins) as it:
        it.rest.use(TicketAuth(AuthId.parse("me@pbs"), SecretStr(SECRET), it.rest.login))
        yield it


@pytest.mark.parametrize("http_only", [False, True])
def test_a_password_logs_in_once(identity: Identity, http_only: bool) -> None:
    logins = Logins(http_only=http_only)
    with logged_in(identity, logins) as it:
        assert it.asked == []  # nothing before it is needed
        for use in (it.rest.get, it.rest.post, it.rest.put, it.rest.delete, it.rest.get):
            assert use("x") == "fine"
    assert logins.passwords == [SECRET]
    assert ["csrfpreventiontoken" in r.headers for r in it.asked] == [
        False,
        False,
        True,
        True,
        True,
        False,
    ]


def test_a_refused_ticket_logs_in_anew(identity: Identity) -> None:
    logins = Logins(lifetime=2)
    with logged_in(identity, logins) as it:
        for _ in range(5):
            assert it.rest.post("x") == "fine"
    assert logins.passwords == [SECRET] * 3


def test_a_second_refusal_is_told(identity: Identity) -> None:
    logins = Logins(lifetime=0)
    with logged_in(identity, logins) as it, pytest.raises(AuthError, match="GET x at 127"):
        it.rest.get("x")
    assert logins.passwords == [SECRET] * 2


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        "text",
        {},
        {"ticket": "t"},
        {"CSRFPreventionToken": "c"},
        {"ticket": None, "CSRFPreventionToken": "c"},
        {"ticket": 7, "CSRFPreventionToken": "c"},
        {"ticket": "", "CSRFPreventionToken": "c"},
        {"ticket": "t", "CSRFPreventionToken": "c\r\nx: y"},
        {"ticket": "tücket", "CSRFPreventionToken": "c"},
    ],
)
def test_an_odd_login_is_an_error(identity: Identity, fields: object) -> None:
    with (
        world(identity, lambda _: data(fields)) as it,
        pytest.raises(ProtocolError, match=r"logging in to 127.* as me@pbs.*no ticket") as caught,
    ):
        it.rest.login("me@pbs", SECRET)
    assert SECRET not in str(caught.value)


def test_half_a_ticket_is_not_shown(identity: Identity) -> None:
    reply = answer(
        200, data({"ticket": "PBS:me@pbs:TICKET", "more": 1}).partition(b"\r\n\r\n")[2][:-9]
    )
    with world(identity, lambda _: reply) as it, pytest.raises(ProtocolError) as caught:
        it.rest.login("me@pbs", SECRET)
    assert "no ticket; is it a Proxmox Backup Server" in str(caught.value)
    assert "TICKET" not in str(caught.value)


def test_a_cookie_given_twice_is_an_error(identity: Identity) -> None:
    cookies = [f"set-cookie: __Host-PBSAuthCookie={path}; Path={path}" for path in ("/", "/a")]
    reply = data({"CSRFPreventionToken": "c"}, *cookies)
    with world(identity, lambda _: reply) as it, pytest.raises(ProtocolError, match="no ticket"):
        it.rest.login("me@pbs", SECRET)


def test_a_wrong_password_is_told(identity: Identity) -> None:
    reply = answer(401, b"authentication failed")
    with world(identity, lambda _: reply) as it, pytest.raises(AuthError) as caught:
        it.rest.login("me@pbs", SECRET)
    text = str(caught.value)
    assert text.startswith(f"logging in to 127.0.0.1:{it.server.port} as me@pbs: ")
    assert "authentication failed" in text
    assert SECRET not in text


def test_cookies_of_the_target_are_not_sent_back(identity: Identity) -> None:
    reply = data(None, "set-cookie: __Host-PBSAuthCookie=; Path=/", "set-cookie: a=b")
    with world(identity, lambda _: reply) as it:
        it.rest.get("x")
        it.rest.get("x")
    assert all("cookie" not in request.headers for request in it.asked)


# -- what comes back --


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (answer(401, b"no"), AuthError, "the target refuses the credentials .no"),
        (answer(403, b"permission check failed"), DeniedError, "permission check failed"),
        (answer(404), StatusError, "no reason given .status 404"),
        (answer(400, b"ENOENT: No such file\n"), StatusError, r"ENOENT: No such file \(status 400"),
        (answer(500, b"\xff\x00\x1b[2J"), StatusError, r"\ufffd \[2J"),
        (answer(302, b"", "location: http://elsewhere/"), StatusError, "status 302"),
        (answer(414), StatusError, "status 414"),
        (answer(200), ProtocolError, "an empty answer"),
        (answer(200, b"<html>It works!</html>"), ProtocolError, "It works!"),
        (answer(200, b"null"), ProtocolError, "null"),
        (answer(200, b'{"other": 1}'), ProtocolError, "other"),
        (answer(200, b"[" * 100_000), ProtocolError, r"\[\["),
        (answer(200, b"\xff\xff"), ProtocolError, "not that of a Proxmox Backup Server"),
        (b"garbage\r\n\r\n", ProtocolError, "is it a Proxmox Backup Server"),
        # The line broke, before the answer or within it.
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nshort", ConnectError, "closed the conn"),
        (b"HTTP/1.1 200 OK\r\ncontent-len", ConnectError, "closed the connection"),
        (b"", ConnectError, "closed the connection"),
        (answer(200, b"no gzip", "content-encoding: gzip"), ProtocolError, "is it a Proxmox"),
    ],
)
def test_errors_say_what_was_asked(
    identity: Identity, reply: bytes, error: type[PbsPushError], message: str
) -> None:
    def script(line: Line) -> None:
        read_request(line)
        line.send(reply)

    with world(identity, script, raw=True) as it, pytest.raises(error, match=message) as caught:
        it.rest.get("some/path")
    text = str(caught.value)
    assert type(caught.value) is error
    assert text.startswith(f"GET some/path at 127.0.0.1:{it.server.port}: ")
    assert SECRET not in text
    assert "\x1b" not in text


# -- answers that are too much --


def deflated(body: bytes, window_bits: int = zlib.MAX_WBITS) -> bytes:
    deflate = zlib.compressobj(wbits=window_bits)
    return deflate.compress(body) + deflate.flush()


ANSWER = json.dumps({"data": list(range(5000))}).encode()
DEFLATE = "Content-Encoding: deflate"


@pytest.mark.parametrize(
    "reply",
    [
        answer(200, ANSWER),
        answer(200, ANSWER, "content-encoding: Identity"),
        answer(200, deflated(ANSWER), DEFLATE),
        answer(200, deflated(ANSWER, -zlib.MAX_WBITS), DEFLATE),
    ],
)
def test_answers_may_be_compressed(identity: Identity, reply: bytes) -> None:
    with world(identity, lambda _: reply) as it:
        assert it.rest.get("x") == list(range(5000))
    assert it.asked[0].headers["accept-encoding"] == "deflate"


def endless(head: bytes, piece: bytes) -> Script:
    """An answer that only ends when the client hangs up."""

    def script(line: Line) -> None:
        read_request(line)
        line.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n" + head + b"\r\n")
        while True:
            line.send(b"%x\r\n%b\r\n" % (len(piece), piece))

    return script


def bomb() -> bytes:
    """A small part of a body that never ends, and is large."""
    deflate = zlib.compressobj()
    return deflate.compress(bytes(8 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (endless(b"", b" " * 4096), "it is longer than 1 MiB"),
        (endless(b"content-length: 7\r\n", b" " * 4096), "GET x at 127"),
        (endless(DEFLATE.encode() + b"\r\n", bomb()), "it is longer than 1 MiB"),
        (http(lambda _: answer(200, b" " * (2 << 20)), []), "it is longer than 1 MiB"),
        (http(lambda _: answer(500, b" " * (2 << 20)), []), "it is longer than 1 MiB"),
        (http(lambda _: answer(200, deflated(bytes(8 << 20)), DEFLATE), []), "than 1 MiB"),
        (http(lambda _: answer(200, deflated(ANSWER)[:-9], DEFLATE), []), "is cut"),
        (http(lambda _: answer(200, b"\x78 no", DEFLATE), []), "not usable"),
        (
            http(lambda _: answer(200, gzip.compress(ANSWER), "content-encoding: gzip"), []),
            "encoded as 'gzip', which was not asked for",
        ),
        (
            http(lambda _: answer(200, b"", "content-encoding: " + "x" * 4000), []),
            "encoded as 'x{40}…', which",
        ),
        (http(lambda _: answer(302, b"", "location: https://xn--a/"), []), "is it a Proxmox"),
    ],
)
def test_an_answer_cannot_fill_our_memory(
    identity: Identity, script: Script, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_module, "MAX_ANSWER_BYTES", 1 << 20)
    with (
        world(identity, script, raw=True) as it,
        pytest.raises(ProtocolError, match=message) as caught,
    ):
        it.rest.get("x")
    assert str(caught.value).startswith("GET x at 127.0.0.1:")


def test_what_is_inflated_at_once_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_module, "MAX_RATIO", 10_000)
    bomb = deflated(bytes(256 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="longer than 1 MiB"):
            b"".join(rest_module._decoded("deflate", [bomb], 1 << 20))
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_a_large_listing_passes(identity: Identity) -> None:
    groups = [
        {
            "backup-type": "vm",
            "backup-id": str(number),
            "last-backup": 1_795_000_000,
            "files": [MANIFEST_NAME],
        }
        for number in range(20_000)
    ]
    with world(identity, lambda _: data(groups)) as it:
        assert len(it.api.groups_by_name(Namespace())) == 20_000


def test_groups_by_name_leave_out_what_is_no_group(identity: Identity) -> None:
    items = [{"backup-type": kind, "backup-id": "1"} for kind in ("vm", "tape", "ct")]
    with world(identity, lambda _: data(items)) as it:
        found = it.api.groups_by_name(Namespace())
    assert {str(group): item.backup_type for group, item in found.items()} == {
        "vm/1": "vm",
        "ct/1": "ct",
    }


def closes(_line: Line) -> None:
    pass


def closes_after_the_request(line: Line) -> None:
    read_request(line)


def resets(line: Line) -> None:
    read_request(line)
    line.reset()


@pytest.mark.parametrize("script", [closes, closes_after_the_request, resets])
def test_a_broken_line_is_told(identity: Identity, script: Script) -> None:
    with (
        world(identity, script, raw=True) as it,
        pytest.raises((ConnectError, ProtocolError), match="GET x at 127") as caught,
    ):
        it.rest.get("x")
    assert SECRET not in str(caught.value)


def test_no_answer_in_time(identity: Identity) -> None:
    with (
        world(identity, Line.read_to_the_end, raw=True, timeout_s=0.2) as it,
        pytest.raises(ConnectError, match=r"GET x at 127.*has not answered for 0\.2 s"),
    ):
        it.rest.get("x")


def test_no_server_and_no_tls(identity: Identity) -> None:
    with Server(identity, lambda line: line.send(b"220 mail\r\n"), tls=False) as server:
        repository = Repository.parse(server.repository)
        with (
            Rest(repository, TrustContext(identity.fingerprint)) as rest,
            pytest.raises((TlsError, ConnectError), match=r"127\.0\.0\.1"),
        ):
            rest.get("x")
    with Rest(repository, TrustContext(identity.fingerprint)) as rest:
        with pytest.raises(ConnectError, match="refused"):
            rest.get("x")
        with pytest.raises(ConnectError, match="logging in to"):
            rest.login("me@pbs", SECRET)


@pytest.mark.parametrize("host", ["\u2603", "\u00e9" * 80])
def test_a_host_that_cannot_be_written_is_no_name(host: str) -> None:
    with pytest.raises(InvalidName, match="not a host name"):
        Target(f"me@pbs@{host}:store1", SECRET)


def test_a_host_is_written_in_ascii() -> None:
    with Target("me@pbs!t@bücher.example:store1", SECRET, bytes(32)) as target:
        assert target.rest.host == "xn--bcher-kva.example"
        view = target.transport().send()
        assert view is not None
        view.release()


def test_odd_lists_are_errors(identity: Identity) -> None:
    replies: list[object] = [None, {}, [{}], [{"ns": 7}], [{"ns": "../x"}], [{"ns": "a//b"}], ["a"]]
    with world(identity, lambda _: data(replies[0])) as it:
        while replies:
            with pytest.raises(ProtocolError):
                it.api.namespaces(Namespace())
            with pytest.raises(ProtocolError, match="groups"):
                it.api.groups(Namespace())
            with pytest.raises(ProtocolError):
                it.api.features()
            replies.pop(0)


def test_reasons_are_one_short_line() -> None:
    assert shown_reason(b"  two\r\n  lines\t\x00 and\x1b[0m  ") == "two lines and [0m"
    assert shown_reason(b"x" * 1000) == "x" * 500 + "…"
    assert shown_reason(b"\xc3\xa4 \xff") == "ä \ufffd"
    for status in (HTTPStatus.OK, HTTPStatus.NO_CONTENT):
        raise_for_status("asking", status, b"")
    with pytest.raises(StatusError) as caught:
        raise_for_status("asking", 418, b"tea")
    assert (caught.value.request, caught.value.status, caught.value.text) == ("asking", 418, "tea")


# -- the round trip --


class _Clock:
    """Time that passes only where a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_the_round_trip_is_that_of_a_request_and_not_of_a_connection(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = _Clock()
    monkeypatch.setattr(rest_module, "time", clock)
    answers_after = iter((0.5, 0.25, 0.75))

    def slow(line: Line) -> None:
        clock.now += 3.0  # the client waits for the handshake all the while
        line.start_tls()
        if read_request(line) is not None:
            clock.now += next(answers_after)
            line.send(data(None, "connection: close"))

    asked: list[float] = []
    with Server(identity, slow, tls=False) as server:
        repository = Repository.parse(server.repository)
        with Rest(repository, TrustContext(identity.fingerprint)) as rest:
            for _ in range(3):
                rest.get("some/path")
                asked.append(rest.round_trip_s)
    assert server.connections == 3
    assert asked == [0.5, 0.25, 0.25]


def test_no_traceback_shows_what_was_sent_back(identity: Identity) -> None:
    def script(line: Line) -> None:
        asked = read_request(line)
        assert asked is not None
        line.send(f"HTTP/1.1 {asked.headers['authorization']}\r\n\r\n".encode())

    with world(identity, script, raw=True) as it, pytest.raises(ProtocolError) as caught:
        it.rest.get("x")
    told = "".join(traceback.format_exception(caught.value))
    assert SECRET not in told
    assert quote(SECRET, safe="") not in told
