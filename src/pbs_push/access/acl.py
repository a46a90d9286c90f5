"""``acl.cfg``: who may do what on which path (protocol/access.md, "acl.cfg").

A line is an entry ``acl:PROPAGATE:PATH:WHO[,WHO…]:ROLE[,ROLE…]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from pbs_push.access.files import numbered_lines, read_config
from pbs_push.errors import AccessError, ConfigError
from pbs_push.names import ROOT, AuthId

NO_ACCESS: Final = "NoAccess"

_DATASTORE = ("Audit", "Modify", "Read", "Verify", "Backup", "Prune")
_DATASTORE_ADMIN = frozenset(f"Datastore.{name}" for name in _DATASTORE)
_REMOTE_PUSH = frozenset(("Remote.Audit", "Remote.DatastoreBackup"))
_TAPE = frozenset(("Tape.Audit", "Tape.Modify", "Tape.Write", "Tape.Read"))

ALL_PRIVILEGES: Final = (
    _DATASTORE_ADMIN
    | _REMOTE_PUSH
    | _TAPE
    | {"Datastore.Allocate", "Permissions.Modify", "Realm.Allocate"}
    | {"Remote.DatastoreModify", "Remote.DatastorePrune", "Remote.Modify", "Remote.Read"}
    | {"Sys.Audit", "Sys.Console", "Sys.Modify", "Sys.PowerManagement"}
)

ROLES: Final[Mapping[str, frozenset[str]]] = {
    "Admin": ALL_PRIVILEGES,
    "Audit": frozenset(("Sys.Audit", "Datastore.Audit")),
    NO_ACCESS: frozenset(),
    "DatastoreAdmin": _DATASTORE_ADMIN,
    "DatastoreReader": frozenset(("Datastore.Audit", "Datastore.Read", "Datastore.Verify")),
    "DatastoreBackup": frozenset(("Datastore.Backup",)),
    "DatastorePowerUser": frozenset(("Datastore.Backup", "Datastore.Prune")),
    "DatastoreAudit": frozenset(("Datastore.Audit",)),
    "RemoteAudit": frozenset(("Remote.Audit",)),
    "RemoteAdmin": frozenset(("Remote.Audit", "Remote.Modify", "Remote.Read")),
    "RemoteSyncOperator": frozenset(("Remote.Audit", "Remote.Read")),
    "RemoteSyncPushOperator": _REMOTE_PUSH,
    "RemoteDatastorePowerUser": _REMOTE_PUSH | {"Remote.DatastorePrune"},
    "RemoteDatastoreAdmin": _REMOTE_PUSH | {"Remote.DatastorePrune", "Remote.DatastoreModify"},
    "TapeAudit": frozenset(("Tape.Audit",)),
    "TapeAdmin": _TAPE,
    "TapeOperator": frozenset(("Tape.Audit", "Tape.Write", "Tape.Read")),
    "TapeReader": frozenset(("Tape.Audit", "Tape.Read")),
}
"""The privileges of each role, as PBS 4.2.3 lists them."""

_Components = tuple[str, ...]
_Roles = dict[str, bool]
"""Role -> whether it propagates to what lies below."""


@dataclass(frozen=True, slots=True)
class Acl:
    """An access control list. An empty one allows root@pam everything and others nothing."""

    _nodes: Mapping[_Components, Mapping[AuthId, _Roles]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read ``acl.cfg``; without that file there are no entries. Raises ConfigError."""
        text = read_config(path)
        return cls() if text is None else cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, origin: str) -> Self:
        """Read the text of an ``acl.cfg``. Raises ConfigError naming ``origin`` and the line."""
        nodes: dict[_Components, dict[AuthId, _Roles]] = {}
        for number, line in numbered_lines(text):
            if not line.strip():
                continue
            try:
                propagate, path, identities, roles = _parse_entry(line.strip())
            except ConfigError as error:
                raise ConfigError(f"{origin}:{number}: {error}") from None
            node = nodes.setdefault(path, {})
            for identity in identities:
                node.setdefault(identity, {}).update(dict.fromkeys(roles, propagate))
        return cls(nodes)

    def privileges(self, auth_id: AuthId, path: str) -> dict[str, bool]:
        """What ``auth_id`` may do at ``path``: privilege -> whether it holds below, too.

        A token has what both it and its user have. Whether the identity may act at all is not
        asked here: see ``Users.require_active``.
        """
        if auth_id == ROOT:
            return dict.fromkeys(ALL_PRIVILEGES, True)
        own: dict[str, bool] = {}
        for role, propagate in self._roles(auth_id, path).items():
            for privilege in ROLES[role]:
                own[privilege] = own.get(privilege, False) or propagate
        if not auth_id.is_token:
            return own
        users = self.privileges(AuthId(auth_id.user), path)
        return {name: own[name] and users[name] for name in own if name in users}

    def allows(
        self, auth_id: AuthId, privileges: Sequence[str], path: str, *, partial: bool = False
    ) -> bool:
        """Whether ``auth_id`` has all of ``privileges`` at ``path`` (``partial``: any of them)."""
        held = self.privileges(auth_id, path)
        return (any if partial else all)(name in held for name in privileges)

    def check(
        self, auth_id: AuthId, privileges: Sequence[str], path: str, *, partial: bool = False
    ) -> None:
        """Raise AccessError unless ``allows``; it names those of ``privileges`` that lack."""
        if not self.allows(auth_id, privileges, path, partial=partial):
            held = self.privileges(auth_id, path)
            lacking = tuple(name for name in privileges if name not in held)
            raise AccessError(lacking, path, partial=partial)

    def _roles(self, auth_id: AuthId, path: str) -> _Roles:
        """The roles at the end of the walk from the root to ``path``.

        At each node only what propagates counts, at the last one everything; roles that count
        replace what was collected above, and a node where none counts changes nothing.
        """
        components = _components(path)
        collected: _Roles = {}
        for depth in range(len(components) + 1):
            is_last = depth == len(components)
            here = self._nodes.get(components[:depth], {}).get(auth_id, {})
            counting = {role: below for role, below in here.items() if below or is_last}
            if counting:
                collected = {} if NO_ACCESS in counting else counting
        return collected


def _components(path: str) -> _Components:
    return tuple(component for component in path.split("/") if component)


def _parse_entry(line: str) -> tuple[bool, _Components, list[AuthId], list[str]]:
    parts = line.split(":")
    if len(parts) != 5 or parts[0] != "acl":  # noqa: PLR2004
        raise ConfigError("expected acl:PROPAGATE:PATH:WHO[,WHO…]:ROLE[,ROLE…]")
    _, propagate, path, who, roles = parts
    if propagate not in {"0", "1"}:
        raise ConfigError(f"PROPAGATE is '{propagate}', but it must be 0 or 1")
    # Groups ('@name') may stand there, but have no members.
    identities = [AuthId.parse(name) for name in _items(who) if not name.startswith("@")]
    names = _items(roles)
    for name in names:
        if name not in ROLES:
            raise ConfigError(f"unknown role '{name}'; there are {', '.join(sorted(ROLES))}")
    return propagate == "1", _components(path), identities, names


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]
