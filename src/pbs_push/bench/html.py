"""The results as one HTML page that needs nothing else: no scripts, no files, no network.

It is well-formed XML too, so that other programs can read it.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from pbs_push.bench.bars import bar_chart
from pbs_push.bench.report import software
from pbs_push.bench.tables import Row, Table, tables
from pbs_push.units import rate_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pbs_push.bench.report import BenchReport
    from pbs_push.bench.verdict import Verdict

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --paper: #ffffff;
  --card: #f4f6f9; --rule: #d5dbe3; --plain: #2f6fb7; --warm: #d08a2e;
  --limit: #c2453d; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --soft: #9aa6b5; --paper: #14181e; --card: #1d232c; --rule: #36404d;
    --plain: #6aa5e8; --warm: #e0a555; --limit: #ec7b73; } }
body { margin: 2rem auto; padding: 0 1rem; max-width: 46rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin-bottom: 0; }
h2 { font-size: 1.1rem; margin: 2rem 0 0; overflow-wrap: anywhere; }
p.note { margin: 0 0 .5rem; color: var(--soft); font-size: .875rem; }
section.verdict { background: var(--card); border-left: 4px solid var(--limit);
  padding: .75rem 1rem; margin: 1.5rem 0; }
section.verdict p { margin: .25rem 0; }
section.verdict p.headline { font-size: 1.125rem; font-weight: 600; }
p.warning { border-left: 4px solid var(--warm); padding-left: .75rem; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; dominant-baseline: central; }
svg text.label { text-anchor: end; }
svg text.value { fill: var(--soft); }
svg line.axis { stroke: var(--rule); }
rect.plain { fill: var(--plain); } rect.warm { fill: var(--warm); }
rect.limit { fill: var(--limit); }
footer { margin: 2rem 0; color: var(--soft); font-size: .875rem; }
"""


def html_page(report: BenchReport) -> str:
    """The whole page, to be written in UTF-8."""
    body = "\n".join(_body(report))
    return (
        '<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml">\n<head>\n'
        '<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>pbs-push bench, {escape(report.began)}</title>\n<style>{_STYLE}</style>\n"
        f"</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _body(report: BenchReport) -> Iterator[str]:
    yield "<h1>pbs-push bench</h1>"
    versions = ", ".join(f"{name} {version}" for name, version in software().items())
    yield (
        f'<p class="note">{escape(report.began)}; about {report.seconds:g} s for each '
        f"measurement; {escape(versions)}</p>"
    )
    yield from (f'<p class="warning">{escape(note)}</p>' for note in report.notes)
    if report.verdict is not None:
        yield _verdict_section(report.verdict)
        if len(report.verdict.ceilings) > 1:
            yield _section(_ceilings(report.verdict))
    yield from map(_section, tables(report))
    yield "<footer>How to read this: docs/bench.md of pbs-push.</footer>"


def _verdict_section(verdict: Verdict) -> str:
    first, *rest = verdict.sentences
    lines = "\n".join(f"<p>{escape(sentence)}</p>" for sentence in rest)
    headline = f'<p class="headline">{escape(first)}</p>'
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


def _section(table: Table) -> str:
    return (
        f"<section>\n<h2>{escape(table.title)}</h2>\n"
        f'<p class="note">{escape(table.note)}</p>\n{bar_chart(table.title, table.rows)}\n'
        "</section>"
    )
