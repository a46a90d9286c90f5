"""Which chunks of a target are looked at, each once over a whole run, whatever thread meets it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from pbs_push.verify.seen import Mode, Seen
from pbs_push.verify.target_options import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Digests = NDArray[np.uint8]
    Sizes = NDArray[np.uint64]
    Positions = NDArray[np.intp]

_WORDS: Final = 1 << 64
_GOLDEN: Final = 0x9E3779B97F4A7C15


class Claims(Protocol):
    """Says of entries which of their chunks are to be looked at now."""

    def take(self, digests: Digests, sizes: Sizes, mode: Mode) -> Positions:
        """Positions of those to look at; they are the caller's from now on.

        ``sizes`` are what the chunks must hold, in bytes, or other numbers that tell that.
        """


class SampledClaims:
    """Each distinct chunk once, of them a part at random. ``known`` counts all of them.

    Whether a chunk is of the sample depends on its digest and ``seed`` alone: not on the order in
    which threads come, nor on how often it is named.
    """

    def __init__(self, sample: Sample, seed: int) -> None:
        self._lock = threading.Lock()
        self._seen = Seen()
        self._all = sample.part == 1
        self._limit = np.uint64(min(int(sample.part * _WORDS), _WORDS - 1))
        self._seed = _spread(np.array([(seed + _GOLDEN) % _WORDS], dtype=np.uint64))
        self.known = 0

    def take(self, digests: Digests, sizes: Sizes, mode: Mode) -> Positions:
        """See Claims."""
        rows = self._seen.rows(digests, sizes, mode)
        with self._lock:
            new = self._seen.add(rows)
            self.known += len(new)
        return new if self._all else new[self._is_sampled(digests[new])]

    def _is_sampled(self, digests: Digests) -> NDArray[np.bool_]:
        words = np.ascontiguousarray(digests[:, :8]).view(np.uint64).reshape(-1)
        return _spread(words ^ self._seed) < self._limit


class AllClaims(SampledClaims):
    """Each distinct chunk once."""

    def __init__(self) -> None:
        super().__init__(Sample(1.0), 0)


class OnlyClaims:
    """Some chunks, each once: for looking again."""

    def __init__(self, digests: set[bytes]) -> None:
        self._left = set(digests)

    def take(self, digests: Digests, sizes: Sizes, mode: Mode) -> Positions:
        """See Claims."""
        del sizes, mode
        found = []
        for position, row in enumerate(digests):
            digest = row.tobytes()
            if digest in self._left:
                self._left.discard(digest)
                found.append(position)
        return np.array(found, dtype=np.intp)


class NoClaims:
    """None at all."""

    def take(self, digests: Digests, sizes: Sizes, mode: Mode) -> Positions:
        """See Claims."""
        del digests, sizes, mode
        return np.empty(0, dtype=np.intp)


def _spread(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Let each bit depend on all others (the end of SplitMix64)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
