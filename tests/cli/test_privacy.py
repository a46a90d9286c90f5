"""What nobody else on the host gets to see of a command's process."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pbs_push.cli import app
from pbs_push.cli.credentials import find_secret
from pbs_push.cli.privacy import PR_SET_DUMPABLE, keep_private, without_secrets
from pbs_push.names import AuthId

from .conftest import Cli

PR_GET_DUMPABLE = 3

_LOOK = """
import ctypes, json, os, resource, sys
from pbs_push.cli import app, main
before = ctypes.CDLL(None).prctl(3)
def looks(arguments=None):
    mask = os.umask(0)
    print(json.dumps([before, ctypes.CDLL(None).prctl(3), mask,
                      resource.getrlimit(resource.RLIMIT_CORE)[0]]))
    return 0
app.run = looks
main()
"""


def test_the_command_cannot_be_dumped_and_makes_private_files() -> None:
    done = subprocess.run([sys.executable, "-c", _LOOK], capture_output=True, check=True)
    assert json.loads(done.stdout) == [1, 0, 0o077, 0]


def test_the_library_leaves_the_process_as_it_is() -> None:
    code = "import pbs_push, pbs_push.cli.privacy, ctypes; print(ctypes.CDLL(None).prctl(3))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"1\n"


def test_what_is_done_to_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    class Library:
        def prctl(self, *arguments: int) -> int:
            calls.append(arguments)
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda _name: Library())
    monkeypatch.setattr(os, "umask", calls.append)
    monkeypatch.setattr(resource, "setrlimit", lambda *what: calls.append(what))
    keep_private()
    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    expected = [0o077, (resource.RLIMIT_CORE, (0, hard)), (PR_SET_DUMPABLE, 0, 0, 0, 0)]
    assert calls == expected


def test_a_program_that_tells_a_secret_gets_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = tmp_path / "environment"
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\nenv > {told}\necho from-the-tool\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PBS_ENCRYPTION_PASSWORD", "s3cret-of-the-key")
    monkeypatch.setenv("PBS_PASSWORD_CMD", str(tool))
    assert find_secret(AuthId.parse("a@pbs")).get_secret_value() == "from-the-tool"
    assert "s3cret" not in told.read_text()
    assert "PBS_PASSWORD_CMD" in told.read_text(), "it may look how it was called"
    assert without_secrets({"PBS_PASSWORD": "x", "PATH": "y"}) == {"PATH": "y"}


@pytest.mark.parametrize("error", [MemoryError(), RecursionError()])
def test_too_little_memory_is_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> int:
        raise error

    monkeypatch.setattr(app.app, "main", fails)
    cli("list", "x").failed(1, "memory" if isinstance(error, MemoryError) else "too deep")
