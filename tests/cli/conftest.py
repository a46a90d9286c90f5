"""Running commands in this process, and targets for them to push to."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pbs_push.cli.app import run
from pbs_push.demo.sample import write_sample
from pbs_push.target import Identities, TargetOptions, TargetServer, create_datastore

SECRET = "s3cret-of-the-token"
USER_PASSWORD = "s3cret-of-the-user"


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("pbs-push: error: ")]

    def failed(self, status: int, *words: str) -> Ran:
        """Check that it failed with one line that has these words in it, and nothing ugly."""
        assert self.status == status, self
        assert len(self.errors) == 1, self
        for word in words:
            assert word in self.errors[0], self
        assert "Traceback" not in self.err
        return self

    def succeeded(self) -> Ran:
        assert (self.status, self.errors) == (0, []), self
        return self


Cli = Callable[..., Ran]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PBS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no terminal


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    def call(*arguments: object) -> Ran:
        capfd.readouterr()
        status = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert SECRET not in out + err
        assert USER_PASSWORD not in out + err
        return Ran(status, out, err)

    return call


@pytest.fixture(scope="session")
def small_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample datastore of about 2 MiB: not to be changed."""
    folder = tmp_path_factory.mktemp("small") / "source1"
    write_sample(folder, total_bytes=2 << 20)
    return folder


@pytest.fixture
def source(small_source: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(small_source, tmp_path / "source1"))


@dataclass(frozen=True)
class Place:
    """A target and the options that lead to it."""

    server: TargetServer
    path: Path

    @property
    def repository(self) -> str:
        return str(self.server.repository("offsite", "root@pam!push"))

    @property
    def user_repository(self) -> str:
        return str(self.server.repository("offsite", "root@pam"))

    @property
    def fingerprint(self) -> str:
        return self.server.fingerprint.hex(":")

    def snapshots(self) -> set[str]:
        """The folders of all snapshots; one that vanishes meanwhile does not matter to os.walk."""
        return {
            str((Path(folder) / name).relative_to(self.path))
            for folder, names, _ in os.walk(self.path)
            for name in names
            if re.fullmatch(r"\d{4}-.*Z", name)
        }


def identities(**attributes: object) -> Identities:
    secrets = {"root@pam!push": SECRET, "root@pam": USER_PASSWORD}
    return Identities.simple(secrets, **attributes)  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """An empty target; its secret and fingerprint are in the environment."""
    path = create_datastore(tmp_path / "offsite", all_chunk_folders=False)
    options = TargetOptions(bad_login_delay_s=0)
    with TargetServer({"offsite": path}, identities=identities(), options=options) as server:
        monkeypatch.setenv("PBS_PASSWORD", SECRET)
        monkeypatch.setenv("PBS_FINGERPRINT", server.fingerprint.hex(":"))
        yield Place(server, path)
