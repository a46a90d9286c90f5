"""Running a push, or a dry run of it, with progress, signals, results and an exit status."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from pbs_push.cli.event_lines import Importance
from pbs_push.cli.interrupts import run_interruptibly
from pbs_push.cli.lines import error_line, printable, safe_json, say
from pbs_push.cli.loading import spare_threads
from pbs_push.cli.options import Output
from pbs_push.cli.progress import LineProgress, Progress
from pbs_push.cli.results import plan_lines, summary_lines
from pbs_push.cli.work import Work
from pbs_push.errors import PbsPushError
from pbs_push.push.document import Json, Sides
from pbs_push.push.engine import Push
from pbs_push.push.outcome import Skip
from pbs_push.push.plan import Plan
from pbs_push.push.report import EXIT_NOTHING, EXIT_PARTIAL, TO_MEND, Report
from pbs_push.units import counted

_MEASURED_S: Final = 2.0
_MEASURED_OVER: Final = 4
"""Connections: as many as a long push has, or more, on most links."""


def carry_out(asked: Sides, prepare: Callable[[], Work], output: Output) -> int:
    """Do what ``prepare`` gives, or say what it would do; show results, return the exit status.

    ``asked`` is what is known of both sides before. Raises PbsPushError for what ends all of it,
    after its JSON document, if that is asked for.
    """
    if output.dry_run:
        return _plan(asked, prepare, output)
    report, failure = Report(asked), None
    try:
        with _pushing(prepare(), output) as push:
            report = push.report
            run_interruptibly(push.run, push.cancel)
    except PbsPushError as error:
        report.error = failure = error
    output.finishing.tell(report)
    if output.json:
        print(safe_json(report.to_dict(), indent=2 if output.pretty else None))
    elif not output.quiet and not output.log_json and report.did_anything:
        print("\n".join(map(printable, summary_lines(report))))
    if output.log_json:
        from pbs_push.cli.event_json import line  # noqa: PLC0415

        say(line("summary", summed(report)))
        return report.exit_status
    return _ended(report, report.exit_status, failure)


def summed(report: Report) -> Json:
    """A report without what became of each snapshot, which was told before."""
    document = report.to_dict()
    del document["outcomes"]
    return document


def _plan(asked: Sides, prepare: Callable[[], Work], output: Output) -> int:
    plan, failure = Plan((), sides=asked), None
    forecast = None
    try:
        work = prepare()
        with _pushing(work, output) as push:
            plan = replace(plan, sides=push.report.sides)
            plan = run_interruptibly(push.plan, push.cancel)
            forecast = run_interruptibly(partial(push.forecast, plan), push.cancel)
            rate = _measured(work) if output.measure else output.rate
            if rate is not None:
                forecast = forecast.at(rate)
    except PbsPushError as error:
        plan, failure = replace(plan, error=error), error
    if output.json:
        document = plan.to_dict() | (forecast.to_dict() if forecast is not None else {})
        print(safe_json(document, indent=2 if output.pretty else None))
    elif failure is None and forecast is not None:
        quiet, verbose = output.quiet, output.verbose
        lines = plan_lines(plan, forecast, quiet=quiet, verbose=verbose)
        print("\n".join(map(printable, lines)))
    return _ended(plan.settled(), plan.exit_status, failure)


def _measured(work: Work) -> float:
    """Bytes a second that the link to the target carries now."""
    from pbs_push.bench.link import LinkBench  # noqa: PLC0415  (for who asks for it)

    cancelled = threading.Event()
    namespace = work.options.target_namespace
    link = LinkBench(work.target, namespace, _MEASURED_S, lambda _text: None, cancelled)
    return run_interruptibly(partial(link.rate, _MEASURED_OVER), cancelled.set)


@contextmanager
def _pushing(work: Work, output: Output) -> Iterator[Push]:
    spare_threads()
    with work.target, _progress(output) as progress:
        options = replace(work.options, estimate=not output.quiet)
        yield Push(work.source, work.target, options, progress)


def _ended(report: Report, status: int, failure: PbsPushError | None) -> int:
    if failure is not None:
        raise failure
    if line := _closing_line(report, status):
        say(error_line(line))
    return status


def _closing_line(report: Report, status: int) -> str | None:
    """What explains the status, where no line before does."""
    if status == EXIT_NOTHING:
        return f"nothing can be pushed: {_reasons(report.skips)}"
    if status == EXIT_PARTIAL and not report.failed:
        return f"somebody has to look at this: {'; '.join(_to_look_at(report))}"
    return None


def _to_look_at(report: Report) -> Iterator[str]:
    if late := report.skips[Skip.OUT_OF_TIME]:
        yield f"{counted(late, 'snapshot')}: {Skip.OUT_OF_TIME.value} (--max-duration)"
    left_out = {skip: report.skips[skip] for skip in TO_MEND if report.skips[skip]}
    if left_out:
        yield f"not all can be pushed: {_reasons(left_out)}"
    groups = {(alert.finding, alert.namespace, alert.group) for alert in report.alerts}
    for finding, count in Counter(finding for finding, _, _ in groups).items():
        yield f"{finding.value} ({counted(count, 'group')})"
    if held := report.held_back:
        more = f" (and {len(held) - 1} more)" if len(held) > 1 else ""
        yield f"removals held back: {held[0]}{more}"


def _reasons(skips: Mapping[Skip, int]) -> str:
    return "; ".join(f"{counted(count, 'snapshot')}: {skip.value}" for skip, count in skips.items())


def _progress(output: Output) -> Progress:
    """A display on a terminal, else lines, of JSON if asked for; all on stderr."""
    if output.log_json:
        from pbs_push.cli.event_json import JsonProgress  # noqa: PLC0415

        return JsonProgress()
    if output.quiet:
        return LineProgress(Importance.ALERT)
    if not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return LineProgress(Importance.DETAIL if output.verbose else Importance.LOG)
    # Only terminals need rich.
    from rich.console import Console  # noqa: PLC0415

    from pbs_push.cli.display import DisplayProgress  # noqa: PLC0415

    shown = Importance.DETAIL if output.verbose else Importance.INFO
    return DisplayProgress(Console(stderr=True, highlight=False), shown)
