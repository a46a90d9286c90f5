"""``pbs-push job list`` and ``pbs-push job run``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pbs_push.access.host import HostConfig
from pbs_push.access.jobs import SyncJob
from pbs_push.access.rights import Access
from pbs_push.cli.documents import Sides
from pbs_push.cli.exit_status import help_text
from pbs_push.cli.job_push import job_options
from pbs_push.cli.keys import configured_key
from pbs_push.cli.options import config_dir, json_flag, make_output, output_options
from pbs_push.cli.places import configured_source, remote_target
from pbs_push.cli.pushing import Work, carry_out
from pbs_push.errors import ConfigError
from pbs_push.names import Namespace


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
    jobs = HostConfig.load(config_dir).jobs()
    if as_json:
        print(json.dumps([_job_document(job) for job in jobs], indent=2))
        return 0
    for job in jobs:
        problem = _problem(job)
        print(f"{job.name}  {_route(job)}" + (f"  ({job.schedule})" if job.schedule else ""))
        if job.comment:
            print(f"    {job.comment}")
        if problem is not None:
            print(f"    not to be run here: {problem}")
    return 0


@command.command(
    "run",
    epilog=help_text(),
    help="Run the push job ID of sync.cfg with all its settings, as its owner.",
)
@click.argument("job_id", metavar="ID")
@config_dir
@output_options
def run_job(
    *,
    job_id: str,
    config_dir: Path | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Run a job; the exit status is returned."""
    output = make_output(dry_run=dry_run, as_json=as_json, quiet=quiet, verbose=verbose)
    asked = Sides(f"job {job_id}", Namespace(), None, Namespace())
    return carry_out(asked, lambda: _prepare(job_id, config_dir), output)


def _prepare(job_id: str, directory: Path | None) -> Work:
    """Open both sides of a job. Raises PbsPushError."""
    host = HostConfig.load(directory)
    job = host.job(job_id)
    access = host.access(job.owner)
    remote = job.require_push()
    named = job.active_encryption_key
    key = None if named is None else configured_key(named, host, access)
    options = job_options(job, access, key)
    source = configured_source(job.store, host)
    place = remote_target(host, remote, job.remote_store)
    return Work(source.datastore, place.target, options)


def _problem(job: SyncJob) -> str | None:
    """Why a job cannot be run here, as far as the job itself tells."""
    try:
        job_options(job, Access(user=job.owner))
    except ConfigError as error:
        return str(error)
    return None


def _route(job: SyncJob) -> str:
    here = _place(job.store, job.ns)
    there = _place(job.remote_store, job.remote_ns)
    there = there if job.remote is None else f"{job.remote}:{there}"
    return f"{job.kind.value}: " + (f"{here} -> {there}" if _pushes(job) else f"{there} -> {here}")


def _pushes(job: SyncJob) -> bool:
    return job.sync_direction.value == "push"


def _place(store: str, namespace: Namespace) -> str:
    return store if namespace.is_root else f"{store}/{namespace}"


def _job_document(job: SyncJob) -> dict[str, object]:
    """A job with PBS's names, without what it leaves open, and why it cannot be run here."""
    values = job.model_dump(mode="json", exclude_none=True, exclude={"name", "unknown"})
    return {
        "id": job.name,
        **{name.replace("_", "-"): value for name, value in values.items()},
        "kind": job.kind.value,
        "problem": _problem(job),
    }
