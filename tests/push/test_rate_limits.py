"""Limits of the rate that change: by the clock, by a file; told by clocks of the test's own."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push import Event, Note, Push, PushOptions, SnapshotStarted
from pbs_push.demo.pieces import Piece
from pbs_push.errors import ConfigError
from pbs_push.push import rate_limits
from pbs_push.push.rate_limits import RateLimits
from pbs_push.push.timetable import Timetable

from .world import World as Sides

MIB = 1 << 20
MONDAY = datetime(2026, 11, 23)  # noqa: DTZ001  (what the clock on the wall shows)


def at(day: int, clock: str) -> datetime:
    hours, minutes = clock.split(":")
    return MONDAY + timedelta(days=day, hours=int(hours), minutes=int(minutes))


@pytest.mark.parametrize(
    ("text", "day", "clock", "rate"),
    [
        ("10MiB", 3, "12:00", 10 * MIB),
        ("off", 3, "12:00", None),
        ("08:00-18:00 10MiB; else off", 0, "07:59", None),
        ("08:00-18:00 10MiB; else off", 0, "08:00", 10 * MIB),
        ("08:00-18:00 10MiB; else off", 6, "17:59", 10 * MIB),
        ("08:00-18:00 10MiB; else off", 0, "18:00", None),
        ("8:00-18:00 10 MiB;", 0, "18:00", None),
        ("Mon-Fri 08:00-18:00 10MiB; else 50MiB", 4, "12:00", 10 * MIB),
        ("Mon-Fri 08:00-18:00 10MiB; else 50MiB", 5, "12:00", 50 * MIB),
        ("sat,SUN off; 06:00-24:00 1.5MiB; else 4096", 5, "12:00", None),
        ("sat,SUN off; 06:00-24:00 1.5MiB; else 4096", 4, "23:59", 3 * MIB // 2),
        ("sat,SUN off; 06:00-24:00 1.5MiB; else 4096", 4, "05:59", 4096),
        ("Fri-Mon 1KiB; else OFF", 0, "00:00", 1024),
        ("Fri-Mon 1KiB; else OFF", 1, "00:00", None),
        ("Fri 22:00-06:00 1KiB", 4, "23:00", 1024),
        ("Fri 22:00-06:00 1KiB", 5, "05:59", 1024),
        ("Fri 22:00-06:00 1KiB", 5, "06:00", None),
        ("Fri 22:00-06:00 1KiB", 4, "05:00", None),
        ("Sun 22:00-06:00 1KiB", 0, "01:00", 1024),
    ],
)
def test_timetables(text: str, day: int, clock: str, rate: int | None) -> None:
    table = Timetable.parse(text)
    assert table.at(at(day, clock)) == rate
    assert str(table) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no rate"),
        (" ; ", "no rate"),
        ("08:00-18:00", "has no rate"),
        ("else", "has no rate"),
        ("08:00-18:00 fast", "has no rate"),
        ("08:00-18:00 10 chunks", "not a size"),
        ("0", "let nothing through"),
        ("Mon-Fry 10MiB", "'fry' in 'Mon-Fry 10MiB' is not a day"),
        ("08-18:00 x 10MiB", "not a span of time"),
        ("Mon 08:00 10MiB", "'08:00' in 'Mon 08:00 10MiB' is not a span of time"),
        ("08:60-18:00 1MiB", "not a span within a day"),
        ("24:00-25:00 1MiB", "not a span within a day"),
        ("08:00-08:00 1MiB", "not a span within a day"),
        ("08:00-09:00 10:00-11:00 1MiB", "cannot be understood"),
        ("else 1MiB; 08:00-18:00 off", "never count"),
        ("1MiB; else off", "more than once"),
    ],
)
def test_timetables_that_cannot_be_understood(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match="'") as caught:
        Timetable.parse(text)
    assert words in str(caught.value)


@given(st.text(alphabet="MonFriSat ,-;:0189KMiBelsof.", max_size=30) | st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        table = Timetable.parse(text)
    except ConfigError:
        return
    for hours in range(0, 7 * 24, 5):
        rate = table.at(MONDAY + timedelta(hours=hours))
        assert rate is None or rate > 0


class World:
    """Limits with a clock and a list of what they told."""

    def __init__(self, **options: Any) -> None:
        self.now = at(0, "07:00")
        self.told: list[tuple[str, str]] = []
        self.limits = RateLimits(
            PushOptions(**options), lambda *one: self.told.append(one), lambda: self.now
        )

    def rate(self) -> int | None:
        self.limits.update()
        assert self.limits.pacer is not None
        return self.limits.pacer.rate


def test_without_a_limit_nothing_paces() -> None:
    world = World()
    assert world.limits.pacer is None
    assert not world.limits.changes
    world.limits.update()
    assert world.limits.rate() is None
    with world.limits.kept():
        pass


def test_a_fixed_one_stays() -> None:
    world = World(rate_out=1000, burst_out=100)
    assert not world.limits.changes
    assert world.rate() == 1000
    assert world.limits.pacer is not None
    assert world.limits.pacer.terms.burst == 100


def test_a_timetable_is_followed_and_told() -> None:
    world = World(bwlimit="08:00-18:00 10MiB; else off")
    assert world.rate() is None
    world.now = at(0, "08:00")
    assert world.rate() == 10 * MIB
    assert world.rate() == 10 * MIB
    world.now = at(0, "18:00")
    assert world.rate() is None
    assert world.told == [("info", "limit: 10.0 MiB/s"), ("info", "no rate limit")]


def test_the_smallest_counts(tmp_path: Path) -> None:
    path = tmp_path / "rate"
    path.write_text("5MiB\n")
    world = World(rate_out=20 * MIB, bwlimit="08:00-18:00 10MiB; else off", rate_file=path)
    assert world.rate() == 5 * MIB
    path.write_text("off")
    assert world.rate() == 20 * MIB
    world.now = at(0, "12:00")
    assert world.rate() == 10 * MIB
    path.write_text("30MiB")
    assert world.rate() == 10 * MIB
    path.write_text("09:00-13:00 1MiB")
    assert world.rate() == MIB


def test_a_file_that_says_nothing_keeps_the_rate(tmp_path: Path) -> None:
    path = tmp_path / "rate"
    world = World(rate_file=path)
    assert world.rate() is None
    assert [level for level, _ in world.told] == ["warning"]
    assert "No such file" in world.told[0][1]
    path.write_text("5MiB")
    assert world.rate() == 5 * MIB
    del world.told[:]
    for text in (b"quick", b"slow", b"\xff\xfe"):
        path.write_bytes(text)
        assert world.rate() == 5 * MIB
    path.unlink()
    assert world.rate() == 5 * MIB
    assert len(world.told) == 1, "a warning once"
    assert "'quick'" in world.told[0][1]
    path.write_text("")
    assert world.rate() == 5 * MIB, "it is being written"
    path.write_text("1MiB")
    assert world.rate() == MIB
    path.write_text("rubbish")
    world.rate()
    assert [level for level, _ in world.told] == ["warning", "info", "warning"]


def test_a_thread_looks_while_a_push_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "LOOK_EVERY_S", 0.001)
    seen, write = os.pipe()
    path = tmp_path / "rate"
    path.write_text("1MiB")
    limits = RateLimits(
        PushOptions(rate_file=path), lambda _level, text: void(os.write(write, text.encode()))
    )
    with limits.kept():
        path.write_text("2MiB")
        assert os.read(seen, 100) == b"limit: 2.0 MiB/s"
    assert limits.pacer is not None
    assert limits.pacer.rate == 2 * MIB
    os.close(seen)
    os.close(write)


def test_a_push_that_crawls_goes_on_at_another_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At first it would take over an hour."""
    monkeypatch.setattr(rate_limits, "LOOK_EVERY_S", 0.01)
    path = tmp_path / "rate"
    path.write_text("100")
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, SnapshotStarted):
            path.write_text("off")

    with Sides(tmp_path) as sides:
        pieces = [Piece(label, 100_000, 100_000) for label in "abcd"]
        sides.source.add("vm/1", 0, archives={"root.pxar.didx": pieces})
        options = PushOptions(rate_file=path)
        with sides.target() as target:
            report = Push(sides.datastore(), target, options, listen).run()
        sides.settle()
    assert report.exit_status == 0
    assert report.stats.sent_bytes > 400_000
    assert Note("info", "no rate limit") in events


def test_a_forecast_goes_by_the_smallest_limit(tmp_path: Path) -> None:
    with Sides(tmp_path) as sides:
        sides.source.add("vm/1", 0)
        options = PushOptions(rate_out=2 * MIB, bwlimit=Timetable.parse("1MiB"))
        with sides.target() as target:
            run = Push(sides.datastore(), target, options)
            assert run.forecast(run.plan()).rate == MIB
        sides.settle()


def void(_: object) -> None:
    """What a callback returns is nobody's business."""
