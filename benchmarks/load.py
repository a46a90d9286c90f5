"""Many groups, snapshots and namespaces at once: does it hold, and at what cost?

    python benchmarks/load.py [--groups 500] [--snapshots 20] [--namespaces 20] [--parallel 48]

Pushes all of it to the embedded target, pushes again with nothing new, with one new snapshot in
each group, and after half of the snapshots were pruned at the source. After each push both stores
are compared, file by file and chunk by chunk; it ends with 1 where they differ. The target is of
Python, and runs on the same cores: its share of the CPU is in the table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from datastores import Store
from pbs_push.demo.verify import verify_target
from pbs_push.names import Namespace
from pbs_push.target.store import create_datastore
from processes import Helper, cpu_model

CHUNK_BYTES: Final = 2_000
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """How much there is: ``groups`` in all, spread over ``namespaces``."""

    groups: int
    snapshots: int
    namespaces: int

    def place(self, number: int) -> tuple[Namespace, str]:
        """The namespace and name of a group. Every third namespace lies below the one before."""
        which = number % self.namespaces
        below = f"n{which - 1}/" if which % 3 == 2 else ""
        return Namespace.parse(f"{below}n{which}"), f"host/client{number:05}"


def write_snapshot(store: Store, shape: Shape, number: int, day: int) -> None:
    """One with a chunk of its own, one of its group's, and one that all have."""
    namespace, group = shape.place(number)
    labels = (f"{number} {day}", f"{number}", "all")
    chunks = [store.noise(label, CHUNK_BYTES) for label in labels]
    archives = {"root.pxar.didx": chunks[:2], "catalog.pcat1.didx": chunks[2:]}
    blobs = {"host.conf.blob": f"{number} {day}\n".encode() * 9}
    store.snapshot(group, day, archives, blobs, namespace)


def fill(path: Path, shape: Shape) -> Store:
    """The source."""
    store = Store(path)
    for number in range(shape.groups):
        namespace, group = shape.place(number)
        store.group(group, namespace)
        for day in range(shape.snapshots):
            write_snapshot(store, shape, number, day)
    return store


def prune(path: Path, shape: Shape) -> None:
    """Half of each group's snapshots go, the older ones."""
    for number in range(shape.groups):
        namespace, group = shape.place(number)
        folders = sorted((path / namespace.disk_path / group).glob("*Z"))
        for folder in folders[: len(folders) // 2]:
            shutil.rmtree(folder)


def push(source: Path, target: Helper, *options: str) -> Json:
    """Push in a fresh process; what it took, and what the target counted."""
    before = target.ask(reset=True)["cpu_s"]
    script = Path(__file__).with_name("pusher.py")
    facts = target.facts
    command = [str(source), str(facts["port"]), str(facts["fingerprint"]), *options]
    ran = subprocess.run(
        [sys.executable, str(script), *command], check=True, stdout=subprocess.PIPE, text=True
    )
    said: Json = json.loads(ran.stdout)
    counted = target.ask()
    said["target_cpu_s"] = counted["cpu_s"] - before
    said["requests"] = sum(counted["requests"].values())
    said["connections"] = counted["connections"]
    return said


def show(what: str, said: Json) -> None:
    """A line of the table."""
    rate = said["pushed"] / said["seconds"]
    print(
        f"| {what} | {said['exit_status']} | {said['pushed']} | {said['removed']} | "
        f"{said['seconds']:.1f} | {rate:.0f} | {said['cpu_s']:.1f} | {said['target_cpu_s']:.1f} | "
        f"{said['peak_mib']:.0f} | {said['requests']} | {said['connections']} |",
        flush=True,
    )


def compare(source: Path, target: Path, said: Json) -> bool:
    """Whether both hold the same, and the push said that all went well."""
    report = verify_target(source, target)
    problems = [*report.problems, *said["problems"]]
    if report.extra_snapshots:
        problems.append(f"{report.extra_snapshots} snapshots more at the target")
    if said["exit_status"]:
        problems.append(f"ended with {said['exit_status']}")
    for problem in problems[:20]:
        print(f"WRONG: {problem}", file=sys.stderr)
    return not problems


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--groups", type=int, default=500)
    parser.add_argument("--snapshots", type=int, default=20)
    parser.add_argument("--namespaces", type=int, default=20)
    parser.add_argument("--parallel", type=int, default=48)
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    shape = Shape(asked.groups, asked.snapshots, asked.namespaces)
    parallel = ("--parallel", str(asked.parallel))
    with tempfile.TemporaryDirectory(dir=asked.work) as folder:
        source, there = Path(folder) / "source", Path(folder) / "target"
        create_datastore(there, all_chunk_folders=False)
        began = time.monotonic()
        store = fill(source, shape)
        took_s = time.monotonic() - began
        print(f"{shape}, {asked.parallel} at once; {cpu_model()}; source in {took_s:.0f} s\n")
        print(
            "| push | status | pushed | removed | seconds | snapshots/s | CPU s | target's CPU s | "
            "peak MiB | requests | connections |\n|" + " --- |" * 11
        )
        fine = True
        with Helper("target_process.py", there) as target:

            def run(what: str, *options: str) -> bool:
                said = push(source, target, *parallel, *options)
                show(what, said)
                return compare(source, there, said)

            fine &= run("all")
            fine &= run("nothing new")
            for number in range(shape.groups):
                write_snapshot(store, shape, number, shape.snapshots)
            fine &= run("one new in each group")
            prune(source, shape)
            fine &= run("half pruned at the source", "--remove-vanished")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
