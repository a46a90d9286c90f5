"""Whole pushes over links of several lengths: seconds, bytes, requests and CPU, as a table.

    python benchmarks/cases.py [--rtt 0,20,50,100] [--cases image,groups] [--quick] [--output FILE]

Source and target are on this machine; pusher, relay and target are processes of their own.
``--list`` tells what the cases are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datastores import Checkpoint, Store, chunk_path, copy_datastore, read_all
from pbs_push.target import create_datastore
from processes import TOKEN, Helper, cpu_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KIB: Final = 1 << 10
MIB: Final = 1 << 20
IMAGE_ENTRIES: Final = 16_384
GROUPS: Final = 100
MOST_S: Final = 600
"""Seconds that one push may take: beyond, something hangs."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of push. ``prepare`` writes the source and what the target has of it already.

    ``peer_s`` is what PBS 4.2's own push took, by round trip in ms, against a real server on this
    kind of machine: figures to know the order of magnitude, not measured here.
    """

    title: str
    prepare: Callable[[Path, Path, bool], None]
    options: tuple[str, ...] = ()
    peer_s: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """What one push took."""

    seconds: float
    up: int
    down: int
    requests: int
    puts: int
    connections: int
    chunks: int
    pusher_cpu_s: float
    target_cpu_s: float
    peak_mib: float


def prepare_image(source: Path, target: Path, _quick: bool) -> None:
    """A 64 GiB image of which every 100th chunk changes; 4 MiB chunks that take 170 bytes."""
    store = Store(source)
    store.group("vm/100")
    image = [store.sparse(number) for number in range(IMAGE_ENTRIES)]
    store.snapshot("vm/100", 0, {"drive-scsi0.img.fidx": image})
    copy_datastore(source, target, TOKEN)
    for position in range(50, IMAGE_ENTRIES, 100):
        image[position] = store.sparse(IMAGE_ENTRIES + position)
    store.snapshot("vm/100", 1, {"drive-scsi0.img.fidx": image})


def prepare_groups(source: Path, target: Path, _quick: bool) -> None:
    """Groups of two small archives; in each, a second snapshot has two new chunks."""
    store, groups = _small_groups(source)
    copy_datastore(source, target, TOKEN)
    for group in groups:
        chunks = [store.noise(f"{group} {number}", 16 * KIB) for number in range(4)]
        chunks[2] = store.noise(f"{group} new", 16 * KIB)
        catalog = [store.noise(f"{group} new catalog", 2 * KIB)]
        store.snapshot(group, 1, {"root.pxar.didx": chunks, "catalog.pcat1.didx": catalog})


def prepare_nothing(source: Path, target: Path, _quick: bool) -> None:
    """The same groups, all pushed before."""
    _small_groups(source)
    copy_datastore(source, target, TOKEN)


def _small_groups(source: Path) -> tuple[Store, list[str]]:
    store = Store(source)
    groups = [f"host/client{number:03}" for number in range(GROUPS)]
    for group in groups:
        store.group(group)
        chunks = [store.noise(f"{group} {number}", 16 * KIB) for number in range(4)]
        catalog = [store.noise(f"{group} catalog", 2 * KIB)]
        store.snapshot(group, 0, {"root.pxar.didx": chunks, "catalog.pcat1.didx": catalog})
    return store, groups


def prepare_big(source: Path, target: Path, quick: bool) -> None:
    """2 GiB (quick: 256 MiB) of incompressible 4 MiB chunks, nothing at the target."""
    _one_archive(source, "drive-scsi0.img.fidx", 4 * MIB, 64 if quick else 512)
    assert target.is_dir()


def prepare_tiny(source: Path, target: Path, _quick: bool) -> None:
    """20,000 chunks of 200 encoded bytes, nothing at the target."""
    _one_archive(source, "root.pxar.didx", 188, 20_000)
    assert target.is_dir()


def prepare_slow(source: Path, target: Path, _quick: bool) -> None:
    """512 chunks of 4 KiB on a disk where every open takes 10 ms."""
    _one_archive(source, "root.pxar.didx", 4 * KIB, 512)
    assert target.is_dir()


def _one_archive(source: Path, archive: str, size: int, count: int) -> None:
    store = Store(source)
    store.group("vm/100")
    chunks = [store.noise(f"chunk {number}", size) for number in range(count)]
    store.snapshot("vm/100", 0, {archive: chunks})
    read_all(chunk_path(source, chunk.digest) for chunk in chunks)


CASES: Final[dict[str, Case]] = {
    "image": Case(
        "64 GiB image, 1 % changed",
        prepare_image,
        peer_s=((0, 0.9), (20, 4.3), (50, 9.6), (100, 18.5)),
    ),
    "groups": Case(
        "100 small groups, one new snapshot each",
        prepare_groups,
        peer_s=((0, 3.3), (20, 31.7), (50, 73.0), (100, 137.6)),
    ),
    "groups-32": Case(
        "the same, 32 groups at once",
        prepare_groups,
        ("--parallel", "32"),
        peer_s=((50, 5.4),),
    ),
    "nothing": Case(
        "nothing new in 100 groups",
        prepare_nothing,
        peer_s=((0, 0.24), (20, 2.4), (50, 5.5), (100, 10.7)),
    ),
    "big": Case("incompressible 4 MiB chunks", prepare_big),
    "tiny": Case("20,000 tiny chunks", prepare_tiny),
    "slow-1": Case(
        "512 chunks, 10 ms to open each, 1 read ahead",
        prepare_slow,
        ("--open-delay-ms", "10", "--read-ahead", "1"),
    ),
    "slow-8": Case("… 8 read ahead", prepare_slow, ("--open-delay-ms", "10", "--read-ahead", "8")),
    "slow-32": Case(
        "… 32 read ahead", prepare_slow, ("--open-delay-ms", "10", "--read-ahead", "32")
    ),
}


class Bench:
    """One case, prepared: source and target in a directory, and the target running."""

    def __init__(self, case: Case, directory: Path, quick: bool) -> None:
        self._case = case
        self._source = directory / "source"
        store = create_datastore(directory / "target", all_chunk_folders=True)
        case.prepare(self._source, store, quick)
        self._checkpoint = Checkpoint.of(store)
        self._target = Helper("target_process.py", store)

    def close(self) -> None:
        """End the target."""
        self._target.close()

    def run(self, rtt_ms: float, bandwidth_mb: float) -> Run:
        """Push once, and bring the target back to what it was. Raises RuntimeError."""
        before = self._target.ask(reset=True)["cpu_s"]
        facts = self._target.facts
        with Helper(
            "relay.py", facts["port"], "--rtt-ms", rtt_ms, "--bandwidth-mb", bandwidth_mb
        ) as relay:
            told = _push(self._source, relay.facts["port"], facts["fingerprint"], self._case)
            line = relay.ask()
        counts = self._target.ask()
        self._checkpoint.restore()
        requests: dict[str, int] = counts["requests"]
        return Run(
            seconds=told["seconds"],
            up=line["up"],
            down=line["down"],
            requests=sum(requests.values()),
            puts=sum(n for kind, n in requests.items() if kind.startswith("PUT")),
            connections=line["connections"],
            chunks=told["sent_chunks"],
            pusher_cpu_s=told["cpu_s"],
            target_cpu_s=counts["cpu_s"] - before,
            peak_mib=told["peak_mib"],
        )


def _push(source: Path, port: int, fingerprint: str, case: Case) -> dict[str, Any]:
    script = Path(__file__).with_name("pusher.py")
    done = subprocess.run(
        [sys.executable, str(script), str(source), str(port), fingerprint, *case.options],
        stdout=subprocess.PIPE,
        check=True,
        timeout=MOST_S,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    if told["problems"] or told["exit_status"]:
        raise RuntimeError(f"{case.title}: the push failed: {told}")
    return told


def median_run(runs: Sequence[Run]) -> Run:
    """The run with the median time."""
    middle = statistics.median_low(run.seconds for run in runs)
    return next(run for run in runs if run.seconds == middle)


HEADS: Final = (
    "case", "RTT ms", "seconds", "PBS 4.2's own push, s", "MB up", "MB down", "requests", "PUTs",
    "connections", "chunks", "CPU s pusher", "CPU s target", "peak MiB",
)  # fmt: skip


def row(case: Case, rtt_ms: float, run: Run) -> str:
    """One line of the table."""
    peer = dict(case.peer_s).get(int(rtt_ms))
    cells = (
        case.title, f"{rtt_ms:g}", f"{run.seconds:.2f}", "" if peer is None else f"{peer:g}",
        f"{run.up / 1e6:.3f}", f"{run.down / 1e6:.3f}", run.requests, run.puts, run.connections,
        run.chunks, f"{run.pusher_cpu_s:.2f}", f"{run.target_cpu_s:.2f}",
        f"{run.peak_mib:.0f}",
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def heading(asked: argparse.Namespace) -> list[str]:
    """What was run, when and on what; and the table's head."""
    now = datetime.now(UTC).strftime("%Y-%m-%d")
    command = f"python benchmarks/cases.py {' '.join(sys.argv[1:])}".rstrip()
    limit = f"{asked.bandwidth_mb:g} MB/s" if asked.bandwidth_mb else "bandwidth unlimited"
    return [
        f"`{command}`, {now}, {cpu_model()}, Python {platform.python_version()}, {limit}, "
        f"median of {asked.repeat}.",
        "",
        "| " + " | ".join(HEADS) + " |",
        "| --- |" + " ---: |" * (len(HEADS) - 1),
    ]


def run_case(case: Case, asked: argparse.Namespace) -> list[str]:
    """All round trips of a case, in turns, and their lines."""
    runs: dict[float, list[Run]] = {rtt: [] for rtt in asked.rtt}
    with tempfile.TemporaryDirectory(prefix="pbs-push-bench-", dir=asked.work) as directory:
        bench = Bench(case, Path(directory), asked.quick)
        try:
            for _ in range(asked.repeat):
                for rtt, found in runs.items():
                    found.append(bench.run(rtt, asked.bandwidth_mb))
        finally:
            bench.close()
    return [row(case, rtt, median_run(found)) for rtt, found in runs.items()]


def folder(text: str) -> Path:
    """An existing folder."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: there is no such folder")
    return Path(text)


def new_file(text: str) -> Path:
    """A file that can be written when all is done."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        reason = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise argparse.ArgumentTypeError(f"{text}: {reason}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text}: may not be written")
    return path


def numbers(text: str) -> list[float]:
    """Numbers, with commas between them."""
    return [float(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    """Names of cases, with commas between them."""
    for name in text.split(","):
        if name not in CASES:
            raise argparse.ArgumentTypeError(f"{name!r}: no such case; --list tells them")
    return text.split(",")


def main() -> None:
    """Run the cases asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rtt", type=numbers, default="0,20,50,100", help="round trips in ms")
    parser.add_argument("--cases", type=names, default=",".join(CASES), help="which, by name")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each; the median counts")
    parser.add_argument("--bandwidth-mb", type=float, default=0.0, help="MB/s each way")
    parser.add_argument("--quick", action="store_true", help="less data in the big case")
    parser.add_argument(
        "--work", type=folder, help="directory for the datastores (default: a temporary one)"
    )
    parser.add_argument("--output", type=new_file, help="also write the table to this file")
    parser.add_argument("--list", action="store_true", help="only tell what there is")
    asked = parser.parse_args()
    if asked.list:
        for name, case in CASES.items():
            print(f"{name:10} {case.title}: {case.prepare.__doc__}")
        return
    lines = heading(asked)
    print("\n".join(lines), flush=True)
    for name in asked.cases:
        for line in run_case(CASES[name], asked):
            print(line, flush=True)
            lines.append(line)
    if asked.output is not None:
        asked.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
