"""A server with the habits of one that imitates PBS (protocol/backup.md, "Other servers").

It is the embedded target, which behaves otherwise where those differ; nothing of the client is in
it.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from pbs_push.formats.index import open_index
from pbs_push.names import INDEX_SUFFIXES
from pbs_push.target import Identities, TargetOptions, TargetServer
from pbs_push.target.answers import Answer, bad_request, data_answer
from pbs_push.target.blobs import check_uploaded_chunk
from pbs_push.target.calls import CALLS
from pbs_push.target.http1 import RestConnection, _Request
from pbs_push.target.http2 import SessionConnection, _Exchange
from pbs_push.target.session import BackupSession, ChunkCheck, Place, Turn
from pbs_push.target.wire import Wire
from pbs_push.target.writers import DynamicWriter, FixedWriter

Writer = FixedWriter | DynamicWriter

_EMPTY = Answer(HTTPStatus.OK, b"", content_type=None)
_SILENT = ("/blob", "/fixed_close", "/dynamic_close", "/finish")
"""Calls that are answered with nothing, as PUTs are."""


class _Rest(RestConnection):
    """Knows tickets only, has no namespaces, cannot be read back; for errors it has empty answers
    with status 200."""

    def _handle(self, request: _Request) -> Answer:
        tail = request.components[2:]
        if tail == ["backup"] and not request.path.startswith("//api2/json/backup"):
            return _EMPTY
        # It knows no tokens, cannot be read back, and does not verify.
        unknown = tail == ["reader"] or tail[-1:] == ["verify"]
        if unknown or "authorization" in request.headers:
            return _EMPTY
        if tail[-1:] == ["namespace"]:
            self._shared.counters.request(f"{request.method} namespace")
            if request.method != "GET":
                return Answer(HTTPStatus.BAD_REQUEST, b"not implemented")
            return data_answer([{"ns": "Root"}])
        pairs = parse_qsl(request.query, keep_blank_values=True)
        query = urlencode([pair for pair in pairs if pair[0] != "ns"])
        answer = super()._handle(replace(request, query=query))
        if answer.status in (HTTPStatus.OK, HTTPStatus.SWITCHING_PROTOCOLS):
            return answer
        return _EMPTY


class _Session(BackupSession):
    """A chunk may be used by the writer that uploaded it, or after GET /previous."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._registered: set[bytes] = set()
        self._uploaded: dict[int, set[bytes]] = defaultdict(set)
        self._appended: dict[int, set[bytes]] = defaultdict(set)

    def previous_file(self, name: str, turn: Turn) -> bytes:
        content = super().previous_file(name, turn)
        path = self.place.previous_file(name)
        if name.endswith(INDEX_SUFFIXES) and path is not None:
            with open_index(path) as index:
                self._registered.update(bytes(row) for row in index.digests)
        return content

    def create_fixed(self, name: str, size: int | None, reuse_csum: str | None) -> int:
        if reuse_csum is not None:
            raise bad_request("reuse-csum is not implemented")
        return super().create_fixed(name, size, reuse_csum)

    def upload_chunk(
        self,
        kind: type[Writer],
        wid: int,
        digest: str,
        size: int,
        blob: bytearray,
        *,
        turn: Turn,
        check: ChunkCheck = check_uploaded_chunk,
    ) -> bool:
        new = super().upload_chunk(kind, wid, digest, size, blob, turn=turn, check=check)
        self._uploaded[wid].add(bytes.fromhex(digest))
        return new

    def append(
        self, kind: type[Writer], wid: int, digests: list[str], offsets: list[int], turn: Turn
    ) -> None:
        super().append(kind, wid, digests, offsets, turn)
        self._appended[wid].update(bytes.fromhex(digest) for digest in digests)

    def close(
        self, kind: type[Writer], wid: int, chunk_count: int, size: int, csum: str, *, turn: Turn
    ) -> None:
        if self._appended[wid] - self._uploaded[wid] - self._registered:
            raise bad_request("chunks are missing")
        super().close(kind, wid, chunk_count, size, csum, turn=turn)


class _Connection(SessionConnection[BackupSession]):
    """Tells nothing of what went well; with ``quiet``, nothing of a refused writer either."""

    quiet = False

    def _run(self, exchange: _Exchange[BackupSession]) -> Answer:
        answer = super()._run(exchange)
        return _EMPTY if exchange.method == "PUT" or exchange.path in _SILENT else answer

    def _respond(self, stream_id: int, answer: Answer) -> None:
        if self.quiet and answer.status == HTTPStatus.BAD_REQUEST and b"reuse-csum" in answer.body:
            answer = _EMPTY
        super()._respond(stream_id, answer)


class ImitationServer(TargetServer):
    """The server. ``user``'s password is ``secret``; ``quiet`` as above.

    It loses the first byte that follows a 101, unless the client paused before it: whoever runs the
    client sets ``paused`` where that would sleep, so that no clock is needed. ``lost`` counts.
    """

    def __init__(
        self, stores: Mapping[str, Path], *, user: str, secret: str, quiet: bool = False
    ) -> None:
        super().__init__(
            stores,
            identities=Identities.simple({user: secret}),
            options=TargetOptions(version=("3.3", "1"), bad_login_delay_s=0),
        )
        self._context.set_alpn_protocols(["h2", "http/1.1"])
        self._quiet = quiet
        self.paused = threading.Semaphore(0)
        self.lost = 0

    def _serve(self, wire: Wire) -> None:
        if wire._socket.selected_alpn_protocol() == "h2":
            return  # it would fail the upgrade
        upgraded = _Rest(wire, self._shared).serve()
        if upgraded is None:
            return
        place, early = upgraded
        assert isinstance(place, Place)
        session = _Session(place)
        try:
            first: bytes | None = early
            while first == b"":
                first = wire.exchange()
            if first is None:
                return
            if not self.paused.acquire(blocking=False):
                self.lost += 1
                return  # it reads a wrong preface, and hangs up
            self.counters.add(sessions=1)
            connection = _Connection(wire, self._shared, session, CALLS)
            connection.quiet = self._quiet
            connection.serve(first)
        finally:
            session.end()
