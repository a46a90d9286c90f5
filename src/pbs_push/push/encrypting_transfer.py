"""The transfer of one unencrypted snapshot that is encrypted on the way (spec 05, "With a key").

    1  previous manifest and indexes, which registers their chunks
    2  writers, blobs
    3  chunks: read, checked, encrypted by some threads, and uploaded
    4  entry lists, manifest
    5  closes
    6  finish

Digests change with the key, so each chunk must be read to know its new one, unless it was in the
source's previous snapshot too: then it stands at the same place in the target's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from pbs_push._native.digests import DigestSet
from pbs_push._native.transport import EntryTable
from pbs_push.errors import FormatError, IndexFormatError, RemoteError
from pbs_push.formats.blob import MAX_PROTOCOL_BLOB
from pbs_push.formats.index import parse_index
from pbs_push.formats.manifest import Manifest
from pbs_push.names import CLIENT_LOG_NAME, MANIFEST_NAME
from pbs_push.push.encrypted_uploads import Chunk, EncryptedUploads
from pbs_push.push.encryption import (
    DigestMap,
    encrypt_blob_archive,
    encrypt_index,
    encrypt_manifest,
    is_copy_of,
    is_ours,
)
from pbs_push.push.transfer_base import Sent, Transfer
from pbs_push.push.writers import IndexWriter, alike, create_call, opened_no_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from pbs_push.formats.index import Index
    from pbs_push.formats.keys import CryptKey
    from pbs_push.push.archives import Archives, BlobArchive
    from pbs_push.remote.session import BackupSession, Call
    from pbs_push.source.datastore import Datastore

    Positions = NDArray[np.uint32]
    Digests = NDArray[np.uint8]

_WORK_BLOCK: Final = 1024
"""Chunks whose order of reading is chosen together."""


@dataclass(slots=True)
class _Scope:
    """Writers that share what the target knows: all of a snapshot, or in the plain way just one.

    ``known`` are the keyed digests that need not be sent, ``digests`` leads from old chunks to
    theirs; ``missing`` are for each writer the positions of chunks that must be read, and
    ``plain`` and ``keyed`` the digests of these, in that order.
    """

    writers: list[IndexWriter]
    known: DigestSet
    digests: DigestMap
    missing: list[Positions]
    plain: Digests
    keyed: Digests


class EncryptingTransfer(Transfer):
    """Sends one snapshot under ``key``; ``run`` it once.

    ``previous`` are the source's own indexes of the target's newest snapshot, if it has that;
    ``expects_previous`` says that the target has one at all. ``threads`` encrypt, and up to
    ``buffer_bytes`` of chunks wait for answers. The rest is as for SnapshotTransfer.
    """

    def __init__(
        self,
        session: BackupSession,
        archives: Archives,
        *,
        source: Datastore,
        key: CryptKey,
        client_log: bytes | None,
        previous: Archives | None,
        expects_previous: bool,
        body_limit: int,
        order: Callable[[EntryTable, Positions], Positions],
        threads: int,
        buffer_bytes: int,
        plain: bool = False,
        on_progress: Callable[[int, int], None] = lambda _done, _known: None,
        on_closing: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(session, archives, plain=plain, on_closing=on_closing)
        self._key = key
        self._client_log = client_log
        self._previous = previous
        self._expects_previous = expects_previous
        self._body_limit = body_limit
        self._order = order
        self._on_progress = on_progress
        self._at_target: Manifest | None = None
        self._old: dict[str, Index] = {}
        self._writers: list[IndexWriter] = []
        self._to_read = 0
        self._read = 0
        self._uploads = EncryptedUploads(
            session,
            source,
            key,
            threads=threads,
            buffer_bytes=buffer_bytes,
            on_read=self._note_read,
        )

    def _send(self) -> None:
        self._look_at_previous()
        blobs = self._open()
        self._send_chunks()
        self._send_entries(blobs)

    @property
    def _sent(self) -> Sent:
        uploads = self._uploads
        return Sent(uploads.sent_chunks, uploads.sent_bytes, uploads.sent_plain_bytes)

    # -- flight 1: what the target has under this key --

    def _look_at_previous(self) -> None:
        """Manifest and indexes at once: under another key, as a rule just once, that is in vain."""
        if not self._expects_previous:
            return
        session = self._session
        about = session.previous(MANIFEST_NAME, max_bytes=MAX_PROTOCOL_BLOB)
        calls = {name: session.previous(name) for name in self._archives.indexes}
        session.wait([about, *calls.values()])
        self._next_flight()
        if about.refused:
            return
        try:
            manifest = Manifest.decode(about.body())
        except (FormatError, RemoteError):
            return
        if is_ours(manifest, self._key):
            self._at_target = manifest
            self._take_indexes(manifest, calls)

    def _take_indexes(self, manifest: Manifest, calls: dict[str, Call]) -> None:
        """The previous indexes that are what their manifest says; their chunks are known."""
        for name, call in calls.items():
            info = manifest.file(name)
            if info is None:
                continue
            try:
                index = parse_index(call.body(), f"{name} of the target's previous snapshot")
            except (RemoteError, FormatError):
                self._fallbacks += 1
                continue
            self._downloaded.append(index)
            if index.csum() == info.csum:
                self._old[name] = index

    def _digest_map(self, names: list[str]) -> DigestMap:
        """From the chunks of the source's previous snapshot to those of the target's copy of it."""
        previous, manifest = self._previous, self._at_target
        if previous is None or manifest is None:
            return DigestMap.of(())
        if not is_copy_of(manifest, previous.manifest, self._key):
            return DigestMap.of(())
        pairs = [
            (previous.indexes[name].index.digests, self._old[name].digests)
            for name in names
            if name in self._old and name in previous.indexes
        ]
        return DigestMap.of(pair for pair in pairs if len(pair[0]) == len(pair[1]))

    # -- flight 2: writers and blobs --

    def _open(self) -> list[BlobArchive]:
        session = self._session
        blobs = [encrypt_blob_archive(blob, self._key) for blob in self._archives.blobs]
        uploads = [session.upload_blob(blob.info.filename, blob.data) for blob in blobs]
        if self._client_log is not None:
            uploads.append(session.upload_blob(CLIENT_LOG_NAME, self._client_log))
        for archive in self._archives.indexes.values():
            csum = self._reusable(archive.info.filename)
            create = create_call(session, archive, csum)
            started = None if csum is None else np.empty(0, dtype=np.uint32)
            self._writers.append(IndexWriter(archive, create, started))
        session.wait([*uploads, *(writer.create for writer in self._writers)])
        for upload in uploads:
            upload.body()
        self._create_again_without_reuse()
        for writer in self._writers:
            writer.writer_id = writer.create.writer_id()
        return blobs

    def _reusable(self, name: str) -> bytes | None:
        """The csum of the target's previous index, where the new one can start as its copy."""
        old = self._old.get(name)
        if self._plain or old is None or self._at_target is None:
            return None
        info = self._at_target.file(name)
        if info is None or not alike(self._archives.indexes[name].index, old):
            return None
        return info.csum

    def _create_again_without_reuse(self) -> None:
        copies = [writer for writer in self._writers if writer.positions is not None]
        refused = [writer for writer in copies if opened_no_writer(writer.create)]
        if not refused:
            return
        self._fallbacks += len(refused)
        self._next_flight()
        for writer in refused:
            writer.positions = None
            writer.create = create_call(self._session, writer.archive, None)
        self._session.wait([writer.create for writer in refused])

    # -- flight 3: chunks --

    def _send_chunks(self) -> None:
        self._next_flight()
        together = [[writer] for writer in self._writers] if self._plain else [self._writers]
        for writers in together:
            scope = self._scope(writers)
            self._to_read += len(scope.plain)
            self._uploads.send(self._work(scope), scope.known, scope.keyed)
            digests = DigestMap.of(
                [(scope.digests.plain, scope.digests.keyed), (scope.plain, scope.keyed)]
            )
            for writer in writers:
                self._encrypt_writer(writer, digests)

    def _scope(self, writers: list[IndexWriter]) -> _Scope:
        """What is known of the chunks of some writers."""
        names = [writer.archive.info.filename for writer in writers]
        known = DigestSet(sum(len(self._old[name]) for name in names if name in self._old))
        for name in names:
            if name in self._old:
                known.insert(self._old[name].digests)
        digests = self._digest_map(names)
        seen = DigestSet(0)
        missing = []
        rows = []
        for writer in writers:
            all_rows = writer.archive.index.digests
            unknown = np.flatnonzero(~digests.look_up(all_rows)[1]).astype(np.uint32)
            first = unknown[seen.difference(all_rows[unknown], insert=True)]
            missing.append(first)
            rows.append(all_rows[first])
        plain = np.concatenate([np.empty((0, 32), dtype=np.uint8), *rows])
        return _Scope(writers, known, digests, missing, plain, np.zeros_like(plain))

    def _work(self, scope: _Scope) -> Iterator[Chunk]:
        """The chunks to read, in a good order for reading."""
        start = 0
        for writer, positions in zip(scope.writers, scope.missing, strict=True):
            archive = writer.archive
            for begin in range(0, len(positions), _WORK_BLOCK):
                block = positions[begin : begin + _WORK_BLOCK]
                for position in self._order(archive.table, block):
                    row = start + int(np.searchsorted(positions, position))
                    size = archive.plain_size(np.array([position], dtype=np.uint32))
                    yield Chunk(row, scope.plain[row].tobytes(), size, writer)
            start += len(positions)

    def _note_read(self) -> None:
        self._read += 1
        self._on_progress(self._read, self._to_read)

    def _encrypt_writer(self, writer: IndexWriter, digests: DigestMap) -> None:
        """Give a writer the index that it is to write, and the entries that it must append."""
        name = writer.archive.info.filename
        keyed, found = digests.look_up(writer.archive.index.digests)
        if not found.all():
            raise IndexFormatError(f"{name}: the index changed while it was pushed")
        writer.archive = encrypt_index(writer.archive, keyed)
        if writer.positions is not None:
            changed = writer.archive.table.changed(EntryTable(self._old[name]))
            writer.positions = np.frombuffer(changed, dtype=np.uint32)
        writer.ready = writer.total

    # -- flight 4: entries --

    def _send_entries(self, blobs: list[BlobArchive]) -> None:
        session = self._session
        self._next_flight()
        first = session.flight
        files = [blob.info for blob in blobs] + [writer.archive.info for writer in self._writers]
        manifest = encrypt_manifest(self._archives.manifest, files, self._key)
        upload = session.upload_blob(MANIFEST_NAME, manifest.encode())
        session.pump(lambda: self._append(first) and upload.done)
        upload.body()

    def _append(self, first_flight: int) -> bool:
        for writer in self._writers:
            for call in writer.answered():
                self._checked(call)
            writer.send_lists(self._session, limit=self._body_limit, flight=first_flight)
        return all(writer.done for writer in self._writers)
