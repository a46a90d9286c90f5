"""How fast a datastore's chunks are read: a random sample of them, never all."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from pbs_push.bench.figures import ReadRate, StoreFigures
from pbs_push.bench.timing import check_cancelled
from pbs_push.errors import SourceError, os_reason
from pbs_push.formats.blob import MAX_PROTOCOL_BLOB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pbs_push.source.datastore import Datastore

READERS: Final = (1, 2, 4, 8, 16)
"""Reads at once."""
MOST_SAMPLED_CHUNKS: Final = 2048
MOST_SAMPLED_BYTES: Final = 4 << 30
MOST_WARM_BYTES: Final = 512 << 20
"""What is read again and again should fit into memory beside all else."""
_CHUNKS_OF_A_FOLDER: Final = 4
"""A few of each of many folders: a large store's folders lie all over the disk."""
_SAMPLING_LIMIT_S: Final = 20.0
"""On a spinning disk each folder costs a seek or two."""

_FOLDER: Final = re.compile(r"[0-9a-f]{4}", re.ASCII)
_CHUNK: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class SampledChunk:
    """A chunk's file and its length in bytes."""

    path: Path
    size: int


def sample_chunks(
    chunk_path: Path,
    rng: random.Random,
    cancelled: threading.Event,
    *,
    most_chunks: int = MOST_SAMPLED_CHUNKS,
    most_bytes: int = MOST_SAMPLED_BYTES,
) -> list[SampledChunk]:
    """Chunks of randomly chosen folders of a chunk store, in random order.

    Only folders are listed and lengths asked for; at most as much is returned as the limits say.
    Raises SourceError where the store cannot be listed or has only empty chunks, Cancelled.
    """
    try:
        folders = [name for name in os.listdir(chunk_path) if _FOLDER.fullmatch(name)]  # noqa: PTH208  (65,536 names)
    except OSError as error:
        raise SourceError(f"list {chunk_path}: {error.strerror}") from error
    rng.shuffle(folders)
    found: list[SampledChunk] = []
    total = 0
    deadline = time.monotonic() + _SAMPLING_LIMIT_S
    for name in folders:
        check_cancelled(cancelled)
        for chunk in _some_of(chunk_path / name, rng):
            if len(found) == most_chunks or total + chunk.size > most_bytes:
                break
            found.append(chunk)
            total += chunk.size
        else:
            if time.monotonic() < deadline or not found:
                continue
        break
    if not found:
        raise SourceError(f"{chunk_path} holds no chunk with content: there is nothing to measure")
    rng.shuffle(found)
    return found


def _some_of(folder: Path, rng: random.Random) -> Iterator[SampledChunk]:
    """A few chunks of one folder; none where it cannot be listed."""
    try:
        names = [name for name in os.listdir(folder) if _CHUNK.fullmatch(name)]  # noqa: PTH208
    except OSError:
        return
    for name in rng.sample(names, min(len(names), _CHUNKS_OF_A_FOLDER)):
        path = folder / name
        try:
            size = path.lstat().st_size
        except OSError:
            continue  # garbage collection took it
        if 0 < size <= MAX_PROTOCOL_BLOB:
            yield SampledChunk(path, size)


class StoreBench:
    """Reads a sample of ``datastore``, each measurement for at most ``seconds``.

    ``notify`` is told what comes next. Raises Cancelled soon after ``cancelled`` is set.
    """

    def __init__(
        self,
        datastore: Datastore,
        seconds: float,
        notify: Callable[[str], None],
        cancelled: threading.Event,
        rng: random.Random | None = None,
    ) -> None:
        self._datastore = datastore
        self._seconds = seconds
        self._notify = notify
        self._cancelled = cancelled
        # Which chunks are read is no secret.
        self._rng = rng or random.Random()  # noqa: S311
        self._largest = 0
        self._unreadable: dict[Path, str] = {}

    def measure(self) -> StoreFigures:
        """Cold and warm rates for each number of ``READERS``.

        Chunks that cannot be read are left out, and told of. Raises SourceError if none can be.
        """
        self._notify(f"datastore {self._datastore.path}: choosing chunks")
        sample = sample_chunks(self._datastore.chunk_path, self._rng, self._cancelled)
        self._largest = max(chunk.size for chunk in sample)
        cold = tuple(self._cold(sample, readers) for readers in READERS)
        if self._unreadable and not any(rate.bytes_per_s for rate in cold):
            raise SourceError(f"read {self._unreadable_one()}")
        kept = _first_bytes(sample, MOST_WARM_BYTES)
        self._read(kept, READERS[-1], float("inf"))  # so that it is in memory
        warm = tuple(self._warm(kept, readers) for readers in READERS)
        if self._unreadable:
            self._notify(
                f"datastore: {len(self._unreadable)} of the {len(sample)} chunk files cannot be "
                f"read, such as {self._unreadable_one()}"
            )
        return StoreFigures(
            path=str(self._datastore.path),
            sampled_chunks=len(sample),
            sampled_bytes=sum(chunk.size for chunk in sample),
            warm_bytes=sum(chunk.size for chunk in kept),
            cold=cold,
            warm=warm,
        )

    def _unreadable_one(self) -> str:
        """A chunk file that cannot be read, and why."""
        path, reason = min(self._unreadable.items())
        return f"{path}: {reason}"

    def _cold(self, sample: list[SampledChunk], readers: int) -> ReadRate:
        """Forget and read all of the sample in turns, until reading has taken long enough."""
        self._notify(f"datastore: cold, {readers} at once")
        done = _Done()
        while done.seconds < self._seconds:
            self._rng.shuffle(sample)
            for chunk in sample:
                check_cancelled(self._cancelled)
                _forget(chunk.path)
            done += self._read(sample, readers, self._seconds - done.seconds)
        return done.rate(readers)

    def _warm(self, kept: list[SampledChunk], readers: int) -> ReadRate:
        self._notify(f"datastore: warm, {readers} at once")
        return self._read(cycle(kept), readers, self._seconds).rate(readers)

    def _read(self, chunks: Iterable[SampledChunk], readers: int, seconds: float) -> _Done:
        """Read until there are no more, or the time is over."""
        shared = _Shared(iter(chunks))
        buffers = [np.empty(self._largest, np.uint8).data for _ in range(readers)]
        began = time.perf_counter()
        deadline = began + seconds
        with ThreadPoolExecutor(readers, thread_name_prefix="bench-read") as pool:
            working = [pool.submit(self._reader, shared, buffer, deadline) for buffer in buffers]
            counts = [future.result() for future in working]
        chunks_read, bytes_read = (sum(column) for column in zip(*counts, strict=True))
        # A clock that is too coarse must not become a division by zero.
        return _Done(chunks_read, bytes_read, max(time.perf_counter() - began, 1e-6))

    def _reader(self, shared: _Shared, buffer: memoryview, deadline: float) -> tuple[int, int]:
        """Read chunks as they are given out, at least one; returns how many, and their bytes."""
        chunks_read = bytes_read = 0
        while (chunk := shared.next()) is not None:
            check_cancelled(self._cancelled)
            size = self._read_chunk(chunk.path, buffer)
            chunks_read += size > 0
            bytes_read += size
            if time.perf_counter() >= deadline:
                break
        return chunks_read, bytes_read

    def _read_chunk(self, path: Path, buffer: memoryview) -> int:
        """Read a chunk file to ``buffer``; returns its length, 0 where that fails."""
        try:
            return _read_file(path, buffer)
        except FileNotFoundError:
            pass  # garbage collection took it
        except OSError as error:
            self._unreadable[path] = os_reason(error)
        return 0


@dataclass(frozen=True, slots=True)
class _Done:
    """What was read in how many seconds."""

    chunks: int = 0
    size: int = 0
    seconds: float = 0.0

    def __add__(self, other: _Done) -> _Done:
        return _Done(
            self.chunks + other.chunks, self.size + other.size, self.seconds + other.seconds
        )

    def rate(self, readers: int) -> ReadRate:
        """As a rate of so many reads at once."""
        return ReadRate(readers, self.size / self.seconds, self.chunks / self.seconds)


class _Shared:
    """An iterator that threads share."""

    def __init__(self, chunks: Iterator[SampledChunk]) -> None:
        self._chunks = chunks
        self._lock = threading.Lock()

    def next(self) -> SampledChunk | None:
        """The next one, None at the end."""
        with self._lock:
            return next(self._chunks, None)


def _first_bytes(sample: list[SampledChunk], limit: int) -> list[SampledChunk]:
    """As many of the first chunks as have ``limit`` bytes together, but at least one."""
    kept, total = sample[:1], sample[0].size
    for chunk in sample[1:]:
        if total + chunk.size > limit:
            break
        kept.append(chunk)
        total += chunk.size
    return kept


def _forget(path: Path) -> None:
    """Ask the kernel to drop a file's pages; it may keep those that others use, or all."""
    try:
        descriptor = os.open(path, _OPEN)
    except OSError:
        return
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _read_file(path: Path, buffer: memoryview) -> int:
    """Read a file to ``buffer``; returns its length. Raises OSError."""
    descriptor = os.open(path, _OPEN)
    try:
        done = 0
        while done < len(buffer) and (size := os.readv(descriptor, [buffer[done:]])):
            done += size
    finally:
        os.close(descriptor)
    return done
