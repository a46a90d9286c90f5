"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest
import zstandard
from hypothesis import settings
from tests.own_host import be_without_pbs
from tests.references import GOLDEN, REAL

from pbs_push.demo.sample import write_sample
from pbs_push.push import checkpoint_memory, run_lock

be_without_pbs()
# A shell lets what it starts in the background ignore it, and tests of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
# No test asserts a time of the clock: a machine that is busy is slow.
settings.register_profile("pbs-push", deadline=None)
settings.load_profile("pbs-push")


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """Recordings and a datastore of a real PBS; tests that need them skip where they are not."""
    if not (REAL / "expected.json").is_file():
        pytest.skip(f"no recordings of a real PBS at {REAL.parent.name}/{REAL.name}")
    return REAL


@pytest.fixture(scope="session")
def fixture_datastore(fixtures_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real PBS's datastore, unpacked once: copy it before changing anything."""
    folder = tmp_path_factory.mktemp("real")
    with (
        (fixtures_dir / "datastore.tar.zst").open("rb") as packed,
        zstandard.ZstdDecompressor().stream_reader(packed) as unpacked,
        tarfile.open(fileobj=unpacked, mode="r|") as archive,
    ):
        archive.extractall(folder, filter="data")
    return folder / "fixsrc"


@pytest.fixture(scope="session", params=["golden", "real"])
def reference_dir(request: pytest.FixtureRequest) -> Path:
    """What other code than ours has made: the golden set, and a real PBS's where that is."""
    if request.param == "golden":
        return GOLDEN
    found: Path = request.getfixturevalue("fixtures_dir")
    return found


@pytest.fixture(scope="session")
def reference_datastore(
    reference_dir: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The datastore that goes with it: copy it before changing anything."""
    if reference_dir != GOLDEN:
        found: Path = request.getfixturevalue("fixture_datastore")
        return found
    return Path(shutil.copytree(GOLDEN / "datastore", tmp_path_factory.mktemp("own") / "golden"))


@pytest.fixture(scope="session")
def sample_datastore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample datastore of about 6 MiB, written once: copy it before changing anything."""
    folder = tmp_path_factory.mktemp("sample") / "store1"
    write_sample(folder, total_bytes=6 << 20)
    return folder


@pytest.fixture(autouse=True)
def locks_and_state_of_our_own(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that runs on this host has to do with a test."""
    monkeypatch.setattr(run_lock, "OF_ROOT", tmp_path_factory.getbasetemp())
    monkeypatch.setattr(run_lock, "OF_OTHERS", tmp_path_factory.getbasetemp())
    monkeypatch.setattr(checkpoint_memory, "OF_ROOT", tmp_path_factory.getbasetemp() / "state")
    monkeypatch.setattr(checkpoint_memory, "OF_OTHERS", tmp_path_factory.getbasetemp() / "state")
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)


@pytest.fixture
def open_below() -> Callable[[Path], list[str]]:
    """Tells which files below a folder this process has open, those without a name included."""

    def found(folder: Path) -> list[str]:
        names = []
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # the listing's own
                names.append(os.readlink(entry))  # noqa: PTH115 (a path would be resolved further)
        return [name for name in names if name.startswith(f"{folder}/")]

    return found


@pytest.fixture
def no_free_descriptor() -> Callable[[], AbstractContextManager[None]]:
    """Makes each attempt to open another file fail, as at the limit of open files."""

    @contextmanager
    def limited() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free_fd = os.open("/dev/null", os.O_RDONLY)
        os.close(free_fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free_fd, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return limited
