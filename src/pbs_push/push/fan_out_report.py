"""What became of a push to several targets: a report for each, and how often chunks were read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from pbs_push._native.shared import ReadCounts
from pbs_push.push.document import Json, Span, dashed, head
from pbs_push.push.report import Report, worst

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pbs_push._native.shared import SharedChunks
    from pbs_push.errors import PbsPushError
    from pbs_push.push.document import Sides


__all__ = ["FanOutReport", "ReadCounts", "fan_out_head", "reading_to_dict"]


class FanOutReport:
    """``reports`` has one for each target, in their order; what was read is told by ``reading``.

    ``seconds`` is how long all of it took. Complete also after Cancelled.
    """

    def __init__(self, reports: Sequence[Report], chunks: SharedChunks, room_bytes: int) -> None:
        self.reports: Final = tuple(reports)
        self.room_bytes: Final = room_bytes
        self.seconds = 0.0
        self._chunks = chunks
        self._began = time.time()

    @property
    def exit_status(self) -> int:
        """The worst one of all targets (docs/exit-status.md)."""
        return worst(report.exit_status for report in self.reports)

    def reading_of(self, number: int) -> ReadCounts:
        """Chunks that were read, or taken from memory, for the target of this number."""
        return self._chunks.counts(number)

    @property
    def reading(self) -> ReadCounts:
        """The same of all targets together."""
        each = [self.reading_of(number) for number in range(len(self.reports))]
        return ReadCounts(*map(sum, zip(*each, strict=True)))

    @property
    def most_held_bytes(self) -> int:
        """The most that chunks for several targets have taken in memory at once."""
        return self._chunks.most_held_bytes

    @property
    def span(self) -> Span:
        """From when to when it ran."""
        return Span(self._began, self._began + self.seconds if self.seconds else time.time())

    def to_dict(self) -> Json:
        """The document that ``pbs-push push --also … --json`` prints (docs/json.md)."""
        parts = [
            report.to_dict() | {"reading": reading_to_dict(self.reading_of(number))}
            for number, report in enumerate(self.reports)
        ]
        return {
            **fan_out_head(self.reports[0].sides, self.exit_status, None, self.span),
            "remains": sum(known) if (known := self._remaining()) else None,
            "seconds": round(self.seconds, 3),
            "reading": reading_to_dict(self.reading) | self.memory_to_dict(),
            "reports": parts,
        }

    def _remaining(self) -> list[int]:
        """Of the targets of which it is known."""
        return [report.remains for report in self.reports if report.knows_both_sides]

    def memory_to_dict(self) -> Json:
        """What was in memory for several targets, and what might have been."""
        return {"room-bytes": self.room_bytes, "most-held-bytes": self.most_held_bytes}


def fan_out_head(
    sides: Sides | None, status: int, error: PbsPushError | None, span: Span | None = None
) -> Json:
    """How the document begins; targets are told by its parts."""
    made = head("fan-out", sides, status, error, span)
    del made["target"]
    return made


def reading_to_dict(counts: ReadCounts) -> Json:
    """As in documents (docs/json.md)."""
    return dashed(counts._asdict())
