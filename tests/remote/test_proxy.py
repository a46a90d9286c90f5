"""The way through an HTTP proxy: its URL, and what the proxy may say, for both kinds of lines."""

from __future__ import annotations

import base64
import pickle
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.connect_proxy import NOWHERE, ConnectProxy, refusal

from pbs_push import Cancelled, ConfigError, ConnectError, ProtocolError, ProxyError, TlsError
from pbs_push.remote.auth import Secret
from pbs_push.remote.proxy import Proxy
from pbs_push.remote.target import Target
from pbs_push.remote.tls import vouched_for
from pbs_push.remote.tunnel import Tunnel
from pbs_push.remote.webhook import post
from pbs_push.target import Identities, TargetServer, create_datastore

PASSWORD = "hunter2"
TOKEN_SECRET = "the-token's-secret"
THERE = f"{NOWHERE}:8007"


# -- the URL --


@pytest.mark.parametrize(
    ("url", "shown", "login"),
    [
        ("http://proxy:3128", "proxy:3128", None),
        ("HTTP://proxy.example.org:3128/", "proxy.example.org:3128", None),
        ("proxy", "proxy:1080", None),
        (" proxy:80 ", "proxy:80", None),
        ("http://[2001:db8::1]", "[2001:db8::1]:1080", None),
        ("http://joe:hunter2@proxy:80", "proxy:80", b"joe:hunter2"),
        ("http://joe@proxy:80", "proxy:80", b"joe:"),
        ("joe:a@b/c:d@proxy", "proxy:1080", b"joe:a@b/c:d"),
        ("http://j%3Ae:100%25@proxy", "proxy:1080", b"j:e:100%"),
        ("http://@proxy", "proxy:1080", None),
    ],
)
def test_a_url(url: str, shown: str, login: bytes | None) -> None:
    proxy = Proxy.parse(url, "--proxy")
    assert str(proxy) == shown
    assert proxy.label == f"{shown} (--proxy)"
    assert "hunter2" not in repr(proxy)
    coded = None if login is None else "Basic " + base64.b64encode(login).decode()
    assert proxy.authorization == coded
    again = pickle.loads(pickle.dumps(proxy))  # noqa: S301  (our own)
    assert (again, again.authorization) == (proxy, coded)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "https", "ftp", "SOCKS4"])
def test_other_kinds_are_not_supported(scheme: str) -> None:
    with pytest.raises(ConfigError, match=f"'{scheme.lower()}' is not supported, only HTTP"):
        Proxy.parse(f"{scheme}://joe:hunter2@proxy:1080")


@pytest.mark.parametrize(
    "url",
    ["", "http://", "http://joe:hunter2@", "http://p:0", "p:65536", "p:hunter2", "http://p/hunter2",
     "http://[::1", "a b", "http://p?hunter2", "://p", "-p", "http:/p", "http://joe:hunter2@a b"],
)  # fmt: skip
def test_what_is_no_url_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="a proxy is written") as caught:
        Proxy.parse(url)
    assert "hunter2" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_proxy_or_a_mistake(text: str) -> None:
    try:
        proxy = Proxy.parse(text)
    except ConfigError:
        return
    assert Proxy.parse(str(proxy)) == proxy


def test_a_password_that_is_not_utf_8_is_sent_as_it_came() -> None:
    login = b"joe:p\xff".decode("utf-8", "surrogateescape")
    assert Proxy("p", login=Secret(login)).authorization == "Basic am9lOnD/"


# -- the answer, byte by byte --


def tunnel() -> Tunnel:
    return Tunnel(Proxy.parse("joe:hunter2@p:3128"), "x", 8007)


def test_what_is_asked() -> None:
    assert tunnel().request == (
        b"CONNECT x:8007 HTTP/1.1\r\nHost: x:8007\r\n"
        b"Proxy-Authorization: Basic am9lOmh1bnRlcjI=\r\n\r\n"
    )
    assert Tunnel(Proxy("p"), "::1", 1).request.startswith(b"CONNECT [::1]:1 HTTP/1.1\r\n")
    assert Tunnel(Proxy("p"), "bücher.example", 1).request.startswith(b"CONNECT xn--bcher-kva.")


def test_a_yes_in_pieces_behind_interim_answers() -> None:
    one = tunnel()
    said = b"HTTP/1.1 103 x\r\n\r\n" * 3 + b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"
    for at in range(len(said) - 1):
        assert not one.take(said[at : at + 1])
    assert one.take(said[-1:])


@pytest.mark.parametrize(
    "said",
    [b"SSH-2.0-OpenSSH\r\n\r\n",
     b"\x15\x03\x01\x00\x02\x02\x46" * 9, b"HTTP/1.1 200 OK\r\n\r\nmore",
     b"HTTP/1.1 103 x\r\n\r\n" * 9000, b"HTTP/1.1 200 " + b"x" * 70_000, b"\n" * 70_000,
     b"HTTP/1.1 101 x\r\nUpgrade: y\r\n\r\n", b"HTTP/1.1 100 x\r\na: b" + b"c" * 20_000],
)  # fmt: skip
def test_rubbish_is_an_error_and_not_shown(said: bytes) -> None:
    one = tunnel()
    with pytest.raises(ProtocolError, match=r"to x:8007 through proxy p:3128: .* proxy\?$"):
        any(one.take(said[at : at + 4096]) for at in range(0, len(said), 4096))


@given(st.binary(max_size=200), st.integers(1, 50))
def test_whatever_it_says_is_an_error_of_ours(said: bytes, step: int) -> None:
    one = tunnel()
    with suppress(ConnectError, ProtocolError, ProxyError):
        for at in range(0, len(said), step):
            assert not one.take(said[at : at + step])


# -- over real lines --


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TargetServer]:
    store = create_datastore(tmp_path_factory.mktemp("there") / "store", all_chunk_folders=False)
    who = Identities.simple({"root@pam!push": TOKEN_SECRET})
    with TargetServer({"store1": store}, identities=who) as made:
        yield made


@pytest.fixture
def proxy(server: TargetServer) -> Iterator[ConnectProxy]:
    with ConnectProxy(server.address, f"joe:{PASSWORD}") as made:
        yield made


def target_at(
    server: TargetServer, proxy: str, timeout_s: float | None = None, print_: bytes | None = None
) -> Target:
    repository = f"root@pam!push@{THERE}:store1"
    return Target(
        repository, TOKEN_SECRET, print_ or server.fingerprint, timeout_s=timeout_s, proxy=proxy
    )


def by_rest(target: Target) -> None:
    target.api.status()


def by_stream(target: Target) -> None:
    target.connect(threading.Event()).close()


LINES = pytest.mark.parametrize("use", [by_rest, by_stream])
Use = Callable[[Target], None]


@LINES
def test_through(server: TargetServer, proxy: ConnectProxy, use: Use) -> None:
    with target_at(server, proxy.url) as target:
        assert PASSWORD not in repr(target) + repr(target.proxy) + str(target.proxy)
        use(target)
    assert [one.target for one in proxy.asked] == [THERE]
    assert set(proxy.asked[0].headers) == {"host", "proxy-authorization"}
    assert (proxy.tunnels, TOKEN_SECRET.encode() in proxy.seen) == (1, False)


@LINES
def test_the_certificate_is_checked_behind_it(
    server: TargetServer, proxy: ConnectProxy, use: Use
) -> None:
    with (
        target_at(server, proxy.url, print_=bytes(32)) as target,
        pytest.raises(TlsError, match=r"no credentials were sent.*no CA of this system vouches"),
    ):
        use(target)
    assert proxy.tunnels == 2, "whether a CA vouches was not asked through it"


def test_whether_a_ca_vouches_where_the_proxy_fails(
    server: TargetServer, proxy: ConnectProxy
) -> None:
    proxy.answer = lambda _number: refusal(403)
    assert vouched_for(*server.address, proxy=Proxy.parse(proxy.url)) == ""
    assert len(proxy.asked) == 1


SAID: dict[str, tuple[bytes, type[Exception], str]] = {
    "login": (
        refusal(407, "Proxy-Authenticate: Basic"),
        ProxyError, r"it refuses the user or password of its URL \(status 407\)",
    ),
    "another login": (
        refusal(407, "Proxy-Authenticate: Negotiate", "Proxy-Authenticate: NTLM"),
        ProxyError, r"not supported: only Basic is \(status 407\)",
    ),
    "not there": (
        refusal(403),
        ProxyError, r"\(status 403\); allow CONNECT to this host and port 8007 there, or go",
    ),
    "bad gateway": (refusal(502), ConnectError, r"does not reach the target \(status 502\)"),
    "unavailable": (refusal(503), ConnectError, r"does not reach the target \(status 503\)"),
    "gateway timeout": (refusal(504), ConnectError, r"does not reach the target \(status 504\)"),
    "no method": (refusal(405), ProtocolError, r"does not do CONNECT \(status 405\)"),
    "a redirect": (refusal(302, "Location: http://x/"), ProtocolError, r"\(status 302\)"),
    "rubbish": (b"hunter2 hunter2\r\n\r\n", ProtocolError, "its answer is not HTTP"),
    "a yes and more": (refusal(200), ProtocolError, "something behind it"),
    "nothing": (b"", ConnectError, "closed the connection without an answer"),
    "half": (b"HTTP/1.1 200 OK\r\n", ConnectError, "closed the connection without an answer"),
}  # fmt: skip


@LINES
@pytest.mark.parametrize("what", SAID)
def test_what_it_says(server: TargetServer, proxy: ConnectProxy, what: str, use: Use) -> None:
    said, kind, words = SAID[what]
    proxy.answer = lambda _number: said
    with target_at(server, proxy.url) as target, pytest.raises(kind, match=words) as caught:
        use(target)
    text = str(caught.value)
    assert type(caught.value) is kind
    assert f"connecting to {THERE} through proxy 127.0.0.1:{proxy.port}: " in text
    assert PASSWORD not in text
    assert "<html>" not in text
    assert proxy.tunnels == 0


@LINES
def test_it_wants_a_login_that_is_not_given(
    server: TargetServer, proxy: ConnectProxy, use: Use
) -> None:
    with (
        target_at(server, f"http://127.0.0.1:{proxy.port}") as target,
        pytest.raises(ProxyError, match="it wants a login: write its URL as") as caught,
    ):
        use(target)
    assert caught.value.exit_status == 4


@LINES
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 x\r\n\r\n"])
def test_one_that_hangs(
    server: TargetServer, proxy: ConnectProxy, said: bytes, use: Use
) -> None:  # fmt: skip
    proxy.answer, proxy.hang = lambda _number: said, True
    with (
        target_at(server, proxy.url, 0.2) as target,
        pytest.raises(ConnectError, match=r"it has not answered within 0\.2 s \(--timeout\)"),
    ):
        use(target)


@LINES
def test_silence_behind_a_yes(server: TargetServer, use: Use) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        ConnectProxy(mute.getsockname()[:2]) as proxy,
        target_at(server, proxy.url, 0.2) as target,
        pytest.raises(ConnectError, match=rf"{THERE} through proxy 127\.0\.0\.1:\d+ "),
    ):
        use(target)
    assert proxy.tunnels == 1


def test_waiting_for_it_can_be_stopped(server: TargetServer, proxy: ConnectProxy) -> None:
    proxy.answer, proxy.hang = lambda _number: b"", True
    cancelled = threading.Event()
    threading.Timer(0.05, cancelled.set).start()
    with target_at(server, proxy.url) as target, pytest.raises(Cancelled):
        target.connect(cancelled)


@LINES
def test_one_that_resets(server: TargetServer, use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reset() -> None:
            line, _ = listener.accept()
            line.recv(1)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0) + (0,) * 4))
            line.close()

        thread = threading.Thread(target=reset)
        thread.start()
        with (
            target_at(server, f"http://127.0.0.1:{listener.getsockname()[1]}") as target,
            pytest.raises(ConnectError, match=r"the connection to it broke: .*[Rr]eset"),
        ):
            use(target)
        thread.join()


@LINES
def test_one_that_is_not_there(server: TargetServer, use: Use) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        target_at(server, f"joe:{PASSWORD}@127.0.0.1:{port}") as target,
        pytest.raises(ConnectError) as caught,
    ):
        use(target)
    text = str(caught.value)
    assert f"connecting to {THERE} through proxy 127.0.0.1:{port}: the proxy cannot be" in text
    assert "Connection refused" in text
    assert "is its address right?" in text
    assert PASSWORD not in text


@LINES
def test_one_whose_name_nobody_knows(
    server: TargetServer, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(*_: object, **_more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", find)
    with (
        target_at(server, "http://proxy.invalid:3128") as target,
        pytest.raises(
            ConnectError, match=r"proxy\.invalid:3128: the proxy cannot be reached: .*not known"
        ),
    ):
        use(target)


@LINES
def test_one_whose_backlog_is_full(server: TargetServer, use: Use) -> None:
    """A connection that is not made in time, with nobody to say so."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        others = [socket.socket() for _ in range(4)]
        for one in others:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        with (
            target_at(server, f"http://127.0.0.1:{port}", 0.2) as target,
            pytest.raises(ConnectError, match=r"through proxy 127\.0\.0\.1:\d+: "),
        ):
            use(target)
        for one in others:
            one.close()


@LINES
def test_a_target_that_hangs_up_behind_it(server: TargetServer, tmp_path: Path, use: Use) -> None:
    """Which may as well be the proxy: both are named."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def close() -> None:
            line, _ = listener.accept()
            line.recv(1 << 16)
            line.close()

        thread = threading.Thread(target=close)
        thread.start()
        with (
            ConnectProxy(listener.getsockname()[:2]) as proxy,
            target_at(server, proxy.url) as target,
            pytest.raises(ConnectError, match=rf"{THERE} through proxy 127.*closed|broke"),
        ):
            use(target)
        thread.join()


def test_without_a_proxy_the_environment_does_not_count(
    server: TargetServer, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ALL_PROXY", "HTTPS_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    repository = server.repository("store1", "root@pam!push")
    with Target(repository, TOKEN_SECRET, server.fingerprint) as target:
        target.api.status()
        by_stream(target)
    assert not proxy.asked


@pytest.mark.parametrize("url", [f"socks5://joe:{PASSWORD}@p", f"ftp://joe:{PASSWORD}@p"])
def test_a_webhook_where_the_environments_proxy_is_of_another_kind(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(ConfigError, match=r"--webhook at 'hook\.invalid': .*ALL_PROXY") as caught:
        post("http://hook.invalid/", "{}", "application/json")
    assert PASSWORD not in str(caught.value)
