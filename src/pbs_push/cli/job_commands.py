"""``pbs-push job list`` and ``pbs-push job run``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pbs_push.access.host import HostConfig
from pbs_push.access.jobs import SyncJob
from pbs_push.cli.exit_status import help_text
from pbs_push.cli.job_push import options_of
from pbs_push.cli.keys import configured_key
from pbs_push.cli.lines import say, warning_line
from pbs_push.cli.options import (
    config_dir,
    job_options,
    json_flag,
    make_output,
    output_options,
)
from pbs_push.cli.places import configured_source, remote_target
from pbs_push.cli.pushing import Work, carry_out
from pbs_push.errors import PbsPushError
from pbs_push.names import Namespace
from pbs_push.push.document import Sides
from pbs_push.push.mapping import check_depths


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
    host = HostConfig.load(config_dir)
    jobs = [_Listed.of(name, host) for name in host.job_names()]
    if as_json:
        print(json.dumps([job.document() for job in jobs], indent=2))
    else:
        for job in jobs:
            print("\n".join(job.lines()))
    return 0


@command.command(
    "run",
    epilog=help_text(),
    help="""Run the push job ID of sync.cfg with all its settings, as its owner. Options add what a
    job's file cannot say.""",
)
@click.argument("job_id", metavar="ID")
@config_dir
@job_options
@output_options
def run_job(
    *,
    job_id: str,
    config_dir: Path | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **more: Any,
) -> int:
    """Run a job; the exit status is returned."""
    output = make_output(dry_run=dry_run, as_json=as_json, quiet=quiet, verbose=verbose)
    asked = Sides(f"job {job_id}", Namespace(), None, Namespace())

    def prepare() -> Work:
        host = HostConfig.load(config_dir)
        job = host.job(job_id)
        for line in job.ignored:
            say(warning_line(line))
        return _prepare(job, host, more)

    return carry_out(asked, prepare, output)


def _prepare(job: SyncJob, host: HostConfig, more: Mapping[str, Any]) -> Work:
    """Open both sides of a job, without asking the target for anything. Raises PbsPushError.

    ``more`` are options that the job's file cannot say.
    """
    access = host.access(job.owner)
    remote = job.require_push()
    named = job.active_encryption_key
    key = None if named is None else configured_key(named, host, access)
    options = options_of(job, access, key, more)
    check_depths(job.ns, job.remote_ns, job.max_depth, [job.ns])
    source = configured_source(job.store, host)
    place = remote_target(host, remote, job.remote_store)
    return Work(source.datastore, place.target, options)


@dataclass(frozen=True, slots=True)
class _Listed:
    """A job of the list; ``job`` is None if it cannot be read, ``problem`` says why it cannot be
    run here, as far as this host tells.
    """

    name: str
    job: SyncJob | None
    problem: str | None

    @classmethod
    def of(cls, name: str, host: HostConfig) -> _Listed:
        """The job ``name`` of this host."""
        job = None
        try:
            job = host.job(name)
            _prepare(job, host, {}).target.close()
        except PbsPushError as error:
            return cls(name, job, str(error))
        return cls(name, job, None)

    def lines(self) -> Iterator[str]:
        """For people."""
        job = self.job
        if job is None:
            yield self.name
        else:
            yield f"{job.name}  {_route(job)}" + (f"  ({job.schedule})" if job.schedule else "")
            if job.comment:
                yield f"    {job.comment}"
            yield from (f"    {line}" for line in job.ignored)
        if self.problem is not None:
            yield f"    not to be run here: {self.problem}"

    def document(self) -> dict[str, object]:
        """With PBS's names, without what the job leaves open."""
        if self.job is None:
            return {"id": self.name, "problem": self.problem}
        values = self.job.model_dump(mode="json", exclude_none=True, exclude={"name", "unknown"})
        return {
            "id": self.name,
            **{name.replace("_", "-"): value for name, value in values.items()},
            "kind": self.job.kind.value,
            "ignored": self.job.ignored,
            "problem": self.problem,
        }


def _route(job: SyncJob) -> str:
    here = _place(job.store, job.ns)
    there = _place(job.remote_store, job.remote_ns)
    there = there if job.remote is None else f"{job.remote}:{there}"
    return f"{job.kind.value}: " + (f"{here} -> {there}" if _pushes(job) else f"{there} -> {here}")


def _pushes(job: SyncJob) -> bool:
    return job.sync_direction.value == "push"


def _place(store: str, namespace: Namespace) -> str:
    return store if namespace.is_root else f"{store}/{namespace}"
