from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import pytest
from tests.bench.figures import DEEP_QUEUE, MIB, SPINNING, SSD, link, machine, store

from pbs_push.bench.figures import LinkFigures, MachineFigures, StoreFigures
from pbs_push.bench.limits import Limit
from pbs_push.bench.verdict import Verdict, judge
from pbs_push.push.options import PushOptions

GIGABIT = {1: 115.0, 2: 117.0, 4: 117.0, 8: 117.0}
FAST_LINE = {1: 900.0, 2: 1700.0, 4: 2500.0, 8: 2600.0}
WINDOW_BOUND = {1: 300.0, 2: 600.0, 4: 1200.0, 8: 2400.0}


@dataclass(frozen=True)
class Case:
    """Figures, and what follows from them; ``auto``: what ``--parallel auto`` would choose."""

    name: str
    machine: MachineFigures
    store: StoreFigures | None
    link: LinkFigures | None
    _: KW_ONLY
    limit: Limit | None
    rate: float
    words: tuple[str, ...]
    auto: int = 8
    parallel: int = 8
    read_ahead: int = 8


CASES = [
    Case(
        "gigabit line from an SSD",
        machine(),
        store(SSD),
        link(1, GIGABIT),
        limit=Limit.LINK,
        rate=117,
        words=(
            "The link, or the target's server, limits",
            "117.0 MiB/s",
            "hardly carry more: a single",
        ),
    ),
    Case(
        "spinning disk",
        machine(),
        store(SPINNING),
        link(0.2, FAST_LINE),
        limit=Limit.DISK,
        rate=160,
        read_ahead=1,
        words=("The disk limits", "as spinning ones are", "--read-ahead 1."),
    ),
    Case(
        "spinning disk, one core and few groups",
        machine(),
        store({1: 100, 2: 200, 4: 210, 8: 150, 16: 90}),
        link(0.2, GIGABIT),
        auto=1,
        limit=Limit.LINK,
        rate=117,
        parallel=1,
        read_ahead=2,
        words=("More than 2 at once make this disk slower",),
    ),
    Case(
        "a few files in memory, which threads get in the way of",
        machine(),
        store({1: 3000, 2: 2000, 4: 1500, 8: 1200, 16: 1000}),
        link(0.2, FAST_LINE),
        limit=Limit.LINK,
        rate=FAST_LINE[8],
        words=("--read-ahead 8 (the default).",),
    ),
    Case(
        "more connections carry a little more",
        machine(),
        store(SSD),
        link(1, {1: 17, 2: 21, 4: 20, 8: 20}),
        limit=Limit.LINK,
        rate=21,
        words=("One connection carries 17.0 MiB/s, 2 carry 21.0 MiB/s", "can use most of that"),
    ),
    Case(
        "network file system that wants many reads",
        machine(),
        store(DEEP_QUEUE),
        link(0.2, FAST_LINE),
        limit=Limit.DISK,
        rate=800,
        read_ahead=16,
        words=("with 16 reads at once", "--read-ahead 16."),
    ),
    Case(
        "slow CPU",
        machine(cores=1, tls=200, crc32=2000),
        store(SSD),
        link(0.2, FAST_LINE),
        auto=4,
        limit=Limit.CPU,
        rate=1 / (1 / 200 + 1 / 2000),
        parallel=4,
        words=("The CPU limits", "1 core can encrypt"),
    ),
    Case(
        "far away: round trips",
        machine(),
        store(SSD),
        link(200, WINDOW_BOUND),
        auto=32,
        limit=Limit.ROUND_TRIPS,
        rate=2400,
        parallel=32,
        words=("Round trips limit", "one takes 200 ms", "1.2 s", "several groups at once"),
    ),
    Case(
        "only more connections fill the line",
        machine(),
        None,
        link(0.1, WINDOW_BOUND),
        auto=4,
        limit=Limit.LINK,
        rate=2400,
        words=("--parallel 8 and", "8 carry 2.3 GiB/s", "The disk was not measured"),
    ),
    Case(
        "a disk that was not measured after all",
        machine(),
        store(dict.fromkeys(SSD, 4000)),
        None,
        auto=4,
        limit=Limit.DISK,
        rate=4000,
        parallel=4,
        words=("kept the files in memory", "The link was not measured"),
    ),
    Case(
        "this machine alone",
        machine(),
        None,
        None,
        limit=None,
        rate=4 / (1 / 2000 + 1 / 20_000),
        words=("disk and link were not measured", "--datastore", "--repository"),
    ),
]


def verdict_of(case: Case) -> Verdict:
    return judge(case.machine, case.store, case.link, case.auto)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_verdict(case: Case) -> None:
    verdict = verdict_of(case)
    assert verdict.limit is case.limit
    assert verdict.ceilings[0].bytes_per_s == pytest.approx(case.rate * MIB)
    assert (verdict.parallel, verdict.read_ahead) == (case.parallel, case.read_ahead)
    text = " ".join(verdict.sentences)
    for word in case.words:
        assert word in text
    # What is recommended can be given.
    PushOptions(parallel=verdict.parallel, read_ahead=verdict.read_ahead)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sentences_are_sentences(case: Case) -> None:
    for sentence in verdict_of(case).sentences:
        assert sentence.endswith(".")
        assert ".." not in sentence
        assert sentence[0].isupper()


def test_ceilings_of_what_was_measured_lowest_first() -> None:
    verdict = judge(machine(), store(SPINNING), link(1, GIGABIT), 4)
    assert [item.limit for item in verdict.ceilings] == [Limit.LINK, Limit.DISK, Limit.CPU]


def test_crossover_is_what_fits_into_the_round_trips() -> None:
    # Six round trips of 10 ms at 117.0 MiB/s, by four groups at once.
    verdict = judge(machine(), None, link(10, GIGABIT), 4)
    assert verdict.crossover_bytes == pytest.approx(0.06 * 117 * MIB / 4)
    assert judge(machine(), None, None, 4).crossover_bytes is None


@pytest.mark.parametrize(
    ("round_trip_ms", "begin_ms", "parallel", "per_s"),
    [
        (0, 0, 1, "250"),  # 4 ms of this machine's own work for each
        (0, 0, 32, "250"),  # more at once share it
        (0.5, 15, 1, "48"),  # 15 ms to begin, 4 * 0.5, and 4
        (0.5, 15, 8, "250"),
        (10, 15, 1, "16"),  # a round trip got quicker: 60 ms and 4
        (50, 100, 8, "26"),
        (200, 400, 32, "27"),
        (200, 1000, 32, "18"),  # a server that needs long to begin
    ],
)
def test_small_snapshots_a_second(
    round_trip_ms: float, begin_ms: float, parallel: int, per_s: str
) -> None:
    (told,) = (
        sentence
        for sentence in judge(
            machine(), None, link(round_trip_ms, {1: 100.0}, begin_ms=begin_ms), parallel
        ).sentences
        if "a second" in sentence
    )
    groups = f"{parallel} group{'s' if parallel > 1 else ''} at once"
    assert f"with {groups} that is about {per_s} a second at most." in told


@pytest.mark.parametrize(
    ("most", "uploads", "text"),
    [
        (4 << 20, {1: 20.0, 2: 20.0}, "One connection had about 2.0 MiB on the way"),
        (
            4 << 20,
            {1: 5.0, 8: 40.0},
            "For 40.0 MiB/s, one connection would have 4.0 MiB",
        ),
        (4 << 20, {1: 5.0, 2: 10.0}, None),
        (64 << 20, {1: 300.0, 8: 2400.0}, None),
        (None, {1: 20.0, 2: 40.0}, None),
    ],
    ids=["near", "several need more", "far from it", "whole window", "unknown"],
)
def test_a_send_buffer_that_bounds_a_far_line(
    most: int | None, uploads: dict[int, float], text: str | None
) -> None:
    far = link(100, uploads, most_in_flight=most)
    told = [
        item for item in judge(machine(), None, far, 4).sentences if "net.ipv4.tcp_wmem" in item
    ]
    assert len(told) == (text is not None)
    for sentence in told:
        assert text is not None
        assert sentence.startswith(text)
        assert "ends at 4.0 MiB, which is 40.0 MiB/s at most at such a round trip" in sentence
        assert "sysctl -w net.ipv4.tcp_wmem='4096 16384 67108864'." in sentence


def test_what_failed_is_not_said_to_be_missing() -> None:
    text = " ".join(judge(machine(), None, None, 4, {Limit.DISK, Limit.LINK}).sentences)
    assert "The disk was not measured: that failed." in text
    assert "The link was not measured: that failed." in text
    assert "give --" not in text


def test_no_part_is_blamed_while_another_is_unknown() -> None:
    whole = judge(machine(), store(SSD), link(1, GIGABIT), 4).sentences
    half = judge(machine(), store(SSD), None, 4).sentences
    assert whole[0] == "The link, or the target's server, limits a push here: 117.0 MiB/s."
    assert half[0] == "Of what was measured, the disk limits a push here: 2.9 GiB/s."


def test_auto_is_named_where_it_is_right() -> None:
    right = judge(machine(), None, link(1, GIGABIT), 8).sentences
    wrong = judge(machine(), None, link(1, WINDOW_BOUND), 4).sentences
    assert any("what auto chooses" in sentence for sentence in right)
    assert not any("what auto chooses" in sentence for sentence in wrong)


def test_a_link_that_carries_nothing() -> None:
    verdict = judge(machine(), None, link(0, dict.fromkeys(GIGABIT, 0.0)), 4)
    assert verdict.limit is Limit.LINK
    assert verdict.crossover_bytes == 0


def test_congestion_control_that_minds_losses_is_named_on_a_long_line() -> None:
    def words(round_trip_ms: float, control: str) -> str:
        there = link(round_trip_ms, GIGABIT, congestion_control=control)
        return " ".join(judge(machine(), store(SSD), there, 8).sentences)

    assert "--congestion-control bbr" in words(50, "cubic")
    assert "congestion" not in words(50, "bbr")
    assert "congestion" not in words(50, "")
    assert "congestion" not in words(1, "cubic")
