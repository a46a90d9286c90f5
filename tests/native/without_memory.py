"""Extension modules while the n-th call for memory fails: test_nomem.py runs this by itself."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pbs_push._native.digests import DigestSet
from pbs_push._native.index import Index
from pbs_push._native.transport import DOWNLOAD, Transport

from .h2_peer import ChunkFolder, all_of

SETTINGS = b"\0\0\0\4\0\0\0\0\0"
preloaded = ctypes.CDLL(None)
seen = 0


@contextmanager
def may_lack_memory() -> Iterator[None]:
    """A MemoryError, and nothing else, may be raised in here, where a call has failed."""
    global seen  # noqa: PLW0603  (of this process alone)
    try:
        yield
    except MemoryError:
        assert preloaded.has_failed()
        seen += 1


def digests() -> None:
    rows = np.arange(600 * 32, dtype=np.uint32).view(np.uint8).reshape(-1, 32)
    with may_lack_memory():
        held = DigestSet()
        for first in range(0, len(rows), 400):
            with may_lack_memory():
                held.insert(rows[first : first + 200])
        with may_lack_memory():
            held.insert(rows)
        held.insert(rows)  # whatever has failed before
        assert held.contains(rows).all()
        assert len(held) == len(rows)


def conversation() -> None:
    said = SETTINGS + b"\0\0\x0d\1\4\0\0\0\1\x88\x40\4name\5value"
    said += b"\0\0\5\0\1\0\0\0\1hello" + b"\0\0\1\1\4\0\0\0\3\x88" + b"\0\0\4\0\0\0\0\0\3part"
    with may_lack_memory():
        transport = Transport("a:1")
        transport.call(1, "GET", "/one")
        transport.call(2, "GET", "/two", mode=DOWNLOAD, part_size=2)
        transport.call(3, "PUT", "/three", body=b"body")
        while (view := transport.send()) is not None:
            view.release()
        for at in range(0, len(said), 5):
            transport.receive(said[at : at + 5])
        answers = transport.answers()
        assert [(answer.tag, answer.body) for answer in answers] == [(1, b"hello"), (2, b"part")]


def uploads(index: Index, chunks_fd: int) -> None:
    with may_lack_memory():
        transport = Transport("a:1")
        transport.attach_uploads(chunks_fd, readers=2, buffer_bytes=0)
        transport.put_entries(1, "/list", index, writer_id=1, limit=1000, count=2)
        transport.add_chunks(index, all_of(index), writer_id=1, encrypted=False)
        transport.close()


def for_every_call(run: Callable[[], None]) -> int:
    """How many calls there were, each of which has failed once."""
    n = 0
    while True:
        n += 1
        preloaded.fail_from(n)
        before = seen
        run()
        failed = preloaded.has_failed() or seen > before
        preloaded.fail_from(0)
        if not failed:
            return n - 1


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = ChunkFolder(Path(place))
        chunks_fd = os.open(folder.path, os.O_RDONLY)
        index = folder.dynamic([b"a chunk", b"another"])
        runs = (digests, conversation, lambda: uploads(index, chunks_fd))
        counts = [for_every_call(run) for run in runs]
    assert all(count > 3 for count in counts), counts
    sys.stdout.write(f"{counts} calls, {seen} errors\n")


if __name__ == "__main__":
    main()
