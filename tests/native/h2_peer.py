"""A transport joined in memory with an `h2` server, which raises where a limit is passed."""

from __future__ import annotations

import hashlib
import json
import select
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import h2.events as ev
import numpy as np
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes, Settings

from pbs_push._native.transport import Answer, Transport
from pbs_push.formats.index import Index, open_index
from pbs_push.formats.index_writer import write_dynamic_index, write_fixed_index

PLAIN_MAGIC = bytes((66, 171, 56, 7, 190, 131, 112, 161))
CALL_TAG = 1
PATIENCE_MS = 60_000
CHUNKS_PATH = "/store/.chunks"  # for messages
LARGEST = (1 << 31) - 1


def plain_blob(content: bytes) -> bytes:
    return PLAIN_MAGIC + zlib.crc32(content).to_bytes(4, "little") + content


class ChunkFolder:
    """A `.chunks` folder with the chunks that a test wants, and indexes of them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".chunks"
        self.path.mkdir(parents=True)
        self.contents: dict[bytes, bytes] = {}

    def file(self, digest: bytes) -> Path:
        name = digest.hex()
        return self.path / name[:4] / name

    def add(self, content: bytes) -> bytes:
        digest = hashlib.sha256(content).digest()
        self.contents[digest] = content
        self.file(digest).parent.mkdir(exist_ok=True)
        self.file(digest).write_bytes(plain_blob(content))
        return digest

    def dynamic(self, contents: Iterable[bytes]) -> Index:
        """Store these chunks, and return the table of an archive that consists of them."""
        chunks = list(contents)
        path = self.path.parent / "archive.didx"
        ends = np.cumsum([len(chunk) for chunk in chunks], dtype=np.uint64)
        write_dynamic_index(path, ends, b"".join(self.add(chunk) for chunk in chunks))
        return open_index(path)

    def fixed(self, contents: Iterable[bytes], chunk_size: int) -> Index:
        chunks = list(contents)
        path = self.path.parent / "archive.fidx"
        digests = b"".join(self.add(chunk) for chunk in chunks)
        size = sum(len(chunk) for chunk in chunks)
        write_fixed_index(path, digests, size, chunk_size=chunk_size)
        return open_index(path)


def positions(*numbers: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.array(numbers, np.uint32)


def all_of(table: Index) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.arange(len(table), dtype=np.uint32)


@dataclass
class Request:
    """A request as it came."""

    stream_id: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    open: bool = True

    @property
    def params(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.path).query))

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Peer:
    """The server's side. ``window``: of each stream at first; the connection's is 65,535 then."""

    def __init__(
        self,
        transport: Transport,
        *,
        window: int = 65535,
        frame: int = 16384,
        streams: int = 200,
    ) -> None:
        self.transport = transport
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.local_settings = Settings(
            client=False, initial_values=codes(window, frame, streams)
        )
        self.h2.max_inbound_frame_size = frame
        self.h2.initiate_connection()
        self.window = window
        self.requests: dict[int, Request] = {}
        self.answers: list[Answer] = []
        self.grants = True
        """Whether windows are opened again for what was received."""
        # `h2` holds the other side to these settings from the start, so it has to know them; and
        # it would take the answer to them for that to later ones.
        self.give_input()
        self.take_output(1)

    # -- moving bytes --

    def take_output(self, most: int = 1 << 30) -> bool:
        """Take what the transport wants to send, ``most`` outputs; whether there was any."""
        moved = False
        for _ in range(most):
            view = self.transport.send()
            if view is None:
                break
            with view:
                events = self.h2.receive_data(bytes(view))
            for event in events:
                self._handle(event)
            moved = True
        return moved

    def give_input(self, sizes: Iterable[int] = ()) -> bool:
        """Give the transport what this side has to say, first in pieces of these sizes."""
        data = self.h2.data_to_send()
        at = 0
        for size in sizes:
            self.transport.receive(data[at : at + size])
            at += size
        self.transport.receive(data[at:])
        self.answers += self.transport.answers()
        return bool(data)

    def settle(self) -> None:
        """Exchange bytes until neither side has more to say."""
        while self.take_output() | self.give_input():
            pass

    def serve(
        self, handler: Callable[[Request], tuple[int, bytes]], done: Callable[[], bool]
    ) -> None:
        """Answer each request once it is whole, until ``done``."""
        ready = select.poll()
        if self.transport.event_fd >= 0:
            ready.register(self.transport.event_fd, select.POLLIN)
        while not done():
            self.settle()
            whole = [r for r in self.requests.values() if r.ended and r.open]
            for request in whole:
                self.answer(request, *handler(request))
            self.transport.check_source(CHUNKS_PATH)
            if not whole and not done():
                assert ready.poll(PATIENCE_MS), "nothing happens any more"

    def _handle(self, event: ev.Event) -> None:
        if isinstance(event, ev.RequestReceived):
            headers = {str(name): str(value) for name, value in event.headers}
            self.requests[event.stream_id] = Request(
                event.stream_id, headers[":method"], headers[":path"], headers
            )
        elif isinstance(event, ev.DataReceived):
            self.requests[event.stream_id].body += event.data
            if self.grants:
                size = event.flow_controlled_length
                self.h2.increment_flow_control_window(size)
                if not event.stream_ended and self.requests[event.stream_id].open:
                    self.h2.increment_flow_control_window(size, event.stream_id)
        elif isinstance(event, ev.StreamEnded):
            self.requests[event.stream_id].ended = True
        else:
            assert not isinstance(event, ev.ConnectionTerminated), "the transport gave up"

    # -- what a server may do --

    @property
    def open_requests(self) -> list[Request]:
        return [request for request in self.requests.values() if request.open]

    def answer(self, request: Request, status: int = 200, body: bytes = b"") -> None:
        """Answer, also before the request is whole. An empty body makes no DATA frame."""
        request.open = False
        self.h2.send_headers(
            request.stream_id, [(":status", str(status)), ("x-note", "n")], end_stream=not body
        )
        if body:
            self.h2.send_data(request.stream_id, body, end_stream=True)

    def reset(self, request: Request, code: int = ErrorCodes.REFUSED_STREAM) -> None:
        request.open = False
        self.h2.reset_stream(request.stream_id, code)

    def change(self, window: int, frame: int, streams: int) -> None:
        self.h2.update_settings({int(k): v for k, v in codes(window, frame, streams).items()})

    def open_window(self, size: int, request: Request | None = None) -> None:
        """Grant more of the connection's or a stream's window, if that is possible."""
        try:
            self.h2.increment_flow_control_window(size, request.stream_id if request else None)
        except (StreamClosedError, ValueError):
            pass
        except Exception as error:
            if "Flow control" not in str(error):
                raise


def codes(window: int, frame: int, streams: int) -> dict[SettingCodes, int]:
    return {
        SettingCodes.INITIAL_WINDOW_SIZE: window,
        SettingCodes.MAX_FRAME_SIZE: frame,
        SettingCodes.MAX_CONCURRENT_STREAMS: streams,
    }
