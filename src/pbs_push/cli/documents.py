"""Results for programs: the JSON documents of ``push`` and ``job run`` (docs/json.md).

Keys are written as PBS writes them. A change that could break a reader raises ``FORMAT_VERSION``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from pbs_push.cli.event_lines import reason_of
from pbs_push.errors import PbsPushError
from pbs_push.names import Namespace, Repository
from pbs_push.push.plan import GroupPlan, NamespacePlan, Plan
from pbs_push.push.report import Outcome, Problem, Report, Result, Skip

FORMAT_VERSION: Final = 1

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sides:
    """What is pushed where, as far as it is known: an error may come before."""

    source: str
    source_namespace: Namespace
    target: Repository | None
    target_namespace: Namespace


def report_document(
    sides: Sides, report: Report, exit_status: int, error: PbsPushError | None = None
) -> Json:
    """What a push did; ``error`` is one that ended all of it."""
    return {
        **_head("report", sides, exit_status, error),
        "seconds": round(report.seconds, 3),
        "groups": report.groups,
        **_counts(report),
        "sums": _dashed(asdict(report.stats)),
        "removed": _dashed(asdict(report.removed)),
        "logs-added": report.logs_added,
        "metadata-updates": report.metadata_updates,
        "created-namespaces": [str(namespace) for namespace in report.created_namespaces],
        "outcomes": [_outcome(outcome) for outcome in report.outcomes],
        **_attention(report),
    }


def plan_document(
    sides: Sides,
    plan: Plan | None,
    report: Report,
    exit_status: int,
    error: PbsPushError | None = None,
) -> Json:
    """What a push would do. ``report`` holds what the plan has settled, and its problems."""
    namespaces = () if plan is None else plan.namespaces
    gone = () if plan is None else plan.vanished
    return {
        **_head("plan", sides, exit_status, error),
        "to-push": 0 if plan is None else plan.to_push,
        "to-remove": 0 if plan is None else plan.removals,
        "removals-refused": None if plan is None else plan.no_removals,
        "notes": [] if plan is None else list(plan.notes),
        **_counts(report),
        "namespaces": [_namespace_plan(item) for item in namespaces],
        "vanished-namespaces": [
            {
                "ns": str(item.namespace),
                "groups": item.groups,
                "snapshots": item.snapshots,
                "protected": item.protected,
                "keep": item.keep,
                "held-back": item.held_back,
            }
            for item in gone
        ],
        **_attention(report),
    }


def _attention(report: Report) -> Json:
    """What somebody has to look at."""
    return {
        "problems": _problems(report.problems),
        "alerts": [
            {
                "finding": alert.finding.name.lower().replace("_", "-"),
                "ns": str(alert.namespace),
                "group": str(alert.group),
                "text": alert.text,
            }
            for alert in report.alerts
        ],
        "held-back": [{"what": held.what, "why": held.why} for held in report.held_back],
    }


def _head(kind: str, sides: Sides, exit_status: int, error: PbsPushError | None) -> Json:
    return {
        "format": f"pbs-push-{kind}",
        "format-version": FORMAT_VERSION,
        "exit-status": exit_status,
        "error": None if error is None else _error(error),
        "source": {"datastore": sides.source, "ns": str(sides.source_namespace)},
        "target": {
            "repository": None if sides.target is None else str(sides.target),
            "ns": str(sides.target_namespace),
        },
    }


def _counts(report: Report) -> Json:
    return {
        "snapshots": {result.value: report.counts[result] for result in Result},
        "skipped": {skip_name(skip): count for skip, count in report.skips.items()},
    }


def skip_name(skip: Skip) -> str:
    """How a reason is named here: ``not-newer``."""
    return skip.name.lower().replace("_", "-")


def _dashed(values: Json) -> Json:
    return {key.replace("_", "-"): value for key, value in values.items()}


def _error(error: PbsPushError) -> Json:
    return {
        "kind": type(error).__name__,
        "message": str(error),
        "exit-status": error.exit_status,
        "retryable": error.retryable,
    }


def _problems(problems: list[Problem]) -> list[Json]:
    return [{"what": problem.what, "error": _error(problem.error)} for problem in problems]


def _outcome(outcome: Outcome) -> Json:
    made: Json = {
        "ns": str(outcome.namespace),
        "target-ns": str(outcome.namespace if outcome.target is None else outcome.target),
        "group": str(outcome.group),
        "oldest": outcome.oldest,
        "newest": outcome.newest,
        "count": outcome.count,
        "result": outcome.result.value,
    }
    if outcome.skip is not None:
        made |= {"skip": skip_name(outcome.skip), "reason": reason_of(outcome)}
    if outcome.error is not None:
        made["error"] = _error(outcome.error)
    if outcome.result is Result.PUSHED:
        made["sums"] = _dashed(asdict(outcome.stats))
    return made


def _namespace_plan(item: NamespacePlan) -> Json:
    return {
        "ns": str(item.source),
        "target-ns": str(item.target),
        "create": [str(namespace) for namespace in item.create],
        "notes": list(item.notes),
        "groups": [_group_plan(group) for group in item.groups],
        "settled": [_outcome(outcome) for outcome in item.settled],
        "vanished-groups": [
            {
                "group": str(gone.group),
                "snapshots": gone.snapshots,
                "protected": gone.protected,
            }
            for gone in item.vanished
        ],
    }


def _group_plan(group: GroupPlan) -> Json:
    return {
        "group": str(group.source.group),
        "newest-at-target": group.newest_at_target,
        "push": [item.snapshot.backup_time for item in group.snapshots],
        "settled": [_outcome(outcome) for outcome in group.outcomes],
        "vanished": [
            {"backup-time": gone.snapshot.backup_time, "protected": gone.protected}
            for gone in group.vanished
        ],
        "add-log": None if group.log_for is None else group.log_for.snapshot.backup_time,
        "dead": [gone.snapshot.backup_time for gone in group.dead],
        "set": [
            {
                "what": change.kind.name.lower().replace("_", "-"),
                "backup-time": change.snapshot and change.snapshot.snapshot.backup_time,
            }
            for change in group.changes
        ],
        "notes": list(group.notes),
    }
