"""The transfer of one unencrypted snapshot that is encrypted on the way (spec 05, "With a key").

    1  previous manifest and indexes, which registers their chunks
    2  writers, blobs
    3  chunks: read, checked, encrypted by some threads, and uploaded
    4  entry lists
    5  closes
    6  manifest
    7  finish

Digests change with the key, so each chunk must be read to know its new one, unless it was in the
source's previous snapshot too: then it stands at the same place in the target's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from pbs_push._native.digests import DigestSet
from pbs_push.errors import IndexFormatError
from pbs_push.names import CLIENT_LOG_NAME
from pbs_push.push.encrypted_uploads import Chunk, EncryptedUploads
from pbs_push.push.encryption import (
    DigestMap,
    encrypt_blob_archive,
    encrypt_index,
    encrypt_manifest,
    is_copy_of,
    is_ours,
)
from pbs_push.push.transfer_base import Sent, Transfer, TransferOptions
from pbs_push.push.writers import IndexWriter, create_call

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pbs_push.formats.index import Index
    from pbs_push.formats.keys import CryptKey
    from pbs_push.formats.manifest import Manifest
    from pbs_push.push.archives import Archives, BlobArchive
    from pbs_push.remote.session import BackupSession, Call
    from pbs_push.source.datastore import Datastore

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


class EncryptingTransfer(Transfer):
    """Sends one snapshot under ``key``; ``run`` it once.

    ``threads`` read chunks of ``source`` and encrypt them, and up to ``buffer_bytes`` of these wait
    for answers.
    """

    def __init__(
        self,
        session: BackupSession,
        archives: Archives,
        options: TransferOptions,
        *,
        source: Datastore,
        key: CryptKey,
        threads: int,
        buffer_bytes: int,
    ) -> None:
        super().__init__(session, archives, options)
        self._key = key
        self._old: dict[str, Index] = {}
        self._blobs: list[BlobArchive] = []
        self._writers: list[IndexWriter] = []
        self._to_read = 0
        self._read = 0
        self._uploads = EncryptedUploads(
            session, source, key, threads=threads, buffer_bytes=buffer_bytes
        )

    def _send(self) -> None:
        self._look_at_previous()
        self._open()
        self._send_chunks()
        self._session.pump(self._append)

    def _manifest(self) -> Manifest:
        """Signed; its files are the encrypted ones."""
        infos = [blob.info for blob in self._blobs]
        infos += [writer.archive.info for writer in self._writers]
        return encrypt_manifest(self._archives.manifest, infos, self._key)

    @property
    def _sent(self) -> Sent:
        uploads = self._uploads
        return Sent(uploads.sent_chunks, uploads.sent_bytes, uploads.sent_plain_bytes)

    # -- flight 1: what the target has under this key --

    def _look_at_previous(self) -> None:
        """Manifest and indexes at once: under another key, as a rule just once, that is in vain."""
        if not self._options.expects_previous:
            return
        session = self._session
        about = session.previous_manifest()
        calls = {name: session.previous_index(name) for name in self._archives.indexes}
        session.wait([about, *calls.values()])
        manifest = self._manifest_of(about)
        if manifest is not None and is_ours(manifest, self._key):
            self._at_target = manifest
            self._take_indexes(calls)

    def _take_indexes(self, calls: dict[str, Call]) -> None:
        """The previous indexes that can be used; their chunks are known."""
        for name, call in calls.items():
            if (index := self._downloaded_index(name, call)) is not None:
                self._old[name] = index

    def _digest_map(self, names: list[str]) -> DigestMap:
        """From the chunks of the source's previous snapshot to those of the target's copy of it."""
        previous, manifest = self._options.previous, self._at_target
        pairs: list[tuple[Digests, Digests]] = []
        if (
            previous is not None
            and manifest is not None
            and is_copy_of(manifest, previous.manifest, self._key)
        ):
            pairs = [
                (previous.indexes[name].index.digests, self._old[name].digests)
                for name in names
                if name in self._old and name in previous.indexes
            ]
        return DigestMap.of(pair for pair in pairs if len(pair[0]) == len(pair[1]))

    # -- flight 2: writers and blobs --

    def _open(self) -> None:
        session = self._session
        self._blobs = [encrypt_blob_archive(blob, self._key) for blob in self._archives.blobs]
        uploads = [session.upload_blob(blob.info.filename, blob.data) for blob in self._blobs]
        if self._options.client_log is not None:
            uploads.append(session.upload_blob(CLIENT_LOG_NAME, self._options.client_log))
        for archive in self._archives.indexes.values():
            csum = self._reusable(archive.info.filename)
            create = create_call(session, archive, csum)
            started = None if csum is None else np.empty(0, dtype=np.uint32)
            self._shortcuts += csum is not None
            self._writers.append(IndexWriter(archive, create, started))
        session.wait([writer.create for writer in self._writers])
        for writer in self._take_refused_copies():
            writer.create = create_call(session, writer.archive, None)
        self._finish_opening(uploads)

    def _reusable(self, name: str) -> bytes | None:
        """The csum of the target's previous index, where the new one can start as its copy."""
        return self._csum_to_reuse(name, self._old.get(name))

    # -- flight 3: chunks --

    def _send_chunks(self) -> None:
        self._note_shared(len(self._old))
        together = [[writer] for writer in self._writers] if self._plain else [self._writers]
        for writers in together:
            self._send_chunks_of(writers)

    def _send_chunks_of(self, writers: list[IndexWriter]) -> None:
        """Send the chunks of writers that share what the target knows, and find their digests."""
        names = [writer.archive.info.filename for writer in writers]
        parts = self._parts(writers, self._digest_map(names))
        known = DigestSet(sum(len(self._old[name]) for name in names if name in self._old))
        for name in names:
            if name in self._old:
                known.insert(self._old[name].digests)
        plain = np.concatenate(
            [_NO_DIGESTS, *(part.writer.archive.index.digests[part.missing] for part in parts)]
        )
        keyed = np.zeros_like(plain)
        self._to_read += len(plain)
        self._uploads.send(self._work(parts, plain), known, keyed, self._note_read)
        digests = DigestMap.of([(plain, keyed)])
        for part in parts:
            self._encrypt_index(part, digests)

    def _parts(self, writers: list[IndexWriter], digests: DigestMap) -> list[_Part]:
        """What ``digests``, those of the previous snapshot, tell of each, and what it misses."""
        seen = DigestSet(0)
        parts = []
        for writer in writers:
            rows = writer.archive.index.digests
            keyed, found = digests.look_up(rows)
            unknown = np.flatnonzero(~found).astype(np.uint32)
            missing = seen.difference(rows, at=unknown, insert=True)
            parts.append(_Part(writer, keyed, unknown, missing))
        return parts

    def _work(self, parts: list[_Part], plain: Digests) -> Iterator[Chunk]:
        """The chunks to read, in a good order for reading; ``plain`` are their digests."""
        start = 0
        for part in parts:
            archive, positions = part.writer.archive, part.missing
            for begin in range(0, len(positions), _WORK_BLOCK):
                block = positions[begin : begin + _WORK_BLOCK]
                for position in self._options.order(archive.index, block):
                    row = start + int(np.searchsorted(positions, position))
                    size = archive.plain_size(np.array([position], dtype=np.uint32))
                    yield Chunk(row, plain[row].tobytes(), size, part.writer)
            start += len(positions)

    def _note_read(self) -> None:
        self._read += 1
        self._options.on_progress(self._read, self._to_read)

    def _encrypt_index(self, part: _Part, digests: DigestMap) -> None:
        """Give a writer the index that it is to write, and the entries that it must append."""
        writer = part.writer
        name = writer.archive.info.filename
        keyed, found = digests.look_up(writer.archive.index.digests[part.unknown])
        if not found.all():
            raise IndexFormatError(f"{name}: the index changed while it was pushed")
        part.keyed[part.unknown] = keyed
        writer.archive = encrypt_index(writer.archive, part.keyed)
        if writer.positions is not None:
            writer.positions = writer.archive.index.changed(self._old[name])
        writer.ready = writer.total

    # -- flight 4: entries --

    def _append(self) -> bool:
        for writer in self._writers:
            for call in writer.answered():
                self._checked(call)
            writer.send_lists(self._session, limit=self._options.body_limit)
        return all(writer.done for writer in self._writers)
