from typing import Final, NamedTuple, final

import numpy
from numpy.typing import NDArray
from typing_extensions import Buffer

from pbs_push._native.index import Index

COLLECT: Final[int]
"""An answer's mode: a small body, kept."""
DOWNLOAD: Final[int]
"""An answer's mode: a large body, for which the stream's window is opened wide."""
DISCARD: Final[int]
"""An answer's mode: the status alone; on success the stream is reset at its headers."""

FRAME_SIZE: Final[int]
"""DATA payload of one frame: 256 KiB to 1 MiB cost both sides least (spec 06)."""

UPLOAD_TAG: Final = -1
"""Tag of an answer that is about a chunk upload."""

class Answer(NamedTuple):
    """The answer to a call, or to a chunk upload that failed (then ``tag`` is UPLOAD_TAG).

    ``status`` is of HTTP; 0 means that the stream was reset with ``reset_code``. ``too_large`` says
    that ``body`` is cut at what was allowed; from 1 MiB on it is a view of memory of its own.
    ``digest`` is the chunk's, where it is about one. ``part``: the body goes on with the next
    answer of this tag.
    """

    tag: int
    status: int
    body: bytes | memoryview
    reset_code: int
    too_large: bool
    digest: bytes | None
    part: bool = False

class TransportState(NamedTuple):
    """Counts and limits of a connection.

    ``sent_bytes`` are payload of DATA frames, ``received_bytes`` likewise, of what was wanted of
    the answers' bodies; ``uploads_bytes`` the bodies of the uploads that were answered with
    success, ``requests`` the streams opened, ``refused`` those of them that the target refused and
    that were made again.
    """

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
    going_away: bool

@final
class Transport:
    """One HTTP/2 connection, without I/O, that uploads chunks.

    Used by one thread at a time; reader threads of its own read chunk files ahead, until it is
    closed or freed. The GIL is released in every call that does more than look something up.
    Once closed, only ``close``, ``state`` and the counts can be asked for; all else raises
    ValueError.
    """

    def __init__(self, authority: str, *, frame_size: int = ..., span_size: int = ...) -> None:
        """``authority`` is ``host:port``, in ASCII, for the requests.

        DATA frames carry at most ``frame_size`` bytes, also where the target allows more; after
        ``span_size`` bytes no more chunks are merged into one output; neither may be 0.
        """
    def close(self) -> None:
        """Stop the readers, waiting for those inside a system call, and free all memory.

        What was not answered stays so. May be called again. Raises BufferError while a view that
        ``send`` gave is in use.
        """
    def attach_uploads(
        self, chunks_fd: int, *, readers: int, buffer_bytes: int, open_delay_s: float = 0.0
    ) -> None:
        """Upload chunks from the folder ``.chunks`` that is open as ``chunks_fd``; once at most.

        ``readers`` threads read up to ``buffer_bytes`` ahead. The descriptor is borrowed for the
        transport's life, until it is closed. ``open_delay_s`` makes every open slower: a slow disk,
        for tests and benchmarks.
        """
    @property
    def event_fd(self) -> int:
        """Readable when a chunk is ready after ``send`` found nothing; -1 without uploads."""
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
    ) -> None:
        """Queue a request; its answer comes from ``answers`` under ``tag``.

        ``path`` holds the query, percent-encoded. ``body`` is any contiguous buffer, copied. The
        body of a successful answer comes in parts of about ``part_size`` bytes, if that is not 0.
        Raises FormatError if the path is too long to send.
        """
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
    ) -> int:
        """Queue a PUT of entries: of ``positions`` (u32, in order), or ``count`` from ``first`` on.

        As many as fit into a body of ``limit`` bytes; returns how many that are. Raises ValueError
        where not even one fits, there is none, or one is not in the index. Its memory is freed when
        it is sent, so a list that the target refuses then is not sent again.
        """
    def add_chunks(
        self,
        index: Index,
        positions: Buffer | NDArray[numpy.uint32],
        *,
        writer_id: int,
        encrypted: bool,
    ) -> int:
        """Upload the chunks at ``positions`` (u32) of an index; returns how many were taken.

        Fewer than given means that enough are under way: give the rest later. Chunk files are
        checked to be ``encrypted`` or not. Raises ValueError for a position that is not in the
        index, FormatError for an entry of 4 GiB or more.
        """
    @property
    def unsent_calls(self) -> int:
        """Bytes of the bodies of calls that are to be sent."""
    @property
    def chunks_added(self) -> int:
        """How many chunks were given to ``add_chunks`` and taken, so far."""
    @property
    def chunks_acknowledged(self) -> int:
        """How many of these, from the first on, the target has acknowledged."""
    def send(self, max_body: int | None = None) -> memoryview | None:
        """The next bytes for the target as a memoryview; None: there is nothing to send now.

        They carry at most ``max_body`` bytes of bodies (1 or more; None: as many as are worth it),
        and heads of requests besides.
        Release the view (it is a context manager) once all of it was sent or copied: until then
        ``send``, ``receive`` and ``close`` raise BufferError. Raises ProtocolError, ConnectError:
        those of ``receive``, again.
        """
    def receive(self, data: Buffer) -> None:
        """Take bytes of the target, any number.

        Raises ProtocolError when they are not HTTP/2 as agreed, ConnectError when the target gives
        the connection up (GOAWAY with an error). After an error the connection is beyond use.
        """
    def answers(self) -> list[Answer]:
        """The answers that came since the last call, in the order in which they were complete."""
    def check_source(self, chunks_path: str) -> None:
        """Raise ChunkError if a chunk could not be read; ``chunks_path`` is for the message."""
    def state(self) -> TransportState:
        """Counts and limits as they are now."""
