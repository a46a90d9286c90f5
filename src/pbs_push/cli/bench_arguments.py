"""The command line of ``pbs-push bench``: checked, and carried out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from pbs_push.access.host import HostConfig
from pbs_push.bench.html import html_page
from pbs_push.bench.report import BenchReport, bench_document
from pbs_push.bench.suite import Bench
from pbs_push.bench.tables import tables
from pbs_push.cli.interrupts import run_interruptibly
from pbs_push.cli.lines import one_line, printable, safe_json, say
from pbs_push.cli.options import GivenProxy, is_given
from pbs_push.cli.sources import find_source
from pbs_push.cli.targets import Reach, remote_target, repository_target
from pbs_push.errors import Cancelled, ConfigError, PbsPushError, os_reason
from pbs_push.names import Namespace, Repository
from pbs_push.remote.target import Target

_LABEL_WIDTH: Final = 24


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line, as click has read it."""

    repository: Repository | None
    fingerprint: bytes | None
    remote: str | None
    remote_store: str | None
    remote_ns: Namespace
    datastore: str | None
    config_dir: Path | None
    as_json: bool
    html: Path | None
    seconds: float
    timeout_s: float | None
    proxy: GivenProxy | None = None

    def carry_out(self) -> int:
        """Measure; the exit status is returned. Raises UsageError, PbsPushError."""
        self._check()
        bench: Bench | None = None
        failure: PbsPushError | None = None
        try:
            with ExitStack() as stack:
                bench = self._prepare(stack)
                run_interruptibly(bench.run, bench.cancel)
        except PbsPushError as error:
            failure = error
        report = bench.report if bench is not None else BenchReport(self.seconds)
        if self.html is not None and report.measured and not isinstance(failure, Cancelled):
            failure = _write_page(report, self.html) or failure
        _print(report, self, failure)
        if failure is not None:
            raise failure
        return 0

    def _check(self) -> None:
        """Raise UsageError, ConfigError for what would fail later or have no effect."""
        if (self.remote is None) != (self.remote_store is None):
            raise click.UsageError("--remote and --remote-store need each other")
        if self.remote is not None and is_given("repository"):
            raise click.UsageError("give either --repository or --remote, not both")
        if self.remote is not None and is_given("fingerprint"):
            raise click.UsageError("--fingerprint has no effect with --remote")
        if self.remote is None and self.repository is None:
            for name in ("fingerprint", "remote_ns", "timeout_s", "proxy"):
                if is_given(name):
                    option = name.removesuffix("_s").replace("_", "-")
                    raise click.UsageError(f"--{option} has no effect without a target")
        if self.html is not None and not self.html.absolute().parent.is_dir():
            raise ConfigError(f"--html {self.html}: there is no such folder")

    def _prepare(self, stack: ExitStack) -> Bench:
        """Open what is to be measured; ``stack`` closes it. Raises PbsPushError."""
        host = HostConfig.load(self.config_dir)
        source = None if self.datastore is None else find_source(self.datastore, host)
        target = self._target(host)
        if target is not None:
            stack.enter_context(target)
        return Bench(
            datastore=None if source is None else source.datastore,
            target=target,
            namespace=self.remote_ns,
            seconds=self.seconds,
            notify=lambda text: say(one_line(f"measuring {text}")),
        )

    def _target(self, host: HostConfig) -> Target | None:
        reach = Reach(self.timeout_s, self.proxy)
        if self.remote is not None and self.remote_store is not None:
            return remote_target(host, self.remote, self.remote_store, reach).target
        if self.repository is None:
            return None
        return repository_target(self.repository, self.fingerprint, reach).target


def _write_page(report: BenchReport, path: Path) -> PbsPushError | None:
    """Write the page; returns why it cannot be written, which is not a reason to print nothing."""
    try:
        path.write_text(html_page(report), encoding="utf-8")
    except OSError as error:
        return PbsPushError(f"--html: writing {path}: {os_reason(error)}")
    return None


def _print(report: BenchReport, asked: Arguments, failure: PbsPushError | None) -> None:
    """Print what there is, also after a failure."""
    if asked.as_json:
        status = 0 if failure is None else failure.exit_status
        print(safe_json(bench_document(report, status, failure), indent=2))
    else:
        for line in _lines(report):
            print(printable(line))


def _lines(report: BenchReport) -> Iterator[str]:
    """The results as text."""
    for table in tables(report):
        yield one_line(table.title)
        yield f"  ({one_line(table.note)})"
        yield from (f"  {row.label:<{_LABEL_WIDTH}} {row.text}" for row in table.rows)
        yield ""
    if report.verdict is not None:
        yield "Verdict"
        yield from (f"  {one_line(sentence)}" for sentence in report.verdict.sentences)
    yield from (f"warning: {one_line(note)}" for note in report.notes)
