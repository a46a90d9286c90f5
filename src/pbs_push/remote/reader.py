"""Reading one snapshot of the target back: the reader protocol's calls (protocol/reader.md).

As with a backup session, calls are queued, and answered while ``wait`` or ``pump`` pumps the
connection: many at once, so that round trips do not add up. A server checks nothing of what it
sends; who reads does. Each answer is bounded by what its asker says that it can be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbs_push._native.transport import DISCARD, DOWNLOAD
from pbs_push.errors import ConnectError
from pbs_push.formats.blob import MAX_PROTOCOL_BLOB
from pbs_push.names import MANIFEST_NAME
from pbs_push.remote.connection import MAX_ERROR_BODY
from pbs_push.remote.query import query_text
from pbs_push.remote.session import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pbs_push._native.transport import Answer, Transport
    from pbs_push.remote.connection import Connection

READER_PROTOCOL: Final = "proxmox-backup-reader-protocol-v1"

PART_BYTES: Final = 8 << 20
"""Of an index that is larger, so much at a time goes to a file."""
CHUNK_SLACK: Final = 64 << 10
"""What an encoded chunk may have beyond its content: it is compressed where that makes it shorter,
so a header at most; a server that imitates PBS may do with less care."""


class ReaderSession:
    """The reader protocol on an upgraded connection, for the snapshot named in the upgrade.

    While it is open the target does not let the snapshot be removed. One thread at a time; made by
    ``Target.begin_reading``. Messages call the snapshot ``label``.
    """

    def __init__(self, connection: Connection, label: str) -> None:
        self._connection = connection
        self._transport: Transport = connection.transport
        self._label = label
        self._calls: dict[int, Call] = {}
        self._next_tag = 1
        self._in_parts: set[Call] = set()

    # -- the protocol's calls --

    def manifest(self) -> Call:
        """Download the manifest, as it lies on disk."""
        return self.file(MANIFEST_NAME)

    def file(self, name: str, max_bytes: int = MAX_PROTOCOL_BLOB) -> Call:
        """Download a file of up to ``max_bytes``, as it lies on disk."""
        params = {"file-name": name}
        return self._call("/download", params, mode=DOWNLOAD, max_body=max_bytes)

    def index(self, name: str, max_bytes: int) -> Call:
        """Download an index, whose chunks may be read once it is answered; ``Call.index`` has it.

        While it comes, some MiB of it are in memory.
        """
        return self._call(
            "/download",
            {"file-name": name},
            mode=DOWNLOAD,
            max_body=max_bytes,
            part_size=PART_BYTES,
        )

    def chunk(self, digest: bytes, size: int) -> Call:
        """Download a chunk that holds ``size`` bytes, as it lies on disk.

        One that is longer than these can make it comes as an error, and takes no more memory.
        """
        most = min(size + CHUNK_SLACK, MAX_PROTOCOL_BLOB)
        return self._call("/chunk", {"digest": digest.hex()}, mode=DOWNLOAD, max_body=most)

    def has_chunk(self, digest: bytes) -> Call:
        """Ask whether a chunk is on the target's disk: of a success, nothing but that is read."""
        return self._call("/chunk", {"digest": digest.hex()}, mode=DISCARD, max_body=MAX_ERROR_BODY)

    # -- waiting --

    def wait(self, calls: Iterable[Call]) -> None:
        """Pump until all of these are answered, with success or not. Raises RemoteError."""
        waiting = list(calls)

        def done() -> bool:
            while waiting and waiting[-1].answer is not None:
                waiting.pop()
            return not waiting

        self.pump(done)

    def pump(self, done: Callable[[], bool]) -> None:
        """Pump until ``done``. Raises ConnectError, ProtocolError, Cancelled."""
        self._connection.pump(lambda: self._checked(done), self._on_answer)

    def close(self) -> None:
        """End the connection, and so the target's lock on the snapshot."""
        for call in self._in_parts:
            call.close()
        self._connection.close()

    def _checked(self, done: Callable[[], bool]) -> bool:
        if done():
            return True
        if self._transport.is_over:
            raise ConnectError(f"{self._label}: the target takes no more requests (GOAWAY)")
        return False

    def _on_answer(self, answer: Answer) -> None:
        if answer.part:
            call = self._calls[answer.tag]
            self._in_parts.add(call)
            call.keep(answer.body)
            return
        self._calls.pop(answer.tag).answer = answer

    def _call(
        self, path: str, params: dict[str, str], *, mode: int, max_body: int, part_size: int = 0
    ) -> Call:
        what = next(iter(params.values()))
        call = Call(f"GET {path} {what} of {self._label}")
        call.raw = True
        tag, self._next_tag = self._next_tag, self._next_tag + 1
        self._calls[tag] = call
        self._transport.call(
            tag,
            "GET",
            f"{path}?{query_text(params)}",
            mode=mode,
            max_body=max_body,
            part_size=part_size,
        )
        return call
