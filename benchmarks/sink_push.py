"""Pushing one snapshot into the sink, in this process: what the CPU benchmarks and profiles run.

python sink_push.py big|tiny|each [ROUNDS]    one case without pytest, to run under a profiler

``each`` is ``tiny`` with a sink that answers each upload by itself, as a real server does.
"""

from __future__ import annotations

import socket
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from datastores import Store, chunk_files, read_all
from pbs_push.push.engine import push
from pbs_push.remote.target import Target
from processes import Helper, cpu_seconds

if TYPE_CHECKING:
    from pbs_push.push.report import Report

CHUNK: Final = 4 << 20
TINY_PLAIN: Final = 188
"""Plain bytes of a tiny chunk: 200 with the blob's header."""
TOKEN: Final = "root@pam!bench"  # a name, no secret


class SinkCase:
    """A datastore with a single snapshot whose chunks are in the page cache."""

    def __init__(self, path: Path, archive: str, sizes: list[int]) -> None:
        store = Store(path)
        group = "vm/100" if archive.endswith(".fidx") else "host/tiny"
        store.group(group)
        chunks = [store.noise(f"chunk {number}", size) for number, size in enumerate(sizes)]
        store.snapshot(group, 0, {archive: chunks})
        self.files: Final = chunk_files(path, chunks)
        self.encoded_bytes: Final = sum(chunk.encoded_size for chunk in chunks)
        self._path: Final = path
        self.warm()

    def warm(self) -> None:
        """Bring the chunks into the page cache, which a busy machine may have emptied."""
        read_all(self.files)

    def push(self, sink: Helper) -> Report:
        """Push the datastore, by the library's own means. Raises RuntimeError if that fails."""
        repository = f"{TOKEN}@127.0.0.1:{sink.facts['port']}:sink"
        with Target(repository, "secret", bytes.fromhex(sink.facts["fingerprint"])) as target:
            report = push(self._path, target)
        if report.exit_status or report.stats.sent_chunks != len(self.files):
            raise RuntimeError(f"the push failed: {report.counts} {report.problems}")
        return report

    def send_plainly(self, sink: Helper) -> None:
        """The baseline: read each file, and write it to an SSLSocket."""
        with plain_connection(sink.facts["port"]) as connection:
            for file in self.files:
                with file.open("rb") as opened:
                    connection.sendall(opened.read())


def plain_connection(port: int) -> ssl.SSLSocket:
    """A TLS connection to a sink that drops, as simple as it gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port)))


def big_case(path: Path, total_mib: int) -> SinkCase:
    """Incompressible chunks of 4 MiB in a fixed index."""
    return SinkCase(path, "drive-scsi0.img.fidx", [CHUNK] * (total_mib // 4))


def tiny_case(path: Path, count: int) -> SinkCase:
    """Chunks of 200 encoded bytes in a dynamic index."""
    return SinkCase(path, "root.pxar.didx", [TINY_PLAIN] * count)


def main() -> None:
    """Run a case some times and print what each run took."""
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with (
        tempfile.TemporaryDirectory() as directory,
        Helper("sink.py", "http2-each" if sys.argv[1] == "each" else "http2") as sink,
    ):
        path = Path(directory) / "source"
        case = big_case(path, 1024) if sys.argv[1] == "big" else tiny_case(path, 20_000)
        for _ in range(rounds):
            began, cpu = time.monotonic(), cpu_seconds()
            sink_cpu = sink.ask()["cpu_s"]
            case.push(sink)
            print(
                f"{time.monotonic() - began:.3f} s, pusher {cpu_seconds() - cpu:.3f} CPU s, "
                f"sink {sink.ask()['cpu_s'] - sink_cpu:.3f}"
            )


if __name__ == "__main__":
    main()
