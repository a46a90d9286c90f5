"""Peak memory of a push of many groups at once, each with chunks of 4 MiB, into the sink.

python benchmarks/wide.py [GROUPS] [CHUNKS] [--work DIR]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from datastores import Store
from processes import Helper

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
        done = subprocess.run(
            [
                sys.executable,
                str(Path(__file__).with_name("pusher.py")),
                str(source),
                str(sink.facts["port"]),
                sink.facts["fingerprint"],
                f"--parallel={asked.groups}",
            ],
            stdout=subprocess.PIPE,
            check=True,
        )
        told = json.loads(done.stdout)
        print(
            f"{asked.groups} groups at once, {told['sent_bytes'] >> 20} MiB: peak "
            f"{told['peak_mib']:.0f} MiB ({told['base_mib']:.0f} before), {told['cpu_s']:.1f} CPU s"
        )


if __name__ == "__main__":
    main()
