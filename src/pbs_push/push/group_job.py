"""A group to be pushed, as a value that any executor carries: to a thread, a process, a machine.

``run_job`` does there what a thread of the push would do here: it opens the source, logs in to the
target, pushes the group and returns what came of it. Meanwhile it tells events to its push, and
hears from it when to stop and how fast it may send (``push.job_channel``).
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pbs_push.errors import (
    Cancelled,
    ConnectError,
    PbsPushError,
    ProtocolError,
    SourceError,
    WorkerLost,
    drop_frames,
    limit_error,
)
from pbs_push.push.checkpoint_memory import CheckpointMemory
from pbs_push.push.group_push import GroupPush
from pbs_push.push.job_words import message_of, packed, text_of
from pbs_push.push.options import PushOptions
from pbs_push.push.patience import Pauses
from pbs_push.push.plan import GroupPlan
from pbs_push.push.removal import Remover
from pbs_push.push.report import ReportPart
from pbs_push.push.run import Run
from pbs_push.push.source_marks import SourceMarks
from pbs_push.remote.job_link import Address, JobLink
from pbs_push.remote.login import Habits, Login
from pbs_push.remote.pacing import Pacer
from pbs_push.remote.target import Target
from pbs_push.source.datastore import Datastore, SourceIdentity

if TYPE_CHECKING:
    from pbs_push.names import Group, Namespace
    from pbs_push.push.document import Json
    from pbs_push.push.events import Event, Level

_JOIN_S: Final = 30.0
"""So long a job tries to be heard by its push, as long as that is there."""
_COME_AGAIN: Final = (0.05, 1.0, 2.0, (0.5, 1.0))

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_MOUNTS: Final = Path("/proc/self/ns/mnt")


@dataclass(frozen=True, slots=True)
class SourceSeen:
    """Which datastore a push reads, and by whom that was looked at."""

    identity: SourceIdentity
    by: str

    @classmethod
    def of(cls, identity: SourceIdentity) -> SourceSeen:
        """What this process sees."""
        return cls(identity, _mounts())

    def is_seen_as(self, here: SourceIdentity) -> bool:
        """Whether what lies at the same path here is the same, as far as that can be told.

        Among the mounts of one machine devices and inodes say so; elsewhere inodes alone, since a
        device's number is each machine's own. A shared file system has the same inodes everywhere.
        """
        if self.by == _mounts():
            return self.identity == here
        return self.identity.inodes() == here.inodes()


def _mounts() -> str:
    """What tells this machine, and the mounts that this process sees, from others."""
    try:
        return f"{_BOOT_ID.read_text(encoding='ascii').strip()} {_MOUNTS.readlink()}"
    except OSError:
        return f"{host_name()} {os.getpid()}"


def host_name() -> str:
    """Of this machine, for people."""
    return os.uname().nodename


@dataclass(frozen=True, slots=True)
class GroupAccount:
    """What came of a job: its part of the report, and where it was done.

    ``failed`` as in a ``GroupResult``. ``error`` kept it from being done to its end; ``bug`` is the
    traceback of what should not happen. ``habits`` are what was found out about the target.
    """

    host: str
    part: ReportPart = field(default_factory=ReportPart)
    failed: bool = False
    cancelled: bool = False
    error: PbsPushError | None = None
    bug: str | None = None
    habits: Habits = field(default_factory=Habits)


@dataclass(frozen=True, slots=True)
class GroupJob:
    """One group of a push. Pickled it holds the target's secret and the encryption key.

    ``options`` are the push's without limits of rate and time, which ``address`` tells, where the
    push listens, and without marks at the source, which the push itself sets and takes away.
    ``key`` authenticates both to each other. ``burst`` are bytes that this job may send at once
    after a pause, None: as much as its rate.
    """

    number: int
    plan: GroupPlan
    removing: bool
    source: Datastore
    seen: SourceSeen
    login: Login
    habits: Habits
    options: PushOptions
    burst: int | None
    address: Address
    key: bytes = field(repr=False)

    def run(self) -> GroupAccount:
        """Do it, here and now. Raises nothing: all that failed is in the account."""
        host = host_name()
        try:
            link, heard = self._joined(host)
        except (ConnectError, ProtocolError) as error:
            return GroupAccount(host, error=WorkerLost(f"worker {host}: {error}"))
        try:
            return _Worker(self, link, host).run(heard)
        except (ConnectError, ProtocolError) as error:
            return GroupAccount(host, error=WorkerLost(f"worker {host}: {error}"))
        finally:
            link.close()

    def _joined(self, host: str) -> tuple[JobLink, list[Json]]:
        """A line to the push, and what that says first.

        Where very many come at once the push drops some, which come again. Raises ConnectError,
        ProtocolError.
        """
        pauses = Pauses(*_COME_AGAIN)
        until = time.monotonic() + _JOIN_S
        while True:
            link = JobLink(self.address, self.key)
            try:
                link.greeted()
                link.send(text_of({"hello": self.number, "host": host}))
                return link, [message_of(text) for text in link.receive()]
            except BaseException as error:
                link.close()
                if not isinstance(error, ConnectError) or time.monotonic() > until:
                    raise
            time.sleep(pauses.take())


def run_job(job: GroupJob) -> GroupAccount:
    """``job.run()``: what an executor is given."""
    return job.run()


class _JobRun(Run):
    """A run of one group, whose lines for people go to its push."""

    def __init__(self, job: GroupJob, target: Target, begin: Json, worker: _Worker) -> None:
        left_s = begin["left"]
        options = replace(job.options, max_duration_s=left_s and max(0.0, left_s))
        pacer = Pacer(begin["rate"], job.burst) if begin["limited"] else None
        memory = _ToldMemory(job, worker)
        super().__init__(job.source, target, options, worker.tell, pacer, memory)
        self._worker = worker
        self.report.remains = len(job.plan.snapshots)

    def note_once(self, level: Level, text: str) -> None:
        """Let the push tell it, unless another job has."""
        self._worker.say({"once": [level, text]})


class _ToldMemory(CheckpointMemory):
    """What is remembered of checkpoints lies where pushes are planned, not where they are done."""

    def __init__(self, job: GroupJob, worker: _Worker) -> None:
        super().__init__(job.login.repository)
        self._worker = worker

    def keep(self, namespace: Namespace, group: Group) -> None:  # noqa: ARG002  (it is the job's)
        """Let the push remember that there may be one."""
        self._worker.say({"checkpoint": True})

    def drop(self, namespace: Namespace, group: Group) -> None:  # noqa: ARG002  (as above)
        """Let the push forget it."""
        self._worker.say({"checkpoint": False})


class _Worker:
    """A job while it is done."""

    def __init__(self, job: GroupJob, link: JobLink, host: str) -> None:
        self._job = job
        self._link = link
        self._host = host
        self._cancelled = threading.Event()

    def run(self, heard: list[Json]) -> GroupAccount:
        """``heard`` is what the push said first.

        Raises ConnectError, ProtocolError where the push goes away before it begins.
        """
        begin = heard.pop(0)
        if "begin" not in begin:
            why = begin.get("refused")
            error = None if why is None else WorkerLost(f"worker {self._host}: {why}")
            return GroupAccount(self._host, cancelled=why is None, error=error)
        try:
            return self._pushed(begin, heard)
        except PbsPushError as error:  # before it began: options that do not hold here, say
            drop_frames(error)
            self._say_goodbye()
            return GroupAccount(self._host, error=self._of_here(error))

    def _pushed(self, begin: Json, heard: list[Json]) -> GroupAccount:
        job = self._job
        with Target.of(job.login) as target:
            target.learn(job.habits)
            run = _JobRun(job, target, begin, self)
            for message in heard:
                self._obey(message, run)
            hearing = threading.Thread(target=self._hear, args=(run,), name="job-link", daemon=True)
            hearing.start()
            try:
                if begin["limited"]:
                    self.say({"took": begin["number"]})
                return self._account(run)
            finally:
                run.cancelled.set()
                run.supply.close()
                self._say_goodbye()
                self._link.hang_up()
                hearing.join()

    def _account(self, run: Run) -> GroupAccount:
        job, failed, cancelled = self._job, False, False
        error: PbsPushError | None = None
        bug: str | None = None
        try:
            self._check_source(run)
            run.supply.expect(len(job.plan.snapshots))
            run.buffer_bytes = job.options.buffer_bytes or run.buffer_bytes
            push = GroupPush(run, Remover(run), SourceMarks(run), removing=job.removing)
            failed = push.push(job.plan).failed
        except Cancelled:
            cancelled = True
        except PbsPushError as caught:
            error = self._of_here(caught)
        except Exception as caught:  # noqa: BLE001  (told to the push, which raises it)
            failure = limit_error(caught)
            error = failure and self._of_here(failure)
            bug = "".join(traceback.format_exception(caught)) if failure is None else None
        return GroupAccount(
            self._host,
            run.report.part(len(job.plan.snapshots)),
            failed or error is not None,
            cancelled,
            error,
            bug,
            run.target.habits,
        )

    def _check_source(self, run: Run) -> None:
        """Raise SourceError unless this machine sees the datastore that was looked at."""
        here = run.look()
        if not self._job.seen.is_seen_as(here):
            raise SourceError(
                f"source {run.source.path} is another datastore than the one that the push was "
                "planned for: each worker has to see the same one, on storage that they share"
            )

    def _of_here(self, error: PbsPushError) -> PbsPushError:
        """An error with the machine that met it."""
        text = f"worker {self._host}: {error}"
        if isinstance(error, SourceError):
            return SourceError(text, errno=error.errno, damage=error.damage)
        return WorkerLost(text)

    # -- the push --

    def tell(self, event: Event) -> None:
        """Tell an event. Raises Cancelled where nobody listens."""
        self.say({"event": packed(event)})

    def say(self, message: Json) -> None:
        """Say something to the push. Raises Cancelled where it is gone."""
        try:
            self._link.send(text_of(message))
        except ConnectError as error:
            raise Cancelled(f"worker {self._host}: {error}") from None

    def _say_goodbye(self) -> None:
        """There will be no more events."""
        with suppress(ConnectError):
            self._link.send(text_of({"bye": True}))

    def _hear(self, run: Run) -> None:
        """Do what the push says, until it is gone: then nobody wants this job any more."""
        try:
            while True:
                for text in self._link.receive():
                    self._obey(message_of(text), run)
        except PbsPushError:
            run.cancelled.set()

    def _obey(self, message: Json, run: Run) -> None:
        if "cancel" in message:
            run.cancelled.set()
        elif "rate" in message and run.pacer is not None:
            run.pacer.set_rate(message["rate"])
            self.say({"took": message["number"]})
