"""The parameters that name both sides of a push, and the key: of every command that has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pbs_push.cli.completion import DATASTORES, KEYS, REMOTES
from pbs_push.cli.options import config_dir, proxy, timeout
from pbs_push.cli.values import AUTH_ID, FINGERPRINT, REPOSITORY, Value
from pbs_push.names import ROOT

if TYPE_CHECKING:
    from pbs_push.cli.also import AlsoTarget

F = TypeVar("F", bound=Callable[..., Any])

TARGET_HELP: Final = """REPOSITORY is written [[AUTH-ID@]HOST[:PORT]:]DATASTORE.
    Default: PBS_REPOSITORY, or PBS_DATASTORE with PBS_SERVER, PBS_PORT and PBS_AUTH_ID.

    The password or token secret comes from PBS_PASSWORD, PBS_PASSWORD_FD, PBS_PASSWORD_FILE or
    PBS_PASSWORD_CMD; a terminal is asked if none is set."""


def sides(command: F) -> F:
    """SOURCE, REPOSITORY and what belongs to them, for ``push_arguments.Arguments``."""
    for option in reversed(_KEYS):
        command = option(command)
    return target_sides(command)


def _also(text: str) -> AlsoTarget:
    from pbs_push.cli.also import AlsoTarget  # noqa: PLC0415  (for who has several)

    return AlsoTarget.parse(text)


also_option: Final = click.option(
    "--also",
    type=Value("target", _also),
    metavar="REPOSITORY[,KEY=VALUE]…",
    multiple=True,
    help="Push to this target, too, in the same run; may be repeated. KEY is fingerprint, "
    "remote-ns, password-file, password-command or password-env; instead of REPOSITORY also "
    "remote=NAME,remote-store=STORE.",
)
"""Further targets of a push, for ``push_arguments.Arguments``."""


def target_sides(command: F) -> F:
    """The same for a command that has no use for a key."""
    for option in reversed(_SIDES):
        command = option(command)
    return command


_SIDES: Final = (
    click.argument("source", shell_complete=DATASTORES),
    click.argument("repository", required=False, type=REPOSITORY),
    click.option(
        "--fingerprint",
        type=FINGERPRINT,
        help="SHA-256 of the target's certificate: trust that one alone.  [env: PBS_FINGERPRINT]",
    ),
    click.option(
        "--remote",
        metavar="NAME",
        shell_complete=REMOTES,
        help="A remote of remote.cfg, instead of REPOSITORY.",
    ),
    click.option("--remote-store", metavar="STORE", help="With --remote: the datastore there."),
    timeout,
    proxy,
    config_dir,
    click.option(
        "--local-user",
        type=AUTH_ID,
        default=ROOT,
        help="Whose rights on this host count.  [default: root@pam]",
    ),
)

_KEYS: Final = (
    click.option(
        "--encryption-key",
        metavar="NAME",
        shell_complete=KEYS,
        help="Encrypt what is not, with this key of encryption-keys.cfg.",
    ),
    click.option(
        "--keyfile",
        metavar="FILE|default",
        type=click.Path(path_type=Path),
        help="Encrypt what is not, with the key in this file, or the default one of PBS's client.",
    ),
)
