"""Which groups may have a checkpoint at the target that nobody looks for.

One that a run left when it died between the end of the real snapshot and the removal is hidden
behind that: the list of groups does not show it. So this host keeps a file for each group that had
a checkpoint, until all of them are removed; where it is there, the next push asks for the group's
list (protocol/push.md, "Checkpoints"). Nothing else depends on it: where it cannot be kept, or was
lost, such a checkpoint stays until that list is needed anyway.
"""

from __future__ import annotations

import hashlib
import os
import pwd
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pbs_push.names import Group, Namespace, Repository

OF_ROOT = Path("/var/lib/pbs-push")
OF_OTHERS: Path | None = None
"""Where they lie: for root, and for other users (None: below their home)."""

_STATE_DIRECTORY: Final = "STATE_DIRECTORY"
"""Of systemd, for services that can write nowhere else."""
_SUFFIX: Final = ".checkpoint"


class CheckpointMemory:
    """Of pushes to one datastore; safe for threads. Raises nothing where it cannot be kept."""

    def __init__(self, target: Repository) -> None:
        self._target = target
        self._known: frozenset[str] | None = None

    def may_have(self, namespace: Namespace, group: Group) -> bool:
        """Whether a group of the target may have one, as this host knew when it was first asked."""
        if self._known is None:
            names: list[str] = []
            with suppress(OSError):
                names = [path.name for path in _folder().iterdir()]
            self._known = frozenset(name for name in names if name.endswith(_SUFFIX))
        return bool(self._known) and self._name(namespace, group) in self._known

    def keep(self, namespace: Namespace, group: Group) -> None:
        """One is about to be made."""
        where = f"{self._target.datastore} of {self._target.netloc}"
        text = f"{group} in {namespace.label} of datastore {where}\n"
        with suppress(OSError):
            folder = _folder()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            file_fd = os.open(folder / self._name(namespace, group), flags, 0o600)
            try:
                os.write(file_fd, text.encode())
                os.fsync(file_fd)
            finally:
                os.close(file_fd)

    def drop(self, namespace: Namespace, group: Group) -> None:
        """None is left."""
        with suppress(OSError):
            (_folder() / self._name(namespace, group)).unlink()

    def _name(self, namespace: Namespace, group: Group) -> str:
        target = self._target
        key = f"{target.netloc}|{target.datastore}|{namespace}|{group}"
        return hashlib.sha256(key.encode()).hexdigest() + _SUFFIX


def _folder() -> Path:
    """Where this user's lie. Raises OSError where the user has no place."""
    given = os.environ.get(_STATE_DIRECTORY, "").partition(":")[0]
    if given:
        return Path(given)
    user = os.geteuid()
    if user == 0:
        return OF_ROOT
    if OF_OTHERS is not None:
        return OF_OTHERS
    try:
        home = pwd.getpwuid(user).pw_dir
    except KeyError as error:
        raise FileNotFoundError(f"user {user} has no home") from error
    return Path(home) / ".local/state/pbs-push"
