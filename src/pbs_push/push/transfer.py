"""The transfer of one snapshot over a backup session, in as few dependent flights as can be.

    1  previous manifest, registrations, writers, blobs, client log
    2  chunks                    (only those that the target does not have)
    3  entry lists               (each as soon as the target acknowledged its chunks)
    4  closes
    5  manifest                  (alone: a folder that has one counts as finished, spec 03)
    6  finish

A digest is known only once the target acknowledged it on this connection: registered through
``GET previous``, or uploaded with the answer received (spec 03).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from pbs_push._native.digests import DigestSet
from pbs_push.names import CLIENT_LOG_NAME, INDEX_SUFFIXES
from pbs_push.push.archives import MAX_INDEXES
from pbs_push.push.transfer_base import Sent, Transfer, TransferOptions
from pbs_push.push.writers import IndexWriter, alike, create_call

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from pbs_push.formats.index import Index
    from pbs_push.formats.manifest import Manifest
    from pbs_push.push.archives import Archives, IndexArchive
    from pbs_push.remote.session import BackupSession, Call

    Positions = NDArray[np.uint32]

_SCHEDULE_BLOCK: Final = 4096
"""Entries looked at in one go: small enough that uploads begin at once."""
_FEW: Final = 0.25
"""Below this share of needed chunks, not all of the previous indexes becomes known."""


@dataclass(slots=True)
class _Writer(IndexWriter):
    """An index writer whose chunks are sent block by block.

    ``known`` are the digests that need not be sent for it, ``scheduled`` is up to which entries
    that was looked at; ``blocks`` say for each block where it ends, and which chunk must be
    acknowledged for it to be ready.
    """

    known: DigestSet = field(default_factory=DigestSet)
    scheduled: int = 0
    blocks: list[tuple[int, int]] = field(default_factory=list)
    unfinished_block: Positions | None = None

    def block(self) -> Positions:
        """The positions of the next block to look at."""
        end = min(self.scheduled + _SCHEDULE_BLOCK, self.total)
        if self.positions is None:
            return np.arange(self.scheduled, end, dtype=np.uint32)
        return self.positions[self.scheduled : end]

    def note_acknowledged(self, acknowledged: int) -> None:
        """Chunks up to this number are at the target."""
        while self.blocks and self.blocks[0][1] <= acknowledged:
            self.ready = self.blocks.pop(0)[0]


class SnapshotTransfer(Transfer):
    """Sends one snapshot as it is; ``run`` it once."""

    def __init__(
        self, session: BackupSession, archives: Archives, options: TransferOptions
    ) -> None:
        super().__init__(session, archives, options)
        self._indexes = list(archives.indexes.values())
        self._previous = None if options.plain else options.previous
        self._writers: list[_Writer] = []
        self._registered: dict[str, Index] = {}
        self._sent_plain = 0

    def _send(self) -> None:
        self._open()
        self._send_chunks()

    def _manifest(self) -> Manifest:
        return self._archives.manifest.without_source_state()

    @property
    def _sent(self) -> Sent:
        state = self._session.state
        return Sent(state.uploads_done, state.uploads_bytes, self._sent_plain)

    # -- flight 1: what the target has, and writers --

    def _open(self) -> None:
        session = self._session
        uploads = [session.upload_blob(b.info.filename, b.data) for b in self._archives.blobs]
        if self._options.client_log is not None:
            uploads.append(session.upload_blob(CLIENT_LOG_NAME, self._options.client_log))

        about: Call | None = None
        if self._options.expects_previous:
            about = session.previous_manifest()
        downloads: dict[str, Call] = {}
        if about is not None and self._previous is None:
            self._open_after_download(about)
        else:
            downloads = self._open_optimistically(about)
        downloads |= self._create_again_without_reuse(downloads)
        self._take_downloads(downloads)
        self._finish_opening(uploads)
        self._share_known()

    def _open_optimistically(self, about: Call | None) -> dict[str, Call]:
        """Take the source's copy of the previous snapshot for the target's, and check that.

        Returns downloads of those previous indexes that are not what the source has, or that it
        cannot read.
        """
        session = self._session
        self._writers = [self._create(a, self._reusable(a)) for a in self._indexes]
        registrations = {
            name: session.register_previous(name) for name in self._worth_registering()
        }
        creates = [writer.create for writer in self._writers]
        asked = [about] if about is not None else []
        session.wait([*registrations.values(), *creates, *asked])
        self._at_target = self._manifest_of(about)
        self._take_from_source(registrations)
        stale = [name for name in registrations if not self._is_same_at_target(name)]
        here = self._previous.indexes if self._previous is not None else {}
        return self._downloads([*stale, *(n for n in self._archives.indexes if n not in here)])

    def _open_after_download(self, about: Call) -> None:
        """The source does not have the target's previous snapshot (any more): ask for all of it.

        Indexes are asked for along with the manifest that tells which there are, and along with
        the writers those of other names, where one of ours is new: it may have been renamed.
        """
        downloads = {name: self._session.previous_index(name) for name in self._archives.indexes}
        self._session.wait([about, *downloads.values()])
        self._at_target = self._manifest_of(about)
        self._take_downloads(downloads)
        for archive in self._indexes:
            old = self._registered.get(archive.info.filename)
            csum = self._csum_to_reuse(archive.info.filename, old)
            reuse = (old, csum) if old is not None and csum is not None else None
            self._writers.append(self._create(archive, reuse))
        renamed = self._downloads(self._possibly_renamed())
        self._session.wait([writer.create for writer in self._writers])
        self._take_downloads(renamed)

    def _possibly_renamed(self) -> list[str]:
        """The target's previous indexes that none of ours is named like, if one of ours is new.

        No more than a session can write.
        """
        there = self._at_target
        names = {archive.info.filename for archive in self._indexes}
        if self._plain or there is None or all(there.file(name) for name in names):
            return []
        others = [
            info.filename
            for info in there.files
            if info.filename.endswith(INDEX_SUFFIXES) and info.filename not in names
        ]
        return others[:MAX_INDEXES]

    def _downloads(self, names: Iterable[str]) -> dict[str, Call]:
        """Ask for those of these indexes that the target's previous snapshot has."""
        there = self._at_target
        if there is None:
            return {}
        return {name: self._session.previous_index(name) for name in names if there.file(name)}

    def _create_again_without_reuse(self, asked: dict[str, Call]) -> dict[str, Call]:
        """Where the target refused a copy of its previous index: write all of it.

        Its chunks are registered, so that they need not be sent. Returns downloads of those
        previous indexes for which the source's own cannot stand, if not ``asked`` for before.
        """
        registrations: dict[str, Call] = {}
        unlike: list[str] = []
        for writer in self._take_refused_copies():
            name = writer.archive.info.filename
            writer.create = create_call(self._session, writer.archive, None)
            if name in self._registered or name in asked:
                continue
            if self._is_same_at_target(name):
                registrations[name] = self._session.register_previous(name)
            else:
                unlike.append(name)
        downloads = self._downloads(unlike)
        self._session.wait(registrations.values())
        self._take_from_source(registrations)
        return downloads

    def _take_from_source(self, registrations: dict[str, Call]) -> None:
        """Previous indexes that the target has registered, and that the source has too."""
        for name, call in registrations.items():
            if call.refused:
                self._fallbacks += 1
                self._note_broken(name, call)
            elif self._previous is not None and self._is_same_at_target(name):
                call.body()
                self._registered[name] = self._previous.indexes[name].index

    def _take_downloads(self, downloads: dict[str, Call]) -> None:
        """Downloaded previous indexes: their chunks are known. It only saves work."""
        self._session.wait(downloads.values())
        for name, call in downloads.items():
            if (index := self._downloaded_index(name, call)) is not None:
                self._registered[name] = index

    def _is_same_at_target(self, name: str) -> bool:
        """Whether the target's previous snapshot has the very index that the source's has."""
        ours = self._previous.manifest.file(name) if self._previous is not None else None
        theirs = self._at_target.file(name) if self._at_target is not None else None
        if ours is None or theirs is None:
            return False
        return (theirs.csum, theirs.size) == (ours.csum, ours.size)

    def _reusable(self, archive: IndexArchive) -> tuple[Index, bytes] | None:
        """The previous index that a fixed one can start from as a copy, with its csum."""
        if self._previous is None:
            return None
        old = self._previous.indexes.get(archive.info.filename)
        if old is None or not alike(archive.index, old.index):
            return None
        return old.index, old.info.csum

    def _create(self, archive: IndexArchive, reuse: tuple[Index, bytes] | None) -> _Writer:
        if reuse is None:
            return _Writer(archive, create_call(self._session, archive, None))
        old, csum = reuse
        self._shortcuts += 1
        return _Writer(
            archive, create_call(self._session, archive, csum), archive.index.changed(old)
        )

    def _worth_registering(self) -> list[str]:
        """The previous indexes that hold a chunk that is needed; the copied entries need none."""
        if self._previous is None or not self._previous.indexes:
            return []
        needed = self._needed_digests()
        if not len(needed):
            return []
        return [
            name
            for name, old in self._previous.indexes.items()
            if needed.contains(old.index.digests).any()
        ]

    def _needed_digests(self) -> DigestSet:
        """Those of all entries that are to be appended."""
        needed = DigestSet(sum(writer.total for writer in self._writers))
        for writer in self._writers:
            needed.insert(writer.archive.index.digests, at=writer.positions)
        return needed

    def _share_known(self) -> None:
        """Fill the set of known digests: one for all writers, or in the plain way one for each."""
        self._note_shared(len(self._registered))
        if self._plain:
            for writer in self._writers:
                writer.known = DigestSet(writer.total)
                if old := self._registered.get(writer.archive.info.filename):
                    writer.known.insert(old.digests)
            return
        total = sum(writer.total for writer in self._writers)
        entries = sum(len(index) for index in self._registered.values())
        if total < entries * _FEW:
            # Of a large image that changed little, only what is asked for.
            needed = self._needed_digests()
            known = DigestSet(total)
            for index in self._registered.values():
                asked_for = np.flatnonzero(needed.contains(index.digests))
                known.insert(index.digests, at=asked_for.astype(np.uint32))
        else:
            # With room for some that are new, since a set that grows is in memory twice.
            known = DigestSet(max(total, entries) + entries // 8)
            for index in self._registered.values():
                known.insert(index.digests)
        for writer in self._writers:
            writer.known = known

    # -- flights 2 and 3: chunks, and entry lists behind them --

    def _send_chunks(self) -> None:
        self._session.pump(self._advance)

    def _advance(self) -> bool:
        """Do what can be done now; True when all entries are appended."""
        for writer in self._writers:
            # In order: a digest that waits for room here must not be taken for known there.
            if not self._schedule(writer):
                break
        acknowledged = self._session.chunks_acknowledged
        self._options.on_progress(acknowledged, self._chunks_at_most())
        done = True
        for writer in self._writers:
            self._append(writer, acknowledged)
            done = done and writer.done
        return done

    def _chunks_at_most(self) -> int:
        """How many chunks there are to send, if none of the entries not yet looked at is known."""
        return self._session.chunks_added + sum(
            writer.total - writer.scheduled + len(writer.unfinished_block)
            if writer.unfinished_block is not None
            else writer.total - writer.scheduled
            for writer in self._writers
        )

    def _schedule(self, writer: _Writer) -> bool:
        """Give chunks to the uploads, as many as there is room for; True if that was all."""
        while writer.scheduled < writer.total or writer.unfinished_block is not None:
            missing = writer.unfinished_block
            if missing is None:
                missing = self._look_at(writer)
            taken = self._session.add_chunks(
                writer.archive.index,
                missing,
                writer_id=writer.writer_id,
                encrypted=writer.archive.encrypted,
            )
            if taken < len(missing):
                writer.unfinished_block = missing[taken:]
                return False
            writer.unfinished_block = None
            writer.blocks.append((writer.scheduled, self._session.chunks_added))
        return True

    def _look_at(self, writer: _Writer) -> Positions:
        """The positions in the next block whose chunks have to be sent; they count as known now."""
        block = writer.block()
        writer.scheduled += len(block)
        digests = writer.archive.index.digests
        missing = writer.known.difference(digests, at=block, insert=True)
        self._sent_plain += writer.archive.plain_size(missing)
        return self._options.order(writer.archive.index, missing)

    def _append(self, writer: _Writer, acknowledged: int) -> None:
        """Send the entries whose chunks are acknowledged."""
        for call in writer.answered():
            self._checked(call)
        writer.note_acknowledged(acknowledged)
        writer.send_lists(self._session, limit=self._options.body_limit)
