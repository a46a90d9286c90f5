"""Every recorded session of a real PBS 4.2.3 is replayed by one of the tests beside this.

They compare statuses, and the data where it does not depend on the machine. Where a recording
continues another one's session they are replayed as a chain.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from .replays import REPLAYED


def test_every_recording_is_replayed(recordings: Path) -> None:
    for path in Path(__file__).parent.glob("test_conformance_*.py"):
        import_module(f".{path.stem}", __package__)
    assert {path.stem for path in recordings.glob("*.json")} == REPLAYED
