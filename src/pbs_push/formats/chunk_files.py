"""What the names of files in a chunk store tell (spec 01)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def why_missing(path: str) -> str:
    """Why there is no chunk file ``path``: a verification that finds one corrupt sets it aside."""
    chunk = Path(path)
    set_aside = False
    with suppress(OSError):  # the chunk is missing, whatever keeps its folder from being read
        set_aside = any(chunk.parent.glob(f"{chunk.name}.*.bad"))
    if set_aside:
        return "missing: a verification found it corrupt and renamed it to .bad"
    return "missing: no such file"
