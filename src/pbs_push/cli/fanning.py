"""Running a push to several targets, or a dry run of it, with results and an exit status."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pbs_push.cli.ended import Ended, closing_line, summed
from pbs_push.cli.fan_out_progress import events_of, label_of, lines_of
from pbs_push.cli.interrupts import run_interruptibly
from pbs_push.cli.lines import printable
from pbs_push.cli.loading import spare_threads
from pbs_push.cli.measuring import measured
from pbs_push.cli.options import Output
from pbs_push.cli.results import plan_lines, reading_line, summary_lines
from pbs_push.cli.terminal import terminal, told_beside
from pbs_push.cli.work import Work
from pbs_push.errors import PbsPushError
from pbs_push.push.document import Json, Sides, Span
from pbs_push.push.events import FromTarget
from pbs_push.push.fan_out import FanOut
from pbs_push.push.fan_out_report import FanOutReport, fan_out_head, reading_to_dict
from pbs_push.push.report import Report, worst

if TYPE_CHECKING:
    from pbs_push.cli.sampling import Sampling
    from pbs_push.cli.timed_lines import Shown
    from pbs_push.names import Repository
    from pbs_push.push.forecast import Forecast
    from pbs_push.push.plan import Plan


def carried_out_all(asked: Sides, prepare: Callable[[], Work], output: Output) -> Ended:
    """Do what ``prepare`` gives; ``asked`` is what is known before. Only tell what went wrong."""
    began = time.time()
    try:
        return (_planned if output.dry_run else _pushed)(prepare(), output)
    except PbsPushError as error:
        return _never_began(asked, output, error, began)


def _pushed(work: Work, output: Output) -> Ended:
    failure: PbsPushError | None = None
    samplings: list[Sampling] = []
    with _fanning(work, output, samplings) as fan_out:
        report = fan_out.report
        try:
            run_interruptibly(fan_out.run, fan_out.cancel)
        except PbsPushError as error:
            failure = error
            for one in report.reports:
                if one.error is None and not one.seconds:  # it did not stop in time
                    one.error = error
    status = report.exit_status if failure is None else failure.exit_status
    output.finishing.tell(report, samplings)
    if output.log_json:
        _tell_events(report, output, status)
    elif not output.json and not output.quiet:
        print("\n".join(map(printable, _summary(report))))
    lines = _why([(one, one.exit_status) for one in report.reports]) if failure is None else ()
    return Ended(report.to_dict, status, failure, lines)


def _summary(report: FanOutReport) -> Iterator[str]:
    for number, one in enumerate(report.reports):
        if not one.did_anything:
            continue
        yield f"to {_name(one)}:"
        yield from summary_lines(one)
        yield reading_line(report.reading_of(number))
        yield ""
    yield "all targets together:"
    yield reading_line(report.reading)


def _why(ended: Sequence[tuple[Report, int]]) -> tuple[str, ...]:
    """Why a status is not 0, by target, where no line before says it."""
    lines = [
        (one, closing_line(one, status) if one.error is None else str(one.error))
        for one, status in ended
    ]
    return tuple(f"{_name(one)}: {line}" for one, line in lines if line is not None)


def _name(report: Report) -> str:
    target = None if report.sides is None else report.sides.target
    return "?" if target is None else label_of(target)


def _tell_events(report: FanOutReport, output: Output, status: int) -> None:
    from pbs_push.cli.event_json import tell  # noqa: PLC0415

    named: Json = {} if output.name is None else {"push": output.name}
    statuses: Json = {}
    for number, one in enumerate(report.reports):
        repository = None if one.sides is None else str(one.sides.target)
        reading = {"reading": reading_to_dict(report.reading_of(number))}
        tell("summary", named | {"repository": repository} | summed(one) | reading)
        statuses[str(repository)] = one.exit_status
    reading = reading_to_dict(report.reading) | report.memory_to_dict()
    content = {"exit-status": status, "targets": statuses, "reading": reading}
    tell("targets-ended", named | content)


def _planned(work: Work, output: Output) -> Ended:
    began = time.time()
    with _fanning(work, output, None) as fan_out:
        plans = run_interruptibly(fan_out.plan, fan_out.cancel)
        costs: list[Forecast | None] = []
        destinations = ((work.target, work.options), *work.others)
        for push, plan, (target, options) in zip(fan_out.pushes, plans, destinations, strict=True):
            if plan.error is not None:
                costs.append(None)
                continue
            found = run_interruptibly(partial(push.forecast, plan), fan_out.cancel)
            rate = measured(target, options) if output.measure else output.rate
            costs.append(found if rate is None else found.at(rate))
    if not output.json:
        for plan, cost in zip(plans, costs, strict=True):
            if cost is not None:
                lines = plan_lines(plan, cost, quiet=output.quiet, verbose=output.verbose)
                print("\n".join(map(printable, (f"to {_name(_settled(plan)[0])}:", *lines, ""))))
    status = worst(plan.exit_status for plan in plans)
    span = Span(began, time.time())
    document = partial(_plan_document, plans, costs, status, span)
    return Ended(document, status, None, _why([_settled(plan) for plan in plans]))


def _settled(plan: Plan) -> tuple[Report, int]:
    report = plan.settled()
    report.sides, report.error = plan.sides, plan.error
    return report, plan.exit_status


def _plan_document(
    plans: Sequence[Plan], costs: Sequence[Forecast | None], status: int, span: Span
) -> Json:
    parts = [
        plan.to_dict() | ({} if cost is None else cost.to_dict())
        for plan, cost in zip(plans, costs, strict=True)
    ]
    return {
        **fan_out_head(plans[0].sides, status, None, span),
        "remains": sum(plan.to_push for plan in plans),
        "reports": parts,
    }


def _never_began(asked: Sides, output: Output, error: PbsPushError, began: float) -> Ended:
    report = Report(asked)
    report.error = error
    output.finishing.tell(report)
    made: Json = {"remains": None, "reports": []}
    document = fan_out_head(asked, error.exit_status, error, Span(began, time.time())) | made
    if output.log_json:
        from pbs_push.cli.event_json import tell  # noqa: PLC0415

        named = {} if output.name is None else {"push": output.name}
        tell("summary", named | summed(report))
    return Ended(lambda: document, error.exit_status, error)


@contextmanager
def _fanning(work: Work, output: Output, samplings: list[Sampling] | None) -> Iterator[FanOut]:
    spare_threads()
    destinations = [
        (target, replace(options, estimate=not output.quiet))
        for target, options in ((work.target, work.options), *work.others)
    ]
    targets = [target.repository for target, _ in destinations]
    with ExitStack() as stack:
        for target, _ in destinations:
            stack.enter_context(target)
        fan_out: FanOut
        heard = [output.finishing.sampling() for _ in targets]
        if samplings is not None:
            samplings += [one for one in heard if one is not None]
        shown: list[Shown[FromTarget]] = []

        def take(event: FromTarget) -> None:
            sampling = heard[event.number]
            if sampling is not None:
                sampling(event.event)
            shown[0](event)

        fan_out = FanOut(work.source, destinations, destinations[0][1], take)
        shown.append(stack.enter_context(_progress(targets, output)))
        yield fan_out


def _progress(targets: Sequence[Repository], output: Output) -> Shown[FromTarget]:
    """As ``pushing.shown_progress``, for each target."""
    if output.log_json:
        return events_of(targets)
    console = terminal(output)
    importance = told_beside(output, console)
    if console is None:
        return lines_of(targets, importance)
    from pbs_push.cli.fan_out_display import FanOutDisplay  # noqa: PLC0415  (it needs rich)

    return FanOutDisplay(console, targets, importance)
