"""``--timeout``, wherever a target is talked to."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from .conftest import Cli


@pytest.mark.parametrize("text", ["0", "0s", "-1", "2d", "soon", "1e3", ""])
@pytest.mark.parametrize(
    "command",
    [("push", "/", "h:store"), ("plan", "/", "h:store"), ("bench",), ("job", "run", "j")],
)
def test_what_is_none(command: tuple[str, ...], text: str, cli: Cli) -> None:
    cli(*command, "--timeout", text).failed(2, "--timeout")


def test_it_has_no_effect_without_a_target(cli: Cli) -> None:
    cli("bench", "--timeout", "9").failed(2, "--timeout has no effect without a target")


def test_a_server_that_says_nothing(
    source: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PBS_PASSWORD", "s3cret")
    etc = tmp_path / "etc"
    etc.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        there = f"root@pam!push@127.0.0.1:{port}:store1"
        (etc / "datastore.cfg").write_text(f"datastore: here\n\tpath {source}\n")
        (etc / "remote.cfg").write_text(
            f"remote: far\n\thost 127.0.0.1\n\tport {port}\n\tauth-id root@pam!push\n"
            f"\tpassword cGFzc3dvcmQ=\n\tfingerprint {'ab:' * 31}ab\n"
        )
        (etc / "sync.cfg").write_text(
            "sync: j\n\tstore here\n\tremote far\n\tremote-store store1\n\tsync-direction push\n"
            "\towner root@pam\n"
        )
        for command in (
            ("push", "here", there),
            ("plan", "here", there),
            ("push", "here", "--remote", "far", "--remote-store", "store1"),
            ("bench", "--repository", there, "--seconds", "0.01"),
            ("job", "run", "j"),
        ):
            ran = cli(*command, "--config-dir", etc, "--timeout", "0.3s")
            ran.failed(1, f"127.0.0.1:{port}")
            assert "within 0.3 s" in ran.err or "no TLS connection in time" in ran.err, ran
