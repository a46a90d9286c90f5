"""Checking chunks that came together side by side: hashing is most of what a target does."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from urllib.parse import parse_qs

from pbs_push.formats.blob import MAX_CHUNK_SIZE
from pbs_push.target.blobs import check_uploaded_chunk


class EarlyCheck:
    """The check of one uploaded chunk, begun when its request is complete.

    Call it as ``check_uploaded_chunk``: it gives what that would. ``query`` is that of the request.
    """

    def __init__(self, pool: Executor, query: str, blob: bytearray) -> None:
        params = parse_qs(query)
        self._digest = params.get("digest", [""])[0]
        size = params.get("size", [""])[0]
        # What is malformed, or too large, is refused before anybody asks for this check.
        number = int(size) if size.isascii() and size.isdecimal() and len(size) < 10 else 0  # noqa: PLR2004
        self._size = min(number, MAX_CHUNK_SIZE)
        self._blob = blob
        self._verdict: Future[None] = pool.submit(
            check_uploaded_chunk, blob, self._digest, self._size
        )

    def __call__(self, blob: bytearray, digest: str, size: int) -> None:
        """The verdict. Raises Refusal."""
        if (digest, size) == (self._digest, self._size) and blob is self._blob:
            self._verdict.result()
        else:
            check_uploaded_chunk(blob, digest, size)
