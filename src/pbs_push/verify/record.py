"""Which chunks were checked already, by this verification or by the one that it goes on with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import numpy as np

from pbs_push.verify.chunks import Batch
from pbs_push.verify.seen import Mode, Seen
from pbs_push.verify.state import RECORD, StateFile, records_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pbs_push.verify.snapshots import VerifiedIndex

_LEAST_PART: Final = 0.05
"""Of the time at most so much goes into writing the state: that of a large store takes a while."""


class Record:
    """Tells what is still to be read of an index, and keeps what was read in ``state``, if any.

    For one thread.
    """

    def __init__(self, state: StateFile | None, every_s: float) -> None:
        self.seen: Final = Seen()
        self._state = state
        self._every_s = every_s
        self._due = time.monotonic() + every_s
        self._kept: list[NDArray[np.void]] = []
        self._batches: list[Batch] = []
        self.resumed = 0

    def load(self) -> None:
        """Take what the state says for checked. Raises ConfigError as ``StateFile.load``."""
        if self._state is None:
            return
        records = self._state.load()
        for mode in Mode:
            those = records[records["mode"] == mode]
            if not len(those):
                continue
            digests = np.ascontiguousarray(those["digest"]).view(np.uint8).reshape(-1, 32)
            rows = self.seen.rows(digests, those["size"].astype(np.uint64), mode)
            self.resumed += len(self.seen.add(rows))
        self._kept.append(records)

    def to_read(self, index: VerifiedIndex, chunks_fd: int) -> Iterator[Batch]:
        """The chunks of an index that nobody has looked at, which count as seen now.

        In the order of their inodes, some thousand at a time: a disk that spins likes that.
        """
        for begin, digests, sizes in index.blocks():
            new = self.seen.add(self.seen.rows(digests, sizes, index.mode))
            if not len(new):
                continue
            inodes = index.index.inodes(chunks_fd, (new + begin).astype(np.uint32))
            new = new[np.argsort(inodes, kind="stable")]
            batch = Batch(np.ascontiguousarray(digests[new]), sizes[new], index.mode)
            if self._state is not None:
                self._batches.append(batch)
            yield batch

    def save_if_due(self) -> None:
        """Write the state, if it is time. Raises ConfigError."""
        if time.monotonic() >= self._due:
            self.save()

    def save(self) -> None:
        """Write the state, if there is one. Raises ConfigError."""
        if self._state is None:
            return
        began = time.monotonic()
        under_way = [_good(batch) for batch in self._batches if not batch.done]
        self._kept += [_good(batch) for batch in self._batches if batch.done]
        self._batches = [batch for batch in self._batches if not batch.done]
        self._kept = [np.concatenate([np.empty(0, dtype=RECORD), *self._kept])]
        self._state.save([*self._kept, *under_way])
        now = time.monotonic()
        self._due = now + max(self._every_s, (now - began) / _LEAST_PART)

    def finish(self) -> None:
        """All was checked: forget the state."""
        if self._state is not None:
            self._state.remove()


def _good(batch: Batch) -> NDArray[np.void]:
    good = batch.good.copy()
    return records_of(batch.digests[good], batch.sizes[good], batch.mode)
