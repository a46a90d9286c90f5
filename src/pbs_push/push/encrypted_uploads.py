"""Chunks that are encrypted on the way: by threads, in the memory from which they are sent."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from pbs_push.errors import BlobFormatError
from pbs_push.formats.sealing import SEAL_GROWTH, seal
from pbs_push.push.chunk_workers import BYTES_EACH, ChunkWorkers
from pbs_push.push.transfer import Sent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pbs_push._native.digests import DigestSet
    from pbs_push._native.transport import TakenChunk
    from pbs_push.formats.keys import CryptKey
    from pbs_push.push.encryption import Sealer, Sealers
    from pbs_push.push.room import Claim
    from pbs_push.push.writers import IndexWriter
    from pbs_push.remote.session import BackupSession
    from pbs_push.source.datastore import Datastore


class EncryptedUploads:
    """Encrypts chunks of ``source`` under ``key`` and uploads those that are missing there.

    ``chunks_fd`` is the source's chunk store, open. ``threads`` read chunks, and encrypt them with
    one of ``sealers``; ``claim`` is for what these take of memory until they are sent: less than
    they may where reads are quick, since a few for each core keep that busy. ``start`` it for some
    work, ``add`` that, ``advance`` until it is done; close it in the end.
    """

    def __init__(
        self,
        session: BackupSession,
        source: Datastore,
        chunks_fd: int,
        key: CryptKey,
        sealers: Sealers,
        claim: Claim,
        *,
        threads: int,
    ) -> None:
        self._session = session
        self._key = key
        self._sealers = sealers
        self._claim = claim
        self._known: DigestSet | None = None
        self._keyed = memoryview(b"")
        self._first = 0
        self._rows = memoryview(b"")
        self._plain_bytes = 0
        self._spared_bytes = 0
        self._counting = threading.Lock()
        self._workers = ChunkWorkers(
            session,
            source,
            chunks_fd,
            self._encrypt,
            margin=SEAL_GROWTH,
            first_bytes=sealers.most * BYTES_EACH,
            threads=threads,
            name="encrypt",
        )

    def start(self, known: DigestSet, keyed: NDArray[np.uint8]) -> None:
        """Begin with work of which each chunk has a row of ``keyed`` (n, 32), to be filled.

        All that was added before is done. Chunks whose keyed digest is ``known`` are not uploaded.
        """
        self._known = known if len(known) else None
        self._keyed = keyed.reshape(-1).data
        self._first = self._session.chunks_added
        self._rows = np.zeros(len(keyed), dtype=np.int64).data

    def add(
        self, writer: IndexWriter, positions: NDArray[np.uint32], rows: NDArray[np.int64]
    ) -> int:
        """Encrypt the chunks at these positions for a writer; returns how many were taken."""
        plain_bytes = self._plain_bytes + writer.archive.plain_size(positions)
        if not self._claim.reach(plain_bytes):
            return 0
        at = self._session.chunks_added - self._first
        self._rows[at : at + len(rows)] = rows.data
        taken = self._session.add_chunks(
            writer.archive.index, positions, writer_id=writer.writer_id, encrypted=False
        )
        left = writer.archive.plain_size(positions[taken:])
        self._plain_bytes = plain_bytes - left
        return taken

    def advance(self) -> bool:
        """True when all that was added is done and acknowledged. Raises ChunkError."""
        return self._workers.advance()

    @property
    def done(self) -> int:
        """Chunks that the target has, from the first on."""
        return self._session.chunks_acknowledged

    @property
    def sent(self) -> Sent:
        """Distinct chunks sent, their bytes as encoded, and plain."""
        state = self._session.state
        return Sent(state.uploads_done, state.uploads_bytes, self._plain_bytes - self._spared_bytes)

    def close(self) -> None:
        """Stop the threads."""
        self._workers.close()
        self._claim.close()

    # -- in a thread --

    def _encrypt(self, chunk: TakenChunk) -> None:
        """Give it to the sender, unless the target has it."""
        sealer = self._sealers.take()
        try:
            with memoryview(chunk) as memory:
                keyed = self._keyed_digest(sealer, chunk, memory)
                known = self._known is not None and keyed in self._known
                if not known:
                    seal(memory, self._key)
        finally:
            self._sealers.give_back(sealer)
        at = self._rows[chunk.job - self._first] * len(keyed)
        self._keyed[at : at + len(keyed)] = keyed
        if not known:
            chunk.give(keyed)
            return
        with self._counting:
            self._spared_bytes += chunk.size
        chunk.drop()

    def _keyed_digest(self, sealer: Sealer, chunk: TakenChunk, memory: memoryview) -> bytes:
        try:
            return sealer.keyed_digest(memory[SEAL_GROWTH:], chunk.digest, chunk.size, self._key)
        except BlobFormatError as error:
            raise self._workers.damaged(chunk, error) from error
