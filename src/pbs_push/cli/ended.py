"""How a push, or a dry run of it, ended, and what explains its exit status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pbs_push.cli.lines import error_line, say
from pbs_push.errors import PbsPushError
from pbs_push.push.document import Json
from pbs_push.push.outcome import Skip
from pbs_push.push.report import EXIT_NOTHING, EXIT_PARTIAL, TO_MEND, Report
from pbs_push.units import counted


@dataclass(frozen=True, slots=True)
class Ended:
    """How a push, or a dry run of it, ended: its exit status, and the error that ended all of it;
    ``document`` makes the JSON document. ``lines`` explain the status, where none before does."""

    document: Callable[[], Json]
    status: int
    failure: PbsPushError | None
    lines: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        report: Report,
        document: Callable[[], Json],
        status: int,
        failure: PbsPushError | None,
    ) -> Ended:
        """Of one target."""
        line = closing_line(report, status)
        return cls(document, status, failure, () if line is None else (line,))

    def said(self) -> int:
        """Say what explains the status, and return it. Raises ``failure``."""
        if self.failure is not None:
            raise self.failure
        for line in self.lines:
            say(error_line(line))
        return self.status


def summed(report: Report) -> Json:
    """A report without what became of each snapshot, which was told before."""
    document = report.to_dict()
    del document["outcomes"]
    return document


def closing_line(report: Report, status: int) -> str | None:
    """What explains the status, where no line before does."""
    if status == EXIT_NOTHING:
        return f"nothing can be pushed: {_reasons(report.skips)}"
    if status == EXIT_PARTIAL and not report.failed:
        return f"somebody has to look at this: {'; '.join(_to_look_at(report))}"
    return None


def _to_look_at(report: Report) -> Iterator[str]:
    if late := report.skips[Skip.OUT_OF_TIME]:
        yield f"{counted(late, 'snapshot')}: {Skip.OUT_OF_TIME.value} (--max-duration)"
    if left := report.skips[Skip.NO_WORKER]:
        yield f"{counted(left, 'snapshot')}: {Skip.NO_WORKER.value}"
    left_out = {skip: report.skips[skip] for skip in TO_MEND if report.skips[skip]}
    if left_out:
        yield f"not all can be pushed: {_reasons(left_out)}"
    groups = {(alert.finding, alert.namespace, alert.group) for alert in report.alerts}
    for finding, count in Counter(finding for finding, _, _ in groups).items():
        yield f"{finding.value} ({counted(count, 'group')})"
    if held := report.held_back:
        more = f" (and {len(held) - 1} more)" if len(held) > 1 else ""
        yield f"removals held back: {held[0]}{more}"


def _reasons(skips: Mapping[Skip, int]) -> str:
    return "; ".join(f"{counted(count, 'snapshot')}: {skip.value}" for skip, count in skips.items())
