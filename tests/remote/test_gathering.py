"""Letting answers gather: only where many are under way, and the server is what is waited for."""

from __future__ import annotations

import pytest

from pbs_push.remote.gathering import LEAST_OPEN, MOST_S, Gathering


def pause(open_streams: int, answers_per_s: float, round_trip_s: float = 0.0) -> float:
    """The pause after a tenth of a second of that."""
    gathering = Gathering(round_trip_s)
    for number in range(11):
        now = number / 100
        answered = int(answers_per_s * now)
        gathering.note(answered + open_streams, open_streams, now)
    return gathering.pause_s


def test_a_slow_server_is_looked_at_less_often() -> None:
    assert pause(200, 2_500) == MOST_S, "a dozen answers come meanwhile, and 190 are to come"
    assert pause(200, 100_000) == pytest.approx(0.00025)


def test_few_requests_are_waited_for_at_once() -> None:
    assert pause(LEAST_OPEN - 1, 100) == 0.0


def test_a_line_that_is_far_gets_no_pause() -> None:
    """At 100 ms with 200 under way, 2,000 a second is what the line gives."""
    assert pause(200, 2_000, round_trip_s=0.1) == 0.0
    assert pause(200, 200, round_trip_s=0.1) == MOST_S


def test_it_ends_with_the_rush() -> None:
    gathering = Gathering(0.0)
    gathering.note(200, 200, 0.0)
    gathering.note(210, 200, 0.02)
    assert gathering.pause_s > 0
    gathering.note(260, 10, 0.03)
    assert gathering.pause_s == 0.0


def test_a_server_that_answers_nothing_gets_the_longest_pause() -> None:
    assert pause(200, 0) == MOST_S
