"""CPU that commands take which have next to nothing to do: Python, imports, and a few requests.

python start.py [--repeat N]

Each in a process of its own, user and system time of all its threads; the commands take turns. The
target runs elsewhere and does not count. All is compiled, as pip leaves it.
"""

from __future__ import annotations

import argparse
import base64
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pbs_push.demo.sample import write_sample
from pbs_push.target import create_datastore
from processes import SECRET, TOKEN, Helper

PBS_PUSH: Final = (sys.executable, "-c", "from pbs_push.cli import main; main()")
"""What the script ``pbs-push`` does, wherever that lies."""

NO_BYTECODE: Final = "PYTHONDONTWRITEBYTECODE"
SOURCE_BYTES: Final = 2 << 20


def cpu_seconds_of(command: Sequence[object], environment: Mapping[str, str]) -> float:
    """Run a command that must succeed, and return the CPU that it took."""
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.DEVNULL, env=environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with status {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def write_config(folder: Path, source: Path, port: int, fingerprint: str) -> Path:
    """The configuration of a host with one push job, and no more than that needs."""
    folder.mkdir()
    files = {
        "user.cfg": "user: root@pam\n\tenable 1\n",
        "datastore.cfg": f"datastore: here\n\tpath {source}\n",
        "remote.cfg": f"remote: there\n\thost 127.0.0.1\n\tport {port}\n\tauth-id {TOKEN}\n"
        f"\tpassword {base64.b64encode(SECRET.encode()).decode()}\n\tfingerprint {fingerprint}\n",
        "sync.cfg": "sync: offsite\n\tsync-direction push\n\tstore here\n\tremote there\n"
        "\tremote-store store\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=15, metavar="N")
    repeat = parser.parse_args().repeat
    with tempfile.TemporaryDirectory() as folder:
        source, store = Path(folder, "source"), Path(folder, "store")
        write_sample(source, total_bytes=SOURCE_BYTES)
        create_datastore(store, all_chunk_folders=False)
        with Helper("target_process.py", store) as target:
            port, fingerprint = target.facts["port"], target.facts["fingerprint"]
            repository = f"{TOKEN}@127.0.0.1:{port}:store"
            environment = {
                **{name: value for name, value in os.environ.items() if name != NO_BYTECODE},
                "PBS_PASSWORD": SECRET,
                "PBS_FINGERPRINT": fingerprint,
            }
            config = write_config(Path(folder, "etc"), source, port, fingerprint)
            job = ("--config-dir", config)
            push = (*PBS_PUSH, "push", source, repository, "--quiet")
            cases = {
                "Python alone": (sys.executable, "-c", "pass"),
                "`pbs-push --version`": (*PBS_PUSH, "--version"),
                "`pbs-push --help`": (*PBS_PUSH, "--help"),
                "`pbs-push push --help`": (*PBS_PUSH, "push", "--help"),
                "`pbs-push job list`, no jobs": (*PBS_PUSH, "job", "list"),
                "`pbs-push job list`, a job": (*PBS_PUSH, "job", "list", *job),
                "`pbs-push list SOURCE`": (*PBS_PUSH, "list", source),
                "`pbs-push push`, nothing new": push,
                "`pbs-push job run`, nothing new": (
                    *PBS_PUSH,
                    "job",
                    "run",
                    "offsite",
                    "--quiet",
                    *job,
                ),
            }
            cpu_seconds_of(push, environment)  # all of it; from now on nothing is new
            taken: dict[str, list[float]] = {name: [] for name in cases}
            for turn in range(repeat + 1):
                for name, command in cases.items():
                    seconds = cpu_seconds_of(command, environment)
                    if turn:  # the first one may compile
                        taken[name].append(seconds)
    print("| command | CPU s, median | least |\n| --- | ---: | ---: |")
    for name, seconds in taken.items():
        print(f"| {name} | {statistics.median(seconds):.3f} | {min(seconds):.3f} |")


if __name__ == "__main__":
    main()
