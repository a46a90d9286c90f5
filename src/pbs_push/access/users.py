"""``user.cfg``: which users and API tokens of this host may act (protocol/access.md, "Users")."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pbs_push.access.sections import SectionConfig
from pbs_push.errors import ConfigError
from pbs_push.names import ROOT, AuthId


class Users:
    """The users and tokens of this host. root@pam is one of them without an entry."""

    def __init__(self, config: SectionConfig) -> None:
        self._config = config

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read ``user.cfg``; without that file there is root@pam alone. Raises ConfigError."""
        return cls(SectionConfig.load(path))

    @classmethod
    def parse(cls, text: str, origin: str) -> Self:
        """Read the text of a ``user.cfg``. Raises ConfigError."""
        return cls(SectionConfig.parse(text, origin))

    def require_active(self, auth_id: AuthId, now: float) -> None:
        """Check that this identity may act at all, at ``now`` (epoch seconds).

        A token may only if its user may. Raises ConfigError for an unknown, disabled or expired
        one: a server would refuse its login (protocol/access.md, "Users").
        """
        if auth_id.is_token:
            self.require_active(AuthId(auth_id.user), now)
        kind = "token" if auth_id.is_token else "user"
        section = self._config.find(kind, str(auth_id))
        if section is None:
            if auth_id == ROOT:
                return
            raise ConfigError(f"{kind} '{auth_id}' is unknown: no entry in {self._config.origin}")
        from pbs_push.access.accounts import Account  # noqa: PLC0415  (see access/host.py)

        account = Account.from_section(section)
        if not account.enable:
            raise ConfigError(f"{kind} '{auth_id}' is disabled in {self._config.origin}")
        if 0 < account.expire <= now:
            raise ConfigError(f"{kind} '{auth_id}' has expired, says {self._config.origin}")
