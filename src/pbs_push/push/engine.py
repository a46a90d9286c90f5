"""A whole push: the plan, and workers that carry it out, several groups at once."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING

from pbs_push.errors import Cancelled, PbsPushError
from pbs_push.push.events import Event, NamespaceCreated, Note, Planned, SnapshotEnded
from pbs_push.push.metadata import MetadataSync
from pbs_push.push.options import PushOptions
from pbs_push.push.planner import Planner
from pbs_push.push.removal import Remover
from pbs_push.push.report import TO_MEND, Problem, Report, Result
from pbs_push.push.schedule import buffer_share, chosen_parallel, largest_first
from pbs_push.push.worker import GroupWorker
from pbs_push.remote.pacing import Pacer
from pbs_push.remote.supply import ConnectionSupply
from pbs_push.source.datastore import Datastore

if TYPE_CHECKING:
    from pbs_push.push.events import Listener
    from pbs_push.push.plan import GroupPlan, NamespacePlan, Plan
    from pbs_push.remote.target import Target


class Push:
    """One push of ``source`` to ``target``: ``run`` it once, or ``plan`` it and ``run`` that plan.

    ``listener`` is given events, one at a time, from several threads. ``cancel`` may be called from
    any thread, or a signal handler: what is under way is dropped, and the target removes it.
    """

    def __init__(
        self,
        source: Datastore,
        target: Target,
        options: PushOptions | None = None,
        listener: Listener | None = None,
    ) -> None:
        self._source = source
        self._target = target
        self._options = options or PushOptions()
        self._listener = listener
        self._listener_lock = threading.Lock()
        self._cancelled = threading.Event()
        self._buffer_bytes = buffer_share(1)
        self.report = Report()
        rate = self._options.rate_out
        self._pacer = None if rate is None else Pacer(rate, self._options.burst_out)
        self._remover = Remover(
            source,
            target,
            self._options,
            self.report,
            self._notify,
            self._problem,
            self._check_cancelled,
        )
        self._metadata = MetadataSync(
            source,
            target,
            self._options.encryption_key,
            self.report,
            self._notify,
            self._problem,
            pacer=self._pacer,
            check_cancelled=self._check_cancelled,
        )

    def cancel(self) -> None:
        """Stop as soon as possible; ``run`` then raises Cancelled."""
        self._cancelled.set()

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled("stopped as asked")

    def plan(self) -> Plan:
        """Look at both sides and decide; nothing is changed anywhere.

        Raises PbsPushError where nothing can be planned at all; a namespace that cannot be is a
        problem of the report.
        """
        return Planner(self._source, self._target, self._options, self._problem).plan()

    def run(self, plan: Plan | None = None) -> Report:
        """Carry out ``plan``, or one made now, and report.

        Raises Cancelled, and errors that end the whole push before it begins; everything else is in
        the report, which is complete also after Cancelled.
        """
        began = time.monotonic()
        supply = ConnectionSupply(self._target, self._cancelled)
        try:
            if plan is None:
                supply.open_ahead()  # while it is found out whether there is anything to send
                plan = self.plan()
            self._run_plan(plan, supply)
        except BaseException:
            self.cancel()  # nobody waits for connections that are still being opened
            raise
        finally:
            supply.close()
            self.report.seconds = time.monotonic() - began
        return self.report

    def _run_plan(self, plan: Plan, supply: ConnectionSupply) -> None:
        self._tell_of_old_version()
        removing = plan.no_removals is None
        if plan.no_removals is not None:
            self._problem("removing what vanished", PbsPushError(f"{plan.no_removals}; none was"))
        namespaces = [item for item in plan.namespaces if self._begin_namespace(item)]
        groups = [group for item in namespaces for group in item.groups]
        for note in plan.notes:
            self._notify(Note("warning", note))
        looked_at = sum(item.looked_at for item in namespaces)
        self._notify(Planned(looked_at, sum(len(group.snapshots) for group in groups)))
        failed: set[int] = set()
        busy = [group for group in groups if group.has_work]
        self._run_groups(busy, supply, removing, failed)
        if not removing:
            return
        for item in namespaces:
            if item.vanished and any(id(group) in failed for group in item.groups):
                self._notify(
                    Note(
                        "warning",
                        f"target {item.target.label}: vanished groups stay, "
                        "since the push had errors in it",
                    )
                )
            else:
                self._remover.groups(item)
        self._remove_namespaces(plan, all_begun=len(namespaces) == len(plan.namespaces))

    def _begin_namespace(self, plan: NamespacePlan) -> bool:
        """Create what must be created, and report what is settled. False if it cannot be."""
        self._check_cancelled()
        for note in plan.notes:
            self._notify(Note("warning", note))
        self.report.groups += plan.looked_at
        try:
            for namespace in plan.create:
                self._target.api.create_namespace(namespace)
                self.report.created_namespaces.append(namespace)
                self._notify(NamespaceCreated(namespace))
        except PbsPushError as error:
            self._problem(f"source {plan.source.label}", error)
            return False
        for group in plan.groups:
            for note in group.notes:
                self._notify(Note("warning", note))
        for outcome in plan.outcomes():
            self.report.add(outcome)
            self._notify(SnapshotEnded(outcome))
        return True

    def _remove_namespaces(self, plan: Plan, *, all_begun: bool) -> None:
        # What is not there, but should be, may be what a namespace that is gone was renamed to.
        failed = not all_begun or Result.FAILED in self.report.counts
        if plan.vanished and (failed or any(self.report.skips.get(skip) for skip in TO_MEND)):
            self._notify(Note("warning", "vanished namespaces stay, since the push had errors"))
            return
        for item in plan.vanished:
            self._remover.namespace(item)

    def _tell_of_old_version(self) -> None:
        """Once, and where it matters (spec 05): deletes of groups are all that differs."""
        features = self._target.features
        if self._options.remove_vanished and not features.delete_statistics:
            self._notify(
                Note(
                    "info",
                    f"the target runs version {features.version}, which does not tell what "
                    "removing a group took with it: the counts are incomplete",
                )
            )

    # -- groups --

    def _run_groups(
        self, groups: list[GroupPlan], supply: ConnectionSupply, removing: bool, failed: set[int]
    ) -> None:
        if not groups:
            return
        groups = largest_first(groups, self._source)
        chosen = self._options.parallel or chosen_parallel(
            self._target.rest.round_trip_s, len(groups)
        )
        parallel = min(chosen, len(groups))
        self._buffer_bytes = self._options.buffer_bytes or buffer_share(parallel)
        supply.expect(sum(len(group.snapshots) for group in groups))
        pool = ThreadPoolExecutor(parallel, thread_name_prefix="push")
        running: set[Future[None]] = set()
        try:
            for group in groups:
                running.add(pool.submit(self._run_group, group, supply, removing, failed))
            while running:
                # With a timeout, so that a signal's handler gets its turn.
                done, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        except BaseException:
            self.cancel()
            for future in running:
                future.cancel()
            raise
        finally:
            pool.shutdown(wait=True)

    def _run_group(
        self, group: GroupPlan, supply: ConnectionSupply, removing: bool, failed: set[int]
    ) -> None:
        """Push a group, then bring its metadata up to date, then forget what vanished from it."""
        if removing:
            self._remover.dead(group)
        worker = GroupWorker(
            self._source,
            self._target,
            group,
            self._options,
            notify=self._on_worker_event,
            on_problem=self._problem,
            send_log=partial(self._metadata.log, group),
            cancelled=self._cancelled,
            supply=supply,
            buffer_bytes=self._buffer_bytes,
            pacer=self._pacer,
        )
        outcomes = worker.run()
        if any(outcome.result is Result.FAILED for outcome in outcomes):
            failed.add(id(group))
        pushed = {outcome.newest for outcome in outcomes if outcome.result is Result.PUSHED}
        self._metadata.group(
            group,
            [item for item in group.snapshots if item.snapshot.backup_time in pushed],
        )
        if removing and id(group) not in failed:
            self._remover.snapshots(group)

    def _on_worker_event(self, event: Event) -> None:
        if isinstance(event, SnapshotEnded):
            self.report.add(event.outcome)
        self._notify(event)

    # -- telling --

    def _problem(self, what: str, error: PbsPushError) -> None:
        if isinstance(error, Cancelled):
            raise error
        self.report.add_problem(Problem(what, error))
        self._notify(Note("error", f"{what}: {error}"))

    def _notify(self, event: Event) -> None:
        if self._listener is not None:
            with self._listener_lock:
                self._listener(event)


def push(
    source: Datastore | str | os.PathLike[str],
    target: Target,
    options: PushOptions | None = None,
    listener: Listener | None = None,
) -> Report:
    """Push a datastore to a target and report what became of every snapshot.

    ``source`` is a Datastore or the path of one. Raises PbsPushError where the push cannot begin;
    later failures are in the report (``report.exit_status``).
    """
    if not isinstance(source, Datastore):
        source = Datastore(source)
    return Push(source, target, options, listener).run()
