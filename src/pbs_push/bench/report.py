"""The results of a benchmark, as a value and as the JSON document of docs/json.md."""

from __future__ import annotations

import platform
import ssl
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import zstandard

if TYPE_CHECKING:
    from pbs_push.bench.figures import LinkFigures, MachineFigures, StoreFigures
    from pbs_push.bench.verdict import Verdict
    from pbs_push.errors import PbsPushError

FORMAT: Final = "pbs-push-bench"
FORMAT_VERSION: Final = 1
"""Raised by a change that could break a reader."""

Json = dict[str, Any]


@dataclass(slots=True)
class BenchReport:
    """What was measured: None is what was not asked for, or not reached.

    ``seconds`` is what each measurement was to take, ``began`` the time in RFC 3339 UTC. ``notes``
    are for the user's attention.
    """

    seconds: float
    began: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    machine: MachineFigures | None = None
    store: StoreFigures | None = None
    link: LinkFigures | None = None
    verdict: Verdict | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def measured(self) -> bool:
        """Whether there is any figure."""
        return (self.machine or self.store or self.link) is not None


def software() -> dict[str, str]:
    """Names and versions of what did the work."""
    zstd = ".".join(str(part) for part in zstandard.ZSTD_VERSION)
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "zstd": zstd,
    }


def bench_document(report: BenchReport, exit_status: int, error: PbsPushError | None) -> Json:
    """The results as one JSON document; ``error`` is one that ended the benchmark."""
    return {
        "format": FORMAT,
        "format-version": FORMAT_VERSION,
        "exit-status": exit_status,
        "error": None if error is None else error.to_dict(),
        "began": report.began,
        "seconds": report.seconds,
        "software": software(),
        "machine": None if report.machine is None else _dashed(asdict(report.machine)),
        "datastore": None if report.store is None else _dashed(asdict(report.store)),
        "target": None if report.link is None else _dashed(asdict(report.link)),
        "verdict": None if report.verdict is None else _verdict(report.verdict),
        "notes": list(report.notes),
    }


def _verdict(verdict: Verdict) -> Json:
    return {
        "limit": None if verdict.limit is None else verdict.limit.value,
        "ceilings": [
            {"limit": item.limit.value, "bytes-per-s": _rounded(item.bytes_per_s)}
            for item in verdict.ceilings
        ],
        "crossover-bytes": _rounded(verdict.crossover_bytes),
        "parallel": verdict.parallel,
        "read-ahead": verdict.read_ahead,
        "sentences": list(verdict.sentences),
    }


def _dashed(value: Any) -> Any:
    """Keys as PBS writes them, and no more digits than mean something."""
    if isinstance(value, dict):
        return {key.replace("_", "-"): _dashed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_dashed(item) for item in value]
    return _rounded(value)


def _rounded(value: Any) -> Any:
    """A float with six digits after the point below a thousand, else as a whole number."""
    if not isinstance(value, float):
        return value
    return round(value) if value >= 1000 else round(value, 6)  # noqa: PLR2004
