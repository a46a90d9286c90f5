"""Chunks that are encrypted on the way: read and encrypted by threads, uploaded by their caller."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pbs_push._native.digests import DigestSet
from pbs_push.errors import BlobFormatError, ChunkError
from pbs_push.push.encryption import encrypt_chunk
from pbs_push.push.transfer import Sent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

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

    ``chunks_fd`` is the source's chunk store, open. ``threads`` read and encrypt; up to
    ``buffer_bytes`` (or one chunk) wait for answers. ``start`` it with some work, ``advance`` until
    that is done; close it in the end. ``wake_fd`` is readable when a thread has done something.
    ``read`` counts chunks that were read.
    """

    def __init__(
        self,
        session: BackupSession,
        source: Datastore,
        chunks_fd: int,
        key: CryptKey,
        *,
        threads: int,
        buffer_bytes: int,
    ) -> None:
        self._session = session
        self._source = source
        self._chunks_fd = chunks_fd
        self._key = key
        self._threads = threads
        self._buffer_bytes = buffer_bytes
        self._work: Iterator[Chunk] = iter(())
        self._known = DigestSet(0)
        self._keyed: NDArray[np.uint8] = np.empty((0, 32), dtype=np.uint8)
        self._encrypting: deque[tuple[Chunk, Future[Encrypted]]] = deque()
        self._uploading: dict[Call, int] = {}
        self._sent = Sent(0, 0, 0)
        self.read = 0
        self.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="encrypt")

    def start(self, work: Iterator[Chunk], known: DigestSet, keyed: NDArray[np.uint8]) -> None:
        """Begin with all of ``work``; those whose keyed digest is ``known`` are not uploaded.

        Fills the rows of ``keyed`` (n, 32).
        """
        self._work, self._known, self._keyed = work, known, keyed

    def advance(self) -> bool:
        """Do what can be done now; True when all the work is done and acknowledged.

        Raises ChunkError, RemoteError.
        """
        with suppress(BlockingIOError):
            os.eventfd_read(self.wake_fd)
        for call in [call for call in self._uploading if call.done]:
            call.body()
            del self._uploading[call]
        while self._encrypting and self._encrypting[0][1].done():
            chunk, future = self._encrypting.popleft()
            digest, blob = future.result()
            self._keyed[chunk.row] = memoryview(digest)
            self.read += 1
            if digest not in self._known:
                self._uploading[self._upload(chunk, digest, blob)] = len(blob)
        while len(self._encrypting) < self._threads and (
            not self._uploading or sum(self._uploading.values()) < self._buffer_bytes
        ):
            following = next(self._work, None)
            if following is None:
                break
            future = self._pool.submit(self._encrypt, following)
            future.add_done_callback(lambda _: os.eventfd_write(self.wake_fd, 1))
            self._encrypting.append((following, future))
        return not self._encrypting and not self._uploading

    @property
    def sent(self) -> Sent:
        """Distinct chunks sent, their bytes as encoded, and plain."""
        return self._sent

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        os.close(self.wake_fd)

    def _encrypt(self, chunk: Chunk) -> Encrypted:
        blob = self._source.read_chunk(chunk.digest, self._chunks_fd)
        try:
            return encrypt_chunk(blob, chunk.digest, chunk.size, self._key)
        except BlobFormatError as error:
            path = self._source.chunk_path_of(chunk.digest)
            raise ChunkError(path.name, str(path), f"corrupt: {error}") from error

    def _upload(self, chunk: Chunk, digest: bytes, blob: bytes) -> Call:
        sent = self._sent
        self._sent = Sent(
            sent.chunks + 1, sent.wire_bytes + len(blob), sent.plain_bytes + chunk.size
        )
        return self._session.upload_chunk(
            chunk.writer.archive.kind,
            chunk.writer.writer_id,
            digest,
            size=chunk.size,
            blob=blob,
        )
