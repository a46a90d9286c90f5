"""Chunks that are read and checked, by threads (protocol/datastore.md, "Chunk digests")."""

from __future__ import annotations

import mmap
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from pbs_push.errors import ChunkError, SourceError, clear_frames
from pbs_push.formats.blob import BlobKind
from pbs_push.formats.chunk_content import ContentChecker, ContentError
from pbs_push.formats.chunk_files import CHUNK_FILE_MAX, read_chunk_into
from pbs_push.verify.seen import Mode

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pbs_push.formats.keys import CryptKey
    from pbs_push.source.datastore import Datastore

WAITING: Final = 16_384
"""Chunks that wait at most, or a batch: enough for threads never to wait for the next index."""
_MAGIC: Final = len(BlobKind.PLAIN.value)


@dataclass(slots=True)
class Batch:
    """Chunks of one archive that are to be checked, in the order in which they are best read.

    ``good`` tells of each chunk whether it was
    found to be right (where ``mode`` is SEALED: as far as can be told).
    """

    digests: NDArray[np.uint8]
    sizes: NDArray[np.uint64]
    mode: Mode
    good: NDArray[np.bool_] = field(init=False)
    errors: list[tuple[int, ChunkError]] = field(default_factory=list)
    next: int = 0
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.digests)
        self.good = np.zeros(self.left, dtype=np.bool_)

    @property
    def done(self) -> bool:
        """Whether all of it was looked at."""
        return not self.left


class ChunkThreads:
    """Threads that check the chunks of batches, as these come.

    ``chunks_fd`` is the chunk store of ``source``, open. Use it in ``with``, which stops them;
    ``add``, ``wait`` and the counts are for one thread.
    """

    def __init__(
        self,
        source: Datastore,
        chunks_fd: int,
        key: CryptKey | None,
        cancelled: threading.Event,
        *,
        threads: int,
    ) -> None:
        self._source = source
        self._chunks_fd = chunks_fd
        self._key = key
        self._cancelled = cancelled
        self._batches: deque[Batch] = deque()
        self._waiting = 0
        self._changed = threading.Condition()
        self._ending = False
        self._failed: BaseException | None = None
        self.chunks_done = 0
        self.read_bytes = 0
        self.plain_bytes = 0
        self._threads = [
            threading.Thread(target=self._work, name="verify", daemon=True) for _ in range(threads)
        ]

    def __enter__(self) -> ChunkThreads:
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no more should be added."""
        return self._waiting >= WAITING

    def add(self, batch: Batch) -> None:
        """Check its chunks."""
        with self._changed:
            if not batch.done:
                self._batches.append(batch)
                self._waiting += batch.left
                self._changed.notify_all()

    def wait(self, ready: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something is so that checking brings about. Returns whether it is.

        Raises what ended a thread.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failed is not None or ready(), timeout_s)
            if self._failed is not None:
                raise self._failed
            return ready()

    # -- in a thread --

    def _work(self) -> None:
        try:
            reader = _Reader(self._source, self._chunks_fd, self._key)
            while (taken := self._take()) is not None:
                self._check(reader, *taken)
        except BaseException as error:  # noqa: BLE001 - raised by wait
            clear_frames(error)
            with self._changed:
                self._failed = self._failed or error
                self._changed.notify_all()

    def _take(self) -> tuple[Batch, int] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stops or self._batches)
            if self._stops:
                return None
            batch = self._batches[0]
            position = batch.next
            batch.next += 1
            self._waiting -= 1
            if batch.next == len(batch.digests):
                self._batches.popleft()
            return batch, position

    @property
    def _stops(self) -> bool:
        return self._ending or self._failed is not None or self._cancelled.is_set()

    def _check(self, reader: _Reader, batch: Batch, position: int) -> None:
        digest, size = batch.digests[position].tobytes(), int(batch.sizes[position])
        error = None
        read_bytes = 0
        try:
            read_bytes = reader.check(digest, size, batch.mode)
        except ChunkError as one:
            clear_frames(one)
            error = one
        with self._changed:
            self.chunks_done += 1
            self.read_bytes += read_bytes
            self.plain_bytes += size if read_bytes else 0
            if error is None:
                batch.good[position] = True
            else:
                batch.errors.append((position, error))
            batch.left -= 1
            if batch.done or self._waiting == WAITING - 1:
                self._changed.notify_all()


class _Reader:
    """Reads and checks chunks, one after another, in memory of its own."""

    def __init__(self, source: Datastore, chunks_fd: int, key: CryptKey | None) -> None:
        self._source = source
        self._chunks_fd = chunks_fd
        self._key = key
        self._path = str(source.chunk_path)
        # Of which only what is used takes memory: most chunks are much smaller than the largest.
        self._memory = mmap.mmap(-1, CHUNK_FILE_MAX)
        self._checker = ContentChecker()

    def check(self, digest: bytes, size: int, mode: Mode) -> int:
        """Bytes of the chunk's file. Raises ChunkError where it is damaged at a second look, too.

        What comes from memory or a cable that errs is right the next time. An error that is not
        the chunk's (a missing right, too many open files) ends all: SourceError.
        """
        try:
            return self._look(digest, size, mode)
        except ChunkError as error:
            if error.may_pass:
                raise SourceError(str(error), errno=error.errno) from error
        return self._look(digest, size, mode)

    def _look(self, digest: bytes, size: int, mode: Mode) -> int:
        length = read_chunk_into(self._chunks_fd, digest, self._path, self._memory)
        blob = memoryview(self._memory)[:length]
        key = self._key if mode is Mode.KEYED else None
        encrypted = BlobKind(bytes(blob[:_MAGIC])).encrypted
        if encrypted != (mode is not Mode.PLAIN):
            is_what = "encrypted" if encrypted else "not encrypted"
            raise self._error(
                digest, ContentError("crypt-mode", f"it is {is_what}, the manifest says otherwise")
            )
        try:
            self._checker.chunk(blob, digest, size, key)
        except ContentError as error:
            raise self._error(digest, error) from error
        return length

    def _error(self, digest: bytes, error: ContentError) -> ChunkError:
        path = self._source.chunk_path_of(digest)
        return ChunkError(digest.hex(), str(path), f"corrupt: {error}", fault=error.fault)
