"""Chunks that are encrypted on the way: read and encrypted by threads, uploaded by their caller."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from pbs_push.errors import BlobFormatError, ChunkError
from pbs_push.push.encryption import encrypt_chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from pbs_push._native.digests import DigestSet
    from pbs_push.formats.keys import CryptKey
    from pbs_push.push.writers import IndexWriter
    from pbs_push.remote.session import BackupSession, Call
    from pbs_push.source.datastore import Datastore

    Encrypted = tuple[bytes, bytes]


class Chunk(NamedTuple):
    """A chunk to read: its plain ``digest`` and ``size``, and the ``writer`` that needs it first.

    ``row`` is where its keyed digest is to be noted.
    """

    row: int
    digest: bytes
    size: int
    writer: IndexWriter


class EncryptedUploads:
    """Encrypts chunks of ``source`` under ``key`` and uploads those that are missing there.

    ``threads`` read and encrypt; up to ``buffer_bytes`` (or one chunk) wait for answers.
    Counts distinct chunks sent, their bytes as encoded, and plain.
    """

    def __init__(
        self,
        session: BackupSession,
        source: Datastore,
        key: CryptKey,
        *,
        threads: int,
        buffer_bytes: int,
    ) -> None:
        self._session = session
        self._source = source
        self._key = key
        self._threads = threads
        self._buffer_bytes = buffer_bytes
        self.sent_chunks = 0
        self.sent_bytes = 0
        self.sent_plain_bytes = 0

    def send(
        self,
        work: Iterator[Chunk],
        known: DigestSet,
        keyed: NDArray[np.uint8],
        on_read: Callable[[], None],
    ) -> None:
        """Upload all of ``work`` but those whose keyed digest is ``known``; wait for the answers.

        Fills the rows of ``keyed`` (n, 32); ``on_read`` is called for each chunk that was read.
        Raises ChunkError, RemoteError, Cancelled.
        """
        wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="encrypt")
        encrypting: deque[tuple[Chunk, Future[Encrypted]]] = deque()
        uploading: dict[Call, int] = {}

        def advance() -> bool:
            with suppress(BlockingIOError):
                os.eventfd_read(wake)
            for call in [call for call in uploading if call.done]:
                call.body()
                del uploading[call]
            while encrypting and encrypting[0][1].done():
                chunk, future = encrypting.popleft()
                digest, blob = future.result()
                keyed[chunk.row] = memoryview(digest)
                on_read()
                if digest not in known:
                    uploading[self._upload(chunk, digest, blob)] = len(blob)
            while len(encrypting) < self._threads and (
                not uploading or sum(uploading.values()) < self._buffer_bytes
            ):
                following = next(work, None)
                if following is None:
                    break
                future = pool.submit(self._encrypt, following)
                future.add_done_callback(lambda _: os.eventfd_write(wake, 1))
                encrypting.append((following, future))
            return not encrypting and not uploading

        try:
            self._session.pump(advance, wake_fd=wake)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            os.close(wake)

    def _encrypt(self, chunk: Chunk) -> Encrypted:
        blob = self._source.read_chunk(chunk.digest)
        try:
            return encrypt_chunk(blob, chunk.digest, chunk.size, self._key)
        except BlobFormatError as error:
            path = self._source.chunk_path_of(chunk.digest)
            raise ChunkError(path.name, str(path), f"corrupt: {error}") from error

    def _upload(self, chunk: Chunk, digest: bytes, blob: bytes) -> Call:
        self.sent_chunks += 1
        self.sent_bytes += len(blob)
        self.sent_plain_bytes += chunk.size
        return self._session.upload_chunk(
            chunk.writer.archive.kind,
            chunk.writer.writer_id,
            digest,
            size=chunk.size,
            blob=blob,
        )
