"""Groups handed to an executor, a few at a time, and what comes of them."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pbs_push.errors import PbsPushError, WorkerLost
from pbs_push.names import Snapshot
from pbs_push.push.group_job import GroupAccount, GroupJob, SourceSeen, run_job
from pbs_push.push.group_push import held_back
from pbs_push.push.job_channel import JobChannel, JobState
from pbs_push.push.outcome import Outcome, Result, Skip
from pbs_push.push.plan import outcomes_of
from pbs_push.push.schedule import buffer_share, chosen_parallel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pbs_push.names import Namespace
    from pbs_push.push.plan import GroupPlan
    from pbs_push.push.run import Run
    from pbs_push.push.source_marks import SourceMarks
    from pbs_push.push.workers import Workers
    from pbs_push.source.items import SourceSnapshot

LOOK_S: Final = 0.2
"""How often it is looked for what no future tells."""
LOST_S: Final = 10.0
"""So long the executor may take to say what it knows of a worker whose connection has ended."""
LATE_S: Final = 30.0
"""When no worker has taken a job for so long, that is told."""


class _UnderWay:
    """A job that was handed out."""

    def __init__(self, job: GroupJob, state: JobState) -> None:
        self.job = job
        self.plan = job.plan
        self.state = state
        self.since = time.monotonic()

    @property
    def is_lost(self) -> bool:
        lost_at = self.state.lost_at
        return lost_at is not None and time.monotonic() - lost_at > LOST_S

    @property
    def where(self) -> str:
        return f"worker {self.state.host}" if self.state.host else "a worker"

    def told(self) -> Iterator[tuple[SourceSnapshot, Outcome]]:
        """Snapshots with what it has told of them: of each once, alone or in a row."""
        outcomes = sorted(self.state.outcomes, key=lambda one: one.oldest)
        begins = [outcome.oldest for outcome in outcomes]
        for item in self.plan.snapshots:
            at = bisect_right(begins, item.snapshot.backup_time) - 1
            if at >= 0 and item.snapshot.backup_time <= outcomes[at].newest:
                yield item, outcomes[at]

    def left(self) -> Sequence[SourceSnapshot]:
        """Snapshots that it has told nothing about."""
        told = {item for item, _ in self.told()}
        return [item for item in self.plan.snapshots if item not in told]


class Coordinator:
    """Lets ``workers`` push the groups of ``run``; ``removing``: what vanished may be removed.

    ``marks`` are set and taken away here, where the source can be written, not by the workers.
    """

    def __init__(self, run: Run, workers: Workers, marks: SourceMarks, *, removing: bool) -> None:
        self._run = run
        self._workers = workers
        self._marks = marks
        self._removing = removing
        self._waiting: deque[GroupPlan] = deque()
        self._under_way: dict[Future[GroupAccount], _UnderWay] = {}
        self._failed: set[Namespace] = set()
        self._broken: WorkerLost | None = None
        self._bug: RuntimeError | None = None
        self._numbers = 0
        self._channel: JobChannel

    def push(self, groups: Sequence[GroupPlan]) -> set[Namespace]:
        """Push them, in order. Returns the source namespaces of which a group failed.

        What comes of a group is in the report. Raises Cancelled when all jobs have stopped, what
        the listener raised, ConnectError where no worker could be listened to.
        """
        run, workers = self._run, self._workers
        round_trip_s = run.target.rest.round_trip_s
        most = run.options.parallel or workers.at_once or chosen_parallel(round_trip_s, len(groups))
        at_once = min(most, len(groups))
        seen = SourceSeen.of(run.identity or run.look())
        options = replace(
            run.options,
            buffer_bytes=run.options.buffer_bytes or buffer_share(at_once),
            estimate=False,
            max_duration_s=None,
            rate_out=None,
            burst_out=None,
            bwlimit=None,
            rate_file=None,
            protect_source=False,
        )
        burst = run.options.burst_out
        self._waiting.extend(groups)
        if workers.warning is not None:
            run.note("warning", workers.warning)
        listen = workers.host if workers.listen is None else workers.listen
        with JobChannel(run, listen, workers.port) as channel:
            self._channel = channel
            model = GroupJob(
                0,
                groups[0],
                self._removing,
                run.source,
                seen,
                run.target.login,
                run.target.habits,
                options,
                burst and max(1, burst // at_once),
                (workers.host, channel.port),
                channel.key,
            )
            try:
                self._work(model, at_once)
            except BaseException:
                run.cancelled.set()
                self._work(model, at_once)
                raise
            if (error := channel.error or self._bug) is not None:
                raise error
        run.check_cancelled()
        return self._failed

    def _work(self, model: GroupJob, at_once: int) -> None:
        """Hand out, and wait, until nothing is left; when cancelled, until nothing is under way."""
        while self._waiting or self._under_way:
            if self._run.cancelled.is_set():
                self._waiting.clear()
                self._forget_unbegun()
            while self._waiting and len(self._under_way) < at_once:
                self._hand_out(model, self._waiting.popleft())
            done, _ = wait(self._under_way, LOOK_S, FIRST_COMPLETED)
            for future in done:
                self._ended(future)
            for future, one in list(self._under_way.items()):
                if one.is_lost:
                    future.cancel()
                    self._lost(self._over(future), WorkerLost(f"{one.where} is gone"))
            self._tell_late()

    def _hand_out(self, model: GroupJob, plan: GroupPlan) -> None:
        if self._broken is not None:
            self._not_tried(plan, self._broken)
            return
        self._numbers += 1
        habits = self._run.target.habits
        job = replace(model, number=self._numbers, plan=plan, habits=habits)
        state = self._channel.expect(job.number, plan)
        try:
            future = self._workers.executor.submit(run_job, job)
        except Exception as error:  # noqa: BLE001  (whatever an executor says)
            self._channel.dismiss(job.number)
            self._broken = _executor_says(error)
            self._not_tried(plan, self._broken)
            return
        self._under_way[future] = _UnderWay(job, state)

    def _forget_unbegun(self) -> None:
        """Jobs that no worker has taken; one that is just taken is told to stop."""
        for future, one in list(self._under_way.items()):
            if one.state.host is None and future.cancel():
                self._over(future)

    def _over(self, future: Future[GroupAccount]) -> _UnderWay:
        one = self._under_way.pop(future)
        self._channel.dismiss(one.job.number)
        for item, outcome in one.told():
            if outcome.result is not Result.FAILED:
                self._marks.ended(item, one.plan.target_namespace, outcome.skip)
        return one

    def _ended(self, future: Future[GroupAccount]) -> None:
        one = self._under_way[future]
        try:
            account = future.result()
        except CancelledError:
            self._lost(self._over(future), WorkerLost(f"{one.where}: the executor gave its job up"))
        except Exception as error:  # noqa: BLE001  (whatever an executor says)
            lost = _executor_says(error, one.where)
            if isinstance(error, BrokenExecutor):
                self._broken = lost
            self._lost(self._over(future), lost)
        else:
            if one.state.host is not None:
                one.state.over.wait(LOST_S)  # what it told is on its way
            self._take(self._over(future), account)

    def _take(self, one: _UnderWay, account: GroupAccount) -> None:
        run = self._run
        if account.bug is not None:
            self._bug = RuntimeError(f"a job on {account.host} failed:\n{account.bug}")
            run.cancelled.set()
        run.report.take(account.part)
        run.target.learn(account.habits)
        if account.error is not None:
            self._fail(one, account.error)
        elif account.cancelled and not run.cancelled.is_set():
            self._fail(one, WorkerLost(f"worker {account.host} lost the push, and stopped"))
        elif account.failed:
            self._failed.add(one.plan.source.namespace)

    def _lost(self, one: _UnderWay, error: WorkerLost) -> None:
        """A worker is gone: what it told is known, and nothing else."""
        for outcome in one.state.outcomes:
            self._run.report.add(outcome)
        if not self._run.cancelled.is_set():
            self._fail(one, error)

    def _fail(self, one: _UnderWay, error: PbsPushError) -> None:
        """The rest of a group failed. Raises nothing: the other groups go on."""
        run, plan = self._run, one.plan
        self._failed.add(plan.source.namespace)
        left = one.left()
        if left:
            first = left[0]
            run.ended(
                Outcome.of(
                    first.namespace,
                    Snapshot(plan.source.group, first.snapshot.backup_time),
                    Result.FAILED,
                    error=error,
                    target=plan.target_namespace,
                )
            )
            self._leave(plan, left[1:], Skip.NOT_TRIED)
        else:
            run.problem(plan.label, error)
        self._keep_vanished(plan, "the push of the group failed")

    def _not_tried(self, plan: GroupPlan, why: WorkerLost) -> None:
        """A group that nobody is there to push."""
        if self._run.cancelled.is_set():
            return
        self._failed.add(plan.source.namespace)
        if plan.snapshots:
            self._leave(plan, plan.snapshots, Skip.NO_WORKER)
        else:
            self._run.problem(plan.label, why)
        self._keep_vanished(plan, Skip.NO_WORKER.value)

    def _leave(self, plan: GroupPlan, items: Sequence[SourceSnapshot], why: Skip) -> None:
        for outcome in outcomes_of(plan.source, plan.target_namespace, items, why):
            self._run.ended(outcome)

    def _keep_vanished(self, plan: GroupPlan, why: str) -> None:
        if self._removing and plan.vanished:
            self._run.hold_back(held_back(plan, why))

    def _tell_late(self) -> None:
        states = self._under_way.values()
        idle = all(one.state.host is None for one in states)
        if states and idle and time.monotonic() - min(one.since for one in states) > LATE_S:
            self._run.note_once("warning", "no worker has taken a group yet: are they all busy?")


def _executor_says(error: BaseException, where: str = "the executor") -> WorkerLost:
    """What an executor raises, in a line; it may hold anything."""
    reason = " ".join(str(error).split())[:300]
    kind = type(error).__name__
    return WorkerLost(f"{where} is lost: {kind}" + (f": {reason}" if reason else ""))
