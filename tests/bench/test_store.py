from __future__ import annotations

import random
import re
import shutil
import threading
from pathlib import Path

import pytest

from pbs_push.bench import store
from pbs_push.bench.store import READERS, StoreBench, sample_chunks
from pbs_push.errors import Cancelled, SourceError
from pbs_push.source.datastore import Datastore


@pytest.fixture
def datastore(sample_datastore: Path) -> Datastore:
    return Datastore(sample_datastore)


def chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311


def chunk_files(datastore: Datastore) -> set[Path]:
    return {path for path in datastore.chunk_path.glob("*/*") if path.is_file()}


def sample(datastore: Datastore, **limits: int) -> list[store.SampledChunk]:
    return sample_chunks(datastore.chunk_path, chance(7), threading.Event(), **limits)


def test_sample_is_of_the_store_without_repetition(datastore: Datastore) -> None:
    found = sample(datastore)
    paths = {chunk.path for chunk in found}
    assert paths <= chunk_files(datastore)
    assert len(paths) == len(found) > 10
    assert all(chunk.size == chunk.path.stat().st_size for chunk in found)


def test_sample_keeps_to_its_limits(datastore: Datastore) -> None:
    assert len(sample(datastore, most_chunks=5)) == 5
    limited = sample(datastore, most_bytes=1_000_000)
    assert 0 < sum(chunk.size for chunk in limited) <= 1_000_000


def test_samples_differ(datastore: Datastore) -> None:
    first = sample_chunks(datastore.chunk_path, chance(1), threading.Event(), most_chunks=5)
    second = sample_chunks(datastore.chunk_path, chance(2), threading.Event(), most_chunks=5)
    assert {chunk.path for chunk in first} != {chunk.path for chunk in second}


def test_a_folder_gives_only_a_few(tmp_path: Path) -> None:
    folder = tmp_path / "0000"
    folder.mkdir()
    for number in range(50):
        (folder / f"{number:064x}").write_bytes(b"x")
    found = sample_chunks(tmp_path, chance(1), threading.Event())
    assert len(found) < 10


def test_what_is_no_chunk_is_not_read(tmp_path: Path) -> None:
    for name in ("0000", "zzzz", "00"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{0:064x}").write_bytes(b"chunk")
    (tmp_path / "0000" / f"{1:064x}.0.bad").write_bytes(b"bad")
    (tmp_path / "0000" / f"{2:064x}").write_bytes(b"")
    (tmp_path / "0000" / "tmp_x").write_bytes(b"temporary")
    (tmp_path / "0001").write_bytes(b"no folder")
    found = sample_chunks(tmp_path, chance(1), threading.Event())
    assert [chunk.path for chunk in found] == [tmp_path / "0000" / f"{0:064x}"]


def test_a_store_without_chunks_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "0000").mkdir()
    (tmp_path / "0000" / f"{2:064x}").write_bytes(b"")
    with pytest.raises(SourceError, match="holds no chunk with content"):
        sample_chunks(tmp_path, chance(1), threading.Event())
    with pytest.raises(SourceError, match="No such file"):
        sample_chunks(tmp_path / "no", chance(1), threading.Event())


def test_figures(datastore: Datastore) -> None:
    told: list[str] = []
    bench = StoreBench(datastore, 0.01, told.append, threading.Event(), chance(3))
    found = bench.measure()
    assert tuple(rate.readers for rate in found.cold) == READERS
    assert tuple(rate.readers for rate in found.warm) == READERS
    assert all(rate.bytes_per_s > 0 < rate.chunks_per_s for rate in found.cold + found.warm)
    assert found.sampled_chunks == len(chunk_files(datastore)) or found.sampled_chunks > 10
    assert found.warm_bytes <= found.sampled_bytes
    assert found.path == str(datastore.path)
    assert [text for text in told if "cold" in text][-1] == "datastore: cold, 16 at once"


def test_the_store_is_only_read(datastore: Datastore) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        return {
            path: (path.stat().st_mtime_ns, path.stat().st_size)
            for path in datastore.path.rglob("*")
        }

    before = state()
    StoreBench(datastore, 0.01, lambda _text: None, threading.Event()).measure()
    assert state() == before


def test_warm_reads_are_limited_to_what_memory_holds(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MOST_WARM_BYTES", 300_000)
    found = StoreBench(datastore, 0.01, lambda _text: None, threading.Event()).measure()
    largest = max(path.stat().st_size for path in chunk_files(datastore))
    assert found.warm_bytes <= max(300_000, largest) < found.sampled_bytes


def test_chunks_that_vanish_meanwhile_are_no_error(sample_datastore: Path, tmp_path: Path) -> None:
    datastore = Datastore(shutil.copytree(sample_datastore, tmp_path / "copy"))

    def collect_garbage(text: str) -> None:
        if text.endswith("cold, 2 at once"):
            for path in sorted(chunk_files(datastore))[::2]:
                path.unlink()

    StoreBench(datastore, 0.01, collect_garbage, threading.Event()).measure()


@pytest.mark.parametrize("every", [True, False])
def test_chunks_that_cannot_be_read_are_left_out(
    sample_datastore: Path, tmp_path: Path, every: bool
) -> None:
    datastore = Datastore(shutil.copytree(sample_datastore, tmp_path / "copy"))
    told: list[str] = []

    def swap(text: str) -> None:
        told.append(text)
        if text.endswith("cold, 1 at once"):
            for path in sorted(chunk_files(datastore))[: None if every else 3]:
                path.unlink()
                path.symlink_to("/etc/hostname")

    bench = StoreBench(datastore, 0.2, swap, threading.Event())
    if every:
        with pytest.raises(SourceError, match=r"read .*symbolic link"):
            bench.measure()
        return
    assert all(rate.bytes_per_s > 0 for rate in bench.measure().cold)
    assert re.search(r"[123] of the \d+ chunk files cannot be read, .*symbolic link", told[-1])


@pytest.mark.parametrize("moment", ["choosing chunks", "cold, 4 at once", "warm, 8 at once"])
def test_cancelled(datastore: Datastore, moment: str) -> None:
    cancelled = threading.Event()

    def notify(text: str) -> None:
        if text.endswith(moment):
            cancelled.set()

    with pytest.raises(Cancelled):
        StoreBench(datastore, 0.01, notify, cancelled).measure()
