"""Measuring what a push depends on: this machine, a source datastore, a target and the way there.

`Bench` measures and judges; `html_page` and `bench_document` show what came out (docs/bench.md).
"""

from pbs_push.bench.figures import LinkFigures, MachineFigures, StoreFigures
from pbs_push.bench.html import html_page
from pbs_push.bench.limits import Limit
from pbs_push.bench.report import BenchReport, bench_document
from pbs_push.bench.suite import Bench
from pbs_push.bench.verdict import Verdict

__all__ = [
    "Bench",
    "BenchReport",
    "Limit",
    "LinkFigures",
    "MachineFigures",
    "StoreFigures",
    "Verdict",
    "bench_document",
    "html_page",
]
