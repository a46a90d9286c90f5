"""What the tests of hostile sides share."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.push.world import Store
from tests.remote.servers import Identity, new_identity

from pbs_push.cli.app import run

from .server import CSRF, SECRET, TICKET


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("pbs-push: error: ")]


Cli = Callable[..., Ran]


@pytest.fixture(scope="session")
def identity() -> Identity:
    return new_identity()


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A datastore with one snapshot: not to be changed."""
    store = Store(tmp_path_factory.mktemp("hostile") / "source")
    store.add("vm/1", 0)
    return store.path


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command, and looks at what no command may ever show."""
    for name in list(os.environ):
        if name.startswith("PBS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PBS_PASSWORD", SECRET)
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def call(*arguments: object) -> Ran:
        capfd.readouterr()
        status = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        for stream in (out, err):
            lines = stream.split("\n")
            assert all(line.isprintable() for line in lines), [
                x for x in lines if not x.isprintable()
            ]
            assert "Traceback" not in stream, stream
            long = max(map(len, lines))
            assert stream is out or long < 1500, "an error is a line that people can read"
            for secret in (SECRET, TICKET, CSRF):
                parts = (secret[at : at + 12] for at in range(len(secret) - 11))
                assert not any(part in stream for part in parts), stream
        return Ran(status, out, err)

    return call
