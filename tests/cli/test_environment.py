"""The target as the environment names it, like for PBS's own client, and credentials of systemd."""

from __future__ import annotations

from pathlib import Path

import pytest

from pbs_push.cli import environment
from pbs_push.cli.credentials import find_key_password, find_secret
from pbs_push.errors import ConfigError
from pbs_push.names import AuthId, Namespace, Repository

from .conftest import Cli, Place

FINGERPRINT = ":".join(["ab"] * 32)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"PBS_REPOSITORY": ""}, None),
        ({"PBS_REPOSITORY": "a@pam!t@h:9000:store"}, "a@pam!t@h:9000:store"),
        ({"PBS_DATASTORE": "store"}, "root@pam@localhost:8007:store"),
        (
            {
                "PBS_DATASTORE": "store",
                "PBS_SERVER": "h",
                "PBS_PORT": "9000",
                "PBS_AUTH_ID": "a@pbs!t",
            },
            "a@pbs!t@h:9000:store",
        ),
        ({"PBS_DATASTORE": "store", "PBS_SERVER": "[::1]"}, "root@pam@[::1]:8007:store"),
        ({"PBS_DATASTORE": "other", "PBS_REPOSITORY": "h:store"}, "root@pam@h:8007:store"),
    ],
)
def test_repository(variables: dict[str, str], expected: str | None) -> None:
    wanted = None if expected is None else Repository.parse(expected)
    assert environment.repository(variables) == wanted


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"PBS_REPOSITORY": "a:b:c:d"}, "PBS_REPOSITORY"),
        ({"PBS_SERVER": "h"}, "PBS_SERVER is set, but neither"),
        ({"PBS_DATASTORE": "store", "PBS_PORT": "x"}, "PBS_PORT"),
        ({"PBS_DATASTORE": "store", "PBS_PORT": "99999"}, "^PBS_PORT: '99999' is not a port"),
        ({"PBS_DATASTORE": "store", "PBS_PORT": "0"}, "^PBS_PORT: "),
        ({"PBS_DATASTORE": "store", "PBS_SERVER": "a b"}, "^PBS_SERVER: 'a b' is not a host"),
        ({"PBS_DATASTORE": "store", "PBS_AUTH_ID": "me"}, "^PBS_AUTH_ID: "),
        ({"PBS_DATASTORE": "s"}, "PBS_DATASTORE"),
    ],
)
def test_what_cannot_be_understood_is_named(variables: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        environment.repository(variables)


def test_namespace_and_fingerprint() -> None:
    assert environment.namespace({}) is None
    assert environment.namespace({"PBS_NAMESPACE": ""}) == Namespace()
    assert environment.namespace({"PBS_NAMESPACE": "a/b"}) == Namespace.parse("a/b")
    with pytest.raises(ConfigError, match="PBS_NAMESPACE"):
        environment.namespace({"PBS_NAMESPACE": "a//b"})
    assert environment.fingerprint({"PBS_FINGERPRINT": FINGERPRINT}) == bytes([0xAB] * 32)
    with pytest.raises(ConfigError, match="PBS_FINGERPRINT"):
        environment.fingerprint({"PBS_FINGERPRINT": "ab"})


@pytest.mark.parametrize("prefix", ["pbs-push.", "proxmox-backup-client."])
def test_credentials_of_systemd(tmp_path: Path, prefix: str) -> None:
    for name, text in {
        "password": "se cret\nmore",
        "encryption-password": "key secret",
        "fingerprint": FINGERPRINT + "\n",
        "repository": "a@pbs!t@h:store\n",
    }.items():
        (tmp_path / f"{prefix}{name}").write_text(text)
    variables = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert environment.repository(variables) == Repository.parse("a@pbs!t@h:store")
    assert environment.fingerprint(variables) == bytes([0xAB] * 32)
    secret = find_secret(AuthId.parse("a@pbs!t"), variables)
    assert secret.get_secret_value() == "se cret"
    found = find_key_password(Path("key"), variables)
    assert found.get_secret_value() == "key secret"
    # A variable comes first.
    first = find_secret(AuthId.parse("a@pbs!t"), {**variables, "PBS_PASSWORD": "other"})
    assert first.get_secret_value() == "other"


def test_credentials_that_cannot_be_read(tmp_path: Path) -> None:
    variables = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert environment.credential("password", variables) is None
    (tmp_path / "pbs-push.password").mkdir()
    with pytest.raises(ConfigError, match=r"pbs-push\.password"):
        environment.credential("password", variables)
    (tmp_path / "pbs-push.fingerprint").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="UTF-8"):
        environment.credential("fingerprint", variables)
    (tmp_path / "pbs-push.repository").write_text("\n")
    assert environment.repository(variables) is None
    (tmp_path / "pbs-push.encryption-password").write_text("")
    with pytest.raises(ConfigError, match="is empty"):
        find_key_password(Path("key"), variables)


def test_the_namespace_of_the_environment_is_the_targets(
    cli: Cli, place: Place, small_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PBS_NAMESPACE", "off/site")
    plan = cli("plan", small_source, place.repository, "--max-depth", 0).succeeded().out
    assert "create   target namespace off/site" in plan
    plan = cli("plan", small_source, place.repository, "--max-depth", 0, "--remote-ns", "").out
    assert "off/site" not in plan
    monkeypatch.setenv("PBS_NAMESPACE", "/")
    cli("plan", small_source, place.repository).failed(2, "PBS_NAMESPACE")


def test_the_target_of_the_environment(
    cli: Cli, place: Place, small_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Repository.parse(str(place.repository))
    for name, value in {
        "PBS_SERVER": there.host,
        "PBS_PORT": str(there.port),
        "PBS_DATASTORE": there.datastore,
        "PBS_AUTH_ID": str(there.auth_id),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PBS_REPOSITORY", raising=False)
    out = cli("plan", small_source, "--max-depth", 0).succeeded().out
    assert "to send  " in out
