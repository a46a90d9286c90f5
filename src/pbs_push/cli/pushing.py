"""Running a push, or a dry run of it, with progress, signals, results and an exit status."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from pbs_push.cli.ended import Ended, summed
from pbs_push.cli.interrupts import run_interruptibly
from pbs_push.cli.lines import error_line, one_line, printable, safe_json, say
from pbs_push.cli.loading import spare_threads
from pbs_push.cli.measuring import measured
from pbs_push.cli.options import Output
from pbs_push.cli.progress import LineProgress, Progress
from pbs_push.cli.results import plan_lines, summary_lines
from pbs_push.cli.terminal import terminal, told_beside
from pbs_push.cli.work import Work
from pbs_push.cli.worker_options import THREADS
from pbs_push.errors import AlreadyRunning, Cancelled, PbsPushError
from pbs_push.push.document import Sides
from pbs_push.push.engine import Push
from pbs_push.push.events import Event
from pbs_push.push.outcome import Problem
from pbs_push.push.plan import Plan
from pbs_push.push.report import Report


def carry_out(
    asked: Sides, prepare: Callable[[], Work], output: Output, *, several: bool = False
) -> int:
    """Do what ``prepare`` gives, or say what it would do; show results, return the exit status.

    ``asked`` is what is known of both sides before, ``several``: there are further targets. Raises
    PbsPushError for what ends all of it, after its JSON document, if that is asked for.
    """
    ended = carried_out(asked, prepare, output, several=several)
    if output.json:
        print(safe_json(ended.document(), indent=2 if output.pretty else None))
    if output.log_json and not output.dry_run:
        return ended.status  # the summary has said all
    return ended.said()


def carried_out(
    asked: Sides, prepare: Callable[[], Work], output: Output, *, several: bool = False
) -> Ended:
    """The same, without the document, and without raising what ends all of it."""
    if several:
        from pbs_push.cli.fanning import carried_out_all  # noqa: PLC0415  (for who has several)

        return carried_out_all(asked, prepare, output)
    return (_planned if output.dry_run else _pushed)(asked, prepare, output)


def _pushed(asked: Sides, prepare: Callable[[], Work], output: Output) -> Ended:
    report, failure, work = Report(asked), None, None
    sampling = output.finishing.sampling()
    try:
        work = prepare()
        with _pushing(work, output, sampling) as push:
            report = push.report
            run_interruptibly(push.run, push.cancel)
    except PbsPushError as error:
        report.error = failure = error
    if work is not None and not isinstance(failure, Cancelled | AlreadyRunning):
        _unmount(work, report, output)
    output.finishing.tell(report, [] if sampling is None else [sampling])
    if output.log_json:
        from pbs_push.cli.event_json import tell  # noqa: PLC0415

        named = {} if output.name is None else {"push": output.name}
        tell("summary", named | summed(report))
    elif not output.json and not output.quiet and report.did_anything:
        print("\n".join(map(printable, summary_lines(report))))
    return Ended.of(report, report.to_dict, report.exit_status, failure)


def _unmount(work: Work, report: Report, output: Output) -> None:
    """Unmount the source, if it is to be; what goes wrong is a problem of the report.

    Not after an interruption, which who asked for it looks after, nor while another push uses it.
    """
    unmounting = work.unmounting
    if unmounting is None:
        return
    text, level = f"datastore '{unmounting.store}' is unmounted", "info"
    try:
        unmounting.run()
    except PbsPushError as error:
        report.add_problem(Problem(unmounting.what, error))
        text, level = f"{unmounting.what}: {error}", "error"
    if output.log_json:
        from pbs_push.cli.event_json import tell  # noqa: PLC0415

        tell("message", {"level": level, "text": text})
    elif level == "error":
        say(error_line(text))
    elif not output.quiet:
        say(one_line(text))


def _planned(asked: Sides, prepare: Callable[[], Work], output: Output) -> Ended:
    plan, failure = Plan((), sides=asked), None
    forecast, began = None, time.time()
    try:
        work = prepare()
        with _pushing(work, output) as push:
            plan = replace(plan, sides=push.report.sides)
            plan = run_interruptibly(push.plan, push.cancel)
            forecast = run_interruptibly(partial(push.forecast, plan), push.cancel)
            measuring = output.measure
            rate = measured(work.target, work.options) if measuring else output.rate
            if rate is not None:
                forecast = forecast.at(rate)
    except PbsPushError as error:
        plan, failure = replace(plan, error=error), error
    if not output.json and failure is None and forecast is not None:
        quiet, verbose = output.quiet, output.verbose
        lines = plan_lines(plan, forecast, quiet=quiet, verbose=verbose)
        print("\n".join(map(printable, lines)))
    costs = {} if forecast is None else forecast.to_dict()
    costs |= {"began": round(began, 3), "ended": round(time.time(), 3)}
    return Ended.of(plan.settled(), lambda: plan.to_dict() | costs, plan.exit_status, failure)


@contextmanager
def _pushing(
    work: Work, output: Output, sampling: Callable[[Event], None] | None = None
) -> Iterator[Push]:
    spare_threads()
    asked = THREADS if output.dry_run else work.workers
    with work.target, asked.opened() as workers, shown_progress(output) as progress:
        options = replace(work.options, estimate=not output.quiet)
        yield Push(work.source, work.target, options, _both(progress, sampling), workers)


def _both(progress: Progress, sampling: Callable[[Event], None] | None) -> Callable[[Event], None]:
    """A listener that gives each event to both."""
    if sampling is None:
        return progress

    def take(event: Event) -> None:
        sampling(event)
        progress(event)

    return take


def shown_progress(output: Output) -> Progress:
    """A display on a terminal, else lines, of JSON if asked for; all on stderr."""
    if output.log_json:
        from pbs_push.cli.event_json import JsonProgress  # noqa: PLC0415

        return JsonProgress()
    console = terminal(output)
    importance = told_beside(output, console)
    if console is None:
        return LineProgress(importance)
    from pbs_push.cli.display import DisplayProgress  # noqa: PLC0415  (only terminals need rich)

    return DisplayProgress(console, importance)
