"""A push as one HTML page: rate over time, groups by bytes and by time, what was left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pbs_push.cli.exit_status import EXIT_STATUSES
from pbs_push.cli.results import summary_lines
from pbs_push.names import Group, Namespace, format_backup_time, placed
from pbs_push.pages.bars import Row, Table, section
from pbs_push.pages.curve import rate_curve
from pbs_push.pages.frame import page, words
from pbs_push.push.outcome import Outcome, Result
from pbs_push.units import counted, duration_text, size_text
from pbs_push.version import VERSION

if TYPE_CHECKING:
    from pbs_push.cli.sampling import Sampling
    from pbs_push.push.report import Report

_BARS: Final = 20
_LINES: Final = 200
_NAMES: Final = 15
"""Letters that the names of ``summary_lines`` take."""
_LABEL: Final = 22
"""Letters that stand beside a bar."""

Key = tuple[Namespace, Group]


def push_page(report: Report, sampling: Sampling) -> str:
    """The whole page, to be written in UTF-8."""
    source, target = _sides(report)
    return page(f"pbs-push: {source} to {target}", "\n".join(_body(report, sampling)))


def push_pages(parts: Sequence[tuple[Report, Sampling]]) -> str:
    """The same of a push to several targets, one below the other."""
    source, _ = _sides(parts[0][0])
    title = f"pbs-push: {source} to {len(parts)} targets"
    bodies = ["\n".join(_body(report, sampling)) for report, sampling in parts]
    return page(title, "\n<hr />\n".join(bodies))


def _sides(report: Report) -> tuple[str, str]:
    sides = report.sides
    if sides is None:
        return "?", "?"
    target = "?" if sides.target is None else str(sides.target)
    here, there = sides.source_namespace, sides.target_namespace
    return (
        sides.source if here.is_root else f"{sides.source}, {here.label}",
        target if there.is_root else f"{target}, {there.label}",
    )


def _body(report: Report, sampling: Sampling) -> Iterator[str]:
    source, target = _sides(report)
    span, status = report.span, report.exit_status
    yield f"<h1>{words(source)} → {words(target)}</h1>"
    began, ended = (format_backup_time(int(moment)) for moment in (span.began, span.ended))
    yield f'<p class="note">{began} to {ended}; pbs-push {words(VERSION)}</p>'
    yield f'<section class="{"verdict" if status else "verdict good"}">'
    yield f'<p class="headline">{_headline(report)}</p>'
    yield f"<p>exit status {status}: {words(EXIT_STATUSES.get(status, ''))}</p>"
    yield "</section>"
    if report.error is not None:
        yield f'<p class="warning">{words(str(report.error))}</p>'
    yield from _problems(report)
    if report.stats.sent_bytes and len(sampling.samples) > 1:
        curve = rate_curve("Rate over time", sampling.samples)
        yield f"<section>\n<h2>Rate over time</h2>\n{curve}\n</section>"
    yield from _groups(report, sampling.seconds)
    yield from _left_out(report)
    rows = [(line[:_NAMES], line[_NAMES:]) for line in summary_lines(report)]
    yield _table("In numbers", ("what", "how much"), rows)
    yield "<footer>What the words mean: docs/exit-status.md and docs/json.md of pbs-push.</footer>"


def _headline(report: Report) -> str:
    parts = [f"{counted(report.counts[Result.PUSHED], 'snapshot')} pushed"]
    if report.failed:
        parts.append(f"{report.failed} failed")
    if report.remains:
        parts.append(f"{counted(report.remains, 'snapshot')} still to push")
    parts.append(f"{size_text(report.stats.sent_bytes)} sent in {duration_text(report.seconds)}")
    return words(", ".join(parts))


def _problems(report: Report) -> Iterator[str]:
    failed = [(one.label, str(one.error)) for one in report.outcomes if one.error is not None]
    rows = [
        *((one.label, one.text) for one in report.alerts),
        *((one.what, f"not removed: {one.why}") for one in report.held_back),
        *((one.what, str(one.error)) for one in report.problems),
        *failed,
    ]
    if rows:
        yield _table("To look at", ("what", "why"), rows)


def _groups(report: Report, seconds: Mapping[Key, float]) -> Iterator[str]:
    sent: defaultdict[Key, int] = defaultdict(int)
    targets: dict[Key, Namespace | None] = {}
    for one in report.outcomes:
        key = (one.namespace, one.group)
        sent[key] += one.stats.sent_bytes
        targets[key] = one.target
    names = {key: _name(key, targets.get(key)) for key in {*sent, *seconds}}
    for title, values, text in (
        ("Groups by bytes sent", sent, size_text),
        ("Groups by time", seconds, duration_text),
    ):
        rows = [
            Row(_short(names[key]), value, text(value))
            for key, value in sorted(values.items(), key=lambda item: -item[1])
            if value > 0
        ]
        if rows:
            more = f"the first {_BARS} of {len(rows)}" if len(rows) > _BARS else ""
            yield section(Table(title, more or counted(len(rows), "group"), tuple(rows[:_BARS])))


def _name(key: Key, target: Namespace | None) -> str:
    namespace, group = key
    return placed(namespace, namespace if target is None else target, str(group))


def _short(name: str) -> str:
    """The end of a long name, which tells more than its begin."""
    return name if len(name) <= _LABEL else f"…{name[1 - _LABEL :]}"


def _left_out(report: Report) -> Iterator[str]:
    skipped: dict[str, list[Outcome]] = {}
    for one in report.outcomes:
        if one.result is Result.SKIPPED:
            skipped.setdefault(one.reason, []).append(one)
    if not skipped:
        return
    rows = [
        (reason, str(sum(one.count for one in some)), _which(some))
        for reason, some in sorted(skipped.items(), key=lambda item: item[0])
    ]
    yield _table("Left out", ("why", "snapshots", "of"), rows)


def _which(outcomes: Sequence[Outcome]) -> str:
    names = list(dict.fromkeys(_name((one.namespace, one.group), one.target) for one in outcomes))
    some = ", ".join(names[:_BARS])
    return some if len(names) <= _BARS else f"{some} and {len(names) - _BARS} more"


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    lines = [
        f"<section>\n<h2>{words(title)}</h2>\n<table>\n<thead><tr>",
        *(f"<th>{words(head)}</th>" for head in heads),
        "</tr></thead>\n<tbody>",
        *(
            "<tr>" + "".join(f"<td>{words(cell.strip())}</td>" for cell in row) + "</tr>"
            for row in rows[:_LINES]
        ),
        "</tbody>\n</table>",
    ]
    if len(rows) > _LINES:
        lines.append(f'<p class="note">and {len(rows) - _LINES} more</p>')
    return "\n".join([*lines, "</section>"])
