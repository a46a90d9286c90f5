"""The key that a push encrypts with: of this host's configuration, or a key file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pbs_push.cli.credentials import find_key_password
from pbs_push.errors import ConfigError
from pbs_push.formats.keys import CryptKey, load_key_file
from pbs_push.names import format_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbs_push.access.host import HostConfig
    from pbs_push.access.rights import Access
    from pbs_push.remote.auth import Secret


def _default_key_file() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    return Path(home) / "proxmox-backup" / "encryption-key.json"


def configured_key(name: str, host: HostConfig, access: Access) -> CryptKey:
    """The key ``name`` of encryption-keys.cfg, which ``access`` must be allowed to use.

    Raises AccessError, ConfigError for a key that is unknown, archived or not the one that the
    configuration says, KeyFileError for a file that cannot be read.
    """
    access.require_encryption_key(name)
    entry = host.encryption_key(name)
    key = load_key_file(entry.require_usable())
    if entry.fingerprint is not None and key.fingerprint != entry.fingerprint:
        raise ConfigError(
            f"encryption key '{name}': {entry.path} holds the key "
            f"{format_fingerprint(key.fingerprint[:8])}, not the one that encryption-keys.cfg says"
        )
    return key


def key_of_file(path: Path, find: Callable[[Path], Secret] = find_key_password) -> CryptKey:
    """The key in a key file of PBS's client; ``find`` has the password, if it needs one.

    ``default`` is the one that PBS's client takes by itself. Raises KeyFileError, ConfigError.
    """
    if str(path) == "default":
        path = _default_key_file()
    return load_key_file(path, lambda: find(path).get_secret_value().encode())
