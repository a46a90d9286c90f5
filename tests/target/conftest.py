"""A target to test against: the datastores, identities and rights of the recordings."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from pbs_push.target import (
    Identities,
    Maintenance,
    TargetOptions,
    TargetServer,
    create_datastore,
)

from .recordings import SECRET, recorded_identities

ALICE, BOB, ALICES_TOKEN = "alice@pbs", "bob@pbs", "alice@pbs!push"

MakeTarget = Callable[..., TargetServer]


@pytest.fixture(scope="session")
def fixsrc_archive(fixtures_dir: Path) -> bytes:
    with (fixtures_dir / "datastore.tar.zst").open("rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file).read()


def unpack(archive: bytes, directory: Path) -> Path:
    """The fixture datastore, below ``directory``."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(directory, filter="data")
    return directory / "fixsrc"


@pytest.fixture
def recorded_target(fixtures_dir: Path, tmp_path: Path) -> Iterator[TargetServer]:
    """Empty ``fixdst`` (with the namespaces proto, open and tok), ``fixmaint`` and ``fixoff``."""
    stores = {}
    for name in ("fixdst", "fixmaint", "fixoff"):
        stores[name] = create_datastore(tmp_path / name, all_chunk_folders=False)
    for namespace in ("proto", "open", "tok"):
        (stores["fixdst"] / "ns" / namespace).mkdir(parents=True)
    options = TargetOptions(bad_login_delay_s=0, compares_manifest=False)
    server = TargetServer(stores, identities=recorded_identities(fixtures_dir), options=options)
    server.maintenance["fixmaint"] = Maintenance("read-only", "disk check")
    server.maintenance["fixoff"] = Maintenance("offline", "gone fishing")
    with server:
        yield server


@pytest.fixture
def recordings(fixtures_dir: Path) -> Path:
    return fixtures_dir / "protocol"


@pytest.fixture
def address(recorded_target: TargetServer) -> tuple[str, int]:
    return recorded_target.address


@pytest.fixture
def make_target(tmp_path: Path) -> Iterator[MakeTarget]:
    """Starts targets with a datastore ``store`` and three identities; arguments as theirs."""
    with contextlib.ExitStack() as stack:
        path = create_datastore(tmp_path / "store", all_chunk_folders=False)

        def make(**more: object) -> TargetServer:
            arguments: dict[str, object] = {
                "identities": Identities.simple(dict.fromkeys((ALICE, BOB, ALICES_TOKEN), SECRET)),
                "options": TargetOptions(bad_login_delay_s=0),
                **more,
            }
            return stack.enter_context(TargetServer({"store": path}, **arguments))  # type: ignore[arg-type]

        yield make


@pytest.fixture
def target(make_target: MakeTarget) -> TargetServer:
    """A target with default options, but bad logins are answered at once."""
    return make_target()
