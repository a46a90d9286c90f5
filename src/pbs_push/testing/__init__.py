"""For the tests of programs that push: a target without a network, and small datastores.

>>> from pathlib import Path
>>> from tempfile import TemporaryDirectory
>>> import pbs_push
>>> from pbs_push.testing import MemoryTarget, write_snapshot
>>> scratch = TemporaryDirectory()
>>> source = Path(scratch.name) / "main"
>>> write_snapshot(source, "vm/100/2026-01-01T00:00:00Z", {"disk.img.fidx": b"some bytes"})
>>> with MemoryTarget() as target:
...     report = pbs_push.push(source, target)
...     report.exit_status, target.holds()
(0, ['vm/100/2026-01-01T00:00:00Z'])
>>> scratch.cleanup()
"""

from pbs_push.testing.memory_target import MemoryTarget
from pbs_push.testing.snapshots import write_snapshot

__all__ = ["MemoryTarget", "write_snapshot"]
