"""A whole push: the plan, and workers that carry it out, several groups at once."""

from __future__ import annotations

import os
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from pbs_push.errors import PbsPushError
from pbs_push.push.events import NamespaceCreated, Planned
from pbs_push.push.metadata import MetadataSync
from pbs_push.push.options import PushOptions
from pbs_push.push.planner import Planner
from pbs_push.push.removal import Remover
from pbs_push.push.report import TO_MEND, Report, Result
from pbs_push.push.run import Run
from pbs_push.push.schedule import buffer_share, chosen_parallel, largest_first
from pbs_push.push.worker import GroupResult, GroupWorker
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
        self._run = Run(source, target, options or PushOptions(), listener)
        self._remover = Remover(self._run)
        self._metadata = MetadataSync(self._run)

    @property
    def report(self) -> Report:
        """What became of it so far."""
        return self._run.report

    def cancel(self) -> None:
        """Stop as soon as possible; ``run`` then raises Cancelled."""
        self._run.cancelled.set()

    def plan(self) -> Plan:
        """Look at both sides and decide; nothing is changed anywhere.

        Raises PbsPushError where nothing can be planned at all; a namespace that cannot be is a
        problem of the report.
        """
        return Planner(self._run).plan()

    def run(self, plan: Plan | None = None) -> Report:
        """Carry out ``plan``, or one made now, and report.

        Raises Cancelled, and errors that end the whole push before it begins; everything else is in
        the report, which is complete also after Cancelled.
        """
        run = self._run
        began = time.monotonic()
        try:
            if plan is None:
                run.supply.open_ahead()  # while it is found out whether there is anything to send
                plan = self.plan()
            run.recognise(plan.source_identity)
            self._run_plan(plan)
        except BaseException:
            self.cancel()  # nobody waits for connections that are still being opened
            raise
        finally:
            run.supply.close()
            run.report.seconds = time.monotonic() - began
        return run.report

    def _run_plan(self, plan: Plan) -> None:
        run = self._run
        self._tell_of_old_version()
        if plan.no_removals is not None:
            run.problem("removing what vanished", PbsPushError(f"{plan.no_removals}; none was"))
        namespaces = [item for item in plan.namespaces if self._begin_namespace(item)]
        groups = [group for item in namespaces for group in item.groups]
        for note in plan.notes:
            run.note("warning", note)
        looked_at = sum(item.looked_at for item in namespaces)
        run.notify(Planned(looked_at, sum(len(group.snapshots) for group in groups)))
        busy = [group for group in groups if group.has_work]
        results = self._run_groups(busy, removing=plan.no_removals is None)
        if plan.no_removals is not None:
            return
        failed = {result.plan.source.namespace for result in results if result.failed}
        for item in namespaces:
            if item.vanished and item.source in failed:
                run.note(
                    "warning",
                    f"target {item.target.label}: vanished groups stay, "
                    "since the push had errors in it",
                )
            else:
                self._remover.groups(item)
        self._remove_namespaces(plan, all_begun=len(namespaces) == len(plan.namespaces))

    def _begin_namespace(self, plan: NamespacePlan) -> bool:
        """Create what must be created, and report what is settled. False if it cannot be."""
        run = self._run
        run.check_cancelled()
        for note in plan.notes:
            run.note("warning", note)
        run.report.groups += plan.looked_at
        try:
            for namespace in plan.create:
                run.target.api.create_namespace(namespace)
                run.report.created_namespaces.append(namespace)
                run.notify(NamespaceCreated(namespace))
        except PbsPushError as error:
            run.problem(f"source {plan.source.label}", error)
            return False
        for group in plan.groups:
            for note in group.notes:
                run.note("warning", note)
        for outcome in plan.outcomes():
            run.ended(outcome)
        return True

    def _remove_namespaces(self, plan: Plan, *, all_begun: bool) -> None:
        # What is not there, but should be, may be what a namespace that is gone was renamed to.
        report = self._run.report
        failed = not all_begun or Result.FAILED in report.counts
        if plan.vanished and (failed or any(report.skips.get(skip) for skip in TO_MEND)):
            self._run.note("warning", "vanished namespaces stay, since the push had errors")
            return
        for item in plan.vanished:
            self._remover.namespace(item)

    def _tell_of_old_version(self) -> None:
        """Once, and where it matters (spec 05): deletes of groups are all that differs."""
        features = self._run.target.features
        if self._run.options.remove_vanished and not features.delete_statistics:
            self._run.note(
                "info",
                f"the target runs version {features.version}, which does not tell what "
                "removing a group took with it: the counts are incomplete",
            )

    # -- groups --

    def _run_groups(self, groups: list[GroupPlan], *, removing: bool) -> list[GroupResult]:
        if not groups:
            return []
        run = self._run
        groups = largest_first(groups, run.source)
        chosen = run.options.parallel or chosen_parallel(run.target.rest.round_trip_s, len(groups))
        parallel = min(chosen, len(groups))
        run.buffer_bytes = run.options.buffer_bytes or buffer_share(parallel)
        run.supply.expect(sum(len(group.snapshots) for group in groups))
        pool = ThreadPoolExecutor(parallel, thread_name_prefix="push")
        running: set[Future[GroupResult]] = set()
        results: list[GroupResult] = []
        try:
            for group in groups:
                running.add(pool.submit(self._run_group, group, removing=removing))
            while running:
                # With a timeout, so that a signal's handler gets its turn.
                done, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                results += (future.result() for future in done)
        except BaseException:
            self.cancel()
            for future in running:
                future.cancel()
            raise
        finally:
            pool.shutdown(wait=True)
        return results

    def _run_group(self, group: GroupPlan, *, removing: bool) -> GroupResult:
        """Push a group, then bring its metadata up to date, then forget what vanished from it."""
        if removing:
            self._remover.dead(group)
        result = GroupWorker(self._run, group, self._metadata).push()
        self._metadata.group(group, result.pushed)
        if removing and not result.failed:
            self._remover.snapshots(group)
        return result


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
