"""``pbs-push serve``: the embedded target, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path

import click

from pbs_push.cli.loading import loading
from pbs_push.cli.values import Address, Value


@click.command(
    "serve",
    help="""Serve DIRECTORY as a target, strict as a Proxmox Backup Server, until Ctrl-C. A new or
    empty directory becomes a datastore. The certificate, and the token's secret, are new each time.

    For trying and testing: it has no garbage collection and no pruning.""",
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
    with loading():
        from pbs_push.cli.serving import serve  # noqa: PLC0415

    serve(directory, listen, store_name)
    return 0
