from typing import Final, NamedTuple, Self, final

import numpy
from numpy.typing import NDArray
from typing_extensions import Buffer

from pbs_push._native.index import Index
from pbs_push._native.shared import SharedChunks

COLLECT: Final[int]
DOWNLOAD: Final[int]
DISCARD: Final[int]

FRAME_SIZE: Final[int]

UPLOAD_TAG: Final = -1

class Answer(NamedTuple):
    tag: int
    status: int
    body: bytes | memoryview
    reset_code: int
    too_large: bool
    digest: bytes | None
    part: bool = False

class TransportState(NamedTuple):
    sent_bytes: int
    received_bytes: int
    uploads_done: int
    uploads_bytes: int
    requests: int
    refused: int
    open_streams: int
    calls_waiting: int
    peer_max_streams: int
    peer_frame_size: int
    send_window: int
    settings_seen: bool
    settings_acked: bool
    going_away: bool

@final
class TakenChunk:
    @property
    def job(self) -> int: ...
    @property
    def digest(self) -> bytes: ...
    @property
    def size(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def read(self, chunks_fd: int, digest: bytes, chunks_path: str) -> bool: ...
    def give(self, digest: bytes) -> None: ...
    def drop(self) -> None: ...

@final
class Transport:
    def __new__(cls, authority: str, *, frame_size: int = ..., span_size: int = ...) -> Self: ...
    def close(self) -> None: ...
    def attach_uploads(
        self,
        chunks_fd: int,
        *,
        readers: int,
        buffer_bytes: int,
        open_delay_s: float = 0.0,
        shared: SharedChunks | None = None,
        member: int = 0,
    ) -> None: ...
    @property
    def event_fd(self) -> int: ...
    def call(
        self,
        tag: int,
        method: str,
        path: str,
        *,
        body: Buffer | None = None,
        content_type: str | None = None,
        mode: int = ...,
        max_body: int = 65536,
        part_size: int = 0,
    ) -> None: ...
    def put_entries(
        self,
        tag: int,
        path: str,
        index: Index,
        *,
        writer_id: int,
        limit: int,
        positions: Buffer | NDArray[numpy.uint32] | None = None,
        first: int = 0,
        count: int = 0,
    ) -> int: ...
    def add_chunks(
        self,
        index: Index,
        positions: Buffer | NDArray[numpy.uint32],
        *,
        writer_id: int,
        encrypted: bool,
    ) -> int: ...
    def take_over(self, *, margin: int, first_bytes: int) -> None: ...
    def take_chunk(self) -> TakenChunk | None: ...
    def stop_chunks(self) -> None: ...
    @property
    def most_chunk_bytes(self) -> int: ...
    @property
    def unsent_calls(self) -> int: ...
    @property
    def chunks_added(self) -> int: ...
    @property
    def chunks_acknowledged(self) -> int: ...
    def send(self, max_body: int | None = None) -> memoryview | None: ...
    def receive(self, data: Buffer) -> None: ...
    def answers(self) -> list[Answer]: ...
    def check_source(self, chunks_path: str) -> None: ...
    def progress(self) -> tuple[int, int, int, int] | None: ...
    @property
    def is_over(self) -> bool: ...
    def state(self) -> TransportState: ...
