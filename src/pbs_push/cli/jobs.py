"""What ``pbs-push job`` does with the sync jobs of this host."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pbs_push.access.host import HostConfig
from pbs_push.cli.job_push import options_of
from pbs_push.cli.keys import configured_key
from pbs_push.cli.lines import say, warning_line
from pbs_push.cli.sources import configured_source
from pbs_push.cli.targets import Reach, remote_target
from pbs_push.cli.work import Work
from pbs_push.errors import ConfigError, PbsPushError
from pbs_push.names import Namespace
from pbs_push.push.document import Json, Sides, Span, bare_head
from pbs_push.push.mapping import check_depths

if TYPE_CHECKING:
    from pbs_push.access.jobs import SyncJob
    from pbs_push.cli.options import Output
    from pbs_push.cli.unmounting import Unmounting
    from pbs_push.cli.worker_options import AskedWorkers


def listed(config_dir: Path | None) -> list[ListedJob]:
    """All jobs. Raises ConfigError where they cannot be listed."""
    host = HostConfig.load(config_dir)
    return [ListedJob.of(name, host) for name in host.job_names()]


def list_document(jobs: Sequence[ListedJob], began: float, error: ConfigError | None) -> Json:
    """All of them as ``pbs-push job list --json`` prints them (docs/json.md)."""
    status = 0 if error is None else error.exit_status
    made = bare_head("job-list", status, error, Span(began, time.time()))
    return made | {"jobs": [job.document() for job in jobs]}


def run(
    job_id: str,
    config_dir: Path | None,
    more: Mapping[str, Any],
    reach: Reach,
    output: Output,
    workers: AskedWorkers,
) -> int:
    """Run a job; the exit status is returned. Raises PbsPushError.

    ``more`` are options that the job's file cannot say; ``reach`` is how to get to the target,
    ``workers`` who pushes.
    """
    from pbs_push.cli.pushing import carry_out  # noqa: PLC0415  (not for the list)

    def prepare() -> Work:
        host = HostConfig.load(config_dir)
        job = host.job(job_id)
        for line in job.ignored:
            say(warning_line(line))
        work = replace(_prepare(job, host, more, reach), workers=workers)
        if job.unmount_on_done and work.unmounting is None:
            place = f"{job.place('unmount-on-done')}sync job '{job.name}'"
            say(
                warning_line(
                    f"{place}: 'unmount-on-done' has no effect: '{job.store}' is not "
                    "removable (it has no 'backing-device' in datastore.cfg)"
                )
            )
        return work

    return carry_out(Sides(f"job {job_id}", Namespace(), None, Namespace()), prepare, output)


def _prepare(job: SyncJob, host: HostConfig, more: Mapping[str, Any], reach: Reach) -> Work:
    """Open both sides of a job, without asking the target for anything. Raises PbsPushError."""
    access = host.access(job.owner)
    remote = job.require_push()
    named = job.active_encryption_key
    key = None if named is None else configured_key(named, host, access)
    options = options_of(job, access, key, more)
    check_depths(job.ns, job.remote_ns, job.max_depth, [job.ns])
    source = configured_source(job.store, host)
    unmounting = _unmounting(job, host)
    place = remote_target(host, remote, job.remote_store, reach)
    return Work(source.datastore, place.target, options, unmounting=unmounting)


def _unmounting(job: SyncJob, host: HostConfig) -> Unmounting | None:
    """What unmounts the job's datastore afterwards, if it is to be, and can be: is removable."""
    if not job.unmount_on_done or host.datastore(job.store).backing_device is None:
        return None
    from pbs_push.cli.unmounting import Unmounting  # noqa: PLC0415  (for who asks for it)

    try:
        return Unmounting.of(job.store)
    except ConfigError as error:
        raise job.refused(str(error), "unmount-on-done") from None


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job of the list; ``job`` is None if it cannot be read, ``problem`` says why it cannot be
    run here, as far as this host tells.
    """

    name: str
    job: SyncJob | None
    problem: str | None

    @classmethod
    def of(cls, name: str, host: HostConfig) -> ListedJob:
        """The job ``name`` of this host."""
        job = None
        try:
            job = host.job(name)
            _prepare(job, host, {}, Reach()).target.close()
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
