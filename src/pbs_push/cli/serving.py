"""What ``pbs-push serve`` does."""

from __future__ import annotations

import platform
import secrets
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pbs_push.cli.interrupts import wait_for_signal
from pbs_push.cli.lines import say, warning_line
from pbs_push.errors import InvalidName, SourceError
from pbs_push.names import AuthId, Repository, format_fingerprint
from pbs_push.target import Identities, TargetServer, create_datastore

if TYPE_CHECKING:
    from pbs_push.cli.values import Address

TOKEN: Final = AuthId("root@pam", "push")
_FALLBACK_NAME: Final = "store"
_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104  (what the user may ask for)


def serve(directory: Path, listen: Address, store_name: str | None) -> None:
    """Serve a directory until a signal comes. Raises SourceError, ConfigError, OSError."""
    name = _store_name(directory, store_name)
    _open_datastore(directory)
    secret = secrets.token_urlsafe(24)
    identities = Identities.simple({TOKEN: secret})
    with TargetServer(
        {name: directory}, identities=identities, host=listen.host, port=listen.port
    ) as server:
        repository = _reachable(server.repository(name, TOKEN))
        if not listen.is_loopback:
            say(warning_line(f"whoever reaches {repository.netloc} can try to log in"))
        for line in _introduction(repository, format_fingerprint(server.fingerprint), secret):
            print(line, flush=True)
        wait_for_signal()
    say("stopped")


def _store_name(directory: Path, asked: str | None) -> str:
    """The name asked for, or the directory's if that can be one. Raises InvalidName."""
    if asked is not None:
        return Repository(asked).datastore
    try:
        return Repository(directory.resolve().name).datastore
    except InvalidName:
        return _FALLBACK_NAME


def _open_datastore(directory: Path) -> None:
    """Make a datastore of a directory that is new or empty. Raises SourceError for another one."""
    if (directory / ".chunks").is_dir():
        return
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise SourceError(
            f"{directory} is neither a datastore nor an empty directory; choose another one"
        )
    say(f"making a datastore in {directory}")
    create_datastore(directory)


def _reachable(repository: Repository) -> Repository:
    """With the name of this machine instead of an address that means all of its own."""
    if repository.host not in _EVERYWHERE:
        return repository
    return Repository(repository.datastore, platform.node(), repository.port, repository.auth_id)


def _introduction(repository: Repository, fingerprint: str, secret: str) -> list[str]:
    return [
        f"repository   {repository}",
        f"fingerprint  {fingerprint}",
        f"secret       {secret}",
        "",
        "Push to it, until Ctrl-C here, with:",
        "",
        f"  PBS_FINGERPRINT={fingerprint} \\",
        f"  PBS_PASSWORD={shlex.quote(secret)} \\",
        f"  pbs-push push SOURCE {shlex.quote(str(repository))}",
    ]
