"""The verification of a source in lines for people: while it runs, and in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from pbs_push.cli.event_lines import Importance, Line
from pbs_push.cli.lines import error_line, one_line, warning_line
from pbs_push.cli.timed_lines import Shown, TimedLines
from pbs_push.push.events import Note
from pbs_push.units import counted, duration_text, rate_text, size_text
from pbs_push.verify.events import (
    DamageFound,
    SnapshotVerified,
    VerifyBegan,
    VerifyEvent,
    VerifyProgress,
)
from pbs_push.verify.report import Verdict, VerifyReport

_WORDS: Final = {
    Verdict.OK: "ok",
    Verdict.NOT_CHECKED: "encrypted, and not all of it could be checked",
    Verdict.DAMAGED: "damaged",
    Verdict.IN_PROGRESS: "in progress or dead: no manifest",
    Verdict.VANISHED: "removed meanwhile",
    Verdict.LOCKED: "not looked at: another process writes or removes it",
}


VerifyShown = Shown[VerifyEvent]


class VerifyState:
    """How far a verification is, by its events."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self.snapshots = 0
        self.judged = 0
        self.damages = 0
        self.progress = VerifyProgress(0, 0, 0, 0)

    def take(self, event: VerifyEvent) -> None:
        """Learn from an event."""
        match event:
            case VerifyBegan(snapshots=snapshots):
                self.snapshots = snapshots
                self._began = self._clock()
            case VerifyProgress():
                self.progress = event
            case SnapshotVerified():
                self.judged += 1
            case DamageFound():
                self.damages += 1

    @property
    def text(self) -> str:
        """How far it is, in one line."""
        progress = self.progress
        seconds = max(self._clock() - self._began, 0.001)
        words = [
            f"{self.judged} of {counted(self.snapshots, 'snapshot')}",
            f"{progress.chunks_done} of {counted(progress.chunks_known, 'chunk')} so far",
            f"{size_text(progress.plain_bytes)} checked",
            rate_text(progress.plain_bytes / seconds),
        ]
        if self.damages:
            words.insert(1, f"{self.damages} damaged")
        return " · ".join(words)


class VerifyLines(TimedLines[VerifyEvent]):
    """Tells it line by line, as far as ``shown`` goes; and once a minute how far it is."""

    def __init__(
        self,
        shown: Importance,
        write: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(VerifyState(clock), describe, VerifyProgress, shown, write, clock)


def describe(event: VerifyEvent) -> Line | None:
    """The line for an event; None where it has none."""
    match event:
        case VerifyBegan():
            text = f"{counted(event.snapshots, 'snapshot')} of {counted(event.groups, 'group')}"
            if event.resumed:
                text += f"; going on behind {counted(event.resumed, 'chunk')}"
            return Line(Importance.INFO, f"verifying {text}")
        case DamageFound(damage=damage):
            return Line(Importance.ALERT, error_line(str(damage)))
        case SnapshotVerified(snapshot=item, verdict=verdict):
            text = one_line(f"{item.label}: {_WORDS[verdict]}")
            return Line(Importance.LOG if verdict is Verdict.OK else Importance.INFO, text)
        case Note(level=level, text=text):
            if level == "info":
                return Line(Importance.INFO, one_line(text))
            return Line(Importance.ALERT, warning_line(text))
        case _:
            return None


def summary_lines(report: VerifyReport) -> Iterator[str]:
    """What was found, as a short table, and each snapshot that is spoiled."""
    chunks = report.chunks
    verdicts = [
        (verdict.value.replace("-", " "), counted(count, "snapshot"))
        for verdict in Verdict
        if (count := report.verdicts[verdict])
    ]
    rows = [
        *verdicts,
        ("chunks", ", ".join(_chunk_words(report))),
        ("files", _unless_zero(report.files_not_checked, "file", "encrypted, not checked")),
        ("read", f"{size_text(chunks.read_bytes)}, {size_text(chunks.plain_bytes)} plain"),
        ("time", _time(report)),
    ]
    yield from (f"{name:<15} {text}" for name, text in rows if text)
    for damage in report.damaged_files:
        yield one_line(f"damaged: {damage}")
    for chunk in report.damaged_chunks:
        yield one_line(f"damaged: {chunk}")
        yield from (one_line(f"spoils {place}") for place in chunk.places)


def closing_line(report: VerifyReport) -> str:
    """What explains status 3."""
    words = [
        _unless_zero(len(report.damaged_chunks), "chunk", "damaged or missing"),
        _unless_zero(len(report.damaged_files), "file", "damaged or missing"),
        _unless_zero(len(report.unlisted), "folder", "not to be read"),
    ]
    spoiled = counted(report.verdicts[Verdict.DAMAGED], "snapshot")
    return f"{report.source}: {'; '.join(filter(None, words))}: spoiled {spoiled}"


def _chunk_words(report: VerifyReport) -> Iterator[str]:
    chunks = report.chunks
    yield f"{chunks.ok} ok"
    if chunks.not_checked:
        yield f"{chunks.not_checked} could not be checked (encrypted; only their CRC-32 was)"
    if chunks.damaged:
        yield f"{chunks.damaged} damaged or missing"
    if chunks.resumed:
        yield f"{chunks.resumed} checked by an earlier run"


def _unless_zero(number: int, noun: str, what: str) -> str:
    return f"{counted(number, noun)} {what}" if number else ""


def _time(report: VerifyReport) -> str:
    text = duration_text(report.seconds)
    if report.seconds > 0 and report.chunks.plain_bytes:
        text += f", {rate_text(report.chunks.plain_bytes / report.seconds)}"
    return text
