"""``pbs-push verify SOURCE``: the command line carried out, with progress, results and a status."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pbs_push.access.filters import GroupFilters
from pbs_push.access.host import HostConfig
from pbs_push.cli.interrupts import run_interruptibly
from pbs_push.cli.lines import error_line, safe_json, say
from pbs_push.cli.options import Output
from pbs_push.cli.sources import find_source
from pbs_push.cli.terminal import terminal, told_beside
from pbs_push.cli.verify_lines import VerifyLines, VerifyShown, closing_line, summary_lines
from pbs_push.errors import PbsPushError
from pbs_push.names import Namespace
from pbs_push.push.document import Span
from pbs_push.verify.options import VerifyOptions
from pbs_push.verify.report import VerifyReport
from pbs_push.verify.source import SourceVerification

_LATE: Final = "the source's disk does not answer"


@dataclass(frozen=True, slots=True)
class SourceArguments:
    """The command line of a source's verification, as click has read it."""

    source: str
    config_dir: Path | None
    keyfile: Path | None
    parallel: int | None
    state: Path | None
    scope: Mapping[str, Any]
    """``source_namespace``, ``max_depth``, ``group_filters``, as PushOptions has them."""

    def carry_out(self, output: Output) -> int:
        """Verify, and show what was found; the exit status is returned.

        Raises PbsPushError for what ends all of it, after the JSON document.
        """
        report, failure, began = VerifyReport(self.source, self._namespace), None, time.time()
        try:
            with _shown(output) as shown:
                verification = self._prepare(shown)
                report = verification.report
                run_interruptibly(verification.run, verification.cancel, why_late=_LATE)
        except PbsPushError as error:
            report.error = failure = error
        report.span = report.span or Span(began, time.time())  # it never began
        if output.json:
            print(safe_json(report.to_dict(), indent=2 if output.pretty else None))
        elif not output.quiet and (failure is None or report.verdicts):
            print("\n".join(summary_lines(report)))
        if failure is not None:
            raise failure
        if report.damaged:
            say(error_line(closing_line(report)))
        return report.exit_status

    @property
    def _namespace(self) -> Namespace:
        found = self.scope["source_namespace"]
        return found if isinstance(found, Namespace) else Namespace()

    def _prepare(self, shown: VerifyShown) -> SourceVerification:
        """Open the source. Raises PbsPushError."""
        datastore = find_source(self.source, HostConfig.load(self.config_dir)).datastore
        return SourceVerification(datastore, self._options(), shown)

    def _options(self) -> VerifyOptions:
        key = None
        if self.keyfile is not None:
            from pbs_push.cli.keys import key_of_file  # noqa: PLC0415  (only with a key)

            key = key_of_file(self.keyfile)
        return VerifyOptions(
            namespace=self._namespace,
            max_depth=self.scope["max_depth"],
            group_filters=GroupFilters(tuple(self.scope["group_filters"])),
            key=key,
            parallel=self.parallel,
            state_file=self.state,
        )


def _shown(output: Output) -> VerifyShown:
    """A display on a terminal, else lines; both on stderr."""
    console = terminal(output)
    importance = told_beside(output, console)
    if console is None:
        return VerifyLines(importance)
    from pbs_push.cli.verify_display import VerifyDisplay  # noqa: PLC0415  (only terminals need it)

    return VerifyDisplay(console, importance)
