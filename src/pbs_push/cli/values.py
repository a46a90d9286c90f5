"""Types of options: texts that functions of the library read."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Self, TypeVar

import click

from pbs_push.errors import ConfigError
from pbs_push.names import (
    ADDRESS,
    DEFAULT_PORT,
    AuthId,
    Namespace,
    Repository,
    is_host,
    parse_fingerprint,
)

T = TypeVar("T")


class Value(click.ParamType, Generic[T]):  # type: ignore[type-arg]  # generic in newer clicks
    """A value read by ``parse``, whose ConfigError becomes the message of a usage error."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value of a text; anything else is a default, and stays."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


NAMESPACE: Final = Value("namespace", Namespace.parse)
REPOSITORY: Final = Value("repository", Repository.parse)
FINGERPRINT: Final = Value("fingerprint", parse_fingerprint)
AUTH_ID: Final = Value("auth-id", AuthId.parse)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 is a free one."""

    host: str = "127.0.0.1"
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``HOST[:PORT]``, an IPv6 address in brackets. Raises ConfigError."""
        matched = ADDRESS.fullmatch(text)
        host = (matched[1] or matched[2]) if matched else ""
        port = int(matched[3] or DEFAULT_PORT) if matched else 0
        if not is_host(host) or port > 65535:  # noqa: PLR2004
            raise ConfigError(f"'{text}' is not a HOST[:PORT], with an IPv6 address in brackets")
        return cls(host, port)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
