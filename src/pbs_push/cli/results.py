"""Results for people, on stdout: what a push did, and what a dry run says that one would do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from pbs_push.cli.event_lines import snapshot_label
from pbs_push.cli.lines import one_line
from pbs_push.names import Namespace
from pbs_push.push.forecast import Sending
from pbs_push.push.outcome import Outcome, Result, TransferStats
from pbs_push.push.plan import GroupPlan, NamespacePlan, Plan
from pbs_push.push.report import Report
from pbs_push.push.vanished import VanishedNamespace
from pbs_push.units import counted, duration_text, rate_text, size_text

if TYPE_CHECKING:
    from pbs_push.push.events import Estimated
    from pbs_push.push.fan_out_report import ReadCounts
    from pbs_push.push.forecast import Forecast


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
        ("remains", _unless_zero(report.remains, "snapshot")),
        ("other problems", str(len(report.problems)) if report.problems else ""),
        ("created", _unless_zero(len(report.created_namespaces), "namespace")),
        ("removed", _removed(report)),
        ("kept", _kept(report)),
        *(("held back", one_line(str(held))) for held in report.held_back),
        *(("look at", f"{alert.label}: {alert.finding.value}") for alert in report.alerts),
        ("logs added", _unless_zero(report.logs_added, "snapshot")),
        ("metadata set", _unless_zero(report.metadata_updates, "time")),
        ("source", _source_marks(report)),
        ("chunks", f"{stats.sent_chunks} sent, {stats.reused_entries} times reused"),
        ("bytes", f"{size_text(stats.sent_bytes)} sent, {size_text(stats.reused_bytes)} reused"),
        ("not checked", _unchecked(stats)),
        ("requests", str(stats.requests)),
        ("checkpoints", _unless_zero(stats.checkpoints, "part")),
        ("tried again", _unless_zero(report.retries, "time")),
        ("time", _time(report)),
    ]
    yield from (f"{name:<15} {text}" for name, text in rows if text)


def reading_line(counts: ReadCounts) -> str:
    """How chunks came that several targets may need, as a line of a summary."""
    again = _unless_zero(counts.again_chunks, "chunk")
    words = [
        f"{counted(counts.read_chunks, 'chunk')} from the source, {size_text(counts.read_bytes)}",
        f"{counted(counts.taken_chunks, 'time')} one that was read for another target",
        f"{again} read again" if again else "",
    ]
    return f"{'read':<15} {'; '.join(filter(None, words))}"


def _unless_zero(number: int, noun: str) -> str:
    return counted(number, noun) if number else ""


def _unchecked(stats: TransferStats) -> str:
    """What --verify-source could say nothing about."""
    chunks = _unless_zero(stats.unchecked_chunks, "chunk")
    blobs = _unless_zero(stats.unchecked_blobs, "blob")
    words = ", ".join(filter(None, (chunks, blobs)))
    return f"{words} sent, encrypted without the key for it here" if words else ""


def _source_marks(report: Report) -> str:
    words = [
        f"{counted(report.source_protected, 'snapshot')} protected" * bool(report.source_protected),
        f"{report.source_freed} freed" * bool(report.source_freed),
    ]
    return ", ".join(filter(None, words))


def _removed(report: Report) -> str:
    removed = report.removed
    words = [
        _unless_zero(removed.namespaces, "namespace"),
        _unless_zero(removed.groups, "group"),
        _unless_zero(removed.snapshots, "snapshot"),
    ]
    return ", ".join(filter(None, words))


def _kept(report: Report) -> str:
    removed = report.removed
    words = [
        _unless_zero(removed.kept_namespaces, "namespace"),
        _unless_zero(removed.kept_groups, "group"),
        _unless_zero(removed.protected, "protected snapshot"),
    ]
    return ", ".join(filter(None, words))


def _time(report: Report) -> str:
    sent = report.stats.sent_bytes
    if not sent or report.seconds <= 0:
        return duration_text(report.seconds)
    return f"{duration_text(report.seconds)}, {rate_text(sent / report.seconds)}"


def plan_lines(
    plan: Plan, forecast: Forecast, *, quiet: bool = False, verbose: bool = False
) -> Iterator[str]:
    """A plan, a line each thing: what would be done, and to what, and how much it sends.

    ``quiet``: only what somebody has to look at, and the sum. ``verbose``: sums of groups, too.
    """
    for line in _all_plan_lines(plan, forecast):
        kind = line.split(" ", 1)[0]
        if (kind == "sends" and not verbose) or (quiet and kind not in _TO_LOOK_AT):
            continue
        yield line
    yield from _forecast_lines(forecast)
    yield _plan_summary(plan)


_TO_LOOK_AT: Final = ("warning", "look", "held", "refused")


def _all_plan_lines(plan: Plan, forecast: Forecast) -> Iterator[str]:
    yield from (f"warning  {note}" for note in plan.notes)
    for item in plan.namespaces:
        yield from (f"warning  {one_line(note)}" for note in item.notes)
        yield from (f"held     {one_line(str(held))}" for held in item.held_back)
        yield from (f"create   target {namespace.label}" for namespace in item.create)
        yield from map(_settled_line, item.settled)
        for group in item.groups:
            yield from _group_lines(group, forecast)
    verb = "remove  " if plan.no_removals is None else "(remove)"
    for item in plan.namespaces:
        yield from _vanished_lines(item, verb)
    for gone in plan.vanished:
        yield _vanished_namespace_line(gone, verb)
    if plan.no_removals is not None:
        yield f"refused  nothing would be removed: {one_line(plan.no_removals)}"


def _group_lines(group: GroupPlan, forecast: Forecast) -> Iterator[str]:
    yield from (f"warning  {one_line(note)}" for note in group.notes)
    yield from (f"look at  {one_line(alert.text)}" for alert in group.alerts)
    yield from (f"held     {one_line(str(held))}" for held in group.held_back)
    yield from map(_settled_line, group.outcomes)
    for item in group.snapshots:
        label = snapshot_label(item, group.target_namespace)
        yield f"push     {label}: {_estimate(forecast.estimates.get(item))}"
    if len(group.snapshots) > 1:
        yield f"sends    {group.label}: {_sending(forecast.of(group))}"
    for checkpoint in group.checkpoints:
        yield f"forget   target {_at(group.target_namespace)}{checkpoint.snapshot}: a checkpoint"
    for item in group.marks_left:
        yield f"free     {group.name_of(str(item.snapshot))}: protected at the source by a push"
    if group.log_for is not None:
        yield f"add log  {group.name_of(str(group.log_for.snapshot))}"
    for change in group.changes:
        name = change.snapshot.snapshot if change.snapshot else group.source.group
        yield f"set      {group.name_of(str(name))}: {change.kind.value}"


def _estimate(found: Estimated | None) -> str:
    if found is None:
        return "it cannot be read"
    return _sending(Sending(found.chunks, found.plain_bytes, found.exact))


def _sending(sending: Sending) -> str:
    most = "" if sending.exact else "at most "
    chunks = counted(sending.chunks, "chunk")
    unknown = f"; {counted(sending.unknown, 'snapshot')} cannot be read" if sending.unknown else ""
    return f"{most}{chunks}, {size_text(sending.size)} before compression{unknown}"


def _forecast_lines(forecast: Forecast) -> Iterator[str]:
    if not forecast.plan.to_push:
        return
    yield f"to send  {_sending(forecast.total)}"
    trips = counted(forecast.round_trips, "round trip")
    each = f"{forecast.round_trip_s * 1000:.1f} ms"
    at_once = counted(forecast.parallel, "group")
    yield f"waiting  {trips} of {each}, with {at_once} at once"
    if forecast.seconds is not None and forecast.rate is not None:
        took = duration_text(forecast.seconds)
        yield f"time     {took} at {rate_text(forecast.rate)}, less where chunks are compressed"


def _settled_line(outcome: Outcome) -> str:
    if outcome.result is Result.ALREADY_THERE:
        return f"there    {outcome.label}"
    return f"skip     {outcome.label}: {one_line(outcome.reason)}"


def _vanished_lines(item: NamespacePlan, verb: str) -> Iterator[str]:
    for group in item.groups:
        for dead in group.dead:
            yield f"{verb} target {_at(item.target)}{dead.snapshot}: dead, in the way of a push"
        for gone in group.vanished:
            label = f"target {_at(item.target)}{gone.snapshot}"
            yield f"keep     {label}: it is protected" if gone.protected else f"{verb} {label}"
    for gone_group in item.vanished:
        label = f"target {_at(item.target)}{gone_group.group}"
        held = counted(gone_group.snapshots, "snapshot")
        yield _removed_or_kept(label, held, gone_group.snapshots, gone_group.protected, verb)


def _vanished_namespace_line(gone: VanishedNamespace, verb: str) -> str:
    label = f"target {gone.namespace.label}"
    if gone.keep is not None:
        return f"{'held' if gone.held_back else 'keep':<8} {label}: {one_line(gone.keep)}"
    held = f"{counted(gone.groups, 'group')}, {counted(gone.snapshots, 'snapshot')}"
    return _removed_or_kept(label, held, gone.snapshots, gone.protected, verb)


def _removed_or_kept(label: str, held: str, snapshots: int, protected: int, verb: str) -> str:
    """A group or namespace: protected snapshots keep it, but no other snapshots in it."""
    if not protected:
        return f"{verb} {label}, with {held}"
    stays = f"it stays, with {counted(protected, 'protected snapshot')}"
    if not snapshots:
        return f"keep     {label}: {stays}"
    return f"{verb} {counted(snapshots, 'snapshot')} of {label}: {stays}"


def _at(namespace: Namespace) -> str:
    return "" if namespace.is_root else f"{namespace}: "


def _plan_summary(plan: Plan) -> str:
    groups = [group for item in plan.namespaces for group in item.groups]
    pushing = sum(bool(group.snapshots) for group in groups)
    created = sum(len(item.create) for item in plan.namespaces)
    words = [
        f"{counted(plan.to_push, 'snapshot')} of {counted(pushing, 'group')} would be pushed",
        f"{counted(created, 'namespace')} created",
    ]
    if plan.removals:
        removals = 0 if plan.no_removals is not None else plan.removals
        words.append(f"{counted(removals, 'snapshot')} removed")
    return f"dry run: {', '.join(words)}; nothing was changed"
