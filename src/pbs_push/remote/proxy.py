"""The HTTP proxy that leads to a target: which one, as its URL says (protocol/rest.md, "Proxies").

It sees the target's name and port, and bytes of TLS; nothing that the target is sent.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import unquote_to_bytes

from pbs_push.errors import ConfigError
from pbs_push.names import ADDRESS, is_host
from pbs_push.remote.auth import Secret

DEFAULT_PROXY_PORT: Final = 1080
"""As PBS's own client, and curl, have it."""
_LAST_PORT: Final = 65535
_URL: Final = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]{0,15})://)?(?:(?P<login>.*)@)?(?P<address>[^@/?#]+)/?",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. ``login`` is ``user:password``, None without one; it is never shown.

    ``origin`` says where this was read, for messages: ``ALL_PROXY``, say.
    """

    host: str
    port: int = DEFAULT_PROXY_PORT
    login: Secret | None = field(default=None, repr=False, compare=False)
    origin: str = field(default="", compare=False)

    @classmethod
    def parse(cls, url: str, origin: str = "") -> Self:
        """Read ``[http://][USER:PASSWORD@]HOST[:PORT]``; what is percent-encoded in the login is
        decoded.

        Raises ConfigError, which does not show the text: it may hold a password.
        """
        matched = _URL.fullmatch(url.strip())
        scheme = matched["scheme"] if matched else None
        if scheme is not None and scheme.lower() != "http":
            raise ConfigError(
                f"a proxy of the kind '{scheme.lower()}' is not supported, only HTTP ones "
                "(http://HOST:PORT), which the target's TLS goes through as it is"
            )
        address = ADDRESS.fullmatch(matched["address"]) if matched else None
        host = (address[1] or address[2]) if address else ""
        port = int(address[3] or DEFAULT_PROXY_PORT) if address else 0
        if not is_host(host) or not 0 < port <= _LAST_PORT:
            raise ConfigError(
                "a proxy is written [http://][USER:PASSWORD@]HOST[:PORT], an IPv6 address in "
                "brackets (what was given is not shown: it may hold a password)"
            )
        login = matched["login"] if matched else None
        return cls(host, port, Secret(login) if login else None, origin)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def label(self) -> str:
        """For messages: address and origin, without the login."""
        return f"{self} ({self.origin})" if self.origin else str(self)

    @property
    def authorization(self) -> str | None:
        """What ``Proxy-Authorization`` says, None without a login."""
        if self.login is None:
            return None
        user, _, password = self.login.get_secret_value().partition(":")
        raw = b":".join(_decoded(part) for part in (user, password))
        return "Basic " + base64.b64encode(raw).decode("ascii")


def _decoded(part: str) -> bytes:
    # A variable of the environment that is not UTF-8 is sent as it came.
    return unquote_to_bytes(part.encode("utf-8", "surrogateescape"))
