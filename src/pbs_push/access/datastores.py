"""``datastore.cfg``: where one lies, and if it may be read (protocol/access.md, "Datastores")."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Self
from urllib.parse import unquote

from pbs_push.access.model import ConfigModel, FromText, SafeId
from pbs_push.access.values import parse_property_string
from pbs_push.errors import ConfigError

MOUNT_ROOT: Final = Path("/mnt/datastore")
"""Where PBS mounts removable datastores: each below its name."""

_NOT_READABLE: Final = frozenset(("offline", "delete", "unmount", "s3-refresh"))


@dataclass(frozen=True, slots=True)
class Maintenance:
    """A maintenance mode: its type as written, known or not, and the administrator's message."""

    type: str
    message: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``TYPE[,message=…]``; the message is percent-encoded. Raises ConfigError."""
        properties = parse_property_string(text, "type")
        if "type" not in properties:
            raise ConfigError(f"maintenance mode '{text}' has no type")
        message = properties.get("message")
        return cls(properties["type"], None if message is None else unquote(message))

    def __str__(self) -> str:
        return f"'{self.type}': {self.message}" if self.message else f"'{self.type}'"


@dataclass(frozen=True, slots=True)
class Backend:
    """What holds a datastore's chunks: ``filesystem``, or ``s3``, or what a newer PBS adds."""

    type: str = "filesystem"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``type=s3,…``. Raises ConfigError."""
        return cls(parse_property_string(text).get("type", "filesystem"))


class DatastoreConfig(ConfigModel):
    """A datastore of this host.

    ``path`` is absolute; with a ``backing_device`` (removable) it is relative to the mount point.
    """

    name: SafeId
    path: str
    comment: str | None = None
    backend: Annotated[Backend, FromText(Backend, Backend.parse)] = Backend()
    backing_device: str | None = None
    maintenance_mode: Annotated[Maintenance, FromText(Maintenance, Maintenance.parse)] | None = None

    @property
    def base_directory(self) -> Path:
        """Where it lies, mounted or not, without symbolic links."""
        if self.backing_device is None:
            return Path(self.path).resolve()
        return (MOUNT_ROOT / self.name / self.path.lstrip("/")).resolve()

    def require_readable(self, *, mount_root: Path = MOUNT_ROOT) -> Path:
        """The base directory, if snapshots may be read from there now.

        Raises ConfigError with the reason: the chunks lie elsewhere (S3), a maintenance mode
        forbids reading, or the removable device is not mounted.
        """
        self._require_local_chunks()
        self._require_no_maintenance()
        if self.backing_device is not None:
            return self._mounted(mount_root / self.name)
        if not self.path.startswith("/"):
            raise self._refused(f"its path '{self.path}' is not absolute; correct datastore.cfg")
        return Path(self.path)

    def _require_local_chunks(self) -> None:
        if self.backend.type == "s3":
            raise self._refused(
                "its chunks are in an S3 bucket, and the directory is only a cache of some of "
                "them; push from a PBS that serves it, with a sync job there"
            )
        if self.backend.type != "filesystem":
            raise self._refused(f"its backend '{self.backend.type}' is unknown to this version")

    def _require_no_maintenance(self) -> None:
        mode = self.maintenance_mode
        if mode is None or mode.type == "read-only":
            return
        if mode.type in _NOT_READABLE:
            raise self._refused(f"maintenance mode {mode} forbids reading; wait until it is over")
        raise self._refused(f"its maintenance mode {mode} is unknown to this version")

    def _mounted(self, mount_point: Path) -> Path:
        relative = PurePosixPath(self.path.lstrip("/"))
        if ".." in relative.parts:
            raise self._refused(f"its path '{self.path}' leaves the device; correct datastore.cfg")
        if not os.path.ismount(mount_point):
            raise self._refused(
                f"its removable device {self.backing_device} is not mounted at {mount_point}; "
                f"mount it: proxmox-backup-manager datastore mount {self.name}"
            )
        return mount_point / relative

    def _refused(self, reason: str) -> ConfigError:
        return ConfigError(f"datastore '{self.name}' cannot be read: {reason}")
