"""The configuration of the pushing host as a whole (protocol/access.md).

Models are imported with the first section of their kind: pydantic takes more time than the rest.
"""

from __future__ import annotations

import stat
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pbs_push.access.acl import Acl
from pbs_push.access.rights import Access
from pbs_push.access.sections import SectionConfig
from pbs_push.access.users import Users
from pbs_push.errors import ConfigError
from pbs_push.names import ROOT, AuthId

if TYPE_CHECKING:
    from pbs_push.access.datastores import DatastoreConfig
    from pbs_push.access.jobs import SyncJob
    from pbs_push.access.keys_config import SyncKey
    from pbs_push.access.node import NodeConfig
    from pbs_push.access.remotes import Remote

DEFAULT_CONFIG_DIR: Final = Path("/etc/proxmox-backup")


class HostConfig:
    """The files of one configuration directory, each read when it is first asked for.

    A file that is missing has no entries. Where the directory itself is missing, PBS is not
    installed: then there is no access control, and root@pam is the only user.
    """

    def __init__(self, directory: Path, *, is_present: bool) -> None:
        self.directory = directory
        self.is_present = is_present

    @classmethod
    def load(cls, directory: Path | None = None) -> HostConfig:
        """The configuration in ``directory``, which must exist; None: PBS's own place, if it does.

        A directory that was asked for and is not there is an error and not an empty one, since
        that would switch access control off. Raises ConfigError.
        """
        place = DEFAULT_CONFIG_DIR if directory is None else directory
        is_present = _is_directory(place)
        if directory is not None and not is_present:
            raise ConfigError(f"configuration directory {place} does not exist")
        return cls(place, is_present=is_present)

    @cached_property
    def acl(self) -> Acl | None:
        """The access control list; None where there is no configuration. Raises ConfigError."""
        return Acl.load(self.directory / "acl.cfg") if self.is_present else None

    @cached_property
    def users(self) -> Users:
        """The users and tokens. Raises ConfigError."""
        return Users.load(self.directory / "user.cfg")

    def access(self, user: AuthId = ROOT, *, now: float | None = None) -> Access:
        """The rights of ``user``, who must be active at ``now`` (epoch seconds; default: now).

        Raises ConfigError for a user or token that is unknown, disabled or expired.
        """
        self.users.require_active(user, time.time() if now is None else now)
        return Access(self.acl, user)

    def datastore(self, name: str) -> DatastoreConfig:
        """A datastore of this host. Raises ConfigError if there is none, or it is malformed."""
        from pbs_push.access.datastores import DatastoreConfig  # noqa: PLC0415

        return DatastoreConfig.from_section(self._datastores.require("datastore", name))

    def remote(self, name: str) -> Remote:
        """A configured server. Raises ConfigError if there is none, or it is malformed."""
        from pbs_push.access.remotes import Remote  # noqa: PLC0415

        return Remote.from_section(self._remotes.require("remote", name))

    def job(self, name: str) -> SyncJob:
        """A sync job. Raises ConfigError if there is none, or it is malformed."""
        from pbs_push.access.jobs import SyncJob  # noqa: PLC0415

        return SyncJob.from_section(self._jobs.require("sync", name))

    def job_names(self) -> list[str]:
        """The names of all sync jobs, in the file's order. Raises ConfigError."""
        return [section.id for section in self._jobs.of_type("sync")]

    def encryption_key(self, name: str) -> SyncKey:
        """A key for sync jobs. Raises ConfigError if there is none, or it is malformed."""
        from pbs_push.access.keys_config import SyncKey  # noqa: PLC0415

        return SyncKey.from_section(self._keys.require("sync-key", name))

    @cached_property
    def node(self) -> NodeConfig:
        """What the host says of itself. Raises ConfigError."""
        from pbs_push.access.node import NodeConfig  # noqa: PLC0415

        return NodeConfig.load(self.directory / "node.cfg")

    @cached_property
    def _datastores(self) -> SectionConfig:
        return SectionConfig.load(self.directory / "datastore.cfg")

    @cached_property
    def _remotes(self) -> SectionConfig:
        return SectionConfig.load(self.directory / "remote.cfg")

    @cached_property
    def _jobs(self) -> SectionConfig:
        return SectionConfig.load(self.directory / "sync.cfg")

    @cached_property
    def _keys(self) -> SectionConfig:
        return SectionConfig.load(self.directory / "encryption-keys.cfg")


def _is_directory(path: Path) -> bool:
    """Whether the directory exists; not being allowed to look is an error, not a no."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(f"configuration directory {path}: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise ConfigError(f"configuration directory {path}: it is not a directory")
    return True
