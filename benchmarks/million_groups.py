"""A target that lists a million groups: how much memory and time a plan takes.

    .venv/bin/python -m benchmarks.million_groups [NUMBER]

A process of its own lists them over real TLS; this one plans a push of a small datastore.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
import zlib
from pathlib import Path

_TESTS = Path(__file__).parent.parent / "tests"


def _serve(number: int, address: multiprocessing.SimpleQueue[tuple[str, bytes]]) -> None:
    sys.path.insert(0, str(_TESTS))
    from remote.servers import Asked, Line, Server, new_identity, read_request  # noqa: PLC0415
    from remote.test_items import listing  # noqa: PLC0415

    packed = zlib.compress(b"".join(listing(number)), 6)

    def answer(asked: Asked) -> tuple[bytes, str]:
        if asked.path.endswith("/version"):
            return b'{"data":{"version":"4.2","release":"3"}}', ""
        if asked.path.endswith("/namespace"):
            return b'{"data":[{"ns":""}]}', ""
        return packed, "content-encoding: deflate\r\n"

    def script(line: Line) -> None:
        while (asked := read_request(line)) is not None:
            body, more = answer(asked)
            head = f"HTTP/1.1 200 OK\r\n{more}content-length: {len(body)}\r\n"
            line.send(f"{head}connection: close\r\n\r\n".encode() + body)
            return

    with Server(new_identity(), script) as server:
        address.put((server.repository, server.identity.fingerprint))
        time.sleep(3600)


def main() -> None:
    """Print the figures."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    context = multiprocessing.get_context("spawn")
    address = context.SimpleQueue()
    server = context.Process(target=_serve, args=(number, address), daemon=True)
    server.start()
    repository, fingerprint = address.get()

    from pbs_push import Datastore, Push, PushOptions, Target  # noqa: PLC0415
    from pbs_push.target.store import create_datastore  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "source"
        create_datastore(path, all_chunk_folders=False)
        with Target(repository, "secret", fingerprint) as target:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            began = time.monotonic()
            plan = Push(Datastore(path), target, PushOptions()).plan()
            took_s = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{number} groups: {took_s:.1f} s, {peak} MiB at most ({before} MiB before)")
    print(f"problems: {[str(one) for one in plan.problems]}")
    server.terminate()


if __name__ == "__main__":
    main()
