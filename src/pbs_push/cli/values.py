"""Types of options: texts that functions of the library read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import click

from pbs_push.errors import ConfigError
from pbs_push.names import AuthId, Namespace, Repository, parse_fingerprint

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
