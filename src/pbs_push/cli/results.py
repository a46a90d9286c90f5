"""Results for people, on stdout: what a push did, and what a dry run says that one would do."""

from __future__ import annotations

from collections.abc import Iterator

from pbs_push.cli.event_lines import reason_of, snapshot_label
from pbs_push.cli.lines import one_line
from pbs_push.cli.units import counted, duration_text, rate_text, size_text
from pbs_push.names import Namespace
from pbs_push.push.plan import GroupPlan, NamespacePlan, Plan
from pbs_push.push.report import Report, Result


def summary_lines(report: Report) -> Iterator[str]:
    """A push's sums as a short table."""
    counts, stats = report.counts, report.stats
    rows = [
        ("pushed", counted(counts[Result.PUSHED], "snapshot")),
        ("already there", counted(counts[Result.ALREADY_THERE], "snapshot")),
        *(
            ("skipped", f"{counted(count, 'snapshot')}: {skip.value}")
            for skip, count in sorted(report.skips.items(), key=lambda item: item[0].name)
        ),
        ("failed", counted(counts[Result.FAILED], "snapshot")),
        ("other problems", str(len(report.problems)) if report.problems else ""),
        ("created", _unless_zero(len(report.created_namespaces), "namespace")),
        ("removed", _removed(report)),
        ("logs added", _unless_zero(report.logs_added, "snapshot")),
        ("metadata set", _unless_zero(report.metadata_updates, "time")),
        ("chunks", f"{stats.sent_chunks} sent, {stats.reused_entries} times reused"),
        ("bytes", f"{size_text(stats.sent_bytes)} sent, {size_text(stats.reused_bytes)} reused"),
        ("requests", str(stats.requests)),
        ("time", _time(report)),
    ]
    yield from (f"{name:<15} {text}" for name, text in rows if text)


def _unless_zero(number: int, noun: str) -> str:
    return counted(number, noun) if number else ""


def _removed(report: Report) -> str:
    removed = report.removed
    words = [
        _unless_zero(removed.namespaces, "namespace"),
        _unless_zero(removed.groups, "group"),
        _unless_zero(removed.snapshots, "snapshot"),
        f"{removed.protected} protected ones stay" if removed.protected else "",
    ]
    return ", ".join(filter(None, words))


def _time(report: Report) -> str:
    sent = report.stats.sent_bytes
    if not sent or report.seconds <= 0:
        return duration_text(report.seconds)
    return f"{duration_text(report.seconds)}, {rate_text(sent / report.seconds)}"


def plan_lines(plan: Plan) -> Iterator[str]:
    """A plan in full, a line each thing: what would be done, and to what."""
    for item in plan.namespaces:
        yield from (f"warning  {one_line(note)}" for note in item.notes)
        yield from (f"create   target {namespace.label}" for namespace in item.create)
        for group in item.groups:
            yield from _group_lines(group)
    allowed = plan.no_removals is None
    for item in plan.namespaces:
        yield from _vanished_lines(item, allowed=allowed)
    for gone in plan.vanished:
        label = f"target {gone.namespace.label}"
        if gone.keep is not None:
            yield f"keep     {label}: {one_line(gone.keep)}"
        else:
            held = f"{counted(gone.groups, 'group')}, {_held(gone.snapshots, gone.protected)}"
            yield f"{_verb(allowed=allowed)} {label}, with {held}"
    if plan.no_removals is not None:
        yield f"refused  nothing would be removed: {one_line(plan.no_removals)}"
    yield _plan_summary(plan)


def _group_lines(group: GroupPlan) -> Iterator[str]:
    yield from (f"warning  {one_line(note)}" for note in group.notes)
    for outcome in group.outcomes:
        if outcome.result is Result.ALREADY_THERE:
            yield f"there    {outcome.label}"
        else:
            yield f"skip     {outcome.label}: {one_line(reason_of(outcome))}"
    for item in group.snapshots:
        yield f"push     {snapshot_label(item)}"
    if group.log_for is not None:
        yield f"add log  {_at(group.target_namespace)}{group.log_for.snapshot}"
    if group.common:
        text = f"{counted(len(group.common), 'snapshot')} that both sides have"
        yield f"compare  {_at(group.target_namespace)}{group.source.group}: metadata of {text}"


def _vanished_lines(item: NamespacePlan, *, allowed: bool) -> Iterator[str]:
    for group in item.groups:
        for gone in group.vanished:
            label = f"target {_at(item.target)}{gone.snapshot}"
            if gone.protected:
                yield f"keep     {label}: it is protected"
            else:
                yield f"{_verb(allowed=allowed)} {label}"
    for gone_group in item.vanished:
        held = _held(gone_group.snapshots, gone_group.protected)
        verb = _verb(allowed=allowed and not item.incomplete)
        yield f"{verb} target {_at(item.target)}{gone_group.group}, with {held}"
    if item.vanished and item.incomplete:
        yield f"refused  vanished groups stay: not all groups of {item.source.label} can be read"


def _verb(*, allowed: bool) -> str:
    """In brackets where something forbids all removals."""
    return "remove  " if allowed else "(remove)"


def _held(snapshots: int, protected: int) -> str:
    text = counted(snapshots, "snapshot")
    return f"{text}; {protected} protected ones stay" if protected else text


def _at(namespace: Namespace) -> str:
    return "" if namespace.is_root else f"{namespace}: "


def _plan_summary(plan: Plan) -> str:
    groups = [group for item in plan.namespaces for group in item.groups]
    pushed = sum(len(group.snapshots) for group in groups)
    pushing = sum(bool(group.snapshots) for group in groups)
    created = sum(len(item.create) for item in plan.namespaces)
    words = [
        f"{counted(pushed, 'snapshot')} of {counted(pushing, 'group')} would be pushed",
        f"{counted(created, 'namespace')} created",
    ]
    if plan.removals:
        words.append(f"{counted(plan.removals, 'snapshot')} removed")
    return f"dry run: {', '.join(words)}; nothing was changed"
