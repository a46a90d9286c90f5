"""CPU and memory of a push under a key, beside the sum of what it is made of.

Run with ``pytest benchmarks/test_bench_encrypt.py -s``. Pushes and parts (parts.py) take turns,
each in a fresh process, into sinks in others; data is in ``/dev/shm`` where there is one. The parts
are counted strictly: SHA-256 once, since the keyed digest goes on from the plain one.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

from datastores import Store, chunk_path
from pbs_push.demo.store_writer import Chunk
from pbs_push.formats.blob import encode_blob
from processes import Helper, cpu_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]

TOTAL_MIB: Final = int(os.environ.get("BENCH_MIB", "1024"))
ROUNDS: Final = int(os.environ.get("BENCH_ROUNDS", "3"))
CHUNK: Final = 4 << 20
WORD: Final = 8
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
LIMITS: Final = {"limit_at_least": 0.85, "limit_mib": 160, "limit_chunks_mib": 64}


@pytest.fixture
def work() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="pbs-push-", dir=MEMORY if MEMORY.is_dir() else None))
    yield path
    shutil.rmtree(path)


def words(number: int) -> bytes:
    """4 MiB that zstd brings to 37 %: words of a small language."""
    rng = np.random.default_rng(7)
    language = rng.integers(0, 256, (2000, WORD), np.uint8)
    text = np.random.default_rng((8, number)).integers(0, len(language), CHUNK // WORD)
    return language[text].tobytes()


def noise(number: int) -> bytes:
    """4 MiB that do not compress."""
    return np.random.default_rng((9, number)).bytes(CHUNK)


def mixed(number: int) -> bytes:
    """Every other chunk of each kind."""
    return words(number) if number % 2 else noise(number)


def write_source(source: Path, content: Callable[[int], bytes]) -> None:
    store = Store(source)
    store.group("vm/100")
    chunks = []
    for number in range(TOTAL_MIB * (1 << 20) // CHUNK):
        plain = content(number)
        digest, blob = hashlib.sha256(plain).digest(), encode_blob(plain)
        path = chunk_path(source, digest)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(blob)
        chunks.append(Chunk(digest, CHUNK, len(blob)))
    store.snapshot("vm/100", 0, {"drive-scsi0.img.fidx": chunks})


def told_by(script: str, *arguments: object) -> dict[str, Any]:
    """What a script of this directory says at its end, run in a process of its own."""
    path = Path(__file__).with_name(script)
    done = subprocess.run(
        [sys.executable, str(path), *map(str, arguments)], stdout=subprocess.PIPE, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("content", [noise, words, mixed], ids=lambda content: content.__name__)
def test_a_push_under_a_key_beside_its_parts(
    benchmark: BenchmarkFixture, work: Path, content: Callable[[int], bytes]
) -> None:
    source = work / "source"
    write_source(source, content)
    pushes: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    with Helper("sink.py", "http2") as sink, Helper("sink.py", "drop") as dropping:

        def take_apart() -> None:
            parts.append(told_by("parts.py", source, dropping.facts["port"]))

        def pushed() -> None:
            to = (sink.facts["port"], sink.facts["fingerprint"])
            pushes.append(told_by("pusher.py", source, *to, "--encrypt"))

        benchmark.pedantic(pushed, setup=take_apart, rounds=ROUNDS)  # type: ignore[no-untyped-call]
    assert all(told["exit_status"] == 0 and told["pushed"] == 1 for told in pushes), pushes
    gib = parts[0]["plain_bytes"] / (1 << 30)
    sums = [sum(told["cpu_s"].values()) for told in parts]
    ours = [told["cpu_s"] for told in pushes]
    ratios = [part / push for part, push in zip(sums, ours, strict=True)]
    figures = {
        "push_cpu_s_per_gib": statistics.median(ours) / gib,
        "parts_cpu_s_per_gib": statistics.median(sums) / gib,
        "ratio": statistics.median(ratios),
        "ratios": " ".join(f"{ratio:.2f}" for ratio in ratios),
        "wall_s_per_gib": statistics.median(told["seconds"] for told in pushes) / gib,
        "peak_mib": max(told["peak_mib"] for told in pushes),
        "base_mib": max(told["base_mib"] for told in pushes),
        "chunks_mib": max(told["chunks_mib"] for told in pushes),
        "encoded": parts[0]["encoded_bytes"] / parts[0]["plain_bytes"],
    }
    each = {
        part: statistics.median(told["cpu_s"][part] for told in parts) / gib
        for part in parts[0]["cpu_s"]
    }
    benchmark.extra_info.update(
        figures, **each, **LIMITS, cpu=cpu_model(), python=platform.python_version()
    )
    shown = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in {**figures, **each}.items()
    )
    print(f"\n{TOTAL_MIB} MiB of {content.__name__}: {shown}")
