"""Damaged chunks, and the archives that need them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pbs_push._native.digests import DigestSet
from pbs_push.verify.report import ChunkDamage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pbs_push.verify.chunks import Batch
    from pbs_push.verify.seen import Seen
    from pbs_push.verify.snapshots import VerifiedIndex


class DamagedChunks:
    """All that were found so far. For one thread."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._set = DigestSet()
        self._by_row: dict[bytes, ChunkDamage] = {}

    def note(self, batch: Batch) -> None:
        """Learn what was found in a batch that is done."""
        for position, error in batch.errors:
            at = slice(position, position + 1)
            row = self._seen.rows(batch.digests[at], batch.sizes[at], batch.mode)
            size = int(batch.sizes[position])
            damage = ChunkDamage(error.digest_hex, error.path, size, error.fault, error.reason)
            self._by_row[row.tobytes()] = damage
            self._set.insert(row)

    def needed_by(self, index: VerifiedIndex) -> Iterator[ChunkDamage]:
        """Those that an index has entries of, each once.

        All chunks of the index were looked at: those that it shares with an earlier one as well.
        """
        if not self._by_row:
            return
        found: dict[bytes, None] = {}
        for _, digests, sizes in index.blocks():
            rows = self._seen.rows(digests, sizes, index.mode)
            hits: NDArray[np.uint8] = rows[self._set.contains(rows)]
            found |= dict.fromkeys(row.tobytes() for row in hits)
        yield from (self._by_row[row] for row in found)

    def __iter__(self) -> Iterator[ChunkDamage]:
        """Those that spoil an archive that is still there."""
        return (damage for damage in self._by_row.values() if damage.places)
