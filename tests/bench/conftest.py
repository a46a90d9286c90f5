"""A target to measure, and requests small enough for tests."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pbs_push.bench import link
from pbs_push.remote.target import Target
from pbs_push.target import Identities, TargetOptions, TargetServer, create_datastore

SECRET = "s3cret-of-the-token"
TOKEN = "root@pam!push"


@dataclass(frozen=True)
class Place:
    """A target server and the folder of its datastore."""

    server: TargetServer
    path: Path

    @property
    def repository(self) -> str:
        return str(self.server.repository("offsite", TOKEN))

    def connect(self) -> Target:
        return Target(self.repository, SECRET, self.server.fingerprint)

    def traces(self) -> list[str]:
        """What a benchmark could have left in the datastore."""
        # Unlike rglob, walk does not mind folders that go meanwhile.
        return sorted(
            f"{folder}/{name}"
            for folder, below, _files in os.walk(self.path)
            for name in below
            if folder.endswith("/host") or name.endswith("Z")
        )

    def is_clean(self) -> bool:
        """Whether nothing of a benchmark is left, or soon will be."""
        for _ in range(200):
            if not self.traces():
                return True
            time.sleep(0.05)  # the target sees the end of a connection when its thread runs
        return False


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    path = create_datastore(tmp_path / "offsite", all_chunk_folders=False)
    (path / "ns" / "tests").mkdir(parents=True)
    server = TargetServer(
        {"offsite": path},
        identities=Identities.simple({TOKEN: SECRET}),
        options=TargetOptions(bad_login_delay_s=0),
    )
    with server:
        yield Place(server, path)


@pytest.fixture
def small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "REQUEST_BYTES", 4096)
    monkeypatch.setattr(link, "CONNECTION_BYTES", 64 << 10)
    monkeypatch.setattr(link, "ALL_BYTES", 256 << 10)
