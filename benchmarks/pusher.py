"""One push in a fresh process; says what it took, and the most that a session held of chunks.

    python pusher.py SOURCE PORT FINGERPRINT [--read-ahead N] [--parallel N] [--open-delay-ms N]
                     [--encrypt] [--remove-vanished]

Starting Python and importing is not counted as time, but counts as memory.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pbs_push.formats.keys import CryptKey
from pbs_push.push.engine import push
from pbs_push.push.options import DEFAULT_READ_AHEAD, PushOptions
from pbs_push.remote.target import Target
from processes import KEY, SECRET, TOKEN, cpu_seconds, memory_mib

if TYPE_CHECKING:
    from pbs_push._native.transport import Transport
    from pbs_push.push.report import Report


class SlowDisk:
    """A transport that opens every chunk file later than it could."""

    def __init__(self, transport: Transport, open_delay_s: float) -> None:
        self._transport = transport
        self._open_delay_s = open_delay_s

    def attach_uploads(self, chunks_fd: int, *, readers: int, buffer_bytes: int) -> None:
        """As the transport's, with the delay."""
        self._transport.attach_uploads(
            chunks_fd, readers=readers, buffer_bytes=buffer_bytes, open_delay_s=self._open_delay_s
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class NotingTarget(Target):
    """A target that keeps the transports of its sessions, which tell what they had in memory."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.transports: list[Transport] = []

    def transport(self) -> Transport:
        transport = super().transport()
        self.transports.append(transport)
        return transport


class SlowDiskTarget(NotingTarget):
    """A target whose sessions read from a slow disk: the delay is made where chunks are read."""

    open_delay_s = 0.0

    def transport(self) -> Transport:
        transport = super().transport()
        return cast("Transport", SlowDisk(transport, self.open_delay_s))


def load_all() -> None:
    """Import what a push imports when it comes to it, which is not its own time (start.py)."""
    for package in ("formats", "push", "remote", "source"):
        name = f"pbs_push.{package}"
        for module in pkgutil.iter_modules(importlib.import_module(name).__path__, f"{name}."):
            importlib.import_module(module.name)
    for name in ("zstandard", "httpcore"):
        importlib.import_module(name)


def facts(report: Report, seconds: float, cpu_s: float) -> dict[str, object]:
    """What is told of a push."""
    stats = report.stats
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "peak_mib": memory_mib("VmHWM"),
        "anon_mib": memory_mib("RssAnon"),
        "exit_status": report.exit_status,
        "pushed": sum(
            outcome.count for outcome in report.outcomes if outcome.result.value == "pushed"
        ),
        "problems": [str(outcome.error) for outcome in report.outcomes if outcome.error],
        "sent_chunks": stats.sent_chunks,
        "sent_bytes": stats.sent_bytes,
        "fallbacks": stats.fallbacks,
        "removed": report.removed.snapshots,
    }


def main() -> None:
    """Push once."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("source", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("fingerprint")
    parser.add_argument("--read-ahead", type=int, default=DEFAULT_READ_AHEAD)
    parser.add_argument("--parallel", type=int)
    parser.add_argument("--open-delay-ms", type=float, default=0.0)
    parser.add_argument("--encrypt", action="store_true")
    parser.add_argument("--remove-vanished", action="store_true")
    asked = parser.parse_args()
    options = PushOptions(
        read_ahead=asked.read_ahead,
        parallel=asked.parallel,
        encryption_key=CryptKey(KEY) if asked.encrypt else None,
        remove_vanished=asked.remove_vanished,
    )
    load_all()
    base = memory_mib("VmHWM")
    began, cpu = time.monotonic(), cpu_seconds()
    repository = f"{TOKEN}@127.0.0.1:{asked.port}:store"
    kind = SlowDiskTarget if asked.open_delay_ms else NotingTarget
    SlowDiskTarget.open_delay_s = asked.open_delay_ms / 1000
    with kind(repository, SECRET, asked.fingerprint) as target:
        report = push(asked.source, target, options)
    told = facts(report, time.monotonic() - began, cpu_seconds() - cpu)
    chunks = max((each.most_chunk_bytes for each in target.transports), default=0)
    print(json.dumps({**told, "base_mib": base, "chunks_mib": chunks / (1 << 20)}))


if __name__ == "__main__":
    main()
