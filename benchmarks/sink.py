"""A target that drops what it gets, in a process of its own: what is left is the pusher's cost.

``python sink.py http2`` answers the upgrade to the backup protocol and then speaks just enough
HTTP/2 for a whole session, with a real server's settings
(protocol/backup.md, "HTTP/2 settings"). Payload is skipped by count: no
HTTP/2 library sees it. ``python sink.py http2-each`` answers each request as a real server does, by
itself, in a TLS record and a packet of its own, and takes ``BENCH_EACH_US`` for it (0 unless set).
``python sink.py drop`` reads from TLS until the end, for a plain loop.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import hpack

from pbs_push.target.certificate import server_context
from processes import Json, answer_questions, cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
FRAME_HEADER: Final = struct.Struct(">BHBBL")
PREFACE_SIZE: Final = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
WINDOW: Final = 32 << 20
MAX_FRAME: Final = 4 << 20
MAX_STREAMS: Final = 200
UPDATE_AFTER: Final = WINDOW // 2
"""A real server opens the window again once half of it is used up."""
READ_BYTES: Final = 256 << 10
EACH_S: Final = float(os.environ.get("BENCH_EACH_US", "0")) / 1e6

_SETTINGS: Final = struct.pack(">HLHLHLHL", 3, MAX_STREAMS, 4, WINDOW, 5, MAX_FRAME, 6, 16 << 10)
UPGRADE_HEADER: Final = b"\r\nupgrade: proxmox-backup-protocol-v1\r\n"
UPGRADED: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n"
    b"upgrade: proxmox-backup-protocol-v1\r\n\r\n"
)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    size = len(payload)
    return FRAME_HEADER.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


class SinkSession:
    """The server's side of one HTTP/2 connection, without I/O: bytes in, answers out."""

    def __init__(self) -> None:
        self.out = bytearray(frame(SETTINGS, 0, 0, _SETTINGS))
        self._window_update(0, WINDOW - 65_535)
        self._decoder = hpack.Decoder()
        self._encoder = hpack.Encoder()
        self._rest = b""
        self._to_skip = PREFACE_SIZE
        self._ends_stream = 0
        self._answers: dict[int, bytes] = {}
        self._received: dict[int, int] = {}
        self._unreturned = 0
        self._next_writer = 1
        self.on_answer: Callable[[], None] = lambda: None
        self.requests = 0
        self.data_bytes = 0

    def take(self, data: memoryview) -> None:
        """Handle bytes of the client; what to send is appended to ``out``."""
        if self._rest:
            data = memoryview(self._rest + bytes(data))
            self._rest = b""
        at, size = 0, len(data)
        while True:
            if self._to_skip:
                skipped = min(self._to_skip, size - at)
                at += skipped
                self._to_skip -= skipped
                if self._to_skip:
                    return
                if self._ends_stream:
                    self._answer(self._ends_stream)
                    self._ends_stream = 0
            if size - at < FRAME_HEADER.size:
                break
            high, low, kind, flags, stream = FRAME_HEADER.unpack_from(data, at)
            length = high << 16 | low
            if kind == DATA:
                at += FRAME_HEADER.size
                self._on_data(stream, length, flags)
                continue
            if size - at < FRAME_HEADER.size + length:
                break
            start = at + FRAME_HEADER.size
            at = start + length
            self._on_frame(kind, flags, stream, bytes(data[start:at]))
        self._rest = bytes(data[at:])

    def _on_data(self, stream: int, length: int, flags: int) -> None:
        if length > MAX_FRAME:
            raise ValueError(f"a DATA frame of {length} bytes")
        self.data_bytes += length
        self._to_skip = length
        self._unreturned += length
        if self._unreturned > UPDATE_AFTER:
            self._window_update(0, self._unreturned)
            self._unreturned = 0
        if flags & END_STREAM:
            self._received.pop(stream, None)
            self._ends_stream = stream
            if not length:
                self._answer(stream)
                self._ends_stream = 0
            return
        received = self._received.get(stream, 0) + length
        if received > UPDATE_AFTER:
            self._window_update(stream, received)
            received = 0
        self._received[stream] = received

    def _on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == HEADERS:
            if not flags & END_HEADERS:
                raise ValueError("headers in pieces")
            self.requests += 1
            self._answers[stream] = self._body_for(payload)
            if flags & END_STREAM:
                self._answer(stream)
        elif kind == SETTINGS and not flags & ACK:
            self.out += frame(SETTINGS, ACK, 0, b"")
        elif kind == PING and not flags & ACK:
            self.out += frame(PING, ACK, 0, payload)
        elif kind == CONTINUATION:
            raise ValueError(f"a frame of type {kind}")

    def _body_for(self, block: bytes) -> bytes:
        """The answer to a request; chunk uploads are known without decoding their headers.

        That is right only as long as they leave the HPACK table alone, and it keeps the sink's
        cost per chunk below the pusher's.
        """
        at = block.find(b"_chunk?")
        if at >= 0:
            digest = block.find(b"&digest=", at) + 8
            return b'{"data":"%s"}' % block[digest : digest + 64]
        headers = dict(self._decoder.decode(block, raw=True))
        path = headers[b":path"].partition(b"?")[0]
        if headers[b":method"] == b"POST" and path.endswith(b"_index"):
            self._next_writer += 1
            return b'{"data":%d}' % (self._next_writer - 1)
        return b'{"data":null}'

    def _answer(self, stream: int) -> None:
        body = self._answers.pop(stream)
        block = self._encoder.encode(
            (
                (":status", "200"),
                ("content-type", "application/json;charset=UTF-8"),
                ("content-length", str(len(body))),
            )
        )
        self.out += frame(HEADERS, END_HEADERS, stream, block)
        self.out += frame(DATA, END_STREAM, stream, body)
        self.on_answer()

    def _window_update(self, stream: int, more: int) -> None:
        self.out += frame(WINDOW_UPDATE, 0, stream, more.to_bytes(4, "big"))


class TlsLine:
    """A blocking TLS connection through memory BIOs: fewer system calls than an SSLSocket."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.wire_bytes = 0
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                if not self._fill():
                    raise
        self._flush()

    def pieces(self, answers: Callable[[], bytes]) -> Iterator[memoryview]:
        """What comes, decrypted, each valid until the next; ``answers`` are sent before waiting."""
        buffer = bytearray(READ_BYTES)
        view = memoryview(buffer)
        while True:
            try:
                size = cast("int", self._tls.read(READ_BYTES, buffer))
            except ssl.SSLWantReadError:
                if answer := answers():
                    self._tls.write(answer)
                self._flush()
                if not self._fill():
                    return
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return
            if not size:
                return
            yield view[:size]

    def send(self, data: bytes) -> None:
        """Send it at once, in a record of its own."""
        self._tls.write(data)
        self._flush()

    def _fill(self) -> bool:
        data = self._socket.recv(READ_BYTES)
        self.wire_bytes += len(data)
        self._incoming.write(data)
        return bool(data)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._socket.sendall(self._outgoing.read())


class Sink:
    """Listens on loopback and serves one connection after the other in threads."""

    def __init__(self, mode: str) -> None:
        self._context, self.fingerprint = server_context(None)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._serve = self._drop if mode == "drop" else self._serve_backup
        self._each_s = EACH_S if mode == "http2-each" else None
        self._bytes = self._requests = 0
        self._lines: list[TlsLine] = []

    def start(self) -> None:
        """Accept in the background, as long as the process lives."""
        threading.Thread(target=self._accept, daemon=True).start()

    def counts(self, _question: Json) -> Json:
        """Payload bytes and requests so far, what this took, and what each socket received."""
        wire_bytes = [line.wire_bytes for line in self._lines]
        return {
            "bytes": self._bytes,
            "requests": self._requests,
            "cpu_s": cpu_seconds(),
            "wire_bytes": wire_bytes,
        }

    def _accept(self) -> None:
        while True:
            connection, _address = self._listener.accept()
            threading.Thread(target=self._connection, args=(connection,), daemon=True).start()

    def _connection(self, connection: socket.socket) -> None:
        # Pushers end a connection as they like.
        with connection, contextlib.suppress(OSError):
            line = TlsLine(connection, self._context)
            self._lines.append(line)
            self._serve(line)

    @staticmethod
    def _answer_alone(line: TlsLine, session: SinkSession, each_s: float) -> None:
        until = time.perf_counter() + each_s
        while time.perf_counter() < until:
            pass  # as a server that hashes
        line.send(bytes(session.out))
        session.out.clear()

    def _drop(self, line: TlsLine) -> None:
        for piece in line.pieces(bytes):
            self._bytes += len(piece)

    def _serve_backup(self, line: TlsLine) -> None:
        """Answer REST requests as an empty datastore would, until one asks for the upgrade."""
        session: SinkSession | None = None
        request, answer = b"", bytearray()

        def answers() -> bytes:
            out = answer if session is None else session.out
            taken = bytes(out)
            out.clear()
            return taken

        for piece in line.pieces(answers):
            if session is not None:
                session.take(piece)
                continue
            request += piece
            if not request.endswith(b"\r\n\r\n"):
                continue
            if UPGRADE_HEADER in request.lower():
                session = SinkSession()
                session.out[:0] = UPGRADED
                if self._each_s is not None:
                    session.on_answer = partial(self._answer_alone, line, session, self._each_s)
            else:
                answer += rest_answer(request)
            request = b""
        if session is not None:
            self._bytes += session.data_bytes
            self._requests += session.requests


def rest_answer(request: bytes) -> bytes:
    """What a real server with an empty datastore says, as far as a push asks."""
    path = request.split(b" ", 2)[1].partition(b"?")[0]
    data = {
        b"version": b'{"version":"4.2","release":"3","repoid":"sink"}',
        b"namespace": b'[{"ns":""}]',
    }.get(path.rpartition(b"/")[2], b"[]")
    body = b'{"data":%s}' % data
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )


def main() -> None:
    """Run until the input ends."""
    sink = Sink(sys.argv[1])
    sink.start()
    answer_questions({"port": sink.port, "fingerprint": sink.fingerprint.hex()}, sink.counts)


if __name__ == "__main__":
    main()
