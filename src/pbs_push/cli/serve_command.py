"""``pbs-push serve``: the embedded target, until Ctrl-C."""

from __future__ import annotations

import ipaddress
import platform
import secrets
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import click

from pbs_push.cli.interrupts import wait_for_signal
from pbs_push.cli.lines import say, warning_line
from pbs_push.cli.values import Value
from pbs_push.errors import ConfigError, InvalidName, SourceError
from pbs_push.names import ADDRESS, DEFAULT_PORT, AuthId, Repository, format_fingerprint, is_host
from pbs_push.target import Identities, TargetServer, create_datastore

TOKEN: Final = AuthId("root@pam", "push")
_FALLBACK_NAME: Final = "store"
_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104  (what the user may ask for)


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


@click.command(
    "serve",
    help="""Serve DIRECTORY as a target, strict as a Proxmox Backup Server, until Ctrl-C. A new or
    empty directory becomes a datastore. The certificate, and the token's secret, are new each time.

    For trying and testing: it has no garbage collection, no verification and no pruning.""",
)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--listen",
    type=Value("host[:port]", Address.parse),
    default=Address(),
    help="Where to listen; port 0 takes a free one.  [default: 127.0.0.1:0; port: 8007]",
)
@click.option("--store-name", metavar="NAME", help="Default: the directory's name.")
def command(directory: Path, listen: Address, store_name: str | None) -> int:
    """Serve; the exit status is returned."""
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
    return 0


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
