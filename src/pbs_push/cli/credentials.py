"""Secrets for the target, from where PBS's own client takes them; never from arguments.

See protocol/rest.md, "Auth-ids and repositories".

In this order: ``PBS_PASSWORD`` (the secret), ``PBS_PASSWORD_FD`` (an open file descriptor),
``PBS_PASSWORD_FILE`` (a file), ``PBS_PASSWORD_CMD`` (a command, split like a shell's words but run
without one). Of each the first line counts. If none is set, a credential of systemd's is taken, and
without that a terminal is asked. The password of an
encryption key file comes in the same ways from ``PBS_ENCRYPTION_PASSWORD``.
"""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from pbs_push.cli.environment import credential
from pbs_push.cli.privacy import without_secrets
from pbs_push.errors import ConfigError
from pbs_push.names import AuthId
from pbs_push.remote.auth import Secret

PASSWORD_VARIABLE: Final = "PBS_PASSWORD"  # noqa: S105  (a name, no secret)
KEY_PASSWORD_VARIABLE: Final = "PBS_ENCRYPTION_PASSWORD"  # noqa: S105


def find_secret(auth_id: AuthId, environment: Mapping[str, str] | None = None) -> Secret:
    """The password, or the token's secret, of ``auth_id`` at the target.

    Raises ConfigError where it cannot be had, or is empty.
    """
    secret = _from_environment(PASSWORD_VARIABLE, f"the secret for {auth_id}", environment)
    if secret is not None:
        return secret
    if (loaded := credential("password", environment)) is not None:
        return _secret(loaded, "credential 'password'", f"the secret for {auth_id}")
    what = secret_of(auth_id)
    return asked_for(what, _no_secret(what, PASSWORD_VARIABLE))


def find_key_password(key_file: Path, environment: Mapping[str, str] | None = None) -> Secret:
    """The password of an encryption key file.

    Raises ConfigError where it cannot be had, or is empty.
    """
    what = f"password of encryption key {key_file}"
    secret = _from_environment(KEY_PASSWORD_VARIABLE, f"the {what}", environment)
    if secret is not None:
        return secret
    if (loaded := credential("encryption-password", environment)) is not None:
        return _secret(loaded, "credential 'encryption-password'", f"the {what}")
    return asked_for(what, _no_secret(what, KEY_PASSWORD_VARIABLE))


def secret_of(auth_id: AuthId) -> str:
    """What the secret of an identity is, in words."""
    what = "secret of token" if auth_id.is_token else "password of"
    return f"{what} {auth_id}"


def referenced(kind: str, text: str, where: str, what: str) -> Secret:
    """The secret that a reference leads to: a ``file`` or a ``command``.

    ``where`` it stands and ``what`` it is are for messages. Raises ConfigError.
    """
    read = _from_file if kind == "file" else _from_command
    return first_line(read(where, text), where, what)


def first_line(text: str, where: str, what: str) -> Secret:
    """The first line as a secret. Raises ConfigError for one that is empty."""
    return _secret(_first_line(text), where, what)


def _from_environment(
    variable: str, what: str, environment: Mapping[str, str] | None
) -> Secret | None:
    """The secret behind a variable or those derived from it, None where none is set."""
    environment = os.environ if environment is None else environment
    for suffix, read in _READERS.items():
        name = variable + suffix
        if name in environment:
            return _secret(_first_line(read(name, environment[name])), name, what)
    return None


def _secret(text: str, where: str, what: str) -> Secret:
    if not text:
        raise ConfigError(f"{where}: {what} is empty")
    return Secret(text)


def _first_line(text: str) -> str:
    return text.partition("\n")[0].removesuffix("\r")


def _no_secret(what: str, variable: str) -> str:
    return (
        f"no {what}: set {variable}, {variable}_FILE, {variable}_FD or "
        f"{variable}_CMD, or run on a terminal to be asked"
    )


def asked_for(what: str, without: str) -> Secret:
    """Ask a terminal for a secret, which is ``what``.

    Raises ConfigError where there is none, which says ``without``, or if nothing was entered.
    """
    if not sys.stdin.isatty():
        raise ConfigError(without)
    try:
        secret = getpass.getpass(f"{what[0].upper()}{what[1:]}: ", stream=sys.stderr)
    except EOFError:
        secret = ""
    if not secret:
        raise ConfigError(f"no {what}: nothing was entered")
    return Secret(secret)


def _as_it_is(_variable: str, text: str) -> str:
    return text


def _from_descriptor(variable: str, text: str) -> str:
    if not text.isdecimal() or len(text) > 9:  # noqa: PLR2004  (more than any descriptor has)
        raise ConfigError(f"{variable}: '{text}' is not a number of a file descriptor")
    try:
        with open(int(text), encoding="utf-8") as file:  # noqa: PTH123  (a descriptor has no path)
            return file.readline()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(variable, f"file descriptor {text}", error) from None


def _from_file(variable: str, text: str) -> str:
    try:
        with Path(text).open(encoding="utf-8") as file:
            return file.readline()
    except (OSError, ValueError) as error:
        raise _unreadable(variable, text, error) from None


def _from_command(variable: str, text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{variable}: {error}") from None
    if not words:
        raise ConfigError(f"{variable}: it names no command")
    # Only the first word is told: the others may be secrets.
    try:
        done = subprocess.run(
            words, stdout=subprocess.PIPE, check=False, env=without_secrets(os.environ)
        )
        if done.returncode:
            raise ConfigError(f"{variable}: '{words[0]}' ended with status {done.returncode}")
        return done.stdout.decode("utf-8")
    except (OSError, ValueError) as error:
        raise _unreadable(variable, f"'{words[0]}'", error) from None


def _unreadable(variable: str, what: str, error: Exception) -> ConfigError:
    """The error to raise; what was read does not go along."""
    if isinstance(error, UnicodeDecodeError):
        reason: str = "it is not UTF-8 text"
    else:
        reason = getattr(error, "strerror", None) or type(error).__name__
    return ConfigError(f"{variable}: {what}: {reason}")


_READERS: Final[Mapping[str, Callable[[str, str], str]]] = {
    "": _as_it_is,
    "_FD": _from_descriptor,
    "_FILE": _from_file,
    "_CMD": _from_command,
}
"""By the end of a variable's name, how its text leads to the secret; in order of precedence."""
