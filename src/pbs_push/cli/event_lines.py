"""Events of a push as lines for people, and which of them are shown."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pbs_push.cli.lines import DEBUG, error_line, one_line, say, warning_line
from pbs_push.errors import PbsPushError
from pbs_push.names import Namespace, placed
from pbs_push.push.events import (
    Checkpointed,
    Event,
    NamespaceCreated,
    Note,
    Planned,
    Removal,
    Retrying,
    SnapshotEnded,
    SnapshotStarted,
    SourceMarked,
)
from pbs_push.push.outcome import Outcome, Result, Skip, TransferStats
from pbs_push.source.items import SourceSnapshot
from pbs_push.units import counted, duration_text, rate_text, size_text


class Importance(enum.IntEnum):
    """Who wants to see a line: everybody, …, only those who asked for more."""

    ALERT = 0
    """Errors and warnings: always shown."""
    INFO = 1
    """Shown unless --quiet."""
    LOG = 2
    """Steady progress: for logs. A terminal has a display instead."""
    DETAIL = 3
    """Shown with --verbose."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line, ready to be shown."""

    importance: Importance
    text: str


def tell(line: Line, write: Callable[[str], None] | None) -> None:
    """Give the line to ``write``; None: say it, with the priority that it has in a journal."""
    if write is not None:
        write(line.text)
    else:
        say(line.text, DEBUG if line.importance is Importance.DETAIL else None)


_KNOWN: Final = frozenset(
    (Skip.NOT_OWNED, Skip.NO_OWNER, Skip.BROKEN, Skip.OTHER_CONTENT, Skip.FILTERED)
)
"""Of all but the last the engine warns; that is what was asked for."""


def describe(event: Event, seconds: float = 0.0) -> Line | None:
    """The line for an event; None where it has none. ``seconds``: how long the snapshot took."""
    line = None
    match event:
        case Planned(snapshots=snapshots, groups=groups):
            text = f"{counted(snapshots, 'snapshot')} to push; {counted(groups, 'group')} looked at"
            line = Line(Importance.INFO, text)
        case NamespaceCreated(namespace=namespace):
            line = Line(Importance.INFO, f"created target {namespace.label}")
        case SnapshotStarted(snapshot=item, target=target):
            line = Line(Importance.LOG, f"pushing {snapshot_label(item, target)}")
        case SnapshotEnded(outcome=outcome):
            line = _ended(outcome, seconds)
        case Note():
            line = _note(event)
        case Checkpointed(snapshot=item, left_bytes=left):
            text = f"{item.snapshot}: a checkpoint is made; {size_text(left)} left to send"
            line = Line(Importance.LOG, text)
        case SourceMarked(protected=protected, freed=freed):
            text = f"source: {counted(protected, 'snapshot')} protected until copied, {freed} freed"
            line = Line(Importance.INFO, text)
        case Removal():
            line = Line(Importance.INFO, _removal(event))
        case Retrying():
            line = _retrying(event)
    return line


def snapshot_label(item: SourceSnapshot, target: Namespace) -> str:
    """A snapshot named as its outcome will be, pushed to a target namespace."""
    return placed(item.namespace, target, str(item.snapshot))


def _note(note: Note) -> Line:
    if note.level == "error":
        return Line(Importance.ALERT, error_line(note.text))
    if note.level == "warning":
        return Line(Importance.ALERT, warning_line(note.text))
    return Line(Importance.INFO, one_line(note.text))


def _removal(event: Removal) -> str:
    if event.kind == "namespace":
        return one_line(f"target {event.namespace.label}: removed, {event.why}")
    there = "" if event.namespace.is_root else f" in {event.namespace.label}"
    return one_line(f"target {event.name}{there}: removed, {event.why}")


def _retrying(event: Retrying) -> Line:
    try_ = "" if event.number == 1 else f" (try {event.number + 1})"
    text = f"{event.what}: {event.error}; trying again in {duration_text(event.wait_s)}{try_}"
    return Line(Importance.INFO, one_line(text))


def _ended(outcome: Outcome, seconds: float) -> Line:
    if outcome.error is not None:
        return Line(Importance.ALERT, error_line(about(outcome, outcome.error)))
    if outcome.result is Result.PUSHED:
        figures = _figures(outcome.stats, seconds)
        return Line(Importance.LOG, f"pushed {outcome.label}: {figures}")
    if outcome.result is Result.ALREADY_THERE:
        return Line(Importance.DETAIL, f"already there: {outcome.label}")
    text = f"skipped {outcome.label}: {outcome.reason}"
    if outcome.skip is Skip.PARTLY_ENCRYPTED:
        text = warning_line(text)
    return Line(_importance_of(outcome), text)


def _importance_of(outcome: Outcome) -> Importance:
    if outcome.skip is Skip.PARTLY_ENCRYPTED:
        return Importance.ALERT  # protocol/push.md, "With a key"
    if outcome.skip in _KNOWN:
        return Importance.DETAIL
    if outcome.skip is Skip.NOT_NEWER:
        # As a rule what was pushed long ago, in every run, for every group; a detail says that some
        # are known to be missing there.
        return Importance.LOG if outcome.detail else Importance.DETAIL
    return Importance.INFO


def about(outcome: Outcome, error: PbsPushError) -> str:
    """An error's message, headed by the snapshot unless it names that itself.

    It names one side; where the other has another name for it, both are shown.
    """
    text = str(error)
    is_same = outcome.target is None or outcome.target == outcome.namespace
    return text if is_same and f"{outcome.group}/" in text else f"{outcome.label}: {text}"


def _figures(stats: TransferStats, seconds: float) -> str:
    words = [
        f"{counted(stats.sent_chunks, 'chunk')}, {size_text(stats.sent_bytes)} sent",
        f"{size_text(stats.reused_bytes)} reused",
        duration_text(seconds),
    ]
    if stats.sent_bytes and seconds > 0:
        words.append(rate_text(stats.sent_bytes / seconds))
    return ", ".join(words)
