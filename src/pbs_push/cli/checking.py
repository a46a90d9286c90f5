"""What ``pbs-push check`` looks at and shows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from pbs_push.cli.interrupts import run_interruptibly
from pbs_push.cli.lines import one_line, safe_json
from pbs_push.cli.loading import spare_threads
from pbs_push.cli.work import Work
from pbs_push.errors import Cancelled, PbsPushError
from pbs_push.push.document import Sides, Span, head
from pbs_push.push.engine import Push
from pbs_push.push.preflight import Finding, Grade, without_waiting
from pbs_push.push.report import EXIT_PARTIAL
from pbs_push.units import rate_text

_MEASURED_S: Final = 1.0
_CONNECTIONS: Final = (1, 4)
_MARKS: Final = {Grade.OK: "ok  ", Grade.NOTE: "note", Grade.BAD: "BAD "}


def show(asked: Sides, prepare: Callable[[], Work], *, rates: bool, as_json: bool) -> int:
    """Look, and show it; the exit status is returned: 3 if anything is bad. Raises PbsPushError
    where nothing can be looked at, after the document."""
    began = time.time()
    found: list[Finding] = []
    failure: PbsPushError | None = None
    cancelled = threading.Event()
    sides = asked

    def look() -> None:
        nonlocal sides
        work = prepare()
        sides = work.sides
        spare_threads()
        with work.target:
            push = Push(work.source, work.target, without_waiting(work.options))
            for finding in _all(work, push, cancelled, rates=rates):
                found.append(finding)
                if not as_json:
                    print("\n".join(_lines(finding)), flush=True)
                if cancelled.is_set():
                    raise Cancelled("stopped as asked")

    try:
        run_interruptibly(look, cancelled.set)
    except PbsPushError as error:
        failure = error
    status = EXIT_PARTIAL if any(one.grade is Grade.BAD for one in found) else 0
    if as_json:
        status = status if failure is None else failure.exit_status
        document = head("check", sides, status, failure, Span(began, time.time()))
        findings = [one.to_dict() for one in found]
        print(safe_json({**document, "remains": None, "findings": findings}, indent=2))
    if failure is not None:
        raise failure
    return status


def _all(work: Work, push: Push, cancelled: threading.Event, *, rates: bool) -> Iterator[Finding]:
    logged_in = False
    for finding in push.preflight():
        logged_in |= finding.subject == "login" and finding.grade is Grade.OK
        yield finding
    if rates:
        if logged_in:
            yield from _link(work, cancelled)
        else:  # another wrong login would count at the target, too
            text = "not measured: nobody has logged in at the target"
            yield Finding(Grade.NOTE, "link", text)
        yield from _disk(work, cancelled)


def _link(work: Work, cancelled: threading.Event) -> Iterator[Finding]:
    from pbs_push.bench.link import LinkBench  # noqa: PLC0415  (for who asks for it)

    there = work.options.target_namespace
    link = LinkBench(work.target, there, _MEASURED_S, lambda _text: None, cancelled)
    for connections in _CONNECTIONS:
        try:
            rate = link.rate(connections)
        except Cancelled:
            raise
        except PbsPushError as error:
            yield Finding(Grade.NOTE, "link", f"it cannot be measured: {error}")
            return
        noun = "connection" if connections == 1 else "connections"
        yield Finding(Grade.OK, "link", f"{rate_text(rate)} over {connections} {noun}")


def _disk(work: Work, cancelled: threading.Event) -> Iterator[Finding]:
    from pbs_push.bench.store import StoreBench  # noqa: PLC0415

    try:
        store = StoreBench(work.source, _MEASURED_S, lambda _text: None, cancelled).measure()
    except Cancelled:
        raise
    except (PbsPushError, OSError) as error:
        yield Finding(Grade.NOTE, "disk", f"the source's cannot be measured: {error}")
        return
    best = max(store.cold, key=lambda one: one.bytes_per_s)
    text = f"{rate_text(best.bytes_per_s)} from the source's disk, {best.readers} reads at once"
    yield Finding(Grade.OK, "disk", text)


def _lines(finding: Finding) -> Iterator[str]:
    mark = _MARKS[finding.grade]
    yield f"{mark}  {finding.subject}: {one_line(finding.text)}"
    if finding.advice:
        yield f"      {one_line(finding.advice)}"
