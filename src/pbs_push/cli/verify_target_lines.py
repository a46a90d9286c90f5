"""The verification of a target in lines for people: while it runs, and in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from pbs_push.cli.event_lines import Importance, Line
from pbs_push.cli.event_lines import describe as describe_push_event
from pbs_push.cli.lines import error_line, one_line
from pbs_push.cli.timed_lines import Shown, TimedLines
from pbs_push.push.events import Note, Retrying
from pbs_push.units import counted, duration_text, rate_text, size_text
from pbs_push.verify.target_events import (
    BadChunkFound,
    BadChunkTreated,
    CopyCompared,
    CopyProgress,
    ServerVerified,
    ServerVerifying,
    TargetVerifyBegan,
    TargetVerifyEvent,
)
from pbs_push.verify.target_report import (
    FAILING,
    BadChunk,
    CopyResult,
    CopyVerdict,
    Healing,
    ServerVerification,
    TargetReport,
)

_WORDS: Final = {
    CopyVerdict.EQUAL: "equal",
    CopyVerdict.NOT_CHECKED: "not all of it can be compared",
    CopyVerdict.DIFFERENT: "different at the target",
    CopyVerdict.DAMAGED: "damaged at the target",
    CopyVerdict.NOT_PUSHED: "not pushed yet",
    CopyVerdict.GAP: "missing at the target, between others",
    CopyVerdict.OLDER: "older than all that the target has",
    CopyVerdict.TARGET_ONLY: "only at the target",
    CopyVerdict.UNREADABLE: "cannot be read",
    CopyVerdict.LEFT: "not compared",
}
_HEALING: Final = {
    Healing.NOT_TRIED: "not sent again",
    Healing.HEALED: "healed",
    Healing.STILL_BAD: "still bad",
    Healing.NOT_AT_SOURCE: "cannot be healed: the source does not have it",
    Healing.NOT_CHECKABLE: "not sent again",
}


TargetVerifyShown = Shown[TargetVerifyEvent]


class TargetVerifyState:
    """How far a verification is, by its events."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self.snapshots = 0
        self._compared = 0
        self._bad = 0
        self._progress = CopyProgress(0, 0)
        self._server = ""

    def take(self, event: TargetVerifyEvent) -> None:
        """Learn from an event."""
        match event:
            case TargetVerifyBegan(snapshots=snapshots):
                self.snapshots = snapshots
                self._began = self._clock()
            case CopyProgress():
                self._progress = event
            case CopyCompared():
                self._compared += 1
            case BadChunkFound():
                self._bad += 1
            case ServerVerifying(group=group):
                self._server = group
            case ServerVerified():
                self._server = ""

    @property
    def text(self) -> str:
        """How far it is, in one line."""
        progress = self._progress
        words = [f"{self._compared} of {counted(self.snapshots, 'snapshot')} compared"]
        if self._bad:
            words.append(f"{counted(self._bad, 'bad chunk')}")
        if progress.chunks_done:
            seconds = max(self._clock() - self._began, 0.001)
            words += [
                counted(progress.chunks_done, "chunk"),
                f"{size_text(progress.downloaded_bytes)} downloaded",
                rate_text(progress.downloaded_bytes / seconds),
            ]
        if self._server:
            words.append(f"its server verifies {self._server}")
        return one_line(" · ".join(words))


class TargetVerifyLines(TimedLines[TargetVerifyEvent]):
    """Tells it line by line, as far as ``shown`` goes; and once a minute how far it is."""

    def __init__(
        self,
        shown: Importance,
        write: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(TargetVerifyState(clock), describe, CopyProgress, shown, write, clock)


def describe(event: TargetVerifyEvent) -> Line | None:
    """The line for an event; None where it has none."""
    line = None
    match event:
        case TargetVerifyBegan():
            text = f"comparing {counted(event.snapshots, 'snapshot')} of "
            text += counted(event.groups, "group")
            if event.seed is not None:
                text += f"; the sample's seed is {event.seed}"
            line = Line(Importance.INFO, text)
        case CopyCompared(result=result):
            line = _compared(result)
        case BadChunkFound(chunk=chunk):
            line = Line(Importance.ALERT, error_line(str(chunk)))
        case BadChunkTreated(chunk=chunk):
            importance = Importance.INFO
            line = Line(importance, one_line(f"chunk {chunk.digest.hex()}: {_treated(chunk)}"))
        case ServerVerifying(group=group):
            line = Line(Importance.INFO, one_line(f"the target's server verifies {group}"))
        case ServerVerified(verification=verification):
            line = _server_verified(verification)
        case Note() | Retrying():
            line = describe_push_event(event)
    return line


def _compared(result: CopyResult) -> Line:
    text = result_text(result)
    if result.verdict in FAILING:
        return Line(Importance.ALERT, error_line(text))
    quiet = result.verdict is CopyVerdict.EQUAL
    return Line(Importance.LOG if quiet else Importance.INFO, one_line(text))


def result_text(result: CopyResult) -> str:
    """A snapshot, what is known of it, and why."""
    text = f"{result.place.label}: {_WORDS[result.verdict]}"
    reasons = "; ".join(str(one) for one in result.differences)
    return f"{text}: {reasons}" if reasons else text


def _treated(chunk: BadChunk) -> str:
    words = _HEALING[chunk.healing]
    return f"{words}: {chunk.why}" if chunk.why else words


def _server_verified(found: ServerVerification) -> Line:
    if found.status is None:
        text = f"its server still verifies {found.group}: it was not waited for any longer"
        return Line(Importance.ALERT, error_line(text))
    words = [f"{found.ok} ok"]
    if found.failed:
        words.append(f"{len(found.failed)} failed")
    if found.not_done:
        words.append(f"{len(found.not_done)} left out")
    text = f"its server has verified {found.group}: {', '.join(words)} ({found.status})"
    return Line(Importance.INFO, one_line(text))


def summary_lines(report: TargetReport) -> Iterator[str]:
    """What was found, as a short table, and each snapshot that somebody has to look at."""
    rows = [
        (verdict.value.replace("-", " "), counted(count, "snapshot"))
        for verdict in CopyVerdict
        if (count := report.counts[verdict])
    ]
    chunks = report.chunks
    if report.sample is not None:
        rows += [
            ("sample", f"{report.sample} of {counted(chunks.known, 'chunk')}, seed {report.seed}"),
            ("chunks", ", ".join(_chunk_words(report))),
            ("downloaded", size_text(chunks.downloaded_bytes)),
        ]
    rows.append(("time", duration_text(report.seconds)))
    yield from (f"{name:<15} {text}" for name, text in rows)
    for result in report.results:
        if result.verdict in FAILING:
            yield one_line(result_text(result))
    for chunk in report.bad_chunks:
        yield one_line(f"{chunk}; {_treated(chunk)}")
        for place, name in chunk.spoils:
            yield one_line(f"  it is needed by {name} of {place.label}")
    for problem in report.problems:
        yield one_line(f"{problem.what}: {problem.error}")


def _chunk_words(report: TargetReport) -> Iterator[str]:
    chunks = report.chunks
    yield f"{chunks.ok} ok"
    if chunks.same:
        yield f"{chunks.same} as at the source (encrypted, without a key)"
    if chunks.not_checked:
        yield f"{chunks.not_checked} cannot be checked (encrypted; only their CRC-32 was)"
    if report.bad_chunks:
        yield f"{len(report.bad_chunks)} damaged or missing"


def closing_line(report: TargetReport) -> str:
    """What explains status 3."""
    words = [
        f"{counted(report.counts[verdict], 'snapshot')} {_WORDS[verdict]}"
        for verdict in CopyVerdict
        if verdict in FAILING and report.counts[verdict]
    ]
    if unhealed := report.unhealed:
        words.append(f"{counted(len(unhealed), 'chunk')} damaged or missing there")
    if report.problems:
        words.append(f"{counted(len(report.problems), 'thing')} that could not be done")
    checked = (*report.server, *report.server_again)
    if any(one.status is None or one.not_done for one in checked):
        words.append("not all was verified by its server")
    return f"the target is not proved to be equal: {'; '.join(words)}"
