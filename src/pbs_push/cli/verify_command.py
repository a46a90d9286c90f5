"""``pbs-push verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pbs_push.cli.exit_status import help_text
from pbs_push.cli.loading import loading, spare_threads
from pbs_push.cli.options import (
    SCOPE,
    config_dir,
    make_output,
    plan_output_options,
    scope_options,
)


@click.command(
    "verify",
    epilog=help_text(),
    help="""Verify that the datastore SOURCE, a directory or the name of a datastore of this host,
    holds what its snapshots say: each manifest, index and blob, and each chunk once.""",
)
@click.argument("source")
@scope_options
@click.option(
    "--keyfile",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Check what is encrypted with the key in this file, too.",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Chunks checked at once.  [default: one for each core]",
)
@click.option(
    "--state",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Keep here what was checked, and go on with it after an end before the time.",
)
@config_dir
@plan_output_options
def command(
    *,
    source: str,
    keyfile: Path | None,
    parallel: int | None,
    state: Path | None,
    config_dir: Path | None,
    **others: Any,
) -> int:
    """Verify; the exit status is returned."""
    spare_threads()
    with loading():
        from pbs_push.cli.verifying import SourceArguments  # noqa: PLC0415

    output = make_output(others | {"dry_run": False})
    scope = {name: others[name] for name in SCOPE}
    return SourceArguments(source, config_dir, keyfile, parallel, state, scope).carry_out(output)
