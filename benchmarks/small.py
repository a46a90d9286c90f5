"""Many small snapshots into the sink: CPU of the pushing process for each, and how many a second.

    python benchmarks/small.py [GROUPS ...] [--parallel N] [--rounds N] [--work DIR]

Each group has one snapshot of two dynamic indexes, a blob and five chunks, none of them at the
target. Both sides run on the same cores.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from datastores import Store
from pbs_push.push.engine import push
from pbs_push.push.options import PushOptions
from pbs_push.remote.target import Target
from processes import SECRET, TOKEN, Helper, cpu_seconds, memory_mib

GROUPS: Final = (100, 400, 1600)
CHUNK_BYTES: Final = 2_000


def write_small_groups(path: Path, groups: int) -> None:
    """A datastore of so many groups."""
    store = Store(path)
    for number in range(groups):
        group = f"host/client{number:05}"
        store.group(group)
        chunks = [store.noise(f"{group} {part}", CHUNK_BYTES) for part in range(5)]
        archives = {"root.pxar.didx": chunks[:4], "catalog.pcat1.didx": chunks[4:]}
        store.snapshot(group, 0, archives, {"host.conf.blob": b"a line of configuration\n" * 20})


def push_all(source: Path, sink: Helper, groups: int, options: PushOptions) -> dict[str, float]:
    """Push it once; milliseconds of CPU per snapshot on both sides, and snapshots a second."""
    repository = f"{TOKEN}@127.0.0.1:{sink.facts['port']}:sink"
    gc.collect()
    sink_cpu = sink.ask()["cpu_s"]
    began, cpu = time.monotonic(), cpu_seconds()
    with Target(repository, SECRET, bytes.fromhex(sink.facts["fingerprint"])) as target:
        report = push(source, target, options)
    seconds, cpu = time.monotonic() - began, cpu_seconds() - cpu
    if report.exit_status:
        raise RuntimeError(f"the push failed: {report.counts} {report.problems}")
    return {
        "pusher_ms": cpu / groups * 1000,
        "sink_ms": (sink.ask()["cpu_s"] - sink_cpu) / groups * 1000,
        "per_s": groups / seconds,
    }


def main() -> None:
    """Print a line for each number of groups: medians of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("groups", type=int, nargs="*", default=GROUPS)
    parser.add_argument("--parallel", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    options = PushOptions(parallel=asked.parallel)
    with tempfile.TemporaryDirectory(dir=asked.work) as folder, Helper("sink.py", "http2") as sink:
        for groups in asked.groups:
            source = Path(folder) / str(groups)
            write_small_groups(source, groups)
            runs = [push_all(source, sink, groups, options) for _ in range(asked.rounds)]
            middle = {name: median(run[name] for run in runs) for name in runs[0]}
            print(
                f"{groups} groups: pusher {middle['pusher_ms']:.2f} ms of CPU a snapshot, "
                f"sink {middle['sink_ms']:.2f}, {middle['per_s']:.0f} a second, "
                f"peak {memory_mib('VmHWM'):.0f} MiB"
            )


if __name__ == "__main__":
    main()
