"""What is about to be sent, decoded and compared with its digest (``--verify-source``).

A CRC-32 tells bytes that were damaged on the disk; the digest tells that a chunk is what the index
says, whatever became of it before it was written.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pbs_push.errors import BlobFormatError, FormatError
from pbs_push.formats.chunk_content import ContentChecker, ContentError
from pbs_push.push.chunk_workers import BYTES_EACH, ChunkWorkers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbs_push._native.transport import TakenChunk
    from pbs_push.formats.keys import CryptKey
    from pbs_push.formats.manifest import Manifest
    from pbs_push.push.encryption import Sealers
    from pbs_push.remote.session import BackupSession
    from pbs_push.source.datastore import Datastore


def key_to_check(manifest: Manifest, key: CryptKey | None) -> CryptKey | None:
    """The key, if it is the one that a snapshot is encrypted with."""
    return key if key is not None and manifest.key_fingerprint == key.fingerprint else None


def check_blobs(blobs: Iterable[tuple[str, bytes]], key: CryptKey | None) -> int:
    """Decode blob files, given by name, and say of how many nothing can be said without the key.

    Raises FormatError naming the first that is damaged.
    """
    checker = ContentChecker()
    unchecked = 0
    for name, data in blobs:
        try:
            unchecked += not checker.blob(memoryview(data), key)
        except BlobFormatError as error:
            raise FormatError(f"{name}: {error}") from None
    return unchecked


class ContentChecks:
    """Checks each chunk of a session that goes as it lies on disk before it is sent.

    ``key`` is the one that it may be encrypted with. As many compute at once as there are
    ``sealers``.
    """

    def __init__(
        self,
        session: BackupSession,
        source: Datastore,
        chunks_fd: int,
        key: CryptKey | None,
        sealers: Sealers,
        *,
        threads: int,
    ) -> None:
        self._key = key
        self._sealers = sealers
        self._counting = threading.Lock()
        self._unchecked = 0
        self._workers = ChunkWorkers(
            session,
            source,
            chunks_fd,
            self._check,
            margin=0,
            first_bytes=sealers.most * BYTES_EACH,
            threads=threads,
            name="check",
        )

    @property
    def unchecked(self) -> int:
        """Chunks that are encrypted, without the key for them."""
        return self._unchecked

    def advance(self) -> None:
        """Check what was added. Raises ChunkError."""
        self._workers.advance()

    def close(self) -> None:
        """Stop the threads."""
        self._workers.close()

    def _check(self, chunk: TakenChunk) -> None:
        sealer = self._sealers.take()
        try:
            with memoryview(chunk) as memory:
                checked = sealer.checker.chunk(memory, chunk.digest, chunk.size, self._key)
        except ContentError as error:
            raise self._workers.damaged(chunk, error) from error
        finally:
            self._sealers.give_back(sealer)
        if not checked:
            with self._counting:
                self._unchecked += 1
        chunk.give(chunk.digest)
