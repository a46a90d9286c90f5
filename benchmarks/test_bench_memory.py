"""Peak memory of pushing indexes of millions of entries, each in a fresh process.

Run with ``pytest benchmarks/test_bench_memory.py -s``. ``fresh``: the first push of an archive that
repeats a few chunks; ``known``: another snapshot of an archive of distinct chunks, all of which the
target has, and source and target have the same previous snapshot; ``changed``: one entry in a
hundred has one of a few new chunks instead; ``rotated``: the same, but every
chunk is at another place than before; ``pruned``: as ``known``, but only the target still has the
previous snapshot, so its index has to be downloaded.

The peak counts what is in memory of mapped index files, which the kernel may take back and which is
given back behind each pass; ``anon`` is what it may not, at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from datastores import Store, copy_datastore, write_index_alone
from pbs_push.target import create_datastore
from processes import TOKEN, Helper

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]

ENTRIES = [int(text) for text in os.environ.get("BENCH_ENTRIES", "1000000,4000000").split(",")]
GROUP = "vm/100"
DISTINCT = 16
NEW = 64


def push_in_fresh_process(source: Path, target: Path) -> dict[str, Any]:
    with Helper("target_process.py", target) as server:
        done = subprocess.run(
            [
                sys.executable,
                str(Path(__file__).with_name("pusher.py")),
                str(source),
                str(server.facts["port"]),
                server.facts["fingerprint"],
            ],
            stdout=subprocess.PIPE,
            check=True,
        )
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["exit_status"] == 0, told
    return told


def prepare(source: Path, target: Path, suffix: str, entries: int, history: str) -> None:
    store = Store(source)
    create_datastore(target, all_chunk_folders=False)
    if history == "fresh":
        few = [store.sparse(number).digest for number in range(DISTINCT)]
        write_index_alone(source, GROUP, 0, suffix, b"".join(few) * (entries // DISTINCT))
        return
    rows = np.random.default_rng(1).integers(0, 256, (entries, 32), np.uint8)
    write_index_alone(source, GROUP, 0, suffix, rows.tobytes())
    copy_datastore(source, target, TOKEN)
    if history == "pruned":
        shutil.rmtree(source / GROUP)
    if history == "rotated":
        rows = np.roll(rows, 1, axis=0)
    elif history == "changed":
        new = b"".join(store.sparse(number).digest for number in range(NEW))
        rows[::100] = np.resize(np.frombuffer(new, np.uint8).reshape(-1, 32), rows[::100].shape)
    else:
        rows[[0, 1]] = rows[[1, 0]]  # another archive, of known chunks
    write_index_alone(source, GROUP, 1, suffix, rows.tobytes())


@pytest.mark.parametrize("history", ["fresh", "known", "changed", "rotated", "pruned"])
@pytest.mark.parametrize("entries", ENTRIES)
@pytest.mark.parametrize("suffix", [".fidx", ".didx"])
def test_peak_memory(
    benchmark: BenchmarkFixture, tmp_path: Path, suffix: str, entries: int, history: str
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    prepare(source, target, suffix, entries, history)
    told = benchmark.pedantic(  # type: ignore[no-untyped-call]
        push_in_fresh_process, args=(source, target), rounds=1
    )
    assert told["pushed"] == 1
    figures = {
        "peak_mib": round(told["peak_mib"], 1),
        "before_mib": round(told["base_mib"], 1),
        "anon_mib": round(told["anon_mib"], 1),
        "index_mib": round(entries * (32 if suffix == ".fidx" else 40) / (1 << 20), 1),
        "seconds": round(told["seconds"], 2),
        "cpu_s": round(told["cpu_s"], 2),
        "fallbacks": told["fallbacks"],
    }
    benchmark.extra_info.update(figures, entries=entries, limit_mib_of_1m_entries=150)
    shown = ", ".join(f"{name} {value}" for name, value in figures.items())
    print(f"\n{entries} entries {suffix} {history}: {shown}")
