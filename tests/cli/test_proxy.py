"""``--proxy``, the environment's proxy and the node's: every command that talks to a target."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.connect_proxy import NOWHERE, ConnectProxy, refusal

from pbs_push.cli.proxies import is_exempt, proxy_of_environment
from pbs_push.errors import ConfigError

from .conftest import SECRET, Cli, Place, Ran

PASSWORD = "hunter2"
THERE = f"root@pam!push@{NOWHERE}:8007:offsite"


@pytest.fixture
def proxy(place: Place) -> Iterator[ConnectProxy]:
    with ConnectProxy(place.server.address, f"joe:{PASSWORD}") as made:
        yield made


@pytest.fixture
def etc(tmp_path: Path, place: Place, small_source: Path, proxy: ConnectProxy) -> Path:
    """A host that reaches its remote through its proxy alone."""
    folder = tmp_path / "etc"
    folder.mkdir()
    secret = base64.b64encode(SECRET.encode()).decode()
    head = f"\thost {NOWHERE}\n\tauth-id root@pam!push\n\tpassword {secret}\n"
    (folder / "remote.cfg").write_text(
        f"remote: far\n{head}\tfingerprint {place.fingerprint}\n\tuse-node-proxy 1\n"
    )
    (folder / "datastore.cfg").write_text(f"datastore: here\n\tpath {small_source}\n")
    (folder / "sync.cfg").write_text(
        "sync: j\n\tstore here\n\tremote far\n\tremote-store offsite\n\tsync-direction push\n"
        "\towner root@pam\n"
    )
    (folder / "node.cfg").write_text(f"# the node\nemail-from: a@b\nhttp-proxy: {proxy.url}\n")
    return folder


def unseen(ran: Ran) -> Ran:
    """A run that has shown nothing of the proxy's login."""
    assert PASSWORD not in ran.out + ran.err
    assert "joe" not in ran.out + ran.err
    return ran


# -- commands --


def test_every_command_goes_through_it(
    cli: Cli, place: Place, proxy: ConnectProxy, small_source: Path
) -> None:
    sides = (small_source, THERE, "--proxy", proxy.url)
    before = 0
    for command in (
        ("check", *sides, "--no-rates"),
        ("plan", *sides),
        ("push", *sides, "--json"),
        ("push", *sides, "--log-json"),
        ("status", *sides),
        ("verify", small_source, "--target", THERE, "--sample", "all", "--proxy", proxy.url),
        ("bench", "--repository", THERE, "--proxy", proxy.url, "--seconds", "0.01", "--json"),
    ):
        unseen(cli(*command)).succeeded()
        assert proxy.tunnels > before, command
        before = proxy.tunnels
    assert place.snapshots()
    assert proxy.tunnels == len(proxy.asked), "a login was asked for twice"
    assert {one.target for one in proxy.asked} == {f"{NOWHERE}:8007"}


def test_check_tells_the_way(cli: Cli, proxy: ConnectProxy, small_source: Path) -> None:
    ran = unseen(cli("check", small_source, THERE, "--proxy", proxy.url, "--no-rates")).succeeded()
    assert f"{NOWHERE}:8007 answers through proxy 127.0.0.1:{proxy.port} (--proxy): " in ran.out


@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"])
def test_the_environment_counts(
    cli: Cli, proxy: ConnectProxy, small_source: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, proxy.url)
    unseen(cli("plan", small_source, THERE)).succeeded()
    assert proxy.tunnels
    proxy.answer = lambda _number: refusal(403)
    ran = unseen(cli("plan", small_source, THERE))
    ran.failed(4, f"through proxy 127.0.0.1:{proxy.port} ({name}): ", "(status 403)")


@pytest.mark.parametrize("by", ["--proxy none", "NO_PROXY", "no_proxy"])
def test_the_direct_way(
    cli: Cli, place: Place, proxy: ConnectProxy, small_source: Path, by: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    if by == "--proxy none":
        cli("push", small_source, place.repository, "--proxy", "none").succeeded()
    else:
        monkeypatch.setenv(by, "example.org,127.0.0.0/8")
        cli("push", small_source, place.repository).succeeded()
    assert not proxy.asked
    assert place.snapshots()


def test_a_variable_that_cannot_be_used(
    cli: Cli, small_source: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"socks5://joe:{PASSWORD}@p:1080")
    ran = unseen(cli("push", small_source, place.repository))
    ran.failed(2, "ALL_PROXY: ", "'socks5' is not supported", "--proxy none")
    monkeypatch.setenv("ALL_PROXY", f"http://joe:{PASSWORD}@")
    unseen(cli("push", small_source, place.repository)).failed(2, "ALL_PROXY: a proxy is written")


@pytest.mark.parametrize("url", [f"socks5://joe:{PASSWORD}@p", f"http://joe:{PASSWORD}@", "None"])
def test_what_is_no_proxy(cli: Cli, small_source: Path, url: str) -> None:
    for command in (("push", small_source, THERE), ("bench",), ("job", "run", "j")):
        ran = unseen(cli(*command, "--proxy", "" if url == "None" else url))
        ran.failed(2, "--proxy")
    cli("bench", "--proxy", "none").failed(2, "--proxy has no effect without a target")
    words = "--proxy has no effect without --target"
    cli("verify", small_source, "--proxy", "none").failed(2, words)


@pytest.mark.parametrize("url", ["joe:hunter2@127.0.0.1:{port}", "127.0.0.1:{port}"])
def test_a_login_that_is_refused(
    cli: Cli, proxy: ConnectProxy, small_source: Path, url: str
) -> None:
    proxy.login = "ann:other"
    ran = unseen(cli("push", small_source, THERE, "--proxy", url.format(port=proxy.port)))
    ran.failed(4, "login" if "@" not in url else "refuses the user or password", "(status 407)")


# -- the node's --


def test_the_nodes_proxy(cli: Cli, place: Place, proxy: ConnectProxy, etc: Path) -> None:
    config = ("--config-dir", etc)
    there = ("--remote", "far", "--remote-store", "offsite")
    unseen(cli("job", "run", "j", *config)).succeeded()
    assert place.snapshots()
    before = proxy.tunnels
    unseen(cli("plan", "here", *there, *config)).succeeded()
    unseen(cli("bench", *there, *config, "--seconds", "0.01")).succeeded()
    assert proxy.tunnels > before
    proxy.answer = lambda _number: refusal(403)
    ran = unseen(cli("job", "run", "j", *config))
    ran.failed(4, f"through proxy 127.0.0.1:{proxy.port} (http-proxy of node.cfg)")


def test_a_job_through_another_proxy(
    cli: Cli, place: Place, proxy: ConnectProxy, etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (etc / "node.cfg").write_text("http-proxy: 127.0.0.1:1\n")
    cli("job", "run", "j", "--config-dir", etc).failed(1, "127.0.0.1:1 (http-proxy of node.cfg)")
    unseen(cli("job", "run", "j", "--config-dir", etc, "--proxy", proxy.url)).succeeded()
    assert proxy.tunnels
    monkeypatch.setenv("NO_PROXY", "*")
    ran = cli("job", "run", "j", "--config-dir", etc)
    ran.failed(1, "127.0.0.1:1 (http-proxy of node.cfg)")  # the node's way is no matter of taste


@pytest.mark.parametrize("text", [None, "", "email-from: a@b\n", "http-proxy: \n"])
def test_a_node_without_a_proxy(
    cli: Cli, proxy: ConnectProxy, etc: Path, text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (etc / "node.cfg").unlink()
    if text is not None:
        (etc / "node.cfg").write_text(text)
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    unseen(cli("job", "run", "j", "--config-dir", etc)).succeeded()
    assert proxy.tunnels


def test_a_node_whose_proxy_is_none(cli: Cli, etc: Path) -> None:
    (etc / "node.cfg").write_text(f"\nhttp-proxy: https://joe:{PASSWORD}@p\n")
    ran = unseen(cli("job", "run", "j", "--config-dir", etc))
    ran.failed(2, "node.cfg:2: key 'http-proxy': ", "'https' is not supported")
    listed = json.loads(unseen(cli("job", "list", "--json", "--config-dir", etc)).out)["jobs"]
    assert "'https' is not supported" in listed[0]["problem"]


# -- which one --


def test_which_variable_counts() -> None:
    both = {"ALL_PROXY": "a", "all_proxy": "b", "HTTPS_PROXY": "c", "https_proxy": "d"}
    for host in "dcba":
        proxy = proxy_of_environment("x", 8007, both)
        assert proxy is not None
        assert proxy.host == host
        both[proxy.origin] = ""
    assert proxy_of_environment("x", 8007, both) is None
    assert proxy_of_environment("x", 8007, {"HTTP_PROXY": "a"}) is None, "it is for http://"
    none = {"ALL_PROXY": "socks5://a", "NO_PROXY": "x"}
    assert proxy_of_environment("x", 8007, none) is None
    with pytest.raises(ConfigError, match="ALL_PROXY: "):
        proxy_of_environment("y", 8007, none)


@pytest.mark.parametrize(
    ("exempt", "host", "is_meant"),
    [
        ("*", "anything", True),
        ("", "x", False),
        ("example.org", "example.org", True),
        ("example.org", "pbs.Example.ORG.", True),
        (".example.org", "pbs.example.org", True),
        ("*.example.org", "pbs.example.org", True),
        ("example.org", "badexample.org", False),
        ("example.org", "example.org.evil", False),
        ("a, b c", "b", True),
        ("a, b c", "c", True),
        ("x:8007", "x", True),
        ("x:443", "x", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.0/8", "10.9.8.7", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.1:8007", "10.0.0.1", True),
        ("0.0.1", "10.0.0.1", False),
        ("2001:db8::/32", "2001:db8::7", True),
        ("2001:db8:0::7", "2001:db8::7", True),
        ("[2001:db8::7]:8007", "2001:db8::7", True),
        ("[2001:db8::7]:1", "2001:db8::7", False),
        ("10.0.0.0/99,x", "10.0.0.1", False),
        ("10.0.0.0/8", "2001:db8::7", False),
        (".", "x", False),
    ],
)
def test_no_proxy(exempt: str, host: str, is_meant: bool) -> None:
    assert is_exempt(exempt, host, 8007) is is_meant


@given(st.text(), st.sampled_from(["pbs.example.org", "10.0.0.1", "2001:db8::7"]))
def test_any_text_is_an_exemption(exempt: str, host: str) -> None:
    assert is_exempt(exempt, host, 8007) in (True, False)
