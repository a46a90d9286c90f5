"""``remote.cfg``: the servers this host knows and their secrets (protocol/access.md, "Files")."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr

from pbs_push.access.model import (
    AuthIdField,
    ConfigModel,
    FingerprintField,
    Flag,
    Number,
    SafeId,
    from_text,
)
from pbs_push.errors import ConfigError
from pbs_push.names import DEFAULT_PORT, Repository, is_host


def _host(text: str) -> str:
    if not is_host(text):
        raise ConfigError(f"'{text}' is not a host name or address (IPv6 without brackets)")
    return text


def _decoded(text: str) -> SecretStr | None:
    try:
        return SecretStr(base64.b64decode(text, validate=True).decode("utf-8"))
    except (binascii.Error, ValueError):
        return None


def _secret(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    secret = _decoded(value)
    # Raised behind the try: the decoder's error would carry the secret along.
    if secret is None:
        raise ValueError("the value is not base64 of UTF-8 text (it is not shown)")
    return secret


class Remote(ConfigModel):
    """A configured server. ``str`` and ``repr`` mask the password.

    ``auth_id`` is a user, then ``password`` is the user's; or a token, then it is its secret.
    Given as plain text, ``password`` is read as the file holds it: base64 of UTF-8.
    ``fingerprint``: 32 bytes, the SHA-256 of the only certificate to trust; None: the system's CAs.
    """

    name: SafeId
    host: Annotated[str, BeforeValidator(from_text(_host))]
    port: Number = Field(default=DEFAULT_PORT, ge=1, le=65535)
    auth_id: AuthIdField
    password: Annotated[SecretStr, BeforeValidator(_secret)]
    fingerprint: FingerprintField | None = None
    comment: str | None = None
    use_node_proxy: Flag = False

    def repository(self, store: str) -> Repository:
        """The datastore ``store`` of this server. Raises InvalidName."""
        return Repository(store, self.host, self.port, self.auth_id)
