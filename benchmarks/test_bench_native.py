"""Index files, digest sets and CRC-32 beside what Python, numpy and zlib do with the same bytes.

Run with ``pytest benchmarks/test_bench_native.py -s``. Every ratio comes from one run: the ways to
do a thing take turns, and the best time of each counts, so that other load on the machine hits all.
Python's sets are given ``bytes`` objects that exist already, with their hashes computed.
"""

from __future__ import annotations

import hashlib
import platform
import struct
import time
import zlib
from typing import TYPE_CHECKING

import numpy
import pytest

from pbs_push._native.blob import crc32, crc32_backend
from pbs_push._native.digests import DigestSet
from pbs_push._native.index import open_index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from pytest_benchmark.fixture import BenchmarkFixture

pytestmark = pytest.mark.benchmark

ENTRIES = 262_144
DIGESTS = 1_000_000
HEADER = 4096


def best_seconds(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The best time of each way; they take turns."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def report(benchmark: BenchmarkFixture, title: str, **facts: object) -> None:
    benchmark.extra_info.update(facts, machine=platform.machine(), numpy=numpy.__version__)
    shown = ", ".join(
        f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items()
    )
    print(f"\n{title}: {shown}")


def random_rows(n: int, seed: int) -> NDArray[numpy.uint8]:
    return numpy.random.default_rng(seed).integers(0, 256, (n, 32), numpy.uint8)


def fixed_content() -> bytes:
    magic = hashlib.sha256(b"Proxmox Backup fixed sized chunk index v1.0").digest()[:8]
    sizes = struct.pack("<QQ", ENTRIES << 22, 1 << 22)
    header = (magic.ljust(64, b"\0") + sizes).ljust(HEADER, b"\0")
    return header + random_rows(ENTRIES, 1).tobytes()


def dynamic_content() -> bytes:
    magic = hashlib.sha256(b"Proxmox Backup dynamic sized chunk index v1.0").digest()[:8]
    entries = numpy.zeros((ENTRIES, 40), numpy.uint8)
    entries[:, :8].view("<u8")[:, 0] = numpy.arange(1, ENTRIES + 1) << 22
    entries[:, 8:] = random_rows(ENTRIES, 2)
    return magic.ljust(HEADER, b"\0") + entries.tobytes()


@pytest.mark.parametrize("make", [fixed_content, dynamic_content], ids=["fixed", "dynamic"])
def test_open_and_csum(
    benchmark: BenchmarkFixture, tmp_path: Path, make: Callable[[], bytes]
) -> None:
    content = make()
    path = tmp_path / "archive.idx"
    path.write_bytes(content)
    entries = memoryview(content)[HEADER:]

    def ours() -> bytes:
        with open_index(path) as index:
            return index.csum()

    def hashed() -> bytes:
        return hashlib.sha256(entries).digest()

    assert ours() == hashed()
    best = best_seconds({"ours": ours, "hashlib": hashed}, rounds=25)
    benchmark(ours)
    report(
        benchmark,
        f"open and csum of {ENTRIES} entries ({make.__name__.partition('_')[0]})",
        ratio_to_hashlib=best["ours"] / best["hashlib"],
        limit_at_most=1.1,
        ours_ms=best["ours"] * 1e3,
        hashlib_ms=best["hashlib"] * 1e3,
        bytes=len(entries),
    )


def test_digest_set_inserts(benchmark: BenchmarkFixture) -> None:
    rows = random_rows(DIGESTS, 3)
    as_bytes = [row.tobytes() for row in rows]

    def ours() -> DigestSet:
        digests = DigestSet(DIGESTS)
        digests.insert(rows)
        return digests

    def ours_growing() -> DigestSet:
        digests = DigestSet()
        digests.insert(rows)
        return digests

    best = best_seconds(
        {"ours": ours, "growing": ours_growing, "python": lambda: set(as_bytes)}, rounds=4
    )
    benchmark(ours)
    report(
        benchmark,
        f"insert {DIGESTS} digests",
        times_faster_than_python_set=best["python"] / best["ours"],
        growing_times_faster=best["python"] / best["growing"],
        limit_at_least=5,
        ours_ms=best["ours"] * 1e3,
        python_ms=best["python"] * 1e3,
        mib=ours().nbytes / 2**20,
    )


@pytest.mark.parametrize("known", [True, False], ids=["members", "others"])
def test_digest_set_look_ups(benchmark: BenchmarkFixture, known: bool) -> None:
    rows = random_rows(DIGESTS, 3)
    order = numpy.random.default_rng(4).permutation(DIGESTS)
    asked = rows[order] if known else random_rows(DIGESTS, 5)
    digests = DigestSet(DIGESTS)
    digests.insert(rows)
    python_set = {row.tobytes() for row in rows}
    asked_bytes = [row.tobytes() for row in asked]
    void_rows = rows.view("V32")[:, 0]
    void_asked = asked.view("V32")[:, 0]

    def python() -> list[bool]:
        return [digest in python_set for digest in asked_bytes]

    assert digests.contains(asked).tolist() == python() == [known] * DIGESTS
    best = best_seconds({"ours": lambda: digests.contains(asked), "python": python}, rounds=4)
    numpys = best_seconds({"isin": lambda: numpy.isin(void_asked, void_rows)}, rounds=1)
    benchmark(digests.contains, asked)
    report(
        benchmark,
        f"look up {DIGESTS} digests ({'members' if known else 'others'})",
        times_faster_than_python_set=best["python"] / best["ours"],
        times_faster_than_numpy_isin=numpys["isin"] / best["ours"],
        limit_at_least=5,
        ours_ms=best["ours"] * 1e3,
        python_ms=best["python"] * 1e3,
        isin_ms=numpys["isin"] * 1e3,
    )


@pytest.mark.parametrize("size", [200, 65_536, 4 << 20])
def test_crc32(benchmark: BenchmarkFixture, size: int) -> None:
    data = numpy.random.default_rng(6).bytes(size)
    repeats = max(1, (8 << 20) // size)

    def ours() -> None:
        for _ in range(repeats):
            crc32(data)

    def zlibs() -> None:
        for _ in range(repeats):
            zlib.crc32(data)

    assert crc32(data) == zlib.crc32(data)
    best = best_seconds({"ours": ours, "zlib": zlibs}, rounds=5)
    benchmark(crc32, data)
    gigabytes = repeats * size / 1e9
    report(
        benchmark,
        f"CRC-32 of {size} bytes",
        times_faster_than_zlib=best["zlib"] / best["ours"],
        ours_gb_per_s=gigabytes / best["ours"],
        zlib_gb_per_s=gigabytes / best["zlib"],
        backend=crc32_backend(),
    )
