"""A small source to be damaged, and its verification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.push.world import Store

from pbs_push import Datastore, VerifyEvent, VerifyOptions, VerifyReport
from pbs_push.verify.source import SourceVerification

ARCHIVES = {"disk.img.fidx": ("a",), "root.pxar.didx": ("b", "c")}
"""Of most snapshots."""


@dataclass
class Place:
    """A source, and what its verification told."""

    folder: Path
    source: Store
    events: list[VerifyEvent] = field(default_factory=list)

    @property
    def datastore(self) -> Datastore:
        return Datastore(self.source.path, lock_root=self.folder / "run")

    def verification(
        self, listener: Callable[[VerifyEvent], None] | None = None, **options: Any
    ) -> SourceVerification:
        asked = VerifyOptions(**{"parallel": 2, **options})
        return SourceVerification(self.datastore, asked, listener or self.events.append)

    def verify(self, **options: Any) -> VerifyReport:
        return self.verification(**options).run()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, Store(tmp_path / "source"))
