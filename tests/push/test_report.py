"""How a push's outcomes add up to an exit status."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pbs_push.errors import (
    AccessError,
    AuthError,
    ConnectError,
    DeniedError,
    PbsPushError,
    StatusError,
    TlsError,
)
from pbs_push.names import Group, Namespace, Snapshot
from pbs_push.push.outcome import (
    NEXT_TIME,
    Alert,
    Finding,
    HeldBack,
    Outcome,
    Problem,
    Result,
    Skip,
    TransferStats,
)
from pbs_push.push.report import Report

from .world import time

ROOT = Namespace()
SNAPSHOT = Snapshot(Group("vm", "100"), time(0))
PUSHED = Outcome.of(ROOT, SNAPSHOT, Result.PUSHED)
THERE = Outcome.of(ROOT, SNAPSHOT, Result.ALREADY_THERE)
BROKEN, REFUSED = StatusError("PUT", 400, "no"), ConnectError("no way")
DENIED = DeniedError("PUT", 403, "no")


def skipped(skip: Skip) -> Outcome:
    return Outcome.of(ROOT, SNAPSHOT, Result.SKIPPED, skip=skip)


def failed(error: PbsPushError) -> Outcome:
    return Outcome.of(ROOT, SNAPSHOT, Result.FAILED, error=error)


STATUSES: dict[str, tuple[list[Outcome], list[PbsPushError], int]] = {
    "nothing to do": ([], [], 0),
    "pushed": ([PUSHED], [], 0),
    "all is there": ([THERE, skipped(Skip.NOT_NEWER)], [], 0),
    "left out as asked": ([skipped(Skip.FILTERED), skipped(Skip.NOT_VERIFIED)], [], 0),
    "encrypted only, and none is": ([skipped(Skip.NOT_ENCRYPTED)], [], 0),
    "still running at the source": ([skipped(Skip.IN_PROGRESS)], [], 0),
    "gone meanwhile": ([skipped(Skip.VANISHED)], [], 0),
    "nothing could be: not owned": ([skipped(Skip.NOT_OWNED)], [], 5),
    "nothing could be: no right": ([skipped(Skip.NO_RIGHT)], [], 5),
    "nothing could be: no owner": ([skipped(Skip.NO_OWNER)], [], 5),
    "nothing could be: time 0": ([skipped(Skip.UNSUPPORTED)], [], 5),
    "the target has newer ones alone": ([skipped(Skip.NOT_NEWER)], [], 0),
    "one is broken at the target": ([skipped(Skip.BROKEN), PUSHED], [], 3),
    "one is another at the target": ([skipped(Skip.OTHER_CONTENT), PUSHED], [], 3),
    "one group is not ours, another did": ([skipped(Skip.NOT_OWNED), PUSHED], [], 3),
    "one group is not ours, another is there": ([skipped(Skip.NOT_OWNED), THERE], [], 3),
    "one group has no owner, another did": ([skipped(Skip.NO_OWNER), PUSHED], [], 3),
    "not all may be read, as the rights say": ([skipped(Skip.NO_RIGHT), PUSHED], [], 0),
    "benchmarks stay here": ([skipped(Skip.UNSUPPORTED), PUSHED], [], 0),
    "not ours, and others older": ([skipped(Skip.NOT_OWNED), skipped(Skip.NOT_NEWER)], [], 3),
    "one failed of two": ([PUSHED, failed(BROKEN)], [], 3),
    "one failed, the rest is there": ([THERE, failed(BROKEN)], [], 3),
    "a step failed": ([PUSHED], [BROKEN], 3),
    "one failed, older ones are known": ([skipped(Skip.NOT_NEWER), failed(BROKEN)], [], 3),
    "all failed": ([failed(BROKEN)], [], 1),
    "all failed in different ways": ([failed(DENIED), failed(BROKEN)], [], 1),
    "all failed: no right there": ([failed(DENIED)], [DENIED], 4),
    "all failed: no right here": ([], [AccessError(("Remote.X",), "/remote")], 4),
    "all failed: credentials": ([failed(AuthError("no"))], [], 4),
    "all failed: trust": ([failed(TlsError("no"))], [], 4),
    "all failed: connection": ([failed(REFUSED)], [REFUSED], 1),
}


@pytest.mark.parametrize("case", STATUSES)
def test_exit_status(case: str) -> None:
    outcomes, problems, status = STATUSES[case]
    report = Report()
    for outcome in outcomes:
        report.add(outcome)
    for error in problems:
        report.add_problem(Problem("doing", error))
    assert report.exit_status == status


@pytest.mark.parametrize("there", [[], [PUSHED], [skipped(Skip.NOT_NEWER)]])
def test_what_somebody_has_to_look_at_is_never_0(there: list[Outcome]) -> None:
    for note in (
        lambda report: report.add_alert(Alert(Finding.FUTURE, ROOT, ROOT, SNAPSHOT.group, "why")),
        lambda report: report.hold_back(HeldBack("vanished groups", "why")),
    ):
        report = Report()
        for outcome in there:
            report.add(outcome)
        note(report)
        assert report.exit_status == 3
        report.add(failed(DENIED))
        assert report.exit_status == (3 if there else 4)


def test_what_was_counted_as_there_can_be_taken_back() -> None:
    report = Report()
    report.add(THERE)
    report.is_not_there(skipped(Skip.OTHER_CONTENT))
    assert (report.counts[Result.ALREADY_THERE], report.counts[Result.SKIPPED]) == (0, 1)
    assert report.exit_status == 5


def test_what_a_dry_run_knows_of_the_status() -> None:
    report = Report()
    assert report.status_with(1) == 0
    report.add(skipped(Skip.NO_OWNER))
    assert (report.status_with(0), report.status_with(1)) == (5, 3)
    report.add_problem(Problem("doing", DENIED))
    assert (report.status_with(0), report.status_with(1)) == (4, 3)


@pytest.mark.parametrize("skip", Skip)
def test_every_reason_is_text_for_people(skip: Skip) -> None:
    assert len(skip.value) > 5
    report = Report()
    report.add(skipped(skip))
    # What was left for want of time is all that a push could still do.
    assert report.exit_status in ((3,) if skip in NEXT_TIME else (0, 5))
    assert report.skips[skip] == 1


def test_outcomes_of_many_count_as_many() -> None:
    report = Report()
    report.add(replace(PUSHED, stats=TransferStats(sent_chunks=2, requests=7)))
    report.add(replace(PUSHED, stats=TransferStats(sent_chunks=3, fallbacks=1)))
    report.add(replace(skipped(Skip.NOT_NEWER), count=4, newest=time(3)))
    report.add(replace(THERE, count=9))
    assert (report.counts[Result.PUSHED], report.skips[Skip.NOT_NEWER]) == (2, 4)
    assert report.counts[Result.ALREADY_THERE] == 9
    stats = report.stats
    assert (stats.sent_chunks, stats.requests, stats.fallbacks) == (5, 7, 1)
    assert len(report.outcomes) == 3, "what is there already is only counted"


def read_number(text: str) -> int:
    try:
        return int(text)
    except ValueError as reason:
        raise PbsPushError("not a number") from reason


def test_errors_are_kept_without_the_frames_that_raised_them() -> None:
    """Those hold the indexes, blobs and connections of what failed."""

    def broken() -> PbsPushError:
        with pytest.raises(PbsPushError) as caught:
            read_number("?")
        return caught.value

    report = Report()
    report.add(failed(broken()))
    report.add_problem(Problem("what", broken()))
    for error in (report.outcomes[0].error, report.problems[0].error):
        assert error is not None
        assert error.__traceback__ is None
        assert isinstance(error.__cause__, ValueError)
        assert error.__cause__.__traceback__ is None


def test_labels_name_the_place() -> None:
    assert PUSHED.label == "vm/100/2026-05-28T20:26:40Z"
    assert "a/b: vm/100" in replace(PUSHED, namespace=Namespace(("a", "b"))).label
    many = replace(skipped(Skip.NOT_NEWER), count=2, newest=time(1))
    assert "2 snapshots, 2026-05-28T20:26:40Z … 2026-05-29T20:26:40Z" in many.label
