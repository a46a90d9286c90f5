"""Chunks that are encrypted on the way (protocol/push.md, "With a key").

Digests change with the key, so each chunk must be read to know its new one, unless it was in the
source's previous snapshot too: then it stands at the same place in the target's. What is to be
appended to an index is known once all its chunks were read.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from pbs_push._native.digests import DigestSet
from pbs_push.errors import IndexFormatError
from pbs_push.push.encryption import is_copy_of
from pbs_push.push.keyed_indexes import DigestMap, encrypt_index

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from pbs_push.formats.index import Index
    from pbs_push.formats.keys import CryptKey
    from pbs_push.push.archives import Archives
    from pbs_push.push.encrypted_uploads import EncryptedUploads
    from pbs_push.push.negotiation import Previous
    from pbs_push.push.stored_chunks import Order
    from pbs_push.push.transfer import Sent
    from pbs_push.push.writers import IndexWriter

    Positions = NDArray[np.uint32]
    Digests = NDArray[np.uint8]

_WORK_BLOCK: Final = 1024
"""Chunks whose order of reading is chosen together."""
_NO_DIGESTS: Final = np.empty((0, 32), dtype=np.uint8)


@dataclass(slots=True)
class _Part:
    """One writer's digests: ``keyed`` (n, 32) as far as they are known, ``unknown`` where not.

    ``missing`` are those of the unknown positions whose chunks must be read for it.
    """

    writer: IndexWriter
    keyed: Digests
    unknown: Positions
    missing: Positions


@dataclass(frozen=True, slots=True)
class _Batch:
    """Writers that share what the target knows: their ``parts``, and the chunks to read for them.

    ``plain`` are the digests of these, ``keyed`` is filled as they are read; both (n, 32).
    """

    parts: list[_Part]
    plain: Digests
    keyed: Digests


class _Block(NamedTuple):
    """Chunks to read for a writer, at these ``positions``; each one's row in its batch."""

    writer: IndexWriter
    positions: Positions
    rows: NDArray[np.int64]

    def without(self, n: int) -> _Block:
        """All but the first n."""
        return _Block(self.writer, self.positions[n:], self.rows[n:])


class KeyedChunks:
    """Sends chunks under ``key`` by ``uploads``; see ChunkSender.

    ``here`` are the source's own indexes of the target's previous snapshot, if it has them.
    ``order`` and ``share`` are as for StoredChunks.
    """

    def __init__(
        self,
        uploads: EncryptedUploads,
        key: CryptKey,
        here: Archives | None,
        order: Order,
        *,
        share: bool,
    ) -> None:
        self._uploads = uploads
        self._key = key
        self._here = here
        self._order = order
        self._share = share
        self._batches: deque[list[IndexWriter]] = deque()
        self._batch: _Batch | None = None
        self._work: Iterator[_Block] = iter(())
        self._unfinished: _Block | None = None
        self._registered: Mapping[str, Index] = {}
        self._is_copy = False
        self._at_most = 0
        self.wake_fd: Final = -1

    def start(self, writers: Sequence[IndexWriter], previous: Previous) -> None:
        """Take for known what the target registered."""
        self._registered = previous.registered
        self._is_copy = (
            self._here is not None
            and previous.manifest is not None
            and is_copy_of(previous.manifest, self._here.manifest, self._key)
        )
        self._batches = deque([list(writers)] if self._share else [[one] for one in writers])

    def advance(self) -> bool:
        """Encrypt and upload; a batch of writers is ready when all its chunks are acknowledged."""
        while True:
            if self._batch is None:
                if not self._batches:
                    return True
                self._batch = self._begin(self._batches.popleft())
            all_added = self._add()
            if not self._uploads.advance() or not all_added:
                return False
            self._end(self._batch)
            self._batch = None

    @property
    def progress(self) -> tuple[int, int]:
        """Chunks that were read and are there, and how many to read as far as that is known."""
        return self._uploads.done, self._at_most

    @property
    def sent(self) -> Sent:
        """What was sent so far."""
        return self._uploads.sent

    def close(self) -> None:
        """Stop the threads."""
        self._uploads.close()

    # -- what is to be read --

    def _begin(self, writers: list[IndexWriter]) -> _Batch:
        names = [writer.archive.info.filename for writer in writers]
        parts = _parts(writers, self._digest_map(names))
        old = [self._registered[name] for name in names if name in self._registered]
        known = DigestSet(sum(len(index) for index in old))
        for index in old:
            known.insert(index.digests)
        plain = np.concatenate(
            [_NO_DIGESTS, *(part.writer.archive.index.digests[part.missing] for part in parts)]
        )
        batch = _Batch(parts, plain, np.zeros_like(plain))
        self._at_most += len(plain)
        self._uploads.start(known, batch.keyed)
        self._work = self._blocks(batch)
        return batch

    def _digest_map(self, names: list[str]) -> DigestMap:
        """From the chunks of the source's previous snapshot to those of the target's copy of it."""
        here = self._here.indexes if self._here is not None and self._is_copy else {}
        pairs = [
            (here[name].index.digests, self._registered[name].digests)
            for name in names
            if name in self._registered and name in here
        ]
        return DigestMap.of(pair for pair in pairs if len(pair[0]) == len(pair[1]))

    def _blocks(self, batch: _Batch) -> Iterator[_Block]:
        """The chunks to read, in a good order for reading."""
        start = 0
        for part in batch.parts:
            index, missing = part.writer.archive.index, part.missing
            for begin in range(0, len(missing), _WORK_BLOCK):
                positions = self._order(index, missing[begin : begin + _WORK_BLOCK])
                yield _Block(part.writer, positions, start + np.searchsorted(missing, positions))
            start += len(missing)

    def _add(self) -> bool:
        """Give chunks to the uploads, as many as there is room for; True if those were all."""
        while (block := self._unfinished or next(self._work, None)) is not None:
            taken = self._uploads.add(*block)
            self._unfinished = None
            if taken < len(block.positions):
                self._unfinished = block.without(taken)
                return False
        return True

    # -- what is to be written --

    def _end(self, batch: _Batch) -> None:
        """Give the writers the indexes that they are to write."""
        digests = DigestMap.of([(batch.plain, batch.keyed)])
        for part in batch.parts:
            writer = part.writer
            keyed, found = digests.look_up(writer.archive.index.digests[part.unknown])
            if not found.all():
                name = writer.archive.info.filename
                raise IndexFormatError(f"{name}: the index changed while it was pushed")
            part.keyed[part.unknown] = keyed
            writer.write(encrypt_index(writer.archive, part.keyed))
            writer.ready = writer.total


def _parts(writers: list[IndexWriter], digests: DigestMap) -> list[_Part]:
    """What ``digests``, those of the previous snapshot, tell of each writer, and what it misses."""
    seen = DigestSet(0)
    parts = []
    for writer in writers:
        rows = writer.archive.index.digests
        keyed, found = digests.look_up(rows)
        unknown = np.flatnonzero(~found).astype(np.uint32)
        missing = seen.difference(rows, at=unknown, insert=True)
        parts.append(_Part(writer, keyed, unknown, missing))
    return parts
