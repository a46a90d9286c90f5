"""What the local user may do in a push (protocol/access.md, "What a push needs")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pbs_push.access.acl import Acl
from pbs_push.access.paths import datastore_path, encryption_key_path, remote_path
from pbs_push.errors import ConfigError
from pbs_push.names import ROOT, AuthId, Namespace

_READ: Final = "Datastore.Read"
_BACKUP: Final = "Datastore.Backup"


@dataclass(frozen=True, slots=True)
class Access:
    """The rights of ``user``.

    ``acl`` None: this host has no configuration of PBS, so nothing is forbidden. A datastore given
    as a directory, and a remote given on the command line, have no name (None), so no path in the
    list: only root@pam may use them while a list is in force.
    """

    acl: Acl | None = None
    user: AuthId = ROOT

    def require_source(self, store: str | None) -> None:
        """Raise ConfigError if this user may not push from a datastore given as a directory."""
        if store is None and not self._is_free:
            raise self._nameless("a datastore given as a directory", "datastore.cfg")

    def require_remote(self, remote: str | None) -> None:
        """Raise ConfigError if this user may not push to a remote given on the command line."""
        if remote is None and not self._is_free:
            raise self._nameless("a remote given on the command line", "remote.cfg")

    def may_see_namespace(self, store: str | None, namespace: Namespace) -> bool:
        """Whether the user sees this namespace of the source datastore."""
        return self._has_any((_READ, _BACKUP), store, namespace)

    def may_read_group(self, store: str | None, namespace: Namespace, owner: AuthId) -> bool:
        """Whether the user may read the groups that ``owner`` has in this source namespace."""
        if self._has_any((_READ,), store, namespace):
            return True
        return self.user.owns(owner) and self._has_any((_BACKUP,), store, namespace)

    def require_push(self, remote: str | None, store: str, target: Namespace) -> None:
        """Check the right to push into a target namespace. Raises AccessError, ConfigError.

        ``target`` is the mapped namespace, here and in the other checks of this kind.
        """
        self._require("Remote.DatastoreBackup", remote, store, target)

    def require_prune(self, remote: str | None, store: str, target: Namespace) -> None:
        """Check the right to forget vanished snapshots and groups there."""
        self._require("Remote.DatastorePrune", remote, store, target)

    def require_modify(self, remote: str | None, store: str, target: Namespace) -> None:
        """Check the right to create and to remove this target namespace."""
        self._require("Remote.DatastoreModify", remote, store, target)

    def require_encryption_key(self, key: str) -> None:
        """Check the right to use a key of ``encryption-keys.cfg``. Raises AccessError."""
        if self.acl is not None:
            self.acl.check(self.user, ("Sys.Modify",), encryption_key_path(key))

    @property
    def _is_free(self) -> bool:
        return self.acl is None or self.user == ROOT

    def _has_any(
        self, privileges: tuple[str, ...], store: str | None, namespace: Namespace
    ) -> bool:
        if self.acl is None or self.user == ROOT:
            return True
        if store is None:
            return False
        path = datastore_path(store, namespace)
        return self.acl.allows(self.user, privileges, path, partial=True)

    def _require(self, privilege: str, remote: str | None, store: str, target: Namespace) -> None:
        self.require_remote(remote)
        if self.acl is not None and remote is not None:
            self.acl.check(self.user, (privilege,), remote_path(remote, store, target))

    def _nameless(self, what: str, file: str) -> ConfigError:
        return ConfigError(
            f"{what} has no name that the access control list could speak of, so only {ROOT} may "
            f"use it, not {self.user}; give it a name in {file}"
        )
