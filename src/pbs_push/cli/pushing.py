"""Running a push, or a dry run of it, with progress, signals, results and an exit status."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from pbs_push.cli.documents import Sides, plan_document, report_document
from pbs_push.cli.event_lines import Importance
from pbs_push.cli.interrupts import run_interruptibly
from pbs_push.cli.lines import error_line, say
from pbs_push.cli.progress import LineProgress, Progress
from pbs_push.cli.results import plan_lines, summary_lines
from pbs_push.errors import PbsPushError
from pbs_push.push.engine import Push
from pbs_push.push.options import PushOptions
from pbs_push.push.plan import Plan
from pbs_push.push.report import (
    EXIT_NOTHING,
    EXIT_PARTIAL,
    TO_MEND,
    HeldBack,
    Problem,
    Report,
    Skip,
)
from pbs_push.remote.target import Target
from pbs_push.source.datastore import Datastore
from pbs_push.units import counted


@dataclass(frozen=True, slots=True)
class Output:
    """What is shown: the plan alone, results as one JSON document, fewer or more lines."""

    dry_run: bool = False
    json: bool = False
    quiet: bool = False
    verbose: bool = False

    @property
    def shown(self) -> Importance:
        """The least important lines that are shown."""
        if self.quiet:
            return Importance.ALERT
        return Importance.DETAIL if self.verbose else Importance.LOG


@dataclass(frozen=True, slots=True)
class Work:
    """A push that is ready to begin. Whoever takes it closes ``target``."""

    source: Datastore
    target: Target
    options: PushOptions

    @property
    def sides(self) -> Sides:
        """What is pushed where."""
        return Sides(
            str(self.source.path),
            self.options.source_namespace,
            self.target.repository,
            self.options.target_namespace,
        )


@dataclass(slots=True)
class _Results:
    """What there is to show in the end; ``error`` ended all of it."""

    sides: Sides
    report: Report = field(default_factory=Report)
    plan: Plan | None = None
    error: PbsPushError | None = None


def carry_out(asked: Sides, prepare: Callable[[], Work], output: Output) -> int:
    """Do what ``prepare`` gives, or say what it would do; show results, return the exit status.

    ``asked`` is what is known of both sides before. Raises PbsPushError for what ends all of it,
    after its JSON document, if that is asked for.
    """
    results = _Results(asked)
    try:
        work = prepare()
        results.sides = work.sides
        with work.target:
            _do(work, output, results)
    except PbsPushError as error:
        results.error = error
    status = _exit_status(results)
    _show(results, output, status)
    if results.error is not None:
        raise results.error
    if line := _closing_line(results, status):
        say(error_line(line))
    return status


def _do(work: Work, output: Output, results: _Results) -> None:
    with _progress(output) as progress:
        push = Push(work.source, work.target, work.options, progress)
        results.report = push.report
        if output.dry_run:
            results.plan = run_interruptibly(push.plan, push.cancel)
            _add_settled(results.report, results.plan)
        else:
            run_interruptibly(push.run, push.cancel)


def _add_settled(report: Report, plan: Plan) -> None:
    """A dry run's report: what the plan has settled, for the counts and the status."""
    if plan.no_removals is not None:
        refused = PbsPushError(f"{plan.no_removals}; none would be")
        report.add_problem(Problem("removing what vanished", refused))
    for item in plan.namespaces:
        report.groups += item.looked_at
        for outcome in item.outcomes():
            report.add(outcome)
        for held in item.all_held_back():
            report.hold_back(held)
        for alert in (alert for group in item.groups for alert in group.alerts):
            report.add_alert(alert)
    for gone in plan.vanished:
        if gone.held_back:
            what = f"vanished target {gone.namespace.label}"
            report.hold_back(HeldBack(what, gone.keep or ""))


def _exit_status(results: _Results) -> int:
    """The status; of a dry run: what is in the way now would be in the way of a push too."""
    if results.error is not None:
        return results.error.exit_status
    return results.report.status_with(0 if results.plan is None else results.plan.to_push)


def _show(results: _Results, output: Output, status: int) -> None:
    report, plan = results.report, results.plan
    if output.json:
        made = (
            plan_document(results.sides, plan, report, status, results.error)
            if output.dry_run
            else report_document(results.sides, report, status, results.error)
        )
        print(json.dumps(made, indent=2))
    elif plan is not None:
        print("\n".join(plan_lines(plan)))
    elif not output.quiet and (report.groups or report.held_back):
        print("\n".join(summary_lines(report)))


def _closing_line(results: _Results, status: int) -> str | None:
    """What explains the status, where no line before does."""
    report, plan = results.report, results.plan
    if status == EXIT_NOTHING:
        return f"nothing can be pushed: {_reasons(report.skips)}"
    if status == EXIT_PARTIAL and not report.failed:
        return f"somebody has to look at this: {'; '.join(_to_look_at(report))}"
    if plan is not None and plan.no_removals is not None:
        return f"nothing would be removed: {plan.no_removals}"
    return None


def _to_look_at(report: Report) -> Iterator[str]:
    left_out = {skip: report.skips[skip] for skip in TO_MEND if report.skips[skip]}
    if left_out:
        yield f"not all can be pushed: {_reasons(left_out)}"
    groups = {(alert.finding, alert.namespace, alert.group) for alert in report.alerts}
    for finding, count in Counter(finding for finding, _, _ in groups).items():
        yield f"{finding.value} ({counted(count, 'group')})"
    if report.held_back:
        yield f"{counted(len(report.held_back), 'removal')} held back"


def _reasons(skips: Mapping[Skip, int]) -> str:
    return "; ".join(f"{counted(count, 'snapshot')}: {skip.value}" for skip, count in skips.items())


def _progress(output: Output) -> Progress:
    """A display on a terminal, else lines; both on stderr."""
    if output.quiet or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return LineProgress(output.shown)
    # Only terminals need rich.
    from rich.console import Console  # noqa: PLC0415

    from pbs_push.cli.display import DisplayProgress  # noqa: PLC0415

    shown = Importance.DETAIL if output.verbose else Importance.INFO
    return DisplayProgress(Console(stderr=True, highlight=False), shown)
