"""Where secrets come from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pbs_push.cli import credentials
from pbs_push.cli.credentials import find_secret
from pbs_push.errors import ConfigError
from pbs_push.names import ROOT, AuthId

TOKEN = AuthId("root@pam", "push")


def found(**environment: str) -> str:
    return find_secret(TOKEN, environment).get_secret_value()


def test_the_variable_itself() -> None:
    assert found(PBS_PASSWORD="secret") == "secret"
    assert found(PBS_PASSWORD="sec ret\r\nmore") == "sec ret"
    assert found(PBS_PASSWORD=" ä ") == " ä "


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("first\nsecond\n")
    assert found(PBS_PASSWORD_FILE=str(path)) == "first"


def test_a_descriptor() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"through the pipe\nmore")
    os.close(writing)
    assert found(PBS_PASSWORD_FD=str(reading)) == "through the pipe"


def test_a_command() -> None:
    command = "printf '%s\\n' 'from a $HOME command' more"
    assert found(PBS_PASSWORD_CMD=command) == "from a $HOME command"


def test_precedence(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("file")
    reading, writing = os.pipe()
    os.write(writing, b"descriptor")
    os.close(writing)
    environment = {"PBS_PASSWORD_CMD": "echo command"}
    assert found(**environment) == "command"
    environment["PBS_PASSWORD_FILE"] = str(path)
    assert found(**environment) == "file"
    environment["PBS_PASSWORD_FD"] = str(reading)
    assert found(**environment) == "descriptor"
    environment["PBS_PASSWORD"] = "variable"
    assert found(**environment) == "variable"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PBS_PASSWORD", "", "the secret for root@pam!push is empty"),
        ("PBS_PASSWORD_FD", "three", "'three' is not a number"),
        ("PBS_PASSWORD_FD", "9999", "file descriptor 9999: Bad file descriptor"),
        ("PBS_PASSWORD_FD", "9" * 30, "is not a number"),
        ("PBS_PASSWORD_FILE", "/no/such/file", "/no/such/file: No such file"),
        ("PBS_PASSWORD_FILE", "/", "directory"),
        ("PBS_PASSWORD_FILE", "/dev/null", "empty"),
        ("PBS_PASSWORD_CMD", "", "no command"),
        ("PBS_PASSWORD_CMD", "'open", "No closing quotation"),
        ("PBS_PASSWORD_CMD", "/no/such/program hush", "'/no/such/program': No such file"),
        ("PBS_PASSWORD_CMD", "false hush", "'false' ended with status 1"),
        ("PBS_PASSWORD_CMD", "true", "empty"),
        ("PBS_PASSWORD_CMD", r"printf '\377hush'", "not UTF-8"),
    ],
)
def test_errors(name: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError, match=name) as raised:
        found(**{name: value})
    assert words in str(raised.value)
    assert "hush" not in str(raised.value)


class _Terminal:
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(prompt: str, stream: object) -> str:
        asked.append(prompt)
        return "typed"

    monkeypatch.setattr("sys.stdin", _Terminal())
    monkeypatch.setattr(credentials.getpass, "getpass", answer)
    assert find_secret(TOKEN, {}).get_secret_value() == "typed"
    assert find_secret(ROOT, {}).get_secret_value() == "typed"
    assert asked == ["Secret of token root@pam!push: ", "Password of root@pam: "]
    monkeypatch.setattr(credentials.getpass, "getpass", lambda *_, **__: "")
    with pytest.raises(ConfigError, match="nothing was entered"):
        find_secret(TOKEN, {})


def test_no_terminal_to_ask() -> None:
    with pytest.raises(ConfigError, match=r"no secret of token root@pam!push: set PBS_PASSWORD"):
        find_secret(TOKEN, {})


def test_the_secret_is_masked() -> None:
    assert "secret" not in repr(find_secret(TOKEN, {"PBS_PASSWORD": "secret"}))
