"""Threads that read the chunks of uploads in the readers' place, and do something with them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from pbs_push.errors import ChunkError, clear_frames
from pbs_push.formats.chunk_content import ContentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbs_push._native.transport import TakenChunk
    from pbs_push.errors import Fault
    from pbs_push.remote.session import BackupSession
    from pbs_push.source.datastore import Datastore

BYTES_EACH: Final = (8 << 20) + 4096
"""For each that computes: a chunk that it works on, and one that is sent, of 4 MiB and their heads.

What is used again and again stays in a core's cache."""


class ChunkWorkers:
    """Takes the chunks of a session, reads each from ``source``, and has it ``handled``.

    That is done by up to ``threads`` threads, which are called ``name``; it gives or drops the
    chunk. ``chunks_fd`` is the source's chunk store, open. ``margin`` and ``first_bytes`` as
    ``BackupSession.take_over_chunks`` takes them. Before anything is added; close it in the end.
    """

    def __init__(
        self,
        session: BackupSession,
        source: Datastore,
        chunks_fd: int,
        handle: Callable[[TakenChunk], None],
        *,
        margin: int,
        first_bytes: int,
        threads: int,
        name: str,
    ) -> None:
        session.take_over_chunks(margin=margin, first_bytes=first_bytes)
        self._session = session
        self._source = source
        self._chunks_fd = chunks_fd
        self._handle = handle
        self._threads = threads
        self._working = 0
        self._failed: BaseException | None = None
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def advance(self) -> bool:
        """True when all that was added is done and acknowledged. Raises what a thread has met."""
        if self._failed is not None:
            raise self._failed
        under_way = self._session.chunks_added - self._session.chunks_acknowledged
        while self._working < min(self._threads, under_way):
            self._pool.submit(self._work)
            self._working += 1
        return not under_way

    def close(self) -> None:
        """Stop the threads."""
        self._session.stop_chunks()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def damaged(self, chunk: TakenChunk, error: Exception) -> ChunkError:
        """What is wrong with the content of a chunk, as an error about its file."""
        path = self._source.chunk_path_of(chunk.digest)
        fault: Fault = error.fault if isinstance(error, ContentError) else "content"
        return ChunkError(path.name, str(path), f"corrupt: {error}", fault=fault)

    def _work(self) -> None:
        """In a thread."""
        try:
            while (chunk := self._session.take_chunk()) is not None:
                if self._source.read_chunk(chunk.digest, self._chunks_fd, chunk.read):
                    self._handle(chunk)
        except BaseException as error:  # noqa: BLE001 - raised by advance
            clear_frames(error)  # which see the chunk's memory
            self._failed = self._failed or error
            self._session.stop_chunks()
