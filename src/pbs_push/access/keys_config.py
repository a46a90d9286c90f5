"""``encryption-keys.cfg``: keys for push jobs (protocol/access.md, "Encryption keys")."""

from __future__ import annotations

from pathlib import Path

from pbs_push.access.model import ConfigModel, FingerprintField, Number, SafeId
from pbs_push.errors import ConfigError


class SyncKey(ConfigModel):
    """A key for sync jobs.

    ``path`` is the key file (protocol/datastore.md, "Key files"; without a password),
    ``fingerprint`` the key's 32 bytes,
    ``archived_at`` the epoch second since which it is kept for restores only.
    """

    name: SafeId
    path: Path
    fingerprint: FingerprintField | None = None
    archived_at: Number | None = None

    def require_usable(self) -> Path:
        """The key file, if new pushes may use it. Raises ConfigError for an archived key."""
        if self.archived_at is not None:
            raise ConfigError(
                f"encryption key '{self.name}' is archived: it opens old backups, new pushes must "
                "not use it; name another one"
            )
        return self.path
