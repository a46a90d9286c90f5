"""Which chunks are looked at: each once, of them a part by digest and seed alone."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.verify.claims import AllClaims, NoClaims, OnlyClaims, SampledClaims
from pbs_push.verify.seen import Mode
from pbs_push.verify.target_options import Sample

COUNT = 4000
RNG = np.random.default_rng(7)
DIGESTS = RNG.integers(0, 256, (COUNT, 32), dtype=np.uint8)
SIZES = np.full(COUNT, 100, dtype=np.uint64)


def sampled(part: float, seed: int) -> set[int]:
    return set(SampledClaims(Sample(part), seed).take(DIGESTS, SIZES, Mode.PLAIN).tolist())


@given(st.floats(0.01, 0.99), st.integers(0, 2**64 - 1))
def test_a_sample_is_about_as_large_as_asked(part: float, seed: int) -> None:
    found = sampled(part, seed)
    spread = 5 * (COUNT * part * (1 - part)) ** 0.5 + 5
    assert abs(len(found) - COUNT * part) < spread
    assert sampled(part, seed) == found


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
def test_seeds_choose_differently(seed: int) -> None:
    first, second = sampled(0.5, seed), sampled(0.5, (seed + 1) % 2**64)
    assert 0.4 < len(first & second) / len(first) < 0.6
    assert sampled(0.2, seed) <= first, "a larger sample holds the smaller one"


def test_each_once_whatever_threads_come() -> None:
    claims = AllClaims()
    taken: list[list[int]] = []

    def take() -> None:
        taken.append(claims.take(DIGESTS, SIZES, Mode.PLAIN).tolist())

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(position for one in taken for position in one) == list(range(COUNT))
    assert claims.known == COUNT


def test_another_length_or_mode_is_another_entry() -> None:
    claims = AllClaims()
    for sizes, mode in ((SIZES, Mode.PLAIN), (SIZES + 1, Mode.PLAIN), (SIZES, Mode.KEYED)):
        assert len(claims.take(DIGESTS, sizes, mode)) == COUNT
        assert len(claims.take(DIGESTS, sizes, mode)) == 0


def test_some_or_none() -> None:
    only = OnlyClaims({DIGESTS[3].tobytes(), DIGESTS[9].tobytes(), bytes(32)})
    assert only.take(DIGESTS, SIZES, Mode.PLAIN).tolist() == [3, 9]
    assert only.take(DIGESTS, SIZES, Mode.PLAIN).tolist() == []
    assert NoClaims().take(DIGESTS, SIZES, Mode.PLAIN).tolist() == []
