"""Which snapshots the rules of keeping and an oldest time leave out."""

from __future__ import annotations

import time as clock
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push import ConfigError, PushOptions
from pbs_push.access.values import parse_moment
from pbs_push.push.outcome import Skip
from pbs_push.push.selection import KEEP, kept

from .world import DAY, World, time


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    clock.tzset()


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


HALF_DAYS = [at("2026-01-01T06:00") + number * 43_200 for number in range(2 * 400)]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"keep_last": 3}, ["2027-02-03T18:00", "2027-02-04T06:00", "2027-02-04T18:00"]),
        ({"keep_daily": 2}, ["2027-02-03T18:00", "2027-02-04T18:00"]),
        # A day that an earlier rule covers is none of the later rule's.
        (
            {"keep_last": 1, "keep_daily": 2},
            ["2027-02-02T18:00", "2027-02-03T18:00", "2027-02-04T18:00"],
        ),
        ({"keep_weekly": 2}, ["2027-01-31T18:00", "2027-02-04T18:00"]),
        ({"keep_monthly": 2}, ["2027-01-31T18:00", "2027-02-04T18:00"]),
        ({"keep_yearly": 9}, ["2026-12-31T18:00", "2027-02-04T18:00"]),
        ({"keep_hourly": 1}, ["2027-02-04T18:00"]),
    ],
)
def test_rules(rules: dict[str, int], expected: list[str]) -> None:
    found = sorted(kept(HALF_DAYS, PushOptions(**rules)))  # type: ignore[arg-type]
    assert found == [at(text) for text in expected]


@given(
    st.lists(st.integers(0, 2**31), max_size=40),
    st.dictionaries(st.sampled_from(KEEP), st.integers(1, 5), min_size=1),
)
def test_bounds(times: list[int], rules: dict[str, int]) -> None:
    """The newest is kept, never more than all rules together ask for, and all without a rule."""
    found = kept(times, PushOptions(**rules))  # type: ignore[arg-type]
    assert found <= set(times)
    assert len(found) <= sum(rules.values())
    assert not times or max(times) in found
    assert kept(times, PushOptions()) == set(times)


def test_what_is_passed_over_is_told(world: World) -> None:
    world.source.add("vm/1", 0, 1, 2, 3)
    done = world.push(keep_last=2)
    assert world.there.times("vm/1") == [2, 3]
    assert done.report.skips[Skip.NOT_KEPT] == 2
    assert "cannot be pushed later" in Skip.NOT_KEPT.value
    assert done.report.exit_status == 0
    # What is there counts, too: the rules are those of a prune at the source.
    world.source.add("vm/1", 4)
    world.push(keep_daily=1)
    assert world.there.times("vm/1") == [2, 3, 4]


def test_only_what_is_new_enough(world: World) -> None:
    world.source.add("vm/1", 0, 1, 2)
    done = world.push(since=time(1))
    assert world.there.times("vm/1") == [1, 2]
    assert done.report.skips[Skip.TOO_OLD] == 1
    world.source.add("vm/2", 0)
    age = clock.time() - time(0)
    world.push(newer_than_s=age - DAY)
    assert world.there.times("vm/2") == []
    world.push(newer_than_s=age + DAY)
    assert world.there.times("vm/2") == [0]


def test_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_moment("2026-11-01") == at("2026-11-01")
    assert parse_moment("2026-11-01T08:00:00Z") == at("2026-11-01T08:00")
    assert parse_moment("2026-11-01T08:00+02:00") == at("2026-11-01T06:00")
    monkeypatch.setenv("TZ", "Europe/Vienna")
    clock.tzset()
    assert parse_moment("2026-11-01") == at("2026-10-31T23:00")
    for wrong in ("", "yesterday", "2026-13-01", "9999-99"):
        with pytest.raises(ConfigError):
            parse_moment(wrong)


def test_rules_go_by_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    clock.tzset()
    noon = at("2026-06-01T11:30")  # 23:30 there; an hour later is another day
    times = [noon, noon + int(timedelta(hours=1).total_seconds())]
    assert kept(times, PushOptions(keep_daily=2)) == set(times)
    monkeypatch.setenv("TZ", "UTC")
    clock.tzset()
    assert kept(times, PushOptions(keep_daily=2)) == {times[1]}
