"""``pbs-push list``."""

from __future__ import annotations

from pathlib import Path

import click

from pbs_push.cli.completion import DATASTORES
from pbs_push.cli.loading import loading
from pbs_push.cli.options import config_dir, json_flag
from pbs_push.cli.values import NAMESPACE
from pbs_push.names import MAX_NAMESPACE_DEPTH, Namespace


@click.command(
    "list",
    help="""Show namespaces, groups, snapshots and archives of the datastore SOURCE, a directory or
    the name of a datastore of this host.""",
)
@click.argument("source", shell_complete=DATASTORES)
@click.option("--ns", type=NAMESPACE, default=Namespace(), help="Where to begin.  [default: root]")
@click.option(
    "--max-depth",
    type=click.IntRange(0, MAX_NAMESPACE_DEPTH),
    help="Levels of namespaces below.  [default: all]",
)
@json_flag
@config_dir
def command(
    source: str, ns: Namespace, max_depth: int | None, as_json: bool, config_dir: Path | None
) -> int:
    """List; the exit status is returned."""
    with loading():
        from pbs_push.cli.listing import pieces  # noqa: PLC0415

    for piece in pieces(source, config_dir, ns, max_depth, as_json=as_json):
        print(piece, end="")
    return 0
