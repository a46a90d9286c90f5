"""The shared lock on a source snapshot against its removal (protocol/datastore.md, "Locks").

PBS 4 locks files below ``/run/proxmox-backup/locks``; PBS 3 and older, PBS 4 between upgrade and
reboot, and hosts without PBS lock the snapshot's folder itself.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pbs_push.errors import SourceError, SourceLocked, os_reason
from pbs_push.names import Group, Namespace, Snapshot
from pbs_push.source.items import SourceSnapshot

_MAX_NAME_LENGTH: Final = 255
_KEPT_ENDS: Final = 80
_ESCAPED = re.compile(rb"[^A-Za-z0-9_.]")
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP)
"""What a file system without locks answers, a network's as a rule."""
_LOCK_FILE_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def escape_lock_name(name: str) -> str:
    """Escape ``type/id/time`` as systemd escapes a path: ``/`` to ``-``, others to ``\\xhh``."""
    parts = (
        _ESCAPED.sub(lambda match: b"\\x%02x" % match[0][0], part.encode())
        for part in name.split("/")
    )
    return b"-".join(parts).decode()


def lock_file_path(
    lock_root: Path, store: str, namespace: Namespace, locked: Group | Snapshot
) -> Path:
    """Where PBS 4 keeps the lock of a group or a snapshot."""
    folder = lock_root / "locks" / store / ":".join(namespace.components)
    name = str(locked)
    escaped = escape_lock_name(name)
    if len(escaped) < _MAX_NAME_LENGTH:
        return folder / escaped
    name_hash = hashlib.sha256(name.encode()).hexdigest()
    return folder / "hashed" / f"{escaped[:_KEPT_ENDS]}...{escaped[-_KEPT_ENDS:]}-{name_hash}"


@dataclass(frozen=True, slots=True)
class SnapshotLocks:
    """How the snapshots of one datastore are locked on this host.

    ``lock_root``: PBS's run-time folder, there or not. ``store``: the datastore's name in PBS.
    """

    lock_root: Path
    store: str

    @contextmanager
    def shared(self, item: SourceSnapshot, directory_fd: int) -> Iterator[bool]:
        """Hold the shared lock of a snapshot whose open folder is ``directory_fd``.

        Gives whether there is a lock: a file system may have none, and where no PBS runs on this
        host nobody else would take one. The folder's own lock, where that is taken, lasts until
        ``directory_fd`` is closed. Raises SourceLocked where another process holds the lock; does
        not wait.
        """
        label = f"source snapshot {item.label}"
        locked = True
        with ExitStack() as resources:
            if self._folders_are_locked():
                try:
                    _flock_shared(directory_fd, label)
                except SourceError as error:
                    if error.errno not in _NO_LOCKS or self._is_running_pbs():
                        raise
                    locked = False
            if self._files_are_locked():
                path = lock_file_path(self.lock_root, self.store, item.namespace, item.snapshot)
                resources.callback(os.close, _lock_file_shared(path, self.lock_root, label))
            yield locked

    def _is_running_pbs(self) -> bool:
        return self.lock_root.is_dir()

    def _files_are_locked(self) -> bool:
        """Whether a PBS 4 on this host locks files, or may come to."""
        return self._is_running_pbs() and not (self.lock_root / "old-locking").exists()

    def _folders_are_locked(self) -> bool:
        """Whether snapshots' folders may be locked on this host.

        A PBS without a folder ``locks`` is a version 3, or a version 4 that has locked nothing
        since the boot; nothing tells which, so both locks are taken: the idle one does no harm.
        """
        return not self._files_are_locked() or not (self.lock_root / "locks").is_dir()


def _flock_shared(locked_fd: int, label: str) -> None:
    """Lock an open file or folder, shared, until the descriptor is closed.

    Raises SourceLocked if another process holds it exclusively; does not wait.
    """
    try:
        fcntl.flock(locked_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SourceLocked(_locked(label)) from None
    except OSError as error:
        raise SourceError.of(f"lock {label}", error) from error


def _lock_file_shared(path: Path, lock_root: Path, label: str) -> int:
    """Lock a lock file, shared, and return its descriptor: closing that releases the lock.

    Makes the file and its folders if needed. Raises SourceLocked if another process holds the lock,
    or removed the file meanwhile; does not wait.
    """
    try:
        lock_fd = _open_lock_file(path, lock_root)
    except OSError as error:
        raise SourceError(
            f"lock {label}: cannot open {path}: {os_reason(error)}; "
            "the locks of a Proxmox Backup Server are its users' (root, backup)",
            errno=error.errno,
        ) from error
    try:
        _flock_shared(lock_fd, label)
        if not _is_still(path, lock_fd):
            raise SourceLocked(_locked(label))
    except SourceError:
        os.close(lock_fd)
        raise
    return lock_fd


def _locked(label: str) -> str:
    return f"{label} is locked by another process (being removed or written); try again later"


def _is_still(path: Path, lock_fd: int) -> bool:
    """Whether ``path`` is still the locked file: who removes a lock file holds its lock."""
    try:
        found = path.stat()
    except OSError:
        return False
    return os.path.samestat(found, os.fstat(lock_fd))


def _open_lock_file(path: Path, lock_root: Path) -> int:
    """Open the file, made if missing; what is made belongs to the owner of ``lock_root``.

    The server runs partly as root and partly as the user backup, and both must be able to lock.
    """
    owner = lock_root.stat()
    for folder in reversed(path.relative_to(lock_root).parents[:-1]):
        try:
            (lock_root / folder).mkdir()
        except FileExistsError:
            continue
        if os.geteuid() == 0:
            os.chown(lock_root / folder, owner.st_uid, owner.st_gid)
    lock_fd = os.open(path, _LOCK_FILE_FLAGS, 0o660)
    if os.geteuid() == 0:
        os.fchown(lock_fd, owner.st_uid, owner.st_gid)
    return lock_fd
