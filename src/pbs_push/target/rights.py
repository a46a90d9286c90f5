"""What an identity may do at the target (protocol/rest.md, "Rights on the server").

Rights are checked before existence. Owning counts only where the text says so, and a failed owner
check is a 400.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from pbs_push.names import AuthId, Group, Namespace
from pbs_push.target.answers import Refusal, bad_request
from pbs_push.target.identities import Privileges
from pbs_push.target.params import Schema, Text, required
from pbs_push.target.store import Store

AUDIT: Final = "Datastore.Audit"
BACKUP: Final = "Datastore.Backup"
MODIFY: Final = "Datastore.Modify"
PRUNE: Final = "Datastore.Prune"
READ: Final = "Datastore.Read"
VERIFY: Final = "Datastore.Verify"

PERMISSIONS_PARAMETERS: Final[Schema] = {"path": required(Text("/|(?:/[^/]+)+", max_length=128))}
"""Of ``GET access/permissions``: of the caller alone, and of one path."""

_SEES_NAMESPACE: Final = frozenset({AUDIT, MODIFY, READ, BACKUP})


def acl_path(store: str, namespace: Namespace) -> str:
    """The path in the access control list of a namespace of a datastore."""
    return "/".join(("/datastore", store, *namespace.components))


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of one identity."""

    auth_id: AuthId
    _privileges: Privileges

    def at(self, store: str, namespace: Namespace) -> frozenset[str]:
        """The privileges on a namespace."""
        return self._privileges(self.auth_id, acl_path(store, namespace))

    def permissions(self, path: str) -> dict[str, dict[str, bool]]:
        """What ``GET access/permissions`` answers: by privilege, whether it holds below, too."""
        return {path: dict.fromkeys(sorted(self._privileges(self.auth_id, path)), True)}

    def sees_namespace(self, store: str, namespace: Namespace) -> bool:
        """Whether the namespace is listed for this identity."""
        return bool(self.at(store, namespace) & _SEES_NAMESPACE)

    def require(self, store: str, namespace: Namespace, privilege: str) -> None:
        """Raises Refusal (403) without the privilege."""
        if privilege not in self.at(store, namespace):
            raise _missing((privilege,), store, namespace)

    def require_backup(self, store: str, namespace: Namespace) -> None:
        """The upgrade's own check, with its own text."""
        if BACKUP not in self.at(store, namespace):
            path = acl_path(store, namespace)
            raise Refusal(HTTPStatus.FORBIDDEN, f"missing permissions '{BACKUP}' on '{path}'")

    def require_reading(self, store: str, namespace: Namespace) -> bool:
        """The reader upgrade's own check: True with the right to read what others own.

        See protocol/reader.md, "Upgrade". Raises Refusal (400).
        """
        held = self.at(store, namespace)
        if READ not in held and BACKUP not in held:
            raise bad_request(f"no permissions on {acl_path(store, namespace)}")
        return READ in held

    def needs_owning(self, store: str, namespace: Namespace, full: str, partial: str) -> bool:
        """Whether only owned groups may be touched: True with ``partial`` alone.

        Raises Refusal (403) with neither of the two privileges.
        """
        held = self.at(store, namespace)
        if full in held:
            return False
        if partial not in held:
            raise _missing((full, partial), store, namespace)
        return True

    def require_group(
        self, store: Store, namespace: Namespace, group: Group, full: str, partial: str
    ) -> None:
        """Raises Refusal unless ``full`` is held, or ``partial`` and the group is owned."""
        if self.needs_owning(store.name, namespace, full, partial):
            self.require_owning(store, namespace, group)

    def require_owning(self, store: Store, namespace: Namespace, group: Group) -> None:
        """Raises Refusal (400) unless the group is owned."""
        owner = store.owner(namespace, group)
        if owner is None:
            raise bad_request(f"unable to read owner of group {group}")
        if not self.auth_id.owns(owner):
            raise bad_request(f"backup owner check failed ({self.auth_id} != {owner})")


def _missing(privileges: tuple[str, ...], store: str, namespace: Namespace) -> Refusal:
    names = "|".join(privileges)
    path = acl_path(store, namespace)
    return Refusal(HTTPStatus.FORBIDDEN, f"permission check failed - missing {names} on {path}")
