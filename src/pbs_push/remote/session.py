"""One backup at the target: the protocol's calls (protocol/backup.md), many in flight at once.

Calls are queued, and answered while ``wait`` pumps the connection. Nothing here decides what to
send: that is the push engine's (push/transfer.py).
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pbs_push._native.transport import COLLECT, DISCARD, DOWNLOAD, UPLOAD_TAG
from pbs_push.errors import ConnectError, ProtocolError, RemoteError, ResetError
from pbs_push.formats.blob import MAX_PROTOCOL_BLOB
from pbs_push.formats.index import parse_index
from pbs_push.names import MANIFEST_NAME
from pbs_push.remote.answers import NO_SECRETS, raise_for_status
from pbs_push.remote.connection import MAX_ERROR_BODY
from pbs_push.remote.query import query_text
from pbs_push.remote.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from pbs_push._native.transport import Answer, TakenChunk, Transport, TransportState
    from pbs_push.formats.index import Index
    from pbs_push.remote.connection import Connection
    from pbs_push.remote.words import Words

MAX_PREVIOUS_BYTES: Final = 4 << 30
"""Bound of a downloaded index; 1 GiB of it describes 128 TiB."""
_PART_BYTES: Final = 8 << 20
"""Of one that is larger, so much at a time goes to a file: 200,000 entries or more.

Of the second one asked for half as much, of the third one a third: together they take some 50 MiB
of memory at most.
"""

_MAX_ANSWER: Final = 1 << 20

REFUSED_STREAM: Final = 7
"""HTTP/2's error code for a request that was not looked at; also of those a GOAWAY leaves out."""

_OCTETS: Final = "application/octet-stream"


class Call:
    """A request under way; ``answer`` is None until it is answered.

    ``raw``: its answer is a file's content, not JSON. ``words`` shows what the target says.
    """

    def __init__(self, request: str, words: Words = NO_SECRETS) -> None:
        self.request = request
        self._words = words
        self.raw = False
        self.answer: Answer | None = None
        self._spool: Spool | None = None

    @property
    def done(self) -> bool:
        """Whether the answer has come."""
        return self.answer is not None

    def body(self) -> bytes | memoryview:
        """The body of a successful answer; a large one is a view.

        Raises StatusError and its kin, ProtocolError (also for what is neither JSON nor empty where
        no file was asked for, such as the login page of a proxy), ConnectError.
        """
        body = self._success()
        if not self.raw:
            self._parsed(bytes(body))
        return body

    def _success(self) -> bytes | memoryview:
        answer = self.answer
        if answer is None:
            raise ProtocolError(f"{self.request}: not answered")
        if answer.status == 0 and answer.reset_code == REFUSED_STREAM:
            raise ConnectError(f"{self.request}: the target did not take the request; try later")
        if answer.status == 0:
            raise ResetError(
                f"{self.request}: the target reset the request (HTTP/2 error {answer.reset_code})"
            )
        body = bytes(answer.body[:MAX_ERROR_BODY])
        raise_for_status(self.request, answer.status, body, self._words)
        if answer.too_large:
            raise ProtocolError(f"{self.request}: the answer is too long")
        return answer.body

    def _parsed(self, body: bytes) -> dict[str, Any]:
        """The JSON object that a body is; {} for none, which other servers give for null."""
        try:
            found = json.loads(body) if body else {}
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ProtocolError(
                f"{self.request}: the answer is not that of a Proxmox Backup Server; does it come "
                f"from a proxy? {self._words.shown(body, 200)}"
            )
        return found

    def keep(self, part: Buffer) -> None:
        """Take a part of the body of a ``previous_index``, before the answer."""
        if self._spool is None:
            self._spool = Spool()
        self._spool.write(part)

    def index(self, name: str) -> Index:
        """The body of a ``previous_index``; messages call it ``name``.

        Raises what ``body`` raises, IndexFormatError, SourceError.
        """
        body = self.body()
        if self._spool is None:
            return parse_index(body, name)
        self._spool.write(body)
        return self._spool.index(name)

    def close(self) -> None:
        """Give up what was kept of a body and not taken."""
        if self._spool is not None:
            self._spool.close()

    def writer_id(self) -> int:
        """The answer's ``data`` as a writer id. Raises RemoteError."""
        body = bytes(self._success())
        number = self._parsed(body).get("data")
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 0xFFFF:  # noqa: PLR2004
            shown = self._words.shown(body, 200) or "an empty answer"
            raise ProtocolError(f"{self.request}: no writer id in the answer: {shown}")
        return number

    @property
    def refused(self) -> bool:
        """Whether the target answered with an error that says the request cannot be done.

        That is what falling back to another way is for; a broken stream is not.
        """
        return self.answer is not None and self.answer.status >= HTTPStatus.BAD_REQUEST


class BackupSession:
    """The backup protocol on an upgraded connection, for the snapshot named in the upgrade.

    ``answered`` tells whether anything was answered at all; ``on_answered`` is called when it is.
    """

    def __init__(
        self,
        connection: Connection,
        label: str,
        chunks_path: str,
        on_answered: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = connection
        self._on_answered = on_answered
        self._transport: Transport = connection.transport
        self._label = label
        self._chunks_path = chunks_path
        self._calls: dict[int, Call] = {}
        self._next_tag = 1
        self.answered = False
        self._upload_error: RemoteError | None = None
        self._in_parts: set[Call] = set()
        self._indexes_asked = 0

    # -- the protocol's calls --

    def previous_manifest(self) -> Call:
        """Download the previous snapshot's manifest."""
        return self._previous(MANIFEST_NAME, mode=DOWNLOAD, max_body=MAX_PROTOCOL_BLOB)

    def previous_index(self, archive_name: str) -> Call:
        """Download an index of the previous snapshot, whose chunks all become known.

        ``Call.index`` has it; while it comes, some MiB of it are in memory.
        """
        self._indexes_asked += 1
        return self._previous(
            archive_name,
            mode=DOWNLOAD,
            max_body=MAX_PREVIOUS_BYTES,
            part_size=max(1, _PART_BYTES // self._indexes_asked),
        )

    def register_previous(self, archive_name: str) -> Call:
        """Make the chunks of the previous snapshot's index known, and drop its body.

        A server registers them before it answers (protocol/backup.md, "GET previous"), so the
        stream is reset at its headers.
        """
        return self._previous(archive_name, mode=DISCARD)

    def create_fixed(self, archive_name: str, size: int, reuse_csum: bytes | None = None) -> Call:
        """Open a writer of a fixed index of ``size`` bytes; with ``reuse_csum`` as a copy of the
        previous snapshot's index that has this csum."""
        params = {"archive-name": archive_name, "size": str(size)}
        if reuse_csum is not None:
            params["reuse-csum"] = reuse_csum.hex()
        return self._call("POST", "/fixed_index", params)

    def create_dynamic(self, archive_name: str) -> Call:
        """Open a writer of a dynamic index."""
        return self._call("POST", "/dynamic_index", {"archive-name": archive_name})

    def append(
        self,
        kind: str,
        writer_id: int,
        index: Index,
        *,
        limit: int,
        positions: Buffer | NDArray[np.uint32] | None = None,
        first: int = 0,
        count: int = 0,
    ) -> tuple[Call, int]:
        """Send as many entries as one body of less than ``limit`` bytes takes.

        Either the entries at ``positions`` (u32) or ``count`` entries from ``first`` on. Returns
        the call, and how many entries it carries.
        """
        path = f"/{kind}_index"
        call, tag = self._new_call(f"PUT {path} of {self._label}")
        taken = self._transport.put_entries(
            tag,
            path,
            index,
            writer_id=writer_id,
            limit=limit - 1,
            positions=positions,
            first=first,
            count=count,
        )
        return call, taken

    def close_writer(
        self, kind: str, writer_id: int, *, chunk_count: int, size: int, csum: bytes
    ) -> Call:
        """Close a writer: ``chunk_count`` is of the entries appended, ``size`` of the archive."""
        params = {
            "wid": str(writer_id),
            "chunk-count": str(chunk_count),
            "size": str(size),
            "csum": csum.hex(),
        }
        return self._call("POST", f"/{kind}_close", params)

    def upload_chunk(
        self, kind: str, writer_id: int, digest: bytes, *, size: int, blob: Buffer
    ) -> Call:
        """Upload a chunk that is in memory: ``blob`` is encoded, of ``size`` plain bytes."""
        params = {
            "wid": str(writer_id),
            "digest": digest.hex(),
            "size": str(size),
            "encoded-size": str(memoryview(blob).nbytes),
        }
        return self._call("POST", f"/{kind}_chunk", params, body=blob)

    def upload_blob(self, file_name: str, blob: Buffer) -> Call:
        """Upload a blob file as it is."""
        size = memoryview(blob).nbytes
        params = {"file-name": file_name, "encoded-size": str(size)}
        return self._call("POST", "/blob", params, body=blob)

    def finish(self) -> Call:
        """Make the snapshot whole."""
        return self._call("POST", "/finish", {})

    def speedtest(self, body: Buffer) -> Call:
        """Upload bytes that the target drops."""
        return self._call("POST", "/speedtest", {}, body=body)

    def add_chunks(
        self,
        index: Index,
        positions: Buffer | NDArray[np.uint32],
        *,
        writer_id: int,
        encrypted: bool,
    ) -> int:
        """Upload the chunks at these positions (u32) of an index; returns how many were taken.

        They are numbered in the order given, over all archives: ``chunks_added``.
        """
        return self._transport.add_chunks(
            index, positions, writer_id=writer_id, encrypted=encrypted
        )

    @property
    def chunks_added(self) -> int:
        """How many chunks ``add_chunks`` has taken so far."""
        return self._transport.chunks_added

    @property
    def chunks_acknowledged(self) -> int:
        """How many of these, from the first on, the target has acknowledged."""
        return self._transport.chunks_acknowledged

    def take_over_chunks(self, *, margin: int, first_bytes: int) -> None:
        """From now on threads of the caller's read and change the chunks that are added.

        See ``Transport.take_over``. These threads may call ``take_chunk``.
        """
        self._transport.take_over(margin=margin, first_bytes=first_bytes)

    def take_chunk(self) -> TakenChunk | None:
        """Wait for a chunk to read; None: there will be none."""
        return self._transport.take_chunk()

    def stop_chunks(self) -> None:
        """Let no thread wait for chunks any more, and end the step of ``pump``. Any thread."""
        self._transport.stop_chunks()

    @property
    def unsent_bytes(self) -> int:
        """Bytes of blobs and entry lists that are to be sent."""
        return self._transport.unsent_calls

    @property
    def state(self) -> TransportState:
        """Counts of the connection."""
        return self._transport.state()

    # -- waiting --

    def wait(self, calls: Iterable[Call]) -> None:
        """Pump until all of these are answered, with success or not. Raises RemoteError."""
        waiting = list(calls)

        def done() -> bool:
            while waiting and waiting[-1].answer is not None:
                waiting.pop()
            return not waiting

        self.pump(done)

    def pump(self, done: Callable[[], bool], *, wake_fd: int = -1) -> None:
        """Pump until ``done``, which is asked again also when ``wake_fd`` is readable.

        Raises the error of the first chunk upload that failed, ChunkError, ConnectError,
        ProtocolError, Cancelled.
        """
        self._connection.pump(lambda: self._checked(done), self._on_answer, wake_fd=wake_fd)

    def close(self) -> None:
        """Drop the connection; without a successful ``finish`` the target removes the snapshot."""
        for call in self._in_parts:
            call.close()
        self._connection.close()

    def _checked(self, done: Callable[[], bool]) -> bool:
        self._transport.check_source(self._chunks_path)
        if self._upload_error is not None:
            raise self._upload_error
        if done():
            return True
        if self._transport.is_over:
            raise ConnectError(f"{self._label}: the target takes no more requests (GOAWAY)")
        return False

    def _on_answer(self, answer: Answer) -> None:
        if not self.answered:
            self.answered = True
            self._on_answered()
        if answer.part:
            call = self._calls[answer.tag]
            self._in_parts.add(call)
            call.keep(answer.body)
            return
        if answer.tag != UPLOAD_TAG:
            call = self._calls.pop(answer.tag)
            call.answer = answer
            return
        name = answer.digest.hex() if answer.digest else "?"
        call = Call(f"uploading chunk {name} of {self._label}", self._connection.words)
        call.answer = answer
        try:
            call.body()
        except RemoteError as error:
            self._upload_error = self._upload_error or error

    def _new_call(self, request: str) -> tuple[Call, int]:
        """A call, and its tag."""
        call = Call(request, self._connection.words)
        tag = self._next_tag
        self._next_tag += 1
        self._calls[tag] = call
        return call, tag

    def _previous(
        self, archive_name: str, *, mode: int, max_body: int = _MAX_ANSWER, part_size: int = 0
    ) -> Call:
        call = self._call(
            "GET",
            "/previous",
            {"archive-name": archive_name},
            mode=mode,
            max_body=max_body,
            part_size=part_size,
        )
        call.raw = True
        return call

    def _call(
        self,
        method: str,
        path: str,
        params: dict[str, str],
        *,
        body: Buffer | None = None,
        mode: int = COLLECT,
        max_body: int = _MAX_ANSWER,
        part_size: int = 0,
    ) -> Call:
        name = params.get("archive-name") or params.get("file-name")
        what = f"{path} {name}" if name else path
        call, tag = self._new_call(f"{method} {what} of {self._label}")
        query = f"{path}?{query_text(params)}" if params else path
        content_type = _OCTETS if body is not None else None
        self._transport.call(
            tag,
            method,
            query,
            body=body,
            content_type=content_type,
            mode=mode,
            max_body=max_body,
            part_size=part_size,
        )
        return call
