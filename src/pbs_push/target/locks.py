"""Locks on groups and snapshots: `flock` on the folder (protocol/datastore.md, "Locks").

Two open file descriptions of one process exclude each other too, so the same lock serves between
the threads of a server and between processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class DirectoryLock:
    """A lock that is held; `release` may be called more than once."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd: int | None = fd

    def release(self) -> None:
        """Give the lock back."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> DirectoryLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def try_lock(path: Path, *, exclusive: bool) -> DirectoryLock | None:
    """Lock the directory ``path`` without waiting; None if someone else holds it.

    Raises OSError if there is no such directory. A directory that was removed between opening and
    locking counts as held: its remover had the lock.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), path.stat()):
                return DirectoryLock(path, fd)
    except BlockingIOError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None
