"""Index writers at the target (protocol/backup.md, "Entry lists", "Closing")."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pbs_push._native.digests import DigestSet
from pbs_push.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from pbs_push.formats.index import Index
    from pbs_push.push.archives import IndexArchive
    from pbs_push.remote.session import BackupSession, Call

    Positions = NDArray[np.uint32]

_UNSENT_BYTES: Final = 8 << 20
"""Of entry lists of fixed indexes that wait in memory: more than a link takes at once."""
_LEAST_ENTRY_TEXT: Final = 69


@dataclass(slots=True)
class IndexWriter:
    """One index being written at the target.

    ``base`` is the previous index that it started from as a copy, None without one; ``positions``
    are the entries to append then (None: all). ``ready`` says up to which of these all chunks are
    acknowledged, ``appended`` up to which they were sent. ``lists`` are under way. ``total`` is how
    many entries are to be appended.
    """

    archive: IndexArchive
    create: Call
    base: Index | None = None
    positions: Positions | None = None
    writer_id: int = 0
    ready: int = 0
    appended: int = 0
    lists: list[Call] = field(default_factory=list)
    n_lists: int = 0
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self._count()

    @classmethod
    def open(
        cls, session: BackupSession, archive: IndexArchive, base: Index | None, csum: bytes | None
    ) -> IndexWriter:
        """Ask for a writer; ``csum`` is of the target's copy of ``base``."""
        positions = None if base is None else archive.index.changed(base)
        return cls(archive, _create(session, archive, csum), base, positions)

    def open_again(self, session: BackupSession) -> None:
        """Ask for one that starts empty."""
        self.base = self.positions = None
        self._count()
        self.create = _create(session, self.archive, None)

    @property
    def refused_copy(self) -> bool:
        """Whether it was to start as a copy, and was not opened."""
        return self.base is not None and _opened_no_writer(self.create)

    def _count(self) -> None:
        self.total = len(self.archive.index) if self.positions is None else len(self.positions)

    @property
    def done(self) -> bool:
        """Whether all are appended, with the answers received."""
        return self.appended == self.total and not self.lists

    def write(self, archive: IndexArchive) -> None:
        """Let it write another index than it was opened for: the same, under a key."""
        self.archive = archive
        self.positions = None if self.base is None else archive.index.changed(self.base)
        self._count()

    def answered(self) -> list[Call]:
        """The lists that were answered since the last call, with success or not."""
        if not self.lists:
            return []
        found = [call for call in self.lists if call.done]
        self.lists = [call for call in self.lists if not call.done]
        return found

    def send_lists(self, session: BackupSession, *, limit: int) -> None:
        """Send what is ready in lists of less than ``limit`` bytes: full ones, or the last.

        Those of a dynamic index one after another, since a server may swap two.
        """
        in_series = self.archive.kind == "dynamic"
        while self.appended < self.ready:
            if self.lists if in_series else session.unsent_bytes >= _UNSENT_BYTES:
                return
            due = self.ready - self.appended
            if due < limit // _LEAST_ENTRY_TEXT and self.ready < self.total:
                return
            chosen = None if self.positions is None else self.positions[self.appended : self.ready]
            call, taken = session.append(
                self.archive.kind,
                self.writer_id,
                self.archive.index,
                limit=limit,
                positions=chosen,
                first=self.appended,
                count=due,
            )
            self.lists.append(call)
            self.n_lists += 1
            self.appended += taken

    def close(self, session: BackupSession) -> Call:
        """Close it, when all entries are appended."""
        return session.close_writer(
            self.archive.kind,
            self.writer_id,
            chunk_count=self.total,
            size=self.archive.index.size,
            csum=self.archive.info.csum,
        )


def needed_digests(writers: Iterable[IndexWriter]) -> DigestSet:
    """Those of all entries that are to be appended."""
    writers = list(writers)
    needed = DigestSet(sum(writer.total for writer in writers))
    for writer in writers:
        needed.insert(writer.archive.index.digests, at=writer.positions)
    return needed


def alike(new: Index, old: Index) -> bool:
    """Whether an index can start as a copy of another (protocol/backup.md, "reuse-csum")."""
    return (
        old.kind == new.kind == "fixed"
        and len(old) == len(new)
        and old.chunk_size == new.chunk_size
    )


def _create(session: BackupSession, archive: IndexArchive, reuse_csum: bytes | None) -> Call:
    name = archive.info.filename
    if archive.kind == "fixed":
        return session.create_fixed(name, archive.index.size, reuse_csum)
    return session.create_dynamic(name)


def _opened_no_writer(call: Call) -> bool:
    """Whether no writer was opened; some say nothing (protocol/backup.md, "Other servers")."""
    if call.refused or call.answer is None or call.answer.status == 0:
        return call.refused
    try:
        call.writer_id()
    except ProtocolError:
        return True
    return False
