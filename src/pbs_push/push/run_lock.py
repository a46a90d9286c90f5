"""A lock that keeps the same push, of one source to one target, from running twice on this host.

Two at once would only wait for each other's locks at the target, and look for what the other has
pushed meanwhile. It is a lock on an open file: when its process ends, however it ends, it is free.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pbs_push.errors import AlreadyRunning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OF_ROOT = Path("/run/lock")
OF_OTHERS = Path("/tmp")  # noqa: S108
"""Where locks lie: for root, and for other users."""

_PAUSE_S: Final = 0.25
_NAME: Final = "pbs-push"
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


@contextmanager
def only_one(
    what: str,
    key: str,
    wait_s: float,
    pause: Callable[[float], None],
    tell: Callable[[str], None],
) -> Iterator[None]:
    """Hold the lock for ``key``, waited for up to ``wait_s`` seconds.

    ``what`` is the push for messages, ``pause`` waits so many seconds, ``tell`` says something to
    people: that it waits, or that no lock can be kept here, which is not an error. Raises
    AlreadyRunning, and what ``pause`` raises.
    """
    lock_fd: int | None = None
    waited_s = 0.0
    try:
        path = _folder() / f"{hashlib.sha256(key.encode()).hexdigest()}.lock"
        while (lock_fd := _try(path)) is None:
            if waited_s >= wait_s:
                raise AlreadyRunning(
                    f"{what}: another push of the same runs on this host ({_holder(path)}); it was "
                    f"waited for {wait_s:g} s (--lock-wait)"
                )
            if not waited_s:
                tell(f"waiting for another push of the same to end ({_holder(path)})")
            pause(min(_PAUSE_S, wait_s - waited_s))
            waited_s += _PAUSE_S
        os.pwrite(lock_fd, f"process {os.getpid()}\n".encode(), 0)
    except OSError as error:
        tell(f"no lock is kept against a second push at the same time: {error}")
    try:
        yield
    finally:
        if lock_fd is not None:
            with suppress(OSError):
                path.unlink()
            os.close(lock_fd)


def _try(path: Path) -> int | None:
    """Lock the file, made if it is missing; None if another process has it. Raises OSError.

    Whoever held it has removed it: then what was opened meanwhile is not the file any more.
    """
    lock_fd = os.open(path, _FLAGS, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(path.lstat(), os.fstat(lock_fd)):
            return lock_fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(lock_fd)
        raise
    os.close(lock_fd)
    return None


def _holder(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(errors="replace").strip() or "just begun"
    return "just ended"


def _folder() -> Path:
    """Where this user's locks lie, made if it is missing. Raises OSError.

    A folder that is somebody else's is not used: what lies there could be in anybody's hand.
    """
    user = os.geteuid()
    # Nothing of the environment: cron has another one than a login.
    place = OF_ROOT / _NAME if user == 0 else OF_OTHERS / f"{_NAME}-{user}"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user:
        raise PermissionError(f"{place} is not a folder of this user's")
    return place
