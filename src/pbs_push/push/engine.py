"""A whole push: the plan, and workers that carry it out, several groups at once."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pbs_push.errors import PbsPushError, limit_error
from pbs_push.push.checks import an
from pbs_push.push.crew import Crew
from pbs_push.push.document import Span
from pbs_push.push.events import NamespaceCreated, Planned
from pbs_push.push.group_push import GroupPush
from pbs_push.push.options import PushOptions
from pbs_push.push.outcome import HeldBack, Result
from pbs_push.push.plan import ALL_VANISHED
from pbs_push.push.planner import Planner
from pbs_push.push.removal import Remover
from pbs_push.push.report import LEFT_OUT, Report
from pbs_push.push.run import Run
from pbs_push.push.schedule import buffer_share, chosen_parallel
from pbs_push.push.source_marks import SourceMarks, check_may_mark
from pbs_push.remote.target import Target
from pbs_push.source.datastore import Datastore
from pbs_push.units import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor
    from contextlib import AbstractContextManager

    from pbs_push.names import Namespace
    from pbs_push.push.events import Level, Listener
    from pbs_push.push.forecast import Forecast
    from pbs_push.push.plan import GroupPlan, NamespacePlan, Plan
    from pbs_push.push.preflight import Finding
    from pbs_push.push.sharing import Sharing
    from pbs_push.push.workers import Workers

_SOURCE: Final = an(Datastore, "a Datastore")
_TARGET: Final = an(Target, "a Target")
_OPTIONS: Final = an(PushOptions, "PushOptions")


class Push:
    """One push of ``source`` to ``target``: ``run`` it once, or ``plan`` it and ``run`` that plan.

    ``listener`` is given events, one at a time, from several threads. ``cancel`` may be called from
    any thread, or a signal handler: what is under way is dropped, and the target removes it. Its
    groups are pushed by threads of its own, or by the workers of ``executor``, each group by one of
    them: threads, processes or machines that see the source at the same path
    (docs/several-machines.md). ``sharing`` is for pushes to several targets (see FanOut). Raises
    ConfigError for arguments of a wrong type.
    """

    def __init__(
        self,
        source: Datastore,
        target: Target,
        options: PushOptions | None = None,
        listener: Listener | None = None,
        executor: Executor | Workers | None = None,
        *,
        sharing: Sharing | None = None,
    ) -> None:
        source = _SOURCE("source", source)
        target = _TARGET("target", target)
        options = PushOptions() if options is None else _OPTIONS("options", options)
        self._run = Run(source, target, options, listener, sharing=sharing)
        self._remover = Remover(self._run)
        self._workers: Workers | None = None
        if executor is not None:
            from pbs_push.push.executors import workers_for  # noqa: PLC0415  (for who asks for it)

            self._workers = workers_for(executor)
        self._marks = SourceMarks(self._run)

    @property
    def report(self) -> Report:
        """What became of it so far."""
        return self._run.report

    def note(self, level: Level, text: str) -> None:
        """Tell the listener a line for people."""
        self._run.note(level, text)

    def cancel(self) -> None:
        """Stop as soon as possible; ``run`` then raises Cancelled."""
        self._run.cancelled.set()

    def plan(self) -> Plan:
        """Look at both sides and decide; nothing is changed anywhere.

        Checkpoints of another push into the source are left out: the manifest of each snapshot that
        is to be pushed is read for that. Raises PbsPushError where nothing can be planned at all; a
        namespace that cannot be is a problem of the report.
        """
        from pbs_push.push.source_checkpoints import (  # noqa: PLC0415  (for who asks for it)
            without_source_checkpoints,
        )

        run, began = self._run, time.time()
        plan = without_source_checkpoints(self._planned(), run.source, run.check_cancelled)
        return replace(plan, span=Span(began, time.time()))

    def _planned(self) -> Plan:
        """The same; checkpoints at the source are found when they are opened to be pushed."""
        plan = Planner(self._run).plan()
        check_may_mark(self._run, plan)
        return plan

    def preflight(self) -> Iterator[Finding]:
        """Look whether it would go through; nothing is changed. Raises Cancelled."""
        from pbs_push.push.preflight import preflight  # noqa: PLC0415  (for who asks for it)

        return preflight(self._run, self.plan, self.forecast)

    def forecast(self, plan: Plan) -> Forecast:
        """What carrying out ``plan`` costs, from the indexes at the source; nothing is changed.

        Raises Cancelled.
        """
        from pbs_push.push.forecast import Forecast  # noqa: PLC0415  (as below)

        run = self._run
        groups = [group for item in plan.namespaces for group in item.groups if group.snapshots]
        found = {}
        if groups:
            from pbs_push.push.estimate import all_estimates  # noqa: PLC0415

            found = all_estimates(run.source, groups, run.check_cancelled)
        round_trip_s = run.target.rest.round_trip_s
        parallel = run.options.parallel or chosen_parallel(round_trip_s, len(groups))
        rate = run.rate_limits.rate()
        return Forecast(plan, found, max(1, min(parallel, len(groups))), round_trip_s, rate)

    def run(self, plan: Plan | None = None) -> Report:
        """Carry out ``plan``, or one made now, and report.

        Raises AlreadyRunning if the same push runs on this host and does not end within
        ``lock_wait_s``, Cancelled, and errors that end the whole push before it begins; everything
        else is in the report, which is complete also after Cancelled.
        """
        run = self._run
        began = time.monotonic()
        try:
            with run.only_one(), run.rate_limits.kept():
                if plan is None:
                    if self._workers is None:  # while it is found out whether there is anything
                        run.supply.open_ahead()
                    plan = self._planned()
                run.recognise(plan.source_identity)
                try:
                    self._run_plan(plan)
                finally:
                    self._marks.tell()
        except BaseException as error:
            self.cancel()  # nobody waits for connections that are still being opened
            failure = limit_error(error) or error
            if isinstance(failure, PbsPushError):
                run.report.error = failure
            if failure is error:
                raise
            raise failure from error
        finally:
            run.supply.close()
            run.report.seconds = time.monotonic() - began
        return run.report

    def _run_plan(self, plan: Plan) -> None:
        run = self._run
        self._tell_of_old_version()
        told = set(map(id, run.report.problems))
        for problem in plan.problems:
            if id(problem) not in told:  # planned by another
                run.report.add_problem(problem)
        if plan.no_removals is not None:
            run.hold_back(HeldBack(ALL_VANISHED, plan.no_removals))
        self._marks.begin(plan)  # before anything takes long
        namespaces = [item for item in plan.namespaces if self._begin_namespace(item)]
        groups = [group for item in namespaces for group in item.groups]
        for note in plan.notes:
            run.note("warning", note)
        looked_at = sum(item.looked_at for item in namespaces)
        run.report.remains = sum(len(group.snapshots) for group in groups)
        run.notify(Planned(looked_at, run.report.remains))
        busy = [group for group in groups if group.has_work]
        failed = self._run_groups(busy, removing=plan.no_removals is None)
        if plan.no_removals is not None:
            return
        for item in namespaces:
            if item.vanished and item.source in failed:
                count = counted(len(item.vanished), "vanished group")
                what = f"{count} of target {item.target.label}"
                run.hold_back(HeldBack(what, f"the push of {item.label} had errors"))
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
        for namespace in plan.create:
            try:
                run.api.create_namespace(namespace)
            except PbsPushError as error:
                run.problem(f"creating target {namespace.label}, for source {plan.label}", error)
                return False
            run.report.created_namespaces.append(namespace)
            run.notify(NamespaceCreated(namespace))
        for note in (note for group in plan.groups for note in group.notes):
            run.note("warning", note)
        for held in plan.all_held_back():
            run.hold_back(held)
        for alert in (alert for group in plan.groups for alert in group.alerts):
            run.alert(alert)
        for outcome in plan.outcomes():
            run.ended(outcome)
        return True

    def _remove_namespaces(self, plan: Plan, *, all_begun: bool) -> None:
        # What is not there, but should be, may be what a namespace that is gone was renamed to.
        report = self._run.report
        failed = not all_begun or Result.FAILED in report.counts
        left_out = {one.group for one in report.outcomes if one.skip in LEFT_OUT}
        for item in plan.vanished:
            renamed = sorted(left_out.intersection(one.group for one in item.seen))
            why = None
            if failed:
                why = "the push had errors"
            elif renamed:
                why = f"it holds {renamed[0]}, which is left out elsewhere: was it renamed?"
            self._remover.namespace(item, why_not=why)

    def _tell_of_old_version(self) -> None:
        """Once, for deletes of groups (protocol/push.md, "Before anything moves")."""
        features = self._run.target.features
        if self._run.options.remove_vanished and not features.delete_statistics:
            self._run.note(
                "info",
                f"the target runs version {features.version}, which does not tell what "
                "removing a group took with it: the counts are incomplete",
            )

    # -- groups --

    def _run_groups(self, groups: list[GroupPlan], *, removing: bool) -> set[Namespace]:
        """Push them, several at once. Returns the source namespaces of which a group failed."""
        failed: set[Namespace] = set()
        run = self._run
        groups = run.in_order(groups)
        if not groups:
            return failed
        if self._workers is not None:
            from pbs_push.push.coordinator import Coordinator  # noqa: PLC0415  (as above)

            run.supply.expect(0)
            with self._estimating(groups):
                return Coordinator(run, self._workers, self._marks, removing=removing).push(groups)
        chosen = run.options.parallel or chosen_parallel(run.round_trip_s, len(groups))
        parallel = min(chosen, len(groups))
        run.buffer_bytes = run.options.buffer_bytes or buffer_share(parallel)
        run.supply.expect(sum(len(group.snapshots) for group in groups))

        one = GroupPush(run, self._remover, self._marks, removing=removing)

        def push_one(group: GroupPlan) -> None:
            if one.push(group).failed:
                failed.add(group.source.namespace)

        with self._estimating(groups):
            Crew(groups, push_one, parallel).run(stop=self.cancel)
        return failed

    def _estimating(self, groups: list[GroupPlan]) -> AbstractContextManager[object]:
        if not self._run.options.estimate:
            return nullcontext()
        from pbs_push.push.estimate import Estimator  # noqa: PLC0415  (as below)

        return Estimator(self._run, groups)


def push(
    source: Datastore | str | os.PathLike[str],
    target: Target,
    options: PushOptions | None = None,
    listener: Listener | None = None,
    executor: Executor | Workers | None = None,
) -> Report:
    """Push a datastore to a target and report what became of every snapshot.

    ``source`` is a Datastore or the path of one, ``executor`` as for ``Push``. Raises PbsPushError
    where the push cannot begin; later failures are in the report (``report.exit_status``).
    """
    if isinstance(source, str | os.PathLike):
        source = Datastore(source)
    return Push(source, target, options, listener, executor).run()
