"""Chunks of the target, downloaded and judged: many requests outstanding, in bounded memory."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from pbs_push.errors import (
    AuthError,
    BlobFormatError,
    ConnectError,
    ProtocolError,
    ResetError,
    SourceError,
    StatusError,
)
from pbs_push.formats.blob import BlobTooLong, check_blob, decode_blob
from pbs_push.formats.chunk_content import ContentError
from pbs_push.push.retries import is_passing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pbs_push.errors import Fault
    from pbs_push.remote.reader import ReaderSession
    from pbs_push.remote.session import Call
    from pbs_push.source.datastore import Datastore
    from pbs_push.verify.comparison import ComparedIndex

OUTSTANDING_CHUNKS: Final = 128
"""Requests under way at once; a server allows 200."""
OUTSTANDING_BYTES: Final = 64 << 20
"""What all connections together may have under way, in plain bytes."""
LEAST_BYTES: Final = 8 << 20
"""What each may: two chunks of 4 MiB."""
_BAD_REQUEST: Final = 400


class Wanted(NamedTuple):
    """A chunk to look at: ``size`` is what it holds, ``source_digest`` how the source calls it."""

    archive: ComparedIndex
    digest: bytes
    size: int
    source_digest: bytes


@dataclass(frozen=True, slots=True)
class Judged:
    """What a chunk turned out to be: bad with a ``fault``, or ``ok``, or ``same``, or neither."""

    fault: Fault | None = None
    reason: str = ""
    ok: bool = False
    same: bool = False
    downloaded_bytes: int = 0


class ChunkQueue:
    """Asks for chunks on one session, a number at a time; ``judged`` is called in their order."""

    def __init__(
        self,
        session: ReaderSession,
        ask: Callable[[Wanted], Call],
        judged: Callable[[Wanted, Call], None],
        budget: int,
    ) -> None:
        self._session = session
        self._ask = ask
        self._judged = judged
        self._budget = budget
        self._under_way: deque[tuple[Wanted, Call]] = deque()
        self._bytes = 0

    def go(self, wanted: Iterator[Wanted]) -> None:
        """Look at all of these. Raises ConnectError and its kin, Cancelled."""
        upcoming = next(wanted, None)

        def done() -> bool:
            nonlocal upcoming
            while self._under_way and self._under_way[0][1].done:
                one, call = self._under_way.popleft()
                self._bytes -= one.size
                self._judged(one, call)
            while upcoming is not None and self._has_room(upcoming):
                self._under_way.append((upcoming, self._ask(upcoming)))
                self._bytes += upcoming.size
                upcoming = next(wanted, None)
            return not self._under_way

        self._session.pump(done)

    def _has_room(self, one: Wanted) -> bool:
        if not self._under_way:
            return True
        few = len(self._under_way) < OUTSTANDING_CHUNKS
        return few and self._bytes + one.size <= self._budget


def judge_probe(_wanted: Wanted, call: Call) -> Judged:
    """What the answer tells to the question whether a chunk is there."""
    return _refusal(call) or Judged(ok=True)


def judge_download(wanted: Wanted, call: Call, source: Datastore) -> Judged:
    """Decode a chunk that was downloaded. Raises ConnectError and its kin."""
    if bad := _refusal(call):
        return bad
    body = call.body()
    try:
        return _judge_content(wanted, body, source)
    except ContentError as error:
        return Judged(error.fault, str(error), downloaded_bytes=len(body))


def _refusal(call: Call) -> Judged | None:
    """That a chunk could not be had. Raises what may pass, and is the connection's fault."""
    try:
        call.body()
    except (ConnectError, ResetError):
        raise
    except AuthError as error:  # 401 is what a server says of a chunk that no index names
        return Judged("unreadable", f"the target does not give it: {error}")
    except StatusError as error:
        if is_passing(error):
            raise
        missing = error.status == _BAD_REQUEST
        fault: Fault = "missing" if missing else "unreadable"
        return Judged(fault, f"the target does not have it: {error.text or error.status}")
    except ProtocolError:
        return Judged("length", "it is longer than its content could be")
    return None


def _judge_content(wanted: Wanted, body: bytes | memoryview, source: Datastore) -> Judged:
    archive, size = wanted.archive, len(body)
    try:
        kind = check_blob(body)
    except BlobFormatError as error:
        raise ContentError("crc" if "CRC" in str(error) else "format", str(error)) from None
    if kind.encrypted != archive.encrypted:
        is_what = "encrypted" if kind.encrypted else "not encrypted"
        raise ContentError("crypt-mode", f"it is {is_what}, its manifest says otherwise")
    if kind.encrypted and archive.key is None:
        same = _is_sources(wanted, body, source)
        return Judged(same=same, downloaded_bytes=size)
    check_content(body, wanted)
    return Judged(ok=True, downloaded_bytes=size)


def check_content(blob: bytes | memoryview, wanted: Wanted) -> None:
    """Check what a chunk holds, whose CRC-32 was checked: raises ContentError.

    One that was encrypted on the way must hold what the source's chunk does, too.
    """
    key = wanted.archive.key
    try:
        content = decode_blob(blob, key=key, max_size=wanted.size, crc=False)
    except BlobTooLong as error:
        raise ContentError("length", str(error)) from None
    except BlobFormatError as error:
        raise ContentError("content", str(error)) from None
    plain, digest = hashlib.sha256(content).digest(), None
    if wanted.archive.encrypted and key is not None:
        plain, digest = key.both_digests(content)
    found = plain if digest is None else digest
    if found != wanted.digest:
        raise ContentError("digest", f"its content has the digest {found.hex()}")
    if wanted.archive.keyed and plain != wanted.source_digest:
        raise ContentError("digest", f"it holds another chunk than the source's: {plain.hex()}")
    if len(content) != wanted.size:
        raise ContentError("length", f"it holds {len(content)} bytes, the index says {wanted.size}")


def _is_sources(wanted: Wanted, body: bytes | memoryview, source: Datastore) -> bool:
    """Whether it is byte for byte the source's: then it is as good as that."""
    try:
        return source.read_chunk(wanted.source_digest) == bytes(body)
    except SourceError:
        return False
