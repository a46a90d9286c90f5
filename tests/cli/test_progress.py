"""What is known of a push from its events, the lines, and the display on a terminal."""

from __future__ import annotations

import io
import threading
from dataclasses import replace

import pytest
from rich.console import Console

from pbs_push.cli.display import MAX_ROWS, DisplayProgress
from pbs_push.cli.event_lines import Importance, describe
from pbs_push.cli.progress import LineProgress, PushState, View
from pbs_push.errors import ManifestError
from pbs_push.names import Namespace
from pbs_push.push.events import (
    Estimated,
    Event,
    NamespaceCreated,
    Note,
    Planned,
    SnapshotEnded,
    SnapshotProgress,
)
from pbs_push.push.outcome import Outcome, Result, Skip
from pbs_push.source.items import SourceSnapshot

from .event_samples import MIB, Clock, failed, item, progress, pushed, skipped, started

A = item()
B = item("vm/101/2026-05-28T20:30:03Z", "prod")


def test_state_of_a_push() -> None:
    clock = Clock()
    state = PushState(clock)
    assert state.view().planned is None
    state.take(skipped(item("ct/1/2026-05-28T20:30:03Z"), Skip.NOT_NEWER))  # by the plan
    state.take(Planned(groups=3, snapshots=4))
    state.take(started(A))
    state.take(started(B))
    clock.now += 10
    state.take(progress(A, 20 * MIB, 5, 10))
    state.take(progress(B, 30 * MIB, 1, 2))
    view = state.view()
    assert (view.planned, view.ended, view.sent_bytes) == (4, 0, 50 * MIB)
    assert view.rate_bytes_per_s == pytest.approx(5 * MIB)
    assert view.remaining_s == pytest.approx(30)  # a quarter took 10 s
    assert [row.share for row in view.rows] == [0.5, 0.5]
    assert state.take(pushed(A, 40 * MIB)) == 10
    state.take(failed(B))
    view = state.view()
    assert (view.ended, view.failed, view.sent_bytes, view.rows) == (2, 1, 70 * MIB, ())
    assert view.remaining_s == pytest.approx(10)


def simulated(sizes: list[list[int]], at_once: int) -> list[tuple[float, View]]:
    """A push of groups of snapshots of these sizes (MiB), 10 MiB a second for all together.

    What was seen, each half a second.
    """
    clock = Clock()
    state = PushState(clock)
    state.take(Planned(len(sizes), sum(map(len, sizes))))
    size: dict[SourceSnapshot, int] = {}
    waiting: list[list[SourceSnapshot]] = []
    for group, row in enumerate(sizes):
        names = [f"vm/{group}/2026-05-28T20:30:{number:02}Z" for number in range(len(row))]
        waiting.append([item(name) for name in names])
        size.update(zip(waiting[-1], (mib * MIB for mib in row), strict=True))
    for one, plain in size.items():
        state.take(Estimated(one, plain // (4 * MIB), plain, exact=True))
    active: list[list[SourceSnapshot]] = []
    sent = dict.fromkeys(size, 0.0)
    views = []
    while waiting or active:
        while waiting and len(active) < at_once:
            active.append(waiting.pop(0))
            state.take(started(active[-1][0]))
        clock.now += 0.5
        for row in list(active):
            one = row[0]
            sent[one] += 5 * MIB / len(active)
            if sent[one] < size[one]:
                chunks = max(1, size[one] // (4 * MIB))
                done = int(chunks * sent[one] / size[one])
                state.take(SnapshotProgress(one, int(sent[one]), done, chunks, size[one]))
                continue
            state.take(pushed(row.pop(0), size[one], size[one]))
            if row:
                state.take(started(row[0]))
            else:
                active.remove(row)
        views.append((clock.now, state.view()))
    return views


@pytest.mark.parametrize("at_once", [1, 4])
def test_the_time_left_is_true_for_uneven_groups(at_once: int) -> None:
    sizes = [[900, 20, 20], [300], [5] * 20, [100, 50, 700], [1, 1, 1], [400]]
    views = simulated(sizes, at_once)
    end = views[-1][0]
    for now, view in views:
        if view.share < 0.05 or end - now < 10:
            continue
        assert view.remaining_s is not None
        assert view.remaining_s == pytest.approx(end - now, rel=0.25)
    assert views[-1][1].share == 1.0
    assert views[3][1].to_send == sum(map(sum, sizes)) * MIB


def test_what_is_not_tried_any_more_is_not_waited_for() -> None:
    state = PushState(Clock())
    state.take(Planned(1, 3))
    state.take(started(A))
    rest = Outcome.of(A.namespace, A.snapshot, Result.SKIPPED, skip=Skip.NOT_TRIED)
    later = A.snapshot.backup_time + 86_400
    rest = replace(rest, oldest=A.snapshot.backup_time + 1, newest=later, count=2)
    state.take(failed(A))
    state.take(SnapshotEnded(rest))
    assert state.view().share == 1.0


def test_a_log_has_a_line_now_and_then() -> None:
    lines: list[str] = []
    told = threading.Event()

    def write(line: str) -> None:
        lines.append(line)
        if "%" in line:
            told.set()

    with LineProgress(Importance.LOG, write, every_s=0.01) as listener:
        listener(Planned(1, 1))
        listener(started(A))
        assert told.wait(30)
    assert any(line.startswith("0% · 0 of 1 snapshot · 0 B sent") for line in lines)
    quiet: list[str] = []
    with LineProgress(Importance.ALERT, quiet.append, every_s=0.001) as listener:
        listener(Planned(1, 1))
    assert quiet == []


def test_rate_follows_and_is_smooth() -> None:
    clock = Clock()
    state = PushState(clock)
    state.take(Planned(1, 1))
    state.take(started(A))
    rates = []
    sent = 0
    for second in range(60):
        sent += 10 * MIB if second < 20 else 0
        clock.now += 1
        state.take(progress(A, sent, 1, 10))
        rates.append(state.view().rate_bytes_per_s)
        assert state.view().rate_bytes_per_s == rates[-1]  # no new sample so soon
    assert rates[10] == pytest.approx(10 * MIB)
    assert rates[20] == pytest.approx(10 * MIB * 0.7788, rel=1e-3)
    assert rates == rates[:20] + sorted(rates[20:], reverse=True)
    assert rates[-1] < 1000


def test_a_second_try_adds_to_the_first() -> None:
    state = PushState(Clock())
    state.take(Planned(1, 1))
    state.take(started(A))
    state.take(progress(A, 5 * MIB, 1, 2))
    state.take(progress(A, 1 * MIB, 0, 2))
    assert state.view().sent_bytes == 6 * MIB
    state.take(progress(A, 3 * MIB, 1, 2))
    assert state.view().sent_bytes == 8 * MIB
    assert state.view().rows[0].share == 0.5


def test_time_left_is_not_guessed() -> None:
    clock = Clock()
    state = PushState(clock)
    state.take(Planned(1, 1000))
    clock.now += 5
    assert state.view().remaining_s is None
    assert PushState(clock).view().remaining_s is None
    empty = PushState(clock)
    empty.take(Planned(1, 0))
    assert empty.view().remaining_s is None


def test_progress_of_a_snapshot_that_was_not_started() -> None:
    state = PushState(Clock())
    state.take(progress(A, 1, 1, 1))
    assert state.view().sent_bytes == 0


LINES: list[tuple[Event, Importance, str]] = [
    (Planned(2, 1), Importance.INFO, "1 snapshot to push; 2 groups looked at"),
    (
        NamespaceCreated(Namespace.parse("a/b")),
        Importance.INFO,
        "created target namespace a/b",
    ),
    (started(B), Importance.LOG, "pushing prod: vm/101/2026-05-28T20:30:03Z"),
    (
        pushed(B, 6 * MIB),
        Importance.LOG,
        "pushed prod: vm/101/2026-05-28T20:30:03Z: "
        "2 chunks, 6.0 MiB sent, 3.0 MiB reused, 2.0 s, 3.0 MiB/s",
    ),
    (
        failed(A),
        Importance.ALERT,
        f"pbs-push: error: vm/100/2026-05-28T20:30:03Z: chunk {'ab' * 32}: missing (/store/ab)",
    ),
    (
        skipped(A, Skip.NOT_NEWER),
        Importance.DETAIL,
        f"skipped vm/100/2026-05-28T20:30:03Z: {Skip.NOT_NEWER.value}",
    ),
    (
        skipped(A, Skip.NOT_VERIFIED),
        Importance.INFO,
        "skipped vm/100/2026-05-28T20:30:03Z: not verified",
    ),
    (
        skipped(A, Skip.PARTLY_ENCRYPTED),
        Importance.ALERT,
        "pbs-push: warning: skipped vm/100/2026-05-28T20:30:03Z: "
        "partly encrypted: it can neither be encrypted nor go as it is",
    ),
    (
        skipped(A, Skip.FILTERED),
        Importance.DETAIL,
        f"skipped vm/100/2026-05-28T20:30:03Z: {Skip.FILTERED.value}",
    ),
    (
        SnapshotEnded(Outcome.of(A.namespace, A.snapshot, Result.ALREADY_THERE)),
        Importance.DETAIL,
        "already there: vm/100/2026-05-28T20:30:03Z",
    ),
    (Note("info", "a\nb\x1b[31m"), Importance.INFO, "a b [31m"),
    (Note("warning", "careful"), Importance.ALERT, "pbs-push: warning: careful"),
    (Note("error", "wrong\nhere"), Importance.ALERT, "pbs-push: error: wrong here"),
]


@pytest.mark.parametrize(("event", "importance", "text"), LINES)
def test_lines(event: Event, importance: Importance, text: str) -> None:
    line = describe(event, 2.0)
    assert line is not None
    assert (line.importance, line.text) == (importance, text)


def test_no_line_for_steps() -> None:
    assert describe(progress(A, 1, 1, 1)) is None


def test_an_error_that_names_its_snapshot_is_not_headed_by_it() -> None:
    error = ManifestError(f"source snapshot {A.label}: it is torn")
    event = SnapshotEnded(Outcome.of(A.namespace, A.snapshot, Result.FAILED, error=error))
    line = describe(event)
    assert line is not None
    assert line.text == f"pbs-push: error: {error}"


@pytest.mark.parametrize("shown", list(Importance))
def test_only_lines_that_matter_are_written(shown: Importance) -> None:
    written: list[str] = []
    with LineProgress(shown, written.append) as listener:
        for event, _, _ in LINES:
            listener(event)
    assert len(written) == sum(importance <= shown for _, importance, _ in LINES)


def console(height: int = 25) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, width=80, height=height, color_system=None
    )


def text_of(made: Console) -> str:
    assert isinstance(made.file, io.StringIO)
    return made.file.getvalue()


def rendered(listener: DisplayProgress) -> list[str]:
    made = console()
    made.print(listener.render())
    return [line.rstrip() for line in text_of(made).splitlines()]


def test_display() -> None:
    clock = Clock()
    listener = DisplayProgress(console(), clock=clock)
    assert rendered(listener) == ["looking at source and target …"]
    listener(Planned(groups=3, snapshots=4))
    listener(started(A))
    listener(started(B))
    clock.now += 10
    listener(progress(A, 20 * MIB, 5, 10))
    listener(progress(B, 30 * MIB, 1, 2))
    head, bar, first, second = rendered(listener)
    assert bar.startswith("━")
    assert head == "25% · 0 of 4 snapshots · 50.0 MiB sent · 5.0 MiB/s · about 30 s left"
    assert first.startswith("  vm/100/2026-05-28T20:30:03Z")
    assert first.endswith("20.0 MiB")
    assert second.startswith("  prod: vm/101/2026-05-28T20:30:03Z")
    listener(failed(A))
    (head, _, _) = rendered(listener)
    assert head.startswith("38% · 1 of 4 snapshots · 1 failed · ")
    assert head.endswith(" · about 17 s left")  # 1.5 of 4 took 10 s
    clock.now -= 6
    assert rendered(listener)[0].endswith(" · a moment left")


def test_display_has_few_rows() -> None:
    listener = DisplayProgress(console(), clock=Clock())
    listener(Planned(groups=30, snapshots=30))
    for number in range(MAX_ROWS + 3):
        listener(started(item(f"ct/{number}/2026-05-28T20:30:03Z")))
    lines = rendered(listener)
    assert len(lines) == 3 + MAX_ROWS
    assert lines[-1] == "  … and 3 more"


def test_display_on_a_terminal_leaves_only_what_matters() -> None:
    made = console()
    with DisplayProgress(made) as listener:
        for event, _, _ in LINES:
            listener(event)
    shown = text_of(made)
    assert "pbs-push: error: wrong here" in shown
    assert "not verified" in shown
    assert "pushing prod" not in shown  # the display tells that
    assert "already there" not in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is back


def test_display_tells_more_if_asked() -> None:
    made = console()
    with DisplayProgress(made, Importance.DETAIL) as listener:
        for event, _, _ in LINES:
            listener(event)
    assert "pushing prod" in text_of(made)
    assert "already there" in text_of(made)
