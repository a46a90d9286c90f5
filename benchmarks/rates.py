"""How well ``--rate-out`` is kept: bytes that the receiver's sockets saw, and how they were shared.

python rates.py [SECONDS [RATE ...]]    rates in bytes a second; 1, 4 and 16 connections each
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from pbs_push.errors import Cancelled
from pbs_push.names import Namespace, Snapshot
from pbs_push.remote.pacing import Pacer
from pbs_push.remote.target import Target
from processes import Helper
from sink_push import TOKEN

if TYPE_CHECKING:
    from pbs_push.remote.session import BackupSession

RATES: Final = (100_000, 300_000, 1_000_000, 10_000_000, 100_000_000)
CONNECTIONS: Final = (1, 4, 16)
BODY: Final = bytes(4 << 20)


def send_on(session: BackupSession) -> None:
    """Keep the session busy until it is cancelled."""
    try:
        while True:
            session.wait([session.speedtest(BODY)])
    except Cancelled:
        session.close()


def measure(rate: int, connections: int, seconds: float) -> list[int]:
    """Bytes that each connection brought to the receiver in so many seconds."""
    with Helper("sink.py", "http2") as sink:
        repository = f"{TOKEN}@127.0.0.1:{sink.facts['port']}:sink"
        with Target(repository, "secret", bytes.fromhex(sink.facts["fingerprint"])) as target:
            pacer = Pacer(rate)
            stop = threading.Event()
            sessions = [
                target.begin_backup(
                    target.connect(stop),
                    Namespace(),
                    Snapshot.parse(f"host/rate{number}/2026-01-01T00:00:00Z"),
                    chunks_path="",
                    transport=target.transport(),
                    pacer=pacer,
                )
                for number in range(connections)
            ]
            threads = [threading.Thread(target=send_on, args=(each,)) for each in sessions]
            for thread in threads:
                thread.start()
            time.sleep(0.5)
            began, first = time.monotonic(), sink.ask()["wire_bytes"]
            time.sleep(seconds)
            elapsed, last = time.monotonic() - began, sink.ask()["wire_bytes"]
            stop.set()
            for thread in threads:
                thread.join()
    return [
        round((after - before) * seconds / elapsed)
        for before, after in zip(first, last, strict=True)
    ]


def main() -> None:
    """Print a line for each rate and number of connections."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    for rate in [int(text) for text in sys.argv[2:]] or RATES:
        for connections in CONNECTIONS:
            counts = measure(rate, connections, seconds)
            fair = sum(counts) / connections
            kept = sum(counts) / seconds / rate
            print(
                f"{rate:>11,} B/s, {connections:>2} connections: {kept:6.1%} of the rate;"
                f" shares {min(counts) / fair:.0%} to {max(counts) / fair:.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
