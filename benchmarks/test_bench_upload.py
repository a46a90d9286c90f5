"""CPU of the pushing process: large chunks beside a plain loop over TLS, and many tiny chunks.

Run with ``pytest benchmarks/test_bench_upload.py -s``. The receiver is another process (sink.py).
Both ways take turns, and medians count, so that other load on the machine hits both.
"""

from __future__ import annotations

import os
import platform
import ssl
import statistics
import time
from typing import TYPE_CHECKING

import pytest

from processes import Helper, cpu_model, cpu_seconds
from sink_push import big_case, tiny_case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

pytestmark = [pytest.mark.benchmark(timer=time.process_time), pytest.mark.timeout(600)]

TOTAL_MIB = int(os.environ.get("BENCH_MIB", "1024"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
TINY_CHUNKS = 20_000


@pytest.fixture
def sink() -> Iterator[Helper]:
    with Helper("sink.py", "http2") as helper:
        yield helper


@pytest.fixture
def dropping() -> Iterator[Helper]:
    with Helper("sink.py", "drop") as helper:
        yield helper


def report(benchmark: BenchmarkFixture, title: str, **facts: object) -> None:
    benchmark.extra_info.update(
        facts, cpu=cpu_model(), python=platform.python_version(), openssl=ssl.OPENSSL_VERSION
    )
    shown = ", ".join(
        f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items()
    )
    print(f"\n{title}: {shown}")


def cpu_of(run: Callable[[], object]) -> float:
    before = cpu_seconds()
    run()
    return cpu_seconds() - before


def test_large_chunks_beside_a_plain_loop(
    benchmark: BenchmarkFixture, tmp_path: Path, sink: Helper, dropping: Helper
) -> None:
    case = big_case(tmp_path / "source", TOTAL_MIB)
    plain: list[float] = []
    ours: list[float] = []

    def plainly() -> None:
        case.warm()
        plain.append(cpu_of(lambda: case.send_plainly(dropping)))

    def pushed() -> None:
        ours.append(cpu_of(lambda: case.push(sink)))

    benchmark.pedantic(  # type: ignore[no-untyped-call]
        pushed, setup=plainly, rounds=ROUNDS, warmup_rounds=1
    )
    plain, ours = plain[1:], ours[1:]  # of the warm-up: first use of much
    gib = case.encoded_bytes / (1 << 30)
    report(
        benchmark,
        f"{TOTAL_MIB} MiB of 4 MiB chunks",
        push_cpu_s_per_gib=statistics.median(ours) / gib,
        plain_cpu_s_per_gib=statistics.median(plain) / gib,
        ratio=statistics.median(o / p for o, p in zip(ours, plain, strict=True)),
        ratios=" ".join(f"{o / p:.2f}" for o, p in zip(ours, plain, strict=True)),
        limit=1.0,
        bytes=case.encoded_bytes,
    )


def test_tiny_chunks(benchmark: BenchmarkFixture, tmp_path: Path, sink: Helper) -> None:
    case = tiny_case(tmp_path / "source", TINY_CHUNKS)
    spent: list[float] = []

    def pushed() -> None:
        spent.append(cpu_of(lambda: case.push(sink)))

    benchmark.pedantic(pushed, rounds=ROUNDS, warmup_rounds=1)  # type: ignore[no-untyped-call]
    report(
        benchmark,
        f"{TINY_CHUNKS} chunks of {case.encoded_bytes // TINY_CHUNKS} bytes",
        cpu_us_per_chunk=1e6 * statistics.median(spent[1:]) / TINY_CHUNKS,
        limit=50.0,
        chunks=TINY_CHUNKS,
    )
