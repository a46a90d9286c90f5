"""The results as one HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbs_push.bench.report import software
from pbs_push.bench.tables import tables
from pbs_push.pages.bars import Row, Table, section
from pbs_push.pages.frame import page, words
from pbs_push.units import rate_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pbs_push.bench.report import BenchReport
    from pbs_push.bench.verdict import Verdict


def html_page(report: BenchReport) -> str:
    """The whole page, to be written in UTF-8."""
    body = "\n".join(_body(report))
    return page(f"pbs-push bench, {report.began}", body)


def _body(report: BenchReport) -> Iterator[str]:
    yield "<h1>pbs-push bench</h1>"
    versions = ", ".join(f"{name} {version}" for name, version in software().items())
    yield (
        f'<p class="note">{words(report.began)}; about {report.seconds:g} s for each '
        f"measurement; {words(versions)}</p>"
    )
    yield from (f'<p class="warning">{words(note)}</p>' for note in report.notes)
    if report.verdict is not None:
        yield _verdict_section(report.verdict)
        if len(report.verdict.ceilings) > 1:
            yield section(_ceilings(report.verdict))
    yield from map(section, tables(report))
    yield "<footer>How to read this: docs/bench.md of pbs-push.</footer>"


def _verdict_section(verdict: Verdict) -> str:
    first, *rest = verdict.sentences
    lines = "\n".join(f"<p>{words(sentence)}</p>" for sentence in rest)
    headline = f'<p class="headline">{words(first)}</p>'
    return f'<section class="verdict">\n{headline}\n{lines}\n</section>'


def _ceilings(verdict: Verdict) -> Table:
    """What each part would let a push run at, the lowest marked."""
    rows = [
        Row(item.limit.value, item.bytes_per_s, rate_text(item.bytes_per_s), kind)
        for item, kind in zip(
            verdict.ceilings, ["limit", *["plain"] * len(verdict.ceilings)], strict=False
        )
    ]
    return Table("What each part would allow", "of large snapshots; the lowest decides", (*rows,))
