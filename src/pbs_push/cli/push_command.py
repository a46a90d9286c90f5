"""``pbs-push push``, and ``pbs-push plan``, which says what it would do."""

from __future__ import annotations

from typing import Any

import click

from pbs_push.access.values import parse_size
from pbs_push.cli.exit_status import help_text
from pbs_push.cli.loading import loading
from pbs_push.cli.options import make_output, output_options, plan_output_options, push_options
from pbs_push.cli.side_options import TARGET_HELP, also_option, sides
from pbs_push.cli.values import Value
from pbs_push.cli.worker_options import take_workers, worker_options


@click.command(
    "push",
    epilog=help_text(),
    help=f"""Push the datastore SOURCE, a directory or the name of a datastore of this host, to
    REPOSITORY. {TARGET_HELP}""",
)
@sides
@also_option
@push_options
@worker_options
@output_options
def command(**values: Any) -> int:
    """Push; the exit status is returned."""
    return _carry_out(values)


@click.command(
    "plan",
    epilog=help_text(),
    help=f"""Say what pushing SOURCE to REPOSITORY would do, and how much it would send: the same as
    `push --dry-run`. Nothing is changed anywhere. {TARGET_HELP}""",
)
@sides
@also_option
@push_options
@click.option(
    "--rate",
    type=Value("size", parse_size),
    metavar="SIZE",
    help="Tell how long it takes at this rate, a second, such as bench measures.",
)
@click.option(
    "--measure",
    is_flag=True,
    help="Tell how long it takes at the rate that the link has now: two seconds of uploads, which "
    "the target drops.",
)
@plan_output_options
def plan(**values: Any) -> int:
    """Plan; the exit status is returned."""
    return _carry_out({**values, "dry_run": True})


def _carry_out(values: dict[str, Any]) -> int:
    with loading(rest=True):
        from pbs_push.cli.push_arguments import Arguments  # noqa: PLC0415

    values["workers"] = take_workers(values)
    output = make_output(values)
    return Arguments.of(values).carry_out(output)
