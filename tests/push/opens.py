"""How often chunk files are opened, told by the kernel (inotify)."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_OPEN: Final = 0x20
_CLOSE_NOWRITE: Final = 0x10
"""Asked for, too, since equal events in a row are told once."""
_EVENT: Final = struct.Struct("iIII")


@contextmanager
def opens_of_chunks(store: Path) -> Iterator[Counter[str]]:
    """Opens of each chunk of a datastore within, by digest; complete at the end."""
    libc = ctypes.CDLL(None, use_errno=True)
    inotify_fd = libc.inotify_init1(os.O_CLOEXEC)
    assert inotify_fd >= 0
    opened: Counter[str] = Counter()
    try:
        for folder in (store / ".chunks").iterdir():
            assert libc.inotify_add_watch(inotify_fd, bytes(folder), _OPEN | _CLOSE_NOWRITE) >= 0
        end_fd = libc.inotify_add_watch(inotify_fd, bytes(store), _OPEN)
        thread = threading.Thread(target=_count, args=(inotify_fd, end_fd, opened))
        thread.start()
        try:
            yield opened
        finally:
            (store / "end").touch()  # its event comes behind all others
            thread.join()
            (store / "end").unlink()
    finally:
        os.close(inotify_fd)


def _count(inotify_fd: int, end_fd: int, opened: Counter[str]) -> None:
    while True:
        data = os.read(inotify_fd, 1 << 16)
        at = 0
        while at < len(data):
            watch_fd, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = data[at : at + length].rstrip(b"\0").decode()
            at += length
            if watch_fd == end_fd and name == "end":
                return
            if mask & _OPEN and len(name) == 64:
                opened[name] += 1
