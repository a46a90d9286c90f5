"""``pbs-push push``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pbs_push.cli.exit_status import help_text
from pbs_push.cli.loading import loading
from pbs_push.cli.options import config_dir, make_output, output_options, push_options
from pbs_push.cli.values import AUTH_ID, FINGERPRINT, REPOSITORY
from pbs_push.names import ROOT, AuthId, Repository


@click.command(
    "push",
    epilog=help_text(),
    help="""Push the datastore SOURCE, a directory or the name of a datastore of this host, to
    REPOSITORY, written [[AUTH-ID@]HOST[:PORT]:]DATASTORE (default: PBS_REPOSITORY).

    The password or token secret comes from PBS_PASSWORD, PBS_PASSWORD_FD, PBS_PASSWORD_FILE or
    PBS_PASSWORD_CMD; a terminal is asked if none is set.""",
)
@click.argument("source")
@click.argument("repository", required=False, type=REPOSITORY, envvar="PBS_REPOSITORY")
@click.option(
    "--fingerprint",
    type=FINGERPRINT,
    envvar="PBS_FINGERPRINT",
    help="SHA-256 of the target's certificate: trust that one alone.  [env: PBS_FINGERPRINT]",
)
@click.option("--remote", metavar="NAME", help="A remote of remote.cfg, instead of REPOSITORY.")
@click.option("--remote-store", metavar="STORE", help="With --remote: the datastore there.")
@config_dir
@click.option(
    "--local-user",
    type=AUTH_ID,
    default=ROOT,
    help="Whose rights on this host count.  [default: root@pam]",
)
@click.option(
    "--encryption-key",
    metavar="NAME",
    help="Encrypt what is not, with this key of encryption-keys.cfg.",
)
@click.option(
    "--keyfile",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Encrypt what is not, with the key in this file.",
)
@push_options
@output_options
def command(
    *,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    source: str,
    repository: Repository | None,
    fingerprint: bytes | None,
    remote: str | None,
    remote_store: str | None,
    config_dir: Path | None,
    local_user: AuthId,
    encryption_key: str | None,
    keyfile: Path | None,
    **options: Any,
) -> int:
    """Push; the exit status is returned."""
    with loading(rest=True):
        from pbs_push.cli.push_arguments import Arguments  # noqa: PLC0415

    output = make_output(dry_run=dry_run, as_json=as_json, quiet=quiet, verbose=verbose)
    asked = Arguments(
        source,
        repository,
        fingerprint,
        remote,
        remote_store,
        config_dir,
        local_user,
        encryption_key,
        keyfile,
        options,
    )
    return asked.carry_out(output)
