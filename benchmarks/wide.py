"""Peak memory of a push of many groups at once, each with chunks of 4 MiB, into the sink.

python benchmarks/wide.py [GROUPS] [CHUNKS] [--work DIR]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from datastores import Store
from pbs_push.push.engine import push
from pbs_push.push.options import PushOptions
from pbs_push.remote.target import Target
from processes import SECRET, TOKEN, Helper, cpu_seconds, memory_mib

CHUNK = 4 << 20


def main() -> None:
    """Push once, all groups at the same time."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("groups", type=int, nargs="?", default=48)
    parser.add_argument("chunks", type=int, nargs="?", default=12)
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.work) as folder, Helper("sink.py", "http2") as sink:
        source = Path(folder) / "source"
        store = Store(source)
        for number in range(asked.groups):
            group = f"vm/{number}"
            store.group(group)
            chunks = [store.noise(f"{group} {part}", CHUNK) for part in range(asked.chunks)]
            store.snapshot(group, 0, {"drive-scsi0.img.fidx": chunks})
        repository = f"{TOKEN}@127.0.0.1:{sink.facts['port']}:sink"
        before, cpu = memory_mib("VmHWM"), cpu_seconds()
        with Target(repository, SECRET, bytes.fromhex(sink.facts["fingerprint"])) as target:
            report = push(source, target, PushOptions(parallel=asked.groups))
        print(
            f"{asked.groups} groups at once, {report.stats.sent_bytes >> 20} MiB: peak "
            f"{memory_mib('VmHWM'):.0f} MiB ({before:.0f} before), {cpu_seconds() - cpu:.1f} CPU s"
        )


if __name__ == "__main__":
    main()
