"""``pbs-push check``: whether a push would go through."""

from __future__ import annotations

from typing import Any

import click

from pbs_push.cli.loading import loading
from pbs_push.cli.options import json_flag, push_options
from pbs_push.cli.side_options import TARGET_HELP, sides


@click.command(
    "check",
    help=f"""Look whether pushing SOURCE to REPOSITORY would go through, and how fast: certificate,
    login, version, rights, owners, namespaces, locks, checkpoints left over, free space, round
    trip, rates. Takes the options of push. Nothing is changed. {TARGET_HELP}""",
)
@sides
@push_options
@click.option("--no-rates", is_flag=True, help="Do not measure how fast source and link are.")
@json_flag
def command(*, no_rates: bool, as_json: bool, **values: Any) -> int:
    """Check; the exit status is returned."""
    with loading(rest=True):
        from pbs_push.cli.checking import show  # noqa: PLC0415
        from pbs_push.cli.push_arguments import Arguments  # noqa: PLC0415

    arguments = Arguments.of(values)
    return show(arguments.sides, arguments.prepared, rates=not no_rates, as_json=as_json)
