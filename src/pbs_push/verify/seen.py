"""Which chunks were met before, over a whole datastore: each is to be read once."""

from __future__ import annotations

import enum
import os
from typing import TYPE_CHECKING, Final

import numpy as np

from pbs_push._native.digests import DigestSet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Digests = NDArray[np.uint8]
    Sizes = NDArray[np.uint64]

_WORDS: Final = 4
"""Of 64 bits in a digest."""


class Mode(enum.IntEnum):
    """How an archive's chunks are to be taken; also the byte for it in a state file."""

    PLAIN = 0
    """They must not be encrypted."""
    SEALED = 1
    """They must be, and there is no key for them: only their CRC-32 can be checked."""
    KEYED = 2
    """They must be, with the key that is there."""


class Seen:
    """Entries of indexes: a chunk, how long it must be, and how it is to be taken.

    An entry with the digest of one that is known, but another length, is another entry: one of both
    is wrong, which only reading the chunk tells. So what is kept is a digest mixed with the rest,
    in a way that no index can be made to fit: else a hostile one could have a chunk taken for known
    that nobody has looked at.
    """

    def __init__(self) -> None:
        self._set = DigestSet()
        self._secrets = np.frombuffer(os.urandom(8 * _WORDS), dtype=np.uint64)
        self._factors = np.frombuffer(os.urandom(8 * _WORDS), dtype=np.uint64) | np.uint64(1)

    def rows(self, digests: Digests, sizes: Sizes, mode: Mode) -> Digests:
        """The entries as rows of 32 bytes that stand for them, for a DigestSet."""
        mixed = np.ascontiguousarray(digests).view(np.uint64).copy()
        kinds = (sizes << np.uint64(2)) | np.uint64(mode)
        for word in range(_WORDS):
            mixed[:, word] ^= _spread(kinds * self._factors[word] + self._secrets[word])
        return mixed.view(np.uint8)

    def add(self, rows: Digests) -> NDArray[np.intp]:
        """Positions of those that are new; from now on they are known."""
        missing = self._set.difference(rows)
        # Rows of their own: the set keeps those that it is given, and most were known.
        new = np.ascontiguousarray(rows[missing])
        return missing[self._set.insert(new)].astype(np.intp)

    def __len__(self) -> int:
        return len(self._set)


def _spread(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Let each bit depend on all others (the end of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
