"""``pbs-push serve``."""

from __future__ import annotations

import functools
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
from tests.own_host import COMMAND

from pbs_push.cli import serving
from pbs_push.cli.values import Address
from pbs_push.errors import ConfigError
from pbs_push.target import create_datastore

from .conftest import Cli
from .test_app import process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_printed_command_pushes(
    tmp_path: Path, small_source: Path, number: signal.Signals
) -> None:
    target = create_datastore(tmp_path / "offsite", all_chunk_folders=False)
    with process("serve", target) as server:
        assert server.stdout is not None
        lines = []
        for line in server.stdout:
            lines.append(line)
            if "pbs-push push" in line:
                break
        command = "".join(lines[lines.index("\n", 4) + 1 :]).replace("\\\n", " ")
        words = shlex.split(command)
        environment = dict(word.split("=", 1) for word in words[:2])
        assert words[2:5] == ["pbs-push", "push", "SOURCE"]
        done = subprocess.run(
            [*COMMAND, "push", small_source, words[5], "--ns", "lab"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        server.send_signal(number)
        _, err = server.communicate()
    assert (server.returncode, err) == (0, "stopped\n")
    assert (target / "ns/a/ns/b/host/deep").is_dir()


@pytest.fixture
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = functools.partial(create_datastore, all_chunk_folders=False)
    monkeypatch.setattr(serving, "create_datastore", quick)
    monkeypatch.setattr(serving, "wait_for_signal", lambda: None)


@pytest.mark.usefixtures("_without_waiting")
def test_directories(cli: Cli, tmp_path: Path) -> None:
    new = tmp_path / "new" / "store"
    done = cli("serve", new).succeeded()
    assert f"making a datastore in {new}" in done.err
    assert "repository   root@pam!push@127.0.0.1:" in done.out
    assert ":store\n" in done.out
    assert "making" not in cli("serve", new).succeeded().err

    empty = tmp_path / "an empty one"
    empty.mkdir()
    done = cli("serve", empty).succeeded()
    assert ":store\n" in done.out
    assert (empty / ".chunks").is_dir()
    assert ":mine\n" in cli("serve", empty, "--store-name", "mine").succeeded().out
    cli("serve", empty, "--store-name", "a b").failed(2, "'a b' is not a datastore name")

    full = tmp_path / "full"
    full.mkdir()
    (full / "letter").touch()
    cli("serve", full).failed(1, str(full), "neither a datastore nor an empty directory")
    cli("serve", full / "letter").failed(1, "letter")
    assert sorted(full.iterdir()) == [full / "letter"]


@pytest.mark.usefixtures("_without_waiting")
def test_a_new_secret_each_time(cli: Cli, tmp_path: Path) -> None:
    secrets = set()
    for _ in range(2):
        out = cli("serve", tmp_path / "store").succeeded().out
        (line,) = (line for line in out.splitlines() if line.startswith("secret "))
        secrets.add(line)
    assert len(secrets) == 2


@pytest.mark.usefixtures("_without_waiting")
def test_listen(cli: Cli, tmp_path: Path) -> None:
    store = tmp_path / "store"
    done = cli("serve", store, "--listen", "0.0.0.0:0").succeeded()
    assert "pbs-push: warning: whoever reaches " in done.err
    assert "0.0.0.0" not in done.out  # noqa: S104  (the machine's name instead)
    assert "warning" not in cli("serve", store, "--listen", "localhost:0").succeeded().err
    cli("serve", store, "--listen", "192.0.2.1:0").failed(2, "192.0.2.1", "cannot listen")
    cli("serve", store, "--listen", "1.2.3.4:x").failed(2, "1.2.3.4:x")


@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        ("127.0.0.1:0", Address("127.0.0.1", 0), True),
        ("127.1.2.3", Address("127.1.2.3", 8007), True),
        ("localhost:99", Address("localhost", 99), True),
        ("[::1]:8008", Address("::1", 8008), True),
        ("[::]", Address("::", 8007), False),
        ("pbs.example.org:1", Address("pbs.example.org", 1), False),
    ],
)
def test_addresses(text: str, address: Address, loopback: bool) -> None:
    assert Address.parse(text) == address
    assert address.is_loopback == loopback


@pytest.mark.parametrize("text", ["", ":1", "::1", "a:b", "a:65536", "[x]:1", "a b"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST"):
        Address.parse(text)
