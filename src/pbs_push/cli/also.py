"""Further targets of a push: what ``--also``, or a table of the configuration file, says of one.

A text is written as PBS's own property strings: the repository, and ``KEY=VALUE`` behind commas.
Secrets do not stand in it; it says where they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from pbs_push.cli.credentials import asked_for, first_line, referenced, secret_of
from pbs_push.errors import ConfigError
from pbs_push.names import AuthId, Namespace, Repository, parse_fingerprint
from pbs_push.remote.auth import Secret

if TYPE_CHECKING:
    from pbs_push.access.host import HostConfig
    from pbs_push.cli.targets import Reach, TargetPlace

_SECRETS: Final = ("password-file", "password-command", "password-env")
KEYS: Final = ("repository", "remote", "remote-store", "remote-ns", "fingerprint", *_SECRETS)
_NEXT: Final = re.compile(r",(?=[a-z-]+=)")
_KEY: Final = re.compile(r"([a-z-]+)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class AlsoTarget:
    """A target: ``repository``, or the datastore ``store`` of the ``remote`` of this name.

    ``namespace`` None: the one that the first target has. ``find`` gives its secret, ``variable``
    is the one that holds it, if any.
    """

    repository: Repository | None
    remote: str | None
    store: str
    namespace: Namespace | None
    fingerprint: bytes | None
    find: Callable[[AuthId], Secret]
    variable: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``--also`` says. Raises ConfigError, which shows no value of a secret."""
        values: dict[str, str] = {}
        for part in _NEXT.split(text):
            matched = _KEY.fullmatch(part)
            key, value = (matched[1], matched[2]) if matched else ("repository", part)
            if key in values:
                raise ConfigError(f"{key} is given twice")
            values[key] = value
        return cls.of(values)

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Self:
        """Read values by their keys. Raises ConfigError."""
        _check(values)
        remote_ns, fingerprint = values.get("remote-ns"), values.get("fingerprint")
        repository = values.get("repository")
        return cls(
            None if repository is None else Repository.parse(repository),
            values.get("remote"),
            values.get("remote-store", ""),
            None if remote_ns is None else Namespace.parse(remote_ns),
            None if fingerprint is None else parse_fingerprint(fingerprint),
            _finder(values),
            values.get("password-env"),
        )

    def __str__(self) -> str:
        return f"{self.remote}:{self.store}" if self.repository is None else str(self.repository)

    def open(self, host: HostConfig, reach: Reach) -> TargetPlace:
        """The target, to be closed. Raises ConfigError."""
        from pbs_push.cli.targets import remote_target, repository_target  # noqa: PLC0415

        if self.repository is None:
            return remote_target(host, self.remote or "", self.store, reach)
        return repository_target(self.repository, self.fingerprint, reach, self.find)


def _check(values: Mapping[str, str]) -> None:
    for key, value in values.items():
        if key not in KEYS:
            if "password" in key or "secret" in key or "token" in key:
                raise ConfigError(
                    f"'{key}': a secret must not stand here: say where it is, with password-file, "
                    "password-command or password-env"
                )
            raise ConfigError(f"'{key}' is not known; there is {', '.join(KEYS)}")
        if not value:
            raise ConfigError(f"{key} is empty")
    if ("repository" in values) == ("remote" in values):
        raise ConfigError("give a repository, or a remote with remote-store")
    if ("remote" in values) != ("remote-store" in values):
        raise ConfigError("remote and remote-store need each other")
    if "remote" in values:
        for key in ("fingerprint", *_SECRETS):
            if key in values:
                raise ConfigError(f"{key} has no effect with remote: remote.cfg has it")
    given = [key for key in _SECRETS if key in values]
    if len(given) > 1:
        raise ConfigError(f"give one of {' and '.join(given)}")


def _finder(values: Mapping[str, str]) -> Callable[[AuthId], Secret]:
    """What finds the secret. That of the first target is not tried: it is somebody else's."""
    for kind in ("file", "command"):
        if (text := values.get(f"password-{kind}")) is not None:
            where = f"password-{kind}"
            return lambda auth_id: referenced(kind, text, where, f"the secret for {auth_id}")
    if (variable := values.get("password-env")) is not None:
        if variable not in os.environ:
            raise ConfigError(f"password-env: the variable {variable} is not set")
        held = Secret(os.environ[variable])
        return lambda auth_id: first_line(
            held.get_secret_value(), variable, f"the secret for {auth_id}"
        )
    there = values.get("repository", "").rpartition("@")[2]
    return lambda auth_id: _asked(f"{secret_of(auth_id)} at {there}")


def _asked(what: str) -> Secret:
    instead = "say password-file=FILE behind its repository, or run on a terminal to be asked"
    return asked_for(what, f"no {what}: {instead}")
