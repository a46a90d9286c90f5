"""What one connection makes of a long line that loses packets, with each congestion control.

python lossy.py [--rtt MS] [--seconds N]    needs root: as window.py, whose link it uses

One snapshot of 4 MiB chunks is pushed to the sink over packets of 1,500 bytes; after the seconds
the push is cancelled, and what the sink has received is told.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Final

from pbs_push.errors import Cancelled
from pbs_push.push.engine import Push
from pbs_push.push.options import PushOptions
from pbs_push.remote import tls_stream
from pbs_push.remote.target import Target
from pbs_push.source.datastore import Datastore
from processes import Helper, Json
from sink_push import TOKEN, big_case
from window import FAR, FarLink

LOSSES: Final = (0.0, 0.0001, 0.001, 0.01)
CONTROLS: Final = ("cubic", "reno", "bbr")
MTU: Final = 1500


def measure(rtt_ms: float, seconds: float, loss: float, control: str, widened: int) -> Json:
    """Push for so long, in this process's network."""
    if not widened:
        tls_stream._widen = lambda _connection: None
    FarLink(rtt_ms / 2000, MTU, loss)
    receive = 128 << 20
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as directory,
        Helper("window.py", "--as-sink", receive) as sink,
    ):
        source = Path(directory) / "source"
        big_case(source, 1024)
        repository = f"{TOKEN}@{FAR}:{sink.facts['port']}:sink"
        with Target(repository, "secret", bytes.fromhex(sink.facts["fingerprint"])) as target:
            run = Push(Datastore(source), target, PushOptions(congestion_control=control))
            timer = threading.Timer(seconds, run.cancel)
            timer.start()
            with contextlib.suppress(Cancelled):
                run.run()
            timer.cancel()
        received = max(sink.ask()["wire_bytes"], default=0)
    return {"mib_per_s": received / max(seconds, run.report.seconds) / 2**20}


def main() -> int:
    """Measure each in a network of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rtt", type=float, default=100.0, metavar="MS")
    parser.add_argument("--seconds", type=float, default=15.0, metavar="N")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        loss, control, widened = args.one
        print(json.dumps(measure(args.rtt, args.seconds, float(loss), control, int(widened))))
        return 0
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        print("needs root and /dev/net/tun: it makes a network of its own", file=sys.stderr)
        return 1
    print("| loss | send buffer | " + " | ".join(f"{name}, MiB/s" for name in CONTROLS) + " |")
    print("| ---: | --- |" + " ---: |" * len(CONTROLS))
    for loss in LOSSES:
        for widened, name in ((1, "64 MiB (privileged)"), (0, "the system's")):
            rates = [_rate(args, loss, control, widened) for control in CONTROLS]
            print(f"| {loss:.2%} | {name} | " + " | ".join(rates) + " |", flush=True)
    return 0


def _rate(args: argparse.Namespace, loss: float, control: str, widened: int) -> str:
    command = ["unshare", "-n", sys.executable, __file__, "--rtt", str(args.rtt)]
    command += ["--seconds", str(args.seconds), "--one", str(loss), control, str(widened)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{control}: {done.stderr[-400:]}", file=sys.stderr)
        return "-"
    return f"{json.loads(done.stdout)['mib_per_s']:.2f}"


if __name__ == "__main__":
    sys.exit(main())
