"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from pbs_push.cli.pushing import Output
from pbs_push.cli.values import DURATION, MAX_REMOVALS, MaxRemovals
from pbs_push.push.options import DEFAULT_LOCK_WAIT_S

F = TypeVar("F", bound=Callable[..., Any])

config_dir: Final = click.option(
    "--config-dir",
    type=click.Path(path_type=Path),
    help="Where this host's configuration lies.  [default: /etc/proxmox-backup, if it is there]",
)

json_flag: Final = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout (docs/json.md)."
)


def safety_options(command: F) -> F:
    """What is as well given to a job of ``sync.cfg``, whose file has no such settings."""
    for option in (
        click.option(
            "--lock-wait",
            type=DURATION,
            default=DEFAULT_LOCK_WAIT_S,
            help="How long to wait for a lock that is held: 90, 5m.  [default: 1m]",
        ),
        click.option(
            "--skip-damaged",
            is_flag=True,
            help="Leave behind for good what is damaged here, and go on with newer snapshots.",
        ),
        click.option("--sync-protected", is_flag=True, help="Bring the protected flag too."),
        click.option(
            "--sync-metadata", is_flag=True, help="Update notes of what was pushed earlier."
        ),
        click.option(
            "--max-removals",
            type=MAX_REMOVALS,
            help="Remove nothing if it would be more snapshots.",
        ),
        click.option(
            "--allow-empty-source",
            is_flag=True,
            help="Remove even if nothing is left at the source.",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Safety:
    """The options of ``safety_options``, as they were given."""

    allow_empty_source: bool
    max_removals: MaxRemovals | None
    sync_metadata: bool
    sync_protected: bool
    skip_damaged: bool
    lock_wait: float

    def check(self, *, removing: bool, needed: str) -> None:
        """Raise UsageError for one that has no effect where nothing is removed.

        ``needed`` is what would make it have one.
        """
        if removing or not (self.allow_empty_source or self.max_removals is not None):
            return
        option = "--allow-empty-source" if self.allow_empty_source else "--max-removals"
        raise click.UsageError(f"{option} has no effect without {needed}")

    @property
    def push_options(self) -> dict[str, Any]:
        """As parameters of PushOptions."""
        removals = self.max_removals or MaxRemovals()
        return {
            "allow_empty_source": self.allow_empty_source,
            "max_removals": removals.count,
            "max_removals_percent": removals.percent,
            "sync_metadata": self.sync_metadata,
            "sync_protected": self.sync_protected,
            "skip_damaged": self.skip_damaged,
            "lock_wait_s": self.lock_wait,
        }


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
