"""System calls of other processes that fail on purpose: see ``failing_calls.c``."""

from __future__ import annotations

import errno
import mmap
import os
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

OPEN: Final = 1
READ: Final = 2
WRITE: Final = 4

_FIELDS: Final = struct.Struct("=IiiII1000s")
_STRUCK: Final = struct.Struct("=16xI")


def build(folder: Path) -> Path:
    """The library to preload."""
    made = folder / "failing_calls.so"
    source = Path(__file__).with_name("failing_calls.c")
    command = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", str(made), str(source)]
    subprocess.run([*command, "-ldl"], check=True)
    return made


class FailingCalls:
    """What lets the calls of processes with ``environment`` fail, once it is told to."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._control = folder / "failing-calls"
        self._control.write_bytes(bytes(_FIELDS.size))
        with self._control.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _FIELDS.size)
        self.environment: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "FAILING_CALLS": str(self._control),
        }

    def fail(
        self, calls: int, path: str, *, code: int = errno.EIO, after: int = 0, times: int = 1 << 30
    ) -> None:
        """Let ``calls`` on what has ``path`` in its path fail, after so many, so often."""
        self._map[:] = _FIELDS.pack(calls, code, after, times, 0, path.encode())

    def stop(self) -> None:
        """Let all succeed again."""
        self._map[:4] = bytes(4)

    @property
    def struck(self) -> int:
        """How many have failed."""
        found: int = _STRUCK.unpack(self._map[: _STRUCK.size])[0]
        return found
