"""Opening files and folders below a base directory without following symbolic links.

Every step is an ``openat`` with ``O_NOFOLLOW`` from the folder before, so a link put there
meanwhile cannot lead out of the datastore. All raise OSError; who calls knows what was wanted.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from pbs_push.errors import SourceError

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO must not wait for a writer; regular files do not care.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def directory(base: Path, relative: str) -> Iterator[int]:
    """A descriptor of the folder ``relative`` below ``base`` (``""`` is the base itself).

    The base may be a symbolic link: it is what the user named. A link below it is ENOTDIR.
    """
    directory_fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in filter(None, relative.split("/")):
            below_fd = os.open(name, _DIRECTORY, dir_fd=directory_fd)
            os.close(directory_fd)
            directory_fd = below_fd
        yield directory_fd
    finally:
        os.close(directory_fd)


@contextmanager
def subfolder(name: str, directory_fd: int) -> Iterator[int]:
    """A descriptor of the folder ``name`` in an open folder; a link to one is ENOTDIR."""
    below_fd = os.open(name, _DIRECTORY, dir_fd=directory_fd)
    try:
        yield below_fd
    finally:
        os.close(below_fd)


class Inside(NamedTuple):
    """What a folder holds: names of folders, and paths of what should be one and is not followed.

    These are symbolic links, or the folder itself where that is none.
    """

    folders: list[str]
    links: list[str]


def look_inside(name: str, directory_fd: int) -> Inside:
    """What the folder ``name`` in an open folder holds, in no order; nothing if it is missing."""
    found = Inside([], [])
    try:
        with subfolder(name, directory_fd) as below_fd, os.scandir(below_fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    found.folders.append(entry.name)
                elif entry.is_symlink():
                    found.links.append(f"{name}/{entry.name}")
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        found.links.append(name)
    return found


def file_names(directory_fd: int) -> list[str]:
    """Names of the regular files in an open folder, in no order."""
    with os.scandir(directory_fd) as entries:
        return [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]


def is_regular_file(name: str, directory_fd: int) -> bool:
    """Whether there is a regular file of this name (no link to one)."""
    try:
        found = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(found.st_mode)


def exists(name: str, directory_fd: int) -> bool:
    """Whether there is anything of this name, be it a link that leads nowhere."""
    try:
        os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def read_file(name: str, directory_fd: int, limit_bytes: int) -> bytes:
    """Read a regular file whole. EFBIG where it is longer than ``limit_bytes``."""
    file_fd = os.open(name, _FILE, dir_fd=directory_fd)
    try:
        found = os.fstat(file_fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if found.st_size > limit_bytes:
            raise OSError(errno.EFBIG, f"{found.st_size} bytes, at most {limit_bytes} are possible")
        return b"".join(_pieces(file_fd, found.st_size))
    finally:
        os.close(file_fd)


def _pieces(file_fd: int, size: int) -> Iterator[bytes]:
    """``size`` bytes in as few reads as the system wants; fewer bytes if the file shrinks."""
    while size and (piece := os.read(file_fd, size)):
        yield piece
        size -= len(piece)


class os_errors_as_source_errors:  # noqa: N801  (a context manager, used like a function)
    """Turns an OSError into a SourceError that says what was being ``doing``."""

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: object
    ) -> None:
        if isinstance(error, OSError):
            raise SourceError.of(self._doing, error) from error
