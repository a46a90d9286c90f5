"""A push by threads and by processes: seconds and CPU of the command, and of the target beside it.

    python benchmarks/executors.py [--rounds 3] [--processes 2] [--mib 2048] [--work FOLDER]

Many small snapshots (500 groups of 4), and much content in few groups (4), each to the embedded
target, by the command as it is installed, the ways in turns. The target is of Python, one process,
and runs on the same cores; where it is what one waits for, more processes change nothing.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from datastores import FIXED, Store
from load import Shape, fill
from pbs_push.demo.verify import verify_target
from pbs_push.target.store import create_datastore
from processes import SECRET, TOKEN, Helper, cpu_model

GROUPS: Final = 4
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one push, in seconds."""

    wall_s: float
    cpu_s: float
    target_cpu_s: float


def large(path: Path, mib: int) -> Store:
    """Chunks of 4 MiB that do not compress, in four groups."""
    store = Store(path)
    each = (mib << 20) // FIXED // GROUPS
    for number in range(GROUPS):
        group = f"vm/{number}"
        store.group(group)
        chunks = [store.noise(f"{number} {one}", FIXED) for one in range(each)]
        store.snapshot(group, 0, {"disk.img.fidx": chunks})
    return store


def cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def push(source: Path, there: Path, *options: str) -> Cost:
    """Push to an empty datastore, and compare both."""
    shutil.rmtree(there, ignore_errors=True)
    create_datastore(there, all_chunk_folders=False)
    with Helper("target_process.py", there) as target:
        facts = target.facts
        repository = f"{TOKEN}@127.0.0.1:{facts['port']}:store"
        environment = {
            **os.environ,
            "PBS_PASSWORD": SECRET,
            "PBS_FINGERPRINT": str(facts["fingerprint"]),
        }
        command = [sys.executable, "-m", "pbs_push", "push", str(source), repository, "--quiet"]
        before, used = target.ask(reset=True)["cpu_s"], cpu_of_children()
        began = time.monotonic()
        subprocess.run([*command, *options], check=True, env=environment)
        wall_s = time.monotonic() - began
        cost = Cost(wall_s, cpu_of_children() - used, target.ask()["cpu_s"] - before)
    found = verify_target(source, there)
    if found.problems or found.extra_snapshots:
        raise SystemExit(f"WRONG: {found.problems[:5]}")
    return cost


def measure(what: str, source: Path, there: Path, ways: dict[str, list[str]], rounds: int) -> None:
    """A line of the table for each way: the median of its rounds."""
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, options in ways.items():
            costs[way].append(push(source, there, *options))
    for way, found in costs.items():
        middle = [
            statistics.median(getattr(cost, name) for cost in found)
            for name in ("wall_s", "cpu_s", "target_cpu_s")
        ]
        walls = " ".join(f"{cost.wall_s:.2f}" for cost in found)
        print(f"| {what} | {way} | " + " | ".join(f"{one:.2f}" for one in middle), end="")
        print(f" | {walls} | {os.getloadavg()[0]:.1f} |", flush=True)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--groups", type=int, default=500)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    some = ["--processes", str(asked.processes)]
    ways = {
        "threads": [],
        f"threads, {asked.processes} at once": ["--parallel", str(asked.processes)],
        f"{asked.processes} processes": some,
    }
    print(f"{cpu_model()}; load {os.getloadavg()[0]:.1f} at the beginning\n")
    print("| push | by | seconds | CPU s | target's CPU s | rounds | load |\n|" + " --- |" * 7)
    with tempfile.TemporaryDirectory(dir=asked.work) as folder:
        source, there = Path(folder) / "source", Path(folder) / "target"
        if asked.groups:
            fill(source, Shape(asked.groups, 4, 1))
            measure(f"{asked.groups} groups of 4", source, there, ways, asked.rounds)
            shutil.rmtree(source)
        if asked.mib:
            large(source, asked.mib)
            measure(f"{asked.mib} MiB in {GROUPS}", source, there, ways, asked.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
