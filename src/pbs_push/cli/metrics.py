"""What a push was, as a file of Prometheus's text format (docs/monitoring.md).

It is written to a file beside and renamed, so that a collector never sees half of it. What only a
success sets is taken over from the file of the run before. What a run does not know, since it
failed before it had looked at both sides, is left out: a 0 would say that all is well.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile
from prometheus_client.parser import text_string_to_metric_families

from pbs_push.errors import ConfigError, os_reason
from pbs_push.push.outcome import LEFT, Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pbs_push.push.report import Report

_LAST_SUCCESS: Final = "pbs_push_last_success_timestamp_seconds"
_MODE: Final = 0o644
"""A collector is another user; there is nothing secret in it."""


def write_metrics(path: Path, reports: Sequence[Report]) -> None:
    """Write what ``reports`` tell, one of each target. Raises ConfigError where the file cannot be
    written."""
    registry = CollectorRegistry()
    gauges: dict[str, Gauge] = {}

    def gauge(name: str, text: str, labels: Iterable[str]) -> Gauge:
        if name not in gauges:
            gauges[name] = Gauge(name, text, list(labels), registry=registry)
        return gauges[name]

    for report in reports:
        labels = _labels(report)
        for name, (text, value) in _single(report, _last_success(path, labels)).items():
            gauge(name, text, labels).labels(**labels).set(value)
        if not report.knows_both_sides:
            continue
        snapshots = gauge("pbs_push_snapshots", "Snapshots by result.", [*labels, "result"])
        for result in Result:
            snapshots.labels(**labels, result=result.value).set(report.counts[result])
        lag = gauge(
            "pbs_push_group_lag_seconds",
            "How long the oldest snapshot of a group has waited that failed or was left.",
            [*labels, "ns", "group"],
        )
        for (namespace, group), seconds in group_lags(report).items():
            lag.labels(**labels, ns=namespace, group=group).set(seconds)
    try:
        write_to_textfile(str(path), registry)
        path.chmod(_MODE)
    except OSError as error:
        raise ConfigError(f"--metrics-file {path}: {os_reason(error)}") from None


def group_lags(report: Report) -> dict[tuple[str, str], float]:
    """By source namespace and group, for how long what was not pushed has waited, in seconds."""
    now = report.span.ended
    oldest: dict[tuple[str, str], int] = {}
    for one in report.outcomes:
        if one.result is Result.FAILED or one.skip in LEFT:
            key = (str(one.namespace), str(one.group))
            oldest[key] = min(one.oldest, oldest.get(key, one.oldest))
    return {key: max(0.0, now - moment) for key, moment in oldest.items()}


def _single(report: Report, last_success: float) -> dict[str, tuple[str, float]]:
    stats, span = report.stats, report.span
    success = span.ended if report.exit_status == 0 else last_success
    found = {
        "pbs_push_last_run_timestamp_seconds": ("When the last run ended.", span.ended),
        _LAST_SUCCESS: ("When a run ended last with status 0; 0: never.", success),
        "pbs_push_duration_seconds": ("How long the last run took.", span.ended - span.began),
        "pbs_push_exit_status": ("The exit status of the last run.", report.exit_status),
        "pbs_push_sent_bytes": ("Bytes of chunks sent, as on the wire.", stats.sent_bytes),
        "pbs_push_reused_bytes": ("Plain bytes that were there already.", stats.reused_bytes),
        "pbs_push_sent_chunks": ("Chunks sent.", stats.sent_chunks),
        "pbs_push_problems": ("Failures that are not of one snapshot.", len(report.problems)),
        "pbs_push_retries": ("Tries that failed and were made again.", report.retries),
        "pbs_push_removed_snapshots": ("Snapshots removed there.", report.removed.snapshots),
    }
    return found | (_left(report) if report.knows_both_sides else {})


def _left(report: Report) -> dict[str, tuple[str, float]]:
    lags = group_lags(report).values()
    return {
        "pbs_push_remaining_snapshots": ("Snapshots that a push is to send yet.", report.remains),
        "pbs_push_gap_snapshots": (
            "Snapshots older than the target's newest that are not there, as far as known.",
            report.gaps,
        ),
        "pbs_push_alerts": ("What cannot be normal.", len(report.alerts)),
        "pbs_push_max_lag_seconds": ("The largest lag of a group.", max(lags, default=0.0)),
    }


def _labels(report: Report) -> dict[str, str]:
    sides = report.sides
    if sides is None:
        return dict.fromkeys(("source", "source_ns", "target", "target_ns"), "")
    return {
        "source": sides.source,
        "source_ns": str(sides.source_namespace),
        "target": "" if sides.target is None else str(sides.target),
        "target_ns": str(sides.target_namespace),
    }


def _last_success(path: Path, labels: Mapping[str, str]) -> float:
    """What the file says that is there, if it is one of ours for the same source and target."""
    try:
        families = list(text_string_to_metric_families(path.read_text()))
    except (OSError, ValueError):
        return 0.0
    for family in families:
        for sample in family.samples:
            if sample.name == _LAST_SUCCESS and sample.labels == labels:
                return float(sample.value)
    return 0.0
