"""Who may log in to a target, and what they may do there."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from pbs_push.names import AuthId

DATASTORE_PRIVILEGES: Final = frozenset(
    f"Datastore.{name}" for name in ("Audit", "Modify", "Read", "Verify", "Backup", "Prune")
)
"""All that matter on a datastore (protocol/access.md, "Roles")."""

Privileges = Callable[[AuthId, str], frozenset[str]]
"""The privileges of an identity at an ACL path such as ``/datastore/S/a/b``."""


def all_rights(_auth_id: AuthId, _path: str) -> frozenset[str]:
    """Every privilege for everybody."""
    return DATASTORE_PRIVILEGES


@dataclass(frozen=True, slots=True)
class Login:
    """How an identity proves itself: a user's password or a token's secret.

    ``expire`` is in epoch seconds, 0 for never.
    """

    secret: str = field(repr=False)
    enabled: bool = True
    expire: int = 0

    def active(self, now: float) -> bool:
        """Whether it is enabled and not expired at ``now`` (epoch seconds)."""
        return self.enabled and (self.expire == 0 or now < self.expire)


@dataclass(frozen=True, slots=True)
class Identities:
    """Users and tokens with their logins. A token acts only while its user could.

    See protocol/access.md, "Users".
    """

    users: Mapping[AuthId, Login]
    tokens: Mapping[AuthId, Login] = field(default_factory=dict)
    privileges: Privileges = all_rights

    @classmethod
    def simple(
        cls, secrets: Mapping[str | AuthId, str], *, privileges: Privileges = all_rights
    ) -> Self:
        """Identities from auth-id -> password or token secret; everybody may do everything.

        The user of a token need not be named: it then exists, without a way to log in.
        """
        users: dict[AuthId, Login] = {}
        tokens: dict[AuthId, Login] = {}
        for name, secret in secrets.items():
            auth_id = AuthId.parse(name) if isinstance(name, str) else name
            (tokens if auth_id.is_token else users)[auth_id] = Login(secret)
        for token in tokens:
            users.setdefault(AuthId(token.user), Login(""))
        return cls(users, tokens, privileges)

    def active_user(self, user: AuthId, now: float) -> bool:
        """Whether ``user`` exists and may log in at ``now``."""
        login = self.users.get(user)
        return login is not None and login.active(now)

    def password_fits(self, user: AuthId, password: str, now: float) -> bool:
        """Whether ``password`` is that of the active user ``user``."""
        login = self.users.get(user)
        return login is not None and login.active(now) and _same(login.secret, password)

    def token_fits(self, token: AuthId, secret: str, now: float) -> bool:
        """Whether ``secret`` is that of the active token ``token`` of an active user."""
        login = self.tokens.get(token)
        return (
            login is not None
            and login.active(now)
            and self.active_user(AuthId(token.user), now)
            and _same(login.secret, secret)
        )


def _same(expected: str, given: str) -> bool:
    return bool(expected) and hmac.compare_digest(expected.encode(), given.encode())
