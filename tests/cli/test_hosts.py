"""Host names: whatever the user or remote.cfg gives, one line says what is wrong with it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pbs_push.errors import ConfigError, PbsPushError
from pbs_push.names import Repository
from pbs_push.remote.target import Target

from .conftest import SECRET, Cli

BAD = ["a..b", "..", ".", "-a", "a" * 64, "a." * 127, "xn--a", "xn--ls8h", "\u2603", "ß..ü"]
HOSTS = st.one_of(
    st.text(max_size=70),
    st.text("ab.-_:[]@%xn0ü", max_size=70),
    st.lists(st.text("abxn-0ü", min_size=0, max_size=70), max_size=5).map(".".join),
    st.text("abxn-0", max_size=20).map("xn--{}".format),
)


@pytest.fixture(autouse=True)
def _no_names_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked up; what the system's function cannot encode it still refuses."""

    def getaddrinfo(host: str, *_: Any, **__: Any) -> None:
        host.encode("idna")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@given(HOSTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_host_ends_in_an_error_of_ours(host: str) -> None:
    try:
        repository = Repository("store1", host)
        again = Repository.parse(str(repository))
    except ConfigError:
        return
    assert again == repository
    with pytest.raises(PbsPushError), Target(repository, SECRET, bytes(32)) as target:
        target.api.status()


@pytest.mark.parametrize("host", BAD)
def test_hosts_that_are_none(cli: Cli, small_source: Path, host: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("PBS_PASSWORD", SECRET)
    cli("push", small_source, f"root@pam!push@{host}:store1").failed(2, "not a host name")


@given(host=HOSTS.filter(lambda text: "\0" not in text))
@example(host="a.b")
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
def test_the_command_never_shows_a_traceback(
    cli: Cli, small_source: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PBS_PASSWORD", SECRET)
    ran = cli("push", small_source, f"root@pam!push@{host}:store1")
    ran.failed(ran.status)
    assert ran.status in {1, 2}


@pytest.mark.parametrize("host", BAD)
def test_hosts_of_the_configuration(
    cli: Cli, tmp_path: Path, small_source: Path, host: str
) -> None:
    (tmp_path / "datastore.cfg").write_text(f"datastore: source1\n\tpath {small_source}\n")
    (tmp_path / "remote.cfg").write_text(
        f"remote: far\n\thost {host}\n\tauth-id root@pam!push\n\tpassword c2VjcmV0\n",
        encoding="utf-8",
    )
    (tmp_path / "sync.cfg").write_text(
        "sync: s1\n\tstore source1\n\tremote far\n\tremote-store store1\n\tsync-direction push\n",
        encoding="utf-8",
    )
    cli("job", "run", "s1", "--config-dir", tmp_path).failed(2, "not a host name")
