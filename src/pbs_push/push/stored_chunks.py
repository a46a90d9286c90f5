"""Chunks that are sent as they lie on disk: the transport's readers upload those they are given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from pbs_push._native.digests import DigestSet
from pbs_push.push.transfer import Sent
from pbs_push.push.writers import needed_digests

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pbs_push.formats.index import Index
    from pbs_push.push.negotiation import Previous
    from pbs_push.push.room import Claim
    from pbs_push.push.source_checks import ContentChecks
    from pbs_push.push.writers import IndexWriter
    from pbs_push.remote.session import BackupSession

    Positions = NDArray[np.uint32]
    Order = Callable[[Index, Positions], Positions]

_SCHEDULE_BLOCK: Final = 4096
"""Entries looked at in one go: small enough that uploads begin at once."""
_FEW: Final = 0.25
"""Below this share of needed chunks, not all of the previous indexes becomes known."""


@dataclass(slots=True)
class _Schedule:
    """How far the chunks of one writer are sent, block by block.

    ``known`` are the digests that need not be sent for it, ``scheduled`` is up to which entries
    that was looked at; ``blocks`` say for each block where it ends, and which chunk must be
    acknowledged for it to be ready. ``unfinished`` are positions of a block for which there was no
    room yet.
    """

    writer: IndexWriter
    known: DigestSet
    scheduled: int = 0
    blocks: deque[tuple[int, int]] = field(default_factory=deque)
    unfinished: Positions | None = None

    def next_block(self) -> Positions:
        """The positions of the next block to look at."""
        positions, total = self.writer.positions, self.writer.total
        begin, self.scheduled = self.scheduled, min(self.scheduled + _SCHEDULE_BLOCK, total)
        if positions is None:
            return np.arange(begin, self.scheduled, dtype=np.uint32)
        return positions[begin : self.scheduled]

    def note_acknowledged(self, acknowledged: int) -> None:
        """Chunks up to this number are at the target."""
        while self.blocks and self.blocks[0][1] <= acknowledged:
            self.writer.ready = self.blocks.popleft()[0]

    @property
    def left(self) -> int:
        """How many chunks there are to send still, if none of the entries to come is known."""
        unfinished = 0 if self.unfinished is None else len(self.unfinished)
        return self.writer.total - self.scheduled + unfinished


class StoredChunks:
    """Sends chunks as they are; see ChunkSender.

    ``order`` says in which order the chunks at some positions of an index are best read. ``share``:
    what is known, or sent, for one writer is known for all. ``claim`` is for what chunks take of
    memory until they are sent. ``checks`` look at what each holds before.
    """

    def __init__(
        self,
        session: BackupSession,
        order: Order,
        claim: Claim,
        *,
        share: bool,
        checks: ContentChecks | None = None,
    ) -> None:
        self._session = session
        self._claim = claim
        self._checks = checks
        self._order = order
        self._share = share
        self._schedules: list[_Schedule] = []
        self._plain_bytes = 0
        self.wake_fd: Final = -1

    def start(self, writers: Sequence[IndexWriter], previous: Previous) -> None:
        """Take for known what the target registered."""
        if self._share:
            known = _all_known(writers, previous.registered)
            self._schedules = [_Schedule(writer, known) for writer in writers]
        else:
            self._schedules = [
                _Schedule(writer, _own_known(writer, previous.registered)) for writer in writers
            ]

    def advance(self) -> bool:
        """Give chunks to the uploads, as many as there is room for."""
        for schedule in self._schedules:
            # In order: a digest that waits for room here must not be taken for known there.
            if not self._add(schedule):
                break
        if self._checks is not None:
            self._checks.advance()
        acknowledged = self._session.chunks_acknowledged
        for schedule in self._schedules:
            schedule.note_acknowledged(acknowledged)
        return all(schedule.writer.ready == schedule.writer.total for schedule in self._schedules)

    @property
    def progress(self) -> tuple[int, int]:
        """Chunks that the target has, and how many there are at most."""
        left = sum(schedule.left for schedule in self._schedules)
        return self._session.chunks_acknowledged, self._session.chunks_added + left

    @property
    def sent(self) -> Sent:
        """What was sent so far."""
        state = self._session.state
        unchecked = 0 if self._checks is None else self._checks.unchecked
        return Sent(state.uploads_done, state.uploads_bytes, self._plain_bytes, unchecked)

    def close(self) -> None:
        """The session stops what it reads."""
        if self._checks is not None:
            self._checks.close()
        self._claim.close()

    def _add(self, schedule: _Schedule) -> bool:
        """True if there was room for all that was left."""
        writer, session = schedule.writer, self._session
        while schedule.left:
            missing = schedule.unfinished
            if missing is None:
                missing = self._missing(schedule)
            if not self._claim.reach(self._plain_bytes):
                schedule.unfinished = missing
                return False
            taken = session.add_chunks(
                writer.archive.index,
                missing,
                writer_id=writer.writer_id,
                encrypted=writer.archive.encrypted,
            )
            if taken < len(missing):
                schedule.unfinished = missing[taken:]
                return False
            schedule.unfinished = None
            schedule.blocks.append((schedule.scheduled, session.chunks_added))
        return True

    def _missing(self, schedule: _Schedule) -> Positions:
        """The positions in the next block whose chunks have to be sent; they count as known now."""
        archive = schedule.writer.archive
        block = schedule.next_block()
        missing = schedule.known.difference(archive.index.digests, at=block, insert=True)
        self._plain_bytes += archive.plain_size(missing)
        return self._order(archive.index, missing)


def _all_known(writers: Sequence[IndexWriter], registered: Mapping[str, Index]) -> DigestSet:
    """One set for all writers."""
    total = sum(writer.total for writer in writers)
    entries = sum(len(index) for index in registered.values())
    if total < entries * _FEW:
        # Of a large image that changed little, only what is asked for.
        needed = needed_digests(writers)
        known = DigestSet(total)
        for index in registered.values():
            asked_for = np.flatnonzero(needed.contains(index.digests))
            known.insert(index.digests, at=asked_for.astype(np.uint32))
        return known
    # With room for some that are new, since a set that grows is in memory twice.
    known = DigestSet(max(total, entries) + entries // 8)
    for index in registered.values():
        known.insert(index.digests)
    return known


def _own_known(writer: IndexWriter, registered: Mapping[str, Index]) -> DigestSet:
    """Of the previous index of the same name alone."""
    known = DigestSet(writer.total)
    if old := registered.get(writer.archive.info.filename):
        known.insert(old.digests)
    return known
