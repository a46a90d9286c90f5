"""``pbs-push job list`` and ``pbs-push job run``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from pbs_push.cli.completion import JOBS
from pbs_push.cli.exit_status import help_text
from pbs_push.cli.lines import printable, safe_json
from pbs_push.cli.loading import loading
from pbs_push.cli.options import (
    GivenProxy,
    config_dir,
    job_options,
    json_flag,
    make_output,
    output_options,
    proxy,
    timeout,
)
from pbs_push.cli.worker_options import take_workers, worker_options
from pbs_push.errors import ConfigError


@click.group(
    "job", no_args_is_help=False, help="List and run the push jobs of this host (sync.cfg)."
)
def command() -> None:
    """Jobs."""


@command.command("list", help="Show the sync jobs of this host, and which of them can be run here.")
@json_flag
@config_dir
def list_jobs(as_json: bool, config_dir: Path | None) -> int:
    """List the jobs; the exit status is returned."""
    with loading(rest=True):
        from pbs_push.cli.jobs import list_document, listed  # noqa: PLC0415

    began = time.time()
    try:
        jobs = listed(config_dir)
    except ConfigError as error:
        if as_json:
            print(safe_json(list_document([], began, error), indent=2))
        raise
    if as_json:
        print(safe_json(list_document(jobs, began, None), indent=2))
    else:
        for job in jobs:
            print("\n".join(map(printable, job.lines())))
    return 0


@command.command(
    "run",
    epilog=help_text(),
    help="""Run the push job ID of sync.cfg with all its settings, as its owner. Options add what a
    job's file cannot say.""",
)
@click.argument("job_id", metavar="ID", shell_complete=JOBS)
@config_dir
@job_options
@timeout
@proxy
@worker_options
@output_options
def run_job(
    *,
    job_id: str,
    config_dir: Path | None,
    timeout_s: float | None,
    proxy: GivenProxy | None,
    **more: Any,
) -> int:
    """Run a job; the exit status is returned."""
    with loading(rest=True):
        from pbs_push.cli.jobs import run  # noqa: PLC0415
        from pbs_push.cli.targets import Reach  # noqa: PLC0415

    workers = take_workers(more)
    output = make_output(more)
    return run(job_id, config_dir, more, Reach(timeout_s, proxy), output, workers)
