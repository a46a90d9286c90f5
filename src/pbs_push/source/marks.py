"""Marks that protect a source snapshot from prune until it is copied: the one thing written there.

PBS asks only whether ``.protected`` is there, and its own is empty (protocol/datastore.md,
"Protection"). A mark of ours is the same file with a content: whom it waits for, a place a line.
So it says itself whose it is: there is no second record that a crash, another host or a restored
copy could part from it, and what a user protects stays the user's, since PBS empties the file then.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pbs_push.errors import SnapshotVanished, SourceLocked
from pbs_push.source.directories import directory, os_errors_as_source_errors, read_file
from pbs_push.source.items import SourceSnapshot
from pbs_push.source.locks import SnapshotLocks

_NAME: Final = ".protected"
_HEAD: Final = "Kept by pbs-push until it is copied to"
_PLACE: Final = re.compile(r"[!-~]{1,600}")
_MAX_FILE: Final = 64 << 10
_MODE: Final = 0o644
"""As PBS writes its own: nothing in it is secret, and others may look."""
_LEFT: Final = f"{_NAME}.tmp_"
"""What a write begins with, as PBS names its own; one that was killed leaves such a file."""
_LEFT_FOR_S: Final = 60.0
_TRIES: Final = 1000
_PAUSE_S: Final = 0.02
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP)

Places = tuple[str, ...]


def protection_in(folder: str, group_fd: int) -> tuple[bool, Places]:
    """Whether a user protects the snapshot in ``folder`` of an open group, and places of marks."""
    name = f"{folder}/{_NAME}"
    try:
        found = os.stat(name, dir_fd=group_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False, ()
    if not stat.S_ISREG(found.st_mode):
        return False, ()
    places = None
    if 0 < found.st_size <= _MAX_FILE:
        with suppress(OSError):
            places = _parsed(read_file(name, group_fd, _MAX_FILE))
    return (False, places) if places else (True, ())


class Marks:
    """Sets and takes away marks in a datastore at ``path``. Safe for threads.

    Under the snapshot's shared lock, which keeps PBS from removing it and from changing its
    protection meanwhile, and does not wait for who reads it; pushes keep each other out by a lock
    on the mark itself.
    """

    def __init__(self, path: Path, locks: SnapshotLocks) -> None:
        self._path = path
        self._locks = locks

    def may_set(self, item: SourceSnapshot) -> bool:
        """Whether this process may write in the snapshot's folder, as far as that can be asked."""
        folder = self._path / item.disk_path
        return os.access(folder, os.W_OK | os.X_OK, effective_ids=True)

    def set(self, item: SourceSnapshot, place: str) -> bool:
        """Mark a snapshot as to be copied to ``place``, printable ASCII without blanks.

        Gives whether it was marked now: not one that a user protects, or that has this mark. Raises
        SourceLocked, SnapshotVanished, SourceError; ValueError for what is no such place.
        """
        if not _PLACE.fullmatch(place):
            raise ValueError(f"{place!r} cannot be the place of a mark")

        def with_it(places: Places) -> Places:
            return places if place in places else (*places, place)

        return self._change(item, "protect", with_it)

    def take_away(self, item: SourceSnapshot, place: str) -> bool:
        """Take the mark for ``place`` away; the file goes with the last of them.

        Gives whether there was one. Raises as ``set`` does.
        """

        def without_it(places: Places) -> Places:
            return tuple(one for one in places if one != place)

        return self._change(item, "end the protection of", without_it)

    def _change(self, item: SourceSnapshot, doing: str, change: Callable[[Places], Places]) -> bool:
        with os_errors_as_source_errors(f"{doing} source snapshot {item.label}"):
            try:
                with (
                    directory(self._path, item.disk_path) as folder_fd,
                    self._locks.shared(item, folder_fd),
                ):
                    for _ in range(_TRIES):
                        changed = _changed(folder_fd, change)
                        if changed is not None:
                            return changed
                        time.sleep(_PAUSE_S)
            except (FileNotFoundError, NotADirectoryError):
                raise SnapshotVanished(
                    f"source snapshot {item.label} is gone since it was listed"
                ) from None
        raise SourceLocked(f"{doing} source snapshot {item.label}: another push holds its mark")


def _changed(folder_fd: int, change: Callable[[Places], Places]) -> bool | None:
    """Whether the marks in an open folder were changed; None: look again, somebody was quicker."""
    try:
        found = os.stat(_NAME, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        wanted = change(())
        if not wanted:
            return False
        return _written(folder_fd, wanted, over=False) or None
    if not stat.S_ISREG(found.st_mode) or not 0 < found.st_size <= _MAX_FILE:
        return False
    with _held(folder_fd) as mark_fd:
        return None if mark_fd is None else _changed_held(folder_fd, mark_fd, change)


def _changed_held(folder_fd: int, mark_fd: int, change: Callable[[Places], Places]) -> bool:
    """Whether the mark was changed, which is this push's to change."""
    places = _parsed(os.pread(mark_fd, _MAX_FILE, 0))
    if places is None or (wanted := change(places)) == places:
        return False
    if wanted:
        return _written(folder_fd, wanted, over=True)
    os.unlink(_NAME, dir_fd=folder_fd)
    return True


@contextmanager
def _held(folder_fd: int) -> Iterator[int | None]:
    """The mark, open and locked against other pushes; None where another has it, or changed it."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        mark_fd = os.open(_NAME, flags, dir_fd=folder_fd)
    except FileNotFoundError:
        yield None
        return
    try:
        yield mark_fd if _is_locked(mark_fd, folder_fd) else None
    finally:
        os.close(mark_fd)


def _is_locked(mark_fd: int, folder_fd: int) -> bool:
    try:
        fcntl.flock(mark_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:  # there nobody has locks, as source/locks.py says
            raise
    try:
        found = os.stat(_NAME, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(mark_fd))


def _written(folder_fd: int, places: Places, *, over: bool) -> bool:
    """Write the mark whole, or not at all: ``over`` the one that is there, or where there is none.

    Gives False where one has come meanwhile. Synced before it gets its name: an empty file, which a
    power cut could leave, would be a user's for ever.
    """
    _remove_left(folder_fd)
    name = f"{_LEFT}{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    written_fd = os.open(name, flags, 0o600, dir_fd=folder_fd)
    try:
        try:
            os.write(written_fd, "".join(f"{line}\n" for line in (_HEAD, *places)).encode())
            owner = os.fstat(folder_fd)
            if os.geteuid() == 0:  # the server, which runs as backup, must be able to change it
                os.fchown(written_fd, owner.st_uid, owner.st_gid)
            os.fchmod(written_fd, _MODE)
            os.fsync(written_fd)
        finally:
            os.close(written_fd)
        if over:
            os.rename(name, _NAME, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
            return True
        os.link(name, _NAME, src_dir_fd=folder_fd, dst_dir_fd=folder_fd, follow_symlinks=False)
    except FileExistsError:
        return False
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder_fd)
    return True


def _remove_left(folder_fd: int) -> None:
    """Remove what a push that was killed has begun to write here."""
    for name in os.listdir(folder_fd):
        if name.startswith(_LEFT):
            with suppress(FileNotFoundError):
                written = os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mtime
                if time.time() - written > _LEFT_FOR_S:
                    os.unlink(name, dir_fd=folder_fd)


def _parsed(content: bytes) -> Places | None:
    """The places of a mark; None for what is no mark of ours."""
    try:
        lines = content.decode("ascii").split("\n")
    except UnicodeDecodeError:
        return None
    head, *places, last = lines if len(lines) > 1 else ("", "")
    whole = head == _HEAD and not last and all(map(_PLACE.fullmatch, places))
    return tuple(places) if whole and places else None
