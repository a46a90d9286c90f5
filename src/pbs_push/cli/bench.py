"""``pbs-push bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pbs_push.bench.timing import DEFAULT_SECONDS, MOST_SECONDS
from pbs_push.cli.completion import DATASTORES, REMOTES
from pbs_push.cli.exit_status import help_text
from pbs_push.cli.loading import loading
from pbs_push.cli.options import config_dir, json_flag, proxy, timeout
from pbs_push.cli.values import FINGERPRINT, NAMESPACE, REPOSITORY
from pbs_push.names import Namespace


@click.command(
    "bench",
    epilog=help_text(),
    help="""Measure this machine, and if they are given, how fast a datastore's chunks are read and
    what the way to a target carries; say what limits a push, and which options to take
    (docs/bench.md).

    A datastore is only read, a sample of it. No backup stays at a target. Secrets are found as for
    push.""",
)
@click.option(
    "--repository",
    type=REPOSITORY,
    envvar="PBS_REPOSITORY",
    help="The target: [[AUTH-ID@]HOST[:PORT]:]DATASTORE.  [env: PBS_REPOSITORY]",
)
@click.option(
    "--fingerprint",
    type=FINGERPRINT,
    envvar="PBS_FINGERPRINT",
    help="SHA-256 of the target's certificate: trust that one alone.  [env: PBS_FINGERPRINT]",
)
@click.option(
    "--remote",
    metavar="NAME",
    shell_complete=REMOTES,
    help="A remote of remote.cfg, instead of --repository.",
)
@click.option("--remote-store", metavar="STORE", help="With --remote: the datastore there.")
@click.option(
    "--remote-ns",
    type=NAMESPACE,
    default=Namespace(),
    help="Namespace there to measure in.  [default: root]",
)
@click.option(
    "--datastore",
    metavar="SOURCE",
    shell_complete=DATASTORES,
    help="A directory, or a datastore of this host.",
)
@config_dir
@json_flag
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with plots too."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, MOST_SECONDS, min_open=True),
    default=DEFAULT_SECONDS,
    show_default=True,
    help="For each measurement, about.",
)
@timeout
@proxy
def command(**arguments: Any) -> int:
    """Measure; the exit status is returned."""
    with loading(rest=True):
        from pbs_push.cli.bench_arguments import Arguments  # noqa: PLC0415

    return Arguments(**arguments).carry_out()
