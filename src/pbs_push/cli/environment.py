"""What the environment says of the target, as PBS's own client reads it.

See protocol/rest.md, "Auth-ids and repositories". A credential that systemd was told to load
(``LoadCredential=pbs-push.password:…``) counts where no variable is set.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from pbs_push.errors import ConfigError, os_reason
from pbs_push.names import DEFAULT_PORT, AuthId, Namespace, Repository, is_host, parse_fingerprint

_PREFIXES: Final = ("pbs-push.", "proxmox-backup-client.")
"""Of the names of credentials; the second one is that of PBS's own client."""
_PARTS: Final = ("PBS_SERVER", "PBS_PORT", "PBS_AUTH_ID")

Environment = Mapping[str, str]
T = TypeVar("T")


def repository(environment: Environment | None = None) -> Repository | None:
    """The target of PBS_REPOSITORY, or of PBS_DATASTORE, PBS_SERVER, PBS_PORT and PBS_AUTH_ID.

    None where nothing is said. Raises ConfigError, naming the variable.
    """
    environment = os.environ if environment is None else environment
    if text := environment.get("PBS_REPOSITORY"):
        return _read("PBS_REPOSITORY", Repository.parse, text)
    if datastore := environment.get("PBS_DATASTORE"):
        return _of_parts(datastore, environment)
    if given := [name for name in _PARTS if environment.get(name)]:
        raise ConfigError(f"{given[0]} is set, but neither PBS_DATASTORE nor PBS_REPOSITORY")
    text = credential("repository", environment) or ""
    return _read("credential 'repository'", Repository.parse, text) if text else None


def _of_parts(datastore: str, environment: Environment) -> Repository:
    port = _read("PBS_PORT", _port, environment.get("PBS_PORT") or str(DEFAULT_PORT))
    auth_id = _read("PBS_AUTH_ID", AuthId.parse, environment.get("PBS_AUTH_ID") or "root@pam")
    host = _read("PBS_SERVER", _host, environment.get("PBS_SERVER") or "localhost")
    return _read("PBS_DATASTORE", lambda name: Repository(name, host, port, auth_id), datastore)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:6]) <= 65535):  # noqa: PLR2004
        raise ConfigError(f"'{text}' is not a port")
    return int(text)


def _host(text: str) -> str:
    host = text.removeprefix("[").removesuffix("]")
    if not is_host(host):
        raise ConfigError(f"'{text}' is not a host name or address")
    return host


def namespace(environment: Environment | None = None) -> Namespace | None:
    """The target namespace of PBS_NAMESPACE, None where that is not set. Raises ConfigError."""
    environment = os.environ if environment is None else environment
    text = environment.get("PBS_NAMESPACE")
    return None if text is None else _read("PBS_NAMESPACE", Namespace.parse, text)


def fingerprint(environment: Environment | None = None) -> bytes | None:
    """The fingerprint of the target's certificate, None without one. Raises ConfigError."""
    environment = os.environ if environment is None else environment
    if text := environment.get("PBS_FINGERPRINT"):
        return _read("PBS_FINGERPRINT", parse_fingerprint, text)
    text = credential("fingerprint", environment) or ""
    return _read("credential 'fingerprint'", parse_fingerprint, text.strip()) if text else None


def credential(name: str, environment: Environment | None = None) -> str | None:
    """The first line of a credential of systemd's, None if none of this name was loaded.

    Raises ConfigError for one that cannot be read.
    """
    environment = os.environ if environment is None else environment
    folder = environment.get("CREDENTIALS_DIRECTORY")
    for prefix in _PREFIXES if folder else ():
        path = Path(folder or "") / f"{prefix}{name}"
        try:
            with path.open(encoding="utf-8") as file:
                return file.readline().rstrip("\r\n")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ConfigError(f"credential {path}: {os_reason(error)}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"credential {path}: it is not UTF-8 text") from None
    return None


def _read(name: str, parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
