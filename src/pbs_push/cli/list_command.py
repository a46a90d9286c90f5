"""``pbs-push list``."""

from __future__ import annotations

from pathlib import Path

import click

from pbs_push.access.host import HostConfig
from pbs_push.cli.listing_json import json_text
from pbs_push.cli.listing_text import text_lines
from pbs_push.cli.options import config_dir, json_flag
from pbs_push.cli.places import find_source
from pbs_push.cli.values import NAMESPACE
from pbs_push.names import MAX_NAMESPACE_DEPTH, Namespace
from pbs_push.source.listing import ListingOptions


@click.command(
    "list",
    help="""Show namespaces, groups, snapshots and archives of the datastore SOURCE, a directory or
    the name of a datastore of this host.""",
)
@click.argument("source")
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
    datastore = find_source(source, HostConfig.load(config_dir)).datastore
    options = ListingOptions(ns, max_depth)
    if as_json:
        for piece in json_text(datastore, options):
            print(piece, end="")
    else:
        for line in text_lines(datastore, options):
            print(line)
    return 0
