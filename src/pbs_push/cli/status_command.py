"""``pbs-push status``: how far the target is behind."""

from __future__ import annotations

from typing import Any

import click

from pbs_push.access.values import parse_duration
from pbs_push.cli.loading import loading
from pbs_push.cli.options import json_flag, which_options
from pbs_push.cli.side_options import TARGET_HELP, target_sides
from pbs_push.cli.values import Value


@click.command(
    "status",
    help=f"""Say of each group of SOURCE how far REPOSITORY is behind: newest snapshot here and
    there, how many a push would send, how long they wait, gaps. {TARGET_HELP}""",
)
@target_sides
@which_options
@click.option(
    "--max-lag",
    type=Value("time", parse_duration),
    metavar="TIME",
    help="Exit with 3 if a snapshot waits for longer: 26h.",
)
@click.option("--no-bytes", is_flag=True, help="Do not read indexes to tell how much it is.")
@json_flag
def command(*, max_lag: float | None, no_bytes: bool, as_json: bool, **values: Any) -> int:
    """Show it; the exit status is returned."""
    with loading(rest=True):
        from pbs_push.cli.push_arguments import Arguments  # noqa: PLC0415
        from pbs_push.cli.status_lines import show  # noqa: PLC0415

    arguments = Arguments.of(values)
    return show(
        arguments.sides,
        arguments.prepared,
        max_lag_s=max_lag,
        bytes_too=not no_bytes,
        as_json=as_json,
    )
