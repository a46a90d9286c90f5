"""Backup sessions with servers that do what a test tells them, and what such servers say."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import h2.events as ev
import numpy as np
from h2.config import H2Configuration
from h2.connection import H2Connection

from pbs_push.formats.blob import encode_blob
from pbs_push.formats.index import open_index
from pbs_push.formats.index_writer import write_dynamic_index
from pbs_push.names import Namespace, Snapshot
from pbs_push.remote.pacing import Pacer
from pbs_push.remote.session import BackupSession
from pbs_push.remote.target import Target

from .servers import Line, Script, Server, read_request

SNAPSHOT = Snapshot.parse("host/web/2026-11-22T18:49:14Z")
SECRET = "correct horse"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n" + (
    b"upgrade: proxmox-backup-protocol-v1\r\n\r\n"
)
SETTINGS = bytes.fromhex("000000040000000000")
LOGIN_PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>"


def nothing(_line: Line) -> None:
    """Close at once."""


def waits(line: Line) -> None:
    line.read_to_the_end()


def replies(data: bytes, then: Script = nothing) -> Script:
    """Read the upgrade request, say this, and go on."""

    def script(line: Line) -> None:
        read_request(line)
        line.send(data)
        then(line)

    return script


def says(data: bytes, then: Script = nothing) -> Script:
    def script(line: Line) -> None:
        line.send(data)
        then(line)

    return script


def reads(then: Script = nothing) -> Script:
    """Read something, the HTTP/2 preface say."""

    def script(line: Line) -> None:
        line.read()
        then(line)

    return script


def goaway(code: int, last_stream: int = 0) -> bytes:
    payload = last_stream.to_bytes(4, "big") + code.to_bytes(4, "big") + b"bye"
    return len(payload).to_bytes(3, "big") + bytes((7, 0, 0, 0, 0, 0)) + payload


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


class H2Server:
    """A server's side made with `h2`: calls a function for each whole request."""

    def __init__(self, handler: Callable[[H2Server, int, dict[str, str], bytes], None]) -> None:
        self._handler = handler

    def __call__(self, line: Line) -> None:
        read_request(line)
        self.serve(line)

    def serve(self, line: Line) -> None:
        """Switch to the protocol, and answer until the client goes away."""
        line.send(SWITCH)
        self.line = line
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.flush()
        heads: dict[int, dict[str, str]] = {}
        bodies: dict[int, bytearray] = {}
        self.running = True
        while self.running and (data := line.read()):
            for event in self.h2.receive_data(data):
                if isinstance(event, ev.RequestReceived):
                    heads[event.stream_id] = {str(k): str(v) for k, v in event.headers}
                    bodies[event.stream_id] = bytearray()
                elif isinstance(event, ev.DataReceived):
                    bodies[event.stream_id] += event.data
                    size = event.flow_controlled_length
                    self.h2.increment_flow_control_window(size)
                    if not event.stream_ended:
                        self.h2.increment_flow_control_window(size, event.stream_id)
                elif isinstance(event, ev.StreamEnded):
                    stream = event.stream_id
                    self._handler(self, stream, heads[stream], bytes(bodies[stream]))
            self.flush()

    def answer(self, stream: int, status: int, body: bytes) -> None:
        self.h2.send_headers(stream, [(":status", str(status))], end_stream=not body)
        if body:
            self.h2.send_data(stream, body, end_stream=True)

    def begin_file(self, stream: int, content: bytes) -> None:
        """All of an answer but its end, in pieces of 1,000 bytes."""
        self.h2.send_headers(stream, [(":status", "200")])
        for at in range(0, len(content), 1000):
            self.h2.send_data(stream, content[at : at + 1000])

    def flush(self) -> None:
        self.line.send(self.h2.data_to_send())


@contextlib.contextmanager
def session_with(
    server: Server,
    cancelled: threading.Event | None = None,
    pacer: Pacer | None = None,
    timeout_s: float | None = None,
) -> Iterator[BackupSession]:
    """A backup session that uploads no chunks."""
    fingerprint = server.identity.fingerprint
    with Target(server.repository, SECRET, fingerprint, timeout_s=timeout_s) as target:
        session = target.begin_backup(
            target.connect(cancelled or threading.Event()),
            Namespace(),
            SNAPSHOT,
            chunks_path="/store/.chunks",
            transport=target.transport(),
            pacer=pacer,
        )
        try:
            yield session
        finally:
            session.close()


def finish(server: Server, timeout_s: float | None = None) -> None:
    """Begin a session, and finish it."""
    with session_with(server, timeout_s=timeout_s) as session:
        call = session.finish()
        session.wait([call])
        call.body()


CHUNKS = 40


@contextlib.contextmanager
def uploading(
    server: Server,
    folder: Path,
    cancelled: threading.Event | None = None,
    *,
    open_delay_s: float = 0.0,
    timeout_s: float | None = None,
) -> Iterator[BackupSession]:
    """A session that uploads 40 chunks of 256 KiB."""
    contents = [bytes([i]) * (256 << 10) for i in range(CHUNKS)]
    digests = [hashlib.sha256(content).digest() for content in contents]
    for digest, content in zip(digests, contents, strict=True):
        path = folder / ".chunks" / digest.hex()[:4] / digest.hex()
        path.parent.mkdir(parents=True)
        path.write_bytes(encode_blob(content, compress=False))
    ends = np.arange(1, CHUNKS + 1, dtype=np.uint64) * (256 << 10)
    write_dynamic_index(folder / "a.didx", ends, b"".join(digests))
    with (
        open_index(folder / "a.didx") as index,
        Target(
            server.repository, SECRET, server.identity.fingerprint, timeout_s=timeout_s
        ) as target,
    ):
        fd = os.open(folder / ".chunks", os.O_RDONLY)
        transport = target.transport()
        transport.attach_uploads(fd, readers=2, buffer_bytes=4 << 20, open_delay_s=open_delay_s)
        session = target.begin_backup(
            target.connect(cancelled or threading.Event()),
            Namespace(),
            SNAPSHOT,
            chunks_path="/store/.chunks",
            transport=transport,
        )
        try:
            table = index
            everything = np.arange(CHUNKS, dtype=np.uint32)
            assert session.add_chunks(table, everything, writer_id=1, encrypted=False) == CHUNKS
            yield session
        finally:
            session.close()
            os.close(fd)
