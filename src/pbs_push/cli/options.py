"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from pbs_push.cli.pushing import Output

F = TypeVar("F", bound=Callable[..., Any])

config_dir: Final = click.option(
    "--config-dir",
    type=click.Path(path_type=Path),
    help="Where this host's configuration lies.  [default: /etc/proxmox-backup, if it is there]",
)

json_flag: Final = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout (docs/json.md)."
)


def output_options(command: F) -> F:
    """``--dry-run``, ``--json``, ``--quiet`` and ``--verbose``; ``make_output`` takes them."""
    for option in (
        click.option("--verbose", "-v", is_flag=True, help="Tell more."),
        click.option("--quiet", "-q", is_flag=True, help="Only tell errors and warnings."),
        json_flag,
        click.option("--dry-run", is_flag=True, help="Only say what would be done."),
    ):
        command = option(command)
    return command


def make_output(*, dry_run: bool, as_json: bool, quiet: bool, verbose: bool) -> Output:
    """What the options of ``output_options`` say. Raises UsageError."""
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose contradict each other")
    return Output(dry_run, as_json, quiet, verbose)
