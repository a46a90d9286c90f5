"""What ``pbs-push status`` shows, and its exit status."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from pbs_push.cli.interrupts import run_interruptibly
from pbs_push.cli.lines import error_line, one_line, safe_json, say
from pbs_push.cli.loading import spare_threads
from pbs_push.cli.work import Work
from pbs_push.errors import Cancelled, PbsPushError
from pbs_push.names import format_backup_time
from pbs_push.push.document import Json, Sides, Span, head
from pbs_push.push.report import EXIT_PARTIAL
from pbs_push.push.status import GroupStatus, status
from pbs_push.units import counted, duration_text, size_text

_NONE: Final = "-"


def show(
    asked: Sides,
    prepare: Callable[[], Work],
    *,
    max_lag_s: float | None,
    bytes_too: bool,
    as_json: bool,
) -> int:
    """Look, and show it; the exit status is returned. Raises PbsPushError, after the document."""
    began = time.time()
    found: list[GroupStatus] = []
    failure: PbsPushError | None = None
    cancelled = threading.Event()
    sides = asked

    def check() -> None:
        if cancelled.is_set():
            raise Cancelled("stopped as asked")

    def look() -> None:
        nonlocal sides
        work = prepare()
        sides = work.sides
        spare_threads()
        with work.target:
            options = work.options
            found.extend(
                status(work.source, work.target, options, bytes_too=bytes_too, check=check)
            )

    try:
        run_interruptibly(look, cancelled.set)
    except PbsPushError as error:
        failure = error
    late = [one for one in found if max_lag_s is not None and one.lag_s(began) > max_lag_s]
    unread = [one for one in found if one.error is not None]
    exit_status = EXIT_PARTIAL if late or unread else 0
    if as_json:
        exit_status = exit_status if failure is None else failure.exit_status
        span = Span(began, time.time())
        document = head("status", sides, exit_status, failure, span) | _document(found, began)
        print(safe_json(document, indent=2))
    elif failure is None:
        print("\n".join(lines(found, began)))
    if failure is not None:
        raise failure
    for one in unread:
        say(error_line(f"{one.label}: {one.error}"))
    if late and max_lag_s is not None:
        worst = max(late, key=lambda one: one.lag_s(began))
        more = f" and {counted(len(late) - 1, 'group')} more" if len(late) > 1 else ""
        lag = duration_text(worst.lag_s(began))
        say(
            error_line(
                f"{worst.label}{more}: a snapshot has waited for {lag}, longer than --max-lag "
                f"{duration_text(max_lag_s)}"
            )
        )
    return exit_status


def _document(found: list[GroupStatus], now: float) -> Json:
    return {
        "remains": sum(len(one.behind) for one in found),
        "groups": [one.to_dict(now) for one in found],
    }


def lines(found: list[GroupStatus], now: float) -> Iterator[str]:
    """A table for people, and the sums."""
    rows: list[tuple[str, ...]] = [
        ("group", "newest here", "newest there", "behind", "waits for", "to send", "gaps")
    ]
    rows += [_row(one, now) for one in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
    behind = sum(len(one.behind) for one in found)
    groups = sum(bool(one.behind) for one in found)
    yield (
        f"{counted(behind, 'snapshot')} of {counted(groups, 'group')} behind, of "
        f"{counted(len(found), 'group')}"
    )


def _row(one: GroupStatus, now: float) -> tuple[str, ...]:
    if one.error is not None:
        return (one_line(one.label), "cannot be read", *[_NONE] * 5)
    lag = one.lag_s(now)
    return (
        one_line(one.label),
        _time(one.newest_here),
        _time(one.newest_there),
        str(len(one.behind)) if one.behind else _NONE,
        duration_text(lag) if one.behind else _NONE,
        _bytes(one),
        str(len(one.gaps)) if one.gaps else _NONE,
    )


def _bytes(one: GroupStatus) -> str:
    if one.plain_bytes is None or not one.behind:
        return _NONE
    return ("" if one.exact else "at most ") + size_text(one.plain_bytes)


def _time(moment: int | None) -> str:
    return _NONE if moment is None else format_backup_time(moment)
