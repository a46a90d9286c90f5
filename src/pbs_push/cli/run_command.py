"""``pbs-push run``: pushes that a configuration file names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pbs_push.cli.exit_status import help_text
from pbs_push.cli.loading import loading
from pbs_push.cli.options import make_output, plan_output_options


@click.command(
    "run",
    epilog=help_text(),
    help="""Run the pushes NAME of a configuration file, or all of them, one after another. Before
    anything is pushed, all of the file is checked.""",
)
@click.argument("names", metavar="[NAME]…", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Run all pushes, in the file's order.")
@click.option("--list", "listing", is_flag=True, help="Show the pushes of the file.")
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The file.  [default: /etc/pbs-push.toml, or else ~/.config/pbs-push.toml]",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--log-json",
    is_flag=True,
    help="Tell progress, warnings and errors on stderr as JSON, an event a line.",
)
@plan_output_options
def command(
    *, names: tuple[str, ...], everything: bool, listing: bool, config: Path | None, **values: Any
) -> int:
    """Run them; the exit status is returned."""
    output = make_output(values)
    given = {"the NAME of a push": bool(names), "--all": everything, "--list": listing}
    if not any(given.values()):
        raise click.UsageError("which push? Give its NAME, or --all; --list shows them")
    if sum(given.values()) > 1:
        several = " and ".join(what for what, is_given in given.items() if is_given)
        raise click.UsageError(f"{several} cannot be given together")
    with loading(rest=True):
        from pbs_push.cli.running import list_pushes, run_pushes  # noqa: PLC0415

    if listing:
        return list_pushes(config, output)
    return run_pushes(config, names if names else None, output)
