"""Digest sets against Python's own, and what they hold on to."""

from __future__ import annotations

import copy
import gc
import hashlib
import pickle
import sys
import threading
from array import array
from typing import TYPE_CHECKING, Any

import numpy
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pbs_push._native.digests import DigestSet
from pbs_push._native.index import open_index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

MIB = 1 << 20


def random_rows(n: int, seed: int = 1) -> NDArray[numpy.uint8]:
    return numpy.random.default_rng(seed).integers(0, 256, (n, 32), numpy.uint8)


POOL = random_rows(400)


def rows_of(numbers: list[int], shape: str) -> NDArray[numpy.uint8]:
    """The pool's rows with these numbers, in one of the layouts that a caller may have."""
    picked = POOL[numpy.array(numbers, numpy.intp)]
    if shape == "dynamic":
        wide = numpy.zeros((len(numbers), 40), numpy.uint8)
        wide[:, 8:] = picked
        return wide[:, 8:]
    return picked[::-1].copy()[::-1] if shape == "reversed" else picked


numbers_and_shapes = st.tuples(
    st.lists(st.integers(0, len(POOL) - 1), max_size=200),
    st.sampled_from(["fixed", "dynamic", "reversed"]),
)


class SameAsPythonsSet(RuleBasedStateMachine):
    """Any sequence of calls answers like a Python set of bytes."""

    @initialize(expected=st.integers(0, 500))
    def create(self, expected: int) -> None:
        self.ours = DigestSet(expected)
        self.python: set[int] = set()

    def new_positions(self, numbers: list[int]) -> list[int]:
        seen = set(self.python)
        return [i for i, n in enumerate(numbers) if n not in seen and not seen.add(n)]  # type: ignore[func-returns-value]

    @rule(batch=numbers_and_shapes)
    def insert(self, batch: tuple[list[int], str]) -> None:
        numbers, shape = batch
        new = self.ours.insert(rows_of(numbers, shape))
        assert new.dtype == numpy.bool_
        assert new.shape == (len(numbers),)
        assert numpy.flatnonzero(new).tolist() == self.new_positions(numbers)
        self.python.update(numbers)

    @rule(batch=numbers_and_shapes)
    def contains(self, batch: tuple[list[int], str]) -> None:
        numbers, shape = batch
        found = self.ours.contains(rows_of(numbers, shape))
        assert found.dtype == numpy.bool_
        assert found.tolist() == [n in self.python for n in numbers]

    @rule(batch=numbers_and_shapes)
    def difference(self, batch: tuple[list[int], str]) -> None:
        numbers, shape = batch
        positions = self.ours.difference(rows_of(numbers, shape))
        assert positions.dtype == numpy.uint32
        assert positions.tolist() == [i for i, n in enumerate(numbers) if n not in self.python]

    @rule(batch=numbers_and_shapes)
    def difference_and_insert(self, batch: tuple[list[int], str]) -> None:
        numbers, shape = batch
        positions = self.ours.difference(rows_of(numbers, shape), insert=True)
        assert positions.tolist() == self.new_positions(numbers)
        self.python.update(numbers)

    @rule(numbers=st.lists(st.integers(0, len(POOL) - 1), max_size=200), insert=st.booleans())
    def difference_of_picked_rows(self, numbers: list[int], insert: bool) -> None:
        at = numpy.array(numbers, numpy.uint32)
        found = self.ours.contains(POOL, at=at)
        assert found.tolist() == [n in self.python for n in numbers]
        missing = self.ours.difference(POOL, at=at, insert=insert)
        assert missing.dtype == numpy.uint32
        if insert:
            assert missing.tolist() == [numbers[i] for i in self.new_positions(numbers)]
            self.python.update(numbers)
        else:
            assert missing.tolist() == [n for n in numbers if n not in self.python]

    @rule(numbers=st.lists(st.integers(0, len(POOL) - 1), max_size=200))
    def insert_picked_rows(self, numbers: list[int]) -> None:
        new = self.ours.insert(POOL, at=numpy.array(numbers, numpy.uint32))
        assert numpy.flatnonzero(new).tolist() == self.new_positions(numbers)
        self.python.update(numbers)

    @rule(number=st.integers(0, len(POOL) - 1))
    def one(self, number: int) -> None:
        assert (POOL[number].tobytes() in self.ours) == (number in self.python)

    @invariant()
    def same_length(self) -> None:
        if hasattr(self, "ours"):
            assert len(self.ours) == len(self.python)


TestSameAsPythonsSet = SameAsPythonsSet.TestCase
TestSameAsPythonsSet.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def test_a_million_digests_take_at_most_16_mib() -> None:
    rows = random_rows(1_000_000)
    for expected in (0, 1_000_000):
        digests = DigestSet(expected)
        before = digests.nbytes
        assert digests.insert(rows).all()
        assert len(digests) == 1_000_000
        assert digests.nbytes <= 16 * MIB
        assert digests.contains(rows).all()
        assert digests.difference(rows).size == 0
    assert digests.nbytes - before < 1000, "with room for all, it must not have grown"
    assert digests.nbytes < 10.5 * MIB


def test_rows_of_an_index_are_referred_to_and_stay(tmp_path: Path) -> None:
    entries = numpy.zeros((3000, 40), numpy.uint8)
    entries[:, :8].view("<u8")[:, 0] = numpy.arange(1, 3001)
    entries[:, 8:] = random_rows(3000)
    magic = hashlib.sha256(b"Proxmox Backup dynamic sized chunk index v1.0").digest()[:8]
    path = tmp_path / "a.didx"
    path.write_bytes(magic.ljust(4096, b"\0") + entries.tobytes())

    digests = DigestSet(3000)
    with open_index(path) as index:
        assert digests.insert(index.digests).all()
    gc.collect()
    assert digests.contains(entries[:, 8:]).all()
    assert not digests.insert(entries[:, 8:]).any()


def test_only_batches_with_new_members_are_kept() -> None:
    rows = random_rows(100)
    again = rows.copy()
    digests = DigestSet()
    references = sys.getrefcount(again)
    digests.insert(rows)
    digests.insert(again)
    digests.contains(again)
    digests.difference(again, insert=True)
    assert sys.getrefcount(again) == references
    references = sys.getrefcount(rows)
    del digests
    assert sys.getrefcount(rows) < references


def test_picked_rows_are_referred_to_where_they_lie() -> None:
    rows = random_rows(1000)
    digests = DigestSet(1000)
    before = digests.nbytes
    for start in range(0, 1000, 10):
        at = numpy.arange(start, start + 10, 2, dtype=numpy.uint32)
        assert digests.insert(rows, at=at).all()
        at[:] = 0  # the positions are not needed any more
    assert digests.contains(rows).tolist() == [n % 2 == 0 for n in range(1000)]
    assert digests.nbytes - before < 256, "one range of rows, and no copies"


POSITION_BUFFERS: list[Callable[[list[int]], Any]] = [
    lambda numbers: numpy.array(numbers, numpy.uint32),
    lambda numbers: array("I", numbers),
    lambda numbers: memoryview(array("I", numbers)),
    lambda numbers: memoryview(array("I", numbers).tobytes()).cast("I"),
]


@pytest.mark.parametrize(
    "of", POSITION_BUFFERS, ids=["ndarray", "array", "memoryview", "read-only"]
)
def test_positions_may_be_any_buffer(of: Callable[[list[int]], Any]) -> None:
    rows, digests = random_rows(10), DigestSet()
    assert digests.difference(rows, at=of([7, 2, 7, 5])).tolist() == [7, 2, 7, 5]
    assert digests.difference(rows, at=of([7, 2, 7, 5]), insert=True).tolist() == [7, 2, 5]
    assert digests.difference(rows, at=of([2, 9, 0]), insert=True).tolist() == [9, 0]
    assert digests.insert(rows, at=of([0, 1, 1])).tolist() == [False, True, False]
    assert digests.contains(rows, at=of([1, 3])).tolist() == [True, False]
    for insert in (False, True):
        nothing = digests.difference(rows, at=of([]), insert=insert)
        assert nothing.tolist() == []
        assert nothing.dtype == numpy.uint32
    assert len(digests) == 6


@pytest.mark.parametrize(
    "at",
    [
        [1, 2],
        array("B", [1, 2]),
        array("i", [1, 2]),
        array("Q", [1, 2]),
        b"\1\0\0\0",
        numpy.array([1, 2], ">u4"),
        numpy.array([1, 2, 3], numpy.uint32)[::2],
        numpy.array([[1, 2]], numpy.uint32),
    ],
    ids=repr,
)
def test_what_is_no_buffer_of_positions_changes_nothing(at: Any) -> None:
    rows, digests = random_rows(10), DigestSet()
    with pytest.raises((TypeError, ValueError)):
        digests.insert(rows, at=at)
    for insert in (False, True):
        with pytest.raises((TypeError, ValueError)):
            digests.difference(rows, at=at, insert=insert)
    with pytest.raises((TypeError, ValueError)):
        digests.contains(rows, at=at)
    assert len(digests) == 0


def test_positions_beyond_the_rows_are_refused() -> None:
    rows, digests = random_rows(4), DigestSet()
    at = numpy.array([0, 4], numpy.uint32)
    for call in (digests.insert, digests.contains, digests.difference):
        with pytest.raises(ValueError, match="cannot hold the digests: an argument is invalid"):
            call(rows, at=at)
    with pytest.raises(ValueError, match="Buffer dtype mismatch"):
        digests.insert(rows, at=numpy.array([0, 1], numpy.int64))
    assert len(digests) == 0


def test_kept_memory_cannot_be_resized() -> None:
    content = bytearray(random_rows(4).tobytes())
    digests = DigestSet()
    digests.insert(memoryview(content).cast("B", (4, 32)))
    with pytest.raises(BufferError):
        content.clear()
    assert bytes(content[32:64]) in digests


@pytest.mark.parametrize(
    "rows",
    [
        numpy.zeros((3, 31), numpy.uint8),
        numpy.zeros((3, 33), numpy.uint8),
        numpy.zeros(32, numpy.uint8),
        numpy.zeros((2, 3, 32), numpy.uint8),
        numpy.zeros((3, 64), numpy.uint8)[:, ::2],
        numpy.zeros((3, 32), numpy.uint16),
        numpy.zeros((3, 0), numpy.uint8),
    ],
    ids=["narrow", "wide", "flat", "deep", "scattered", "uint16", "nothing"],
)
def test_other_shapes_are_refused(rows: NDArray[numpy.uint8]) -> None:
    digests = DigestSet()
    for call in (digests.insert, digests.contains, digests.difference):
        with pytest.raises(ValueError, match=r"digests must be|[Bb]uffer"):
            call(rows)
    assert len(digests) == 0


def test_what_is_no_buffer_or_number_is_refused() -> None:
    with pytest.raises(TypeError):
        DigestSet().insert([b"x" * 32])  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        DigestSet(-1)
    with pytest.raises(Exception, match="larger than the format allows"):
        DigestSet(2**32)
    with pytest.raises((TypeError, ValueError)):
        assert b"short" not in DigestSet()


def test_a_set_cannot_be_copied_or_pickled() -> None:
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            copied(DigestSet())


def test_threads_share_a_set() -> None:
    digests = DigestSet()
    added: list[int] = []

    def work(seed: int) -> None:
        rows = random_rows(20_000, seed)
        for start in range(0, len(rows), 500):
            added.append(int(digests.insert(rows[start : start + 500]).sum()))
            assert digests.contains(rows[: start + 500]).all()

    threads = [threading.Thread(target=work, args=(seed // 2,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == sum(added) == 60_000


def test_repr_tells_the_size() -> None:
    digests = DigestSet()
    digests.insert(POOL)
    assert repr(digests) == "<DigestSet of 400>"
