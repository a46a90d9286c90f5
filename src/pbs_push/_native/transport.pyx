# cython: language_level=3, embedsignature=True
"""The wire side of a backup session: HTTP/2 and uploads in C (csrc/pbs_http2.h, pbs_upload.h)."""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport SIZE_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from typing import NamedTuple

from pbs_push._native.index cimport Index, _Mapping, pbs_index
from pbs_push._native.shared cimport SharedChunks, pbs_shared
from pbs_push._native.chunk_errors import chunk_error
from pbs_push._native.status import native_error
from pbs_push.errors import ConnectError, ProtocolError

cdef extern from "pbs_error.h" nogil:
    enum:
        PBS_OK
        PBS_E_CLOSED

cdef extern from "pbs_entries.h" nogil:
    int pbs_entries_body(const pbs_index *index, const uint32_t *positions, size_t first,
                         size_t n, uint32_t writer_id, uint8_t *out, size_t limit, size_t *out_n,
                         size_t *out_len)
    size_t PBS_ENTRY_TEXT_MAX
    size_t PBS_ENTRIES_TEXT_AROUND

cdef extern from "pbs_upload.h" nogil:
    struct pbs_upload:
        pass
    struct pbs_upload_options:
        int chunks_fd
        unsigned readers
        size_t buffer_bytes
        uint32_t open_delay_us
        const char *authority
        pbs_shared *shared
        unsigned member
    struct pbs_upload_archive:
        pbs_index index
        uint32_t writer_id
        int encrypted
    struct pbs_upload_failure:
        int status
        int error
        uint8_t digest[32]
    int pbs_upload_new(const pbs_upload_options *options, pbs_upload **out)
    void pbs_upload_free(pbs_upload *upload)
    int pbs_upload_event_fd(const pbs_upload *upload)
    int pbs_upload_add(pbs_upload *upload, const pbs_upload_archive *archive,
                       const uint32_t *positions, size_t n, size_t *out_added)
    uint64_t pbs_upload_added(const pbs_upload *upload)
    uint64_t pbs_upload_acknowledged(pbs_upload *upload)
    int pbs_upload_failed(pbs_upload *upload, pbs_upload_failure *out)
    int pbs_upload_digest(pbs_upload *upload, uint64_t job, uint8_t *out)
    struct pbs_job:
        uint8_t digest[32]
        uint32_t plain_size
    struct pbs_reading:
        uint64_t number
        pbs_job job
        int error
        size_t body_len
    void pbs_upload_take_over(pbs_upload *upload, size_t margin, size_t first_bytes)
    int pbs_upload_take(pbs_upload *upload, pbs_reading *out)
    int pbs_upload_read(pbs_upload *upload, pbs_reading *reading)
    uint8_t *pbs_upload_body(const pbs_reading *reading)
    void pbs_upload_give(pbs_upload *upload, pbs_reading *reading, const uint8_t *digest)
    void pbs_upload_drop(pbs_upload *upload, const pbs_reading *reading)
    void pbs_upload_stop(pbs_upload *upload)
    size_t pbs_upload_most_bytes(pbs_upload *upload)

cdef extern from "pbs_http2.h" nogil:
    struct pbs_h2:
        pass
    struct pbs_h2_options:
        size_t frame_size
        size_t span_size
    enum pbs_h2_answer_mode:
        PBS_H2_COLLECT
        PBS_H2_DOWNLOAD
        PBS_H2_DISCARD
    struct pbs_h2_call:
        const char *method
        const char *authority
        const char *path
        const char *content_type
        pbs_h2_answer_mode mode
        size_t max_body
        size_t part_size
        uint32_t tag
        int once
    struct pbs_h2_message:
        pass
    struct pbs_h2_answer:
        uint32_t tag
        int is_upload
        uint64_t job
        unsigned status
        uint32_t reset_code
        int is_part
        int body_too_large
        uint8_t *body
        size_t body_len
    struct pbs_h2_state:
        uint64_t sent_bytes
        uint64_t received_bytes
        uint64_t uploads_done
        uint64_t uploads_bytes
        uint64_t requests
        uint64_t refused
        uint32_t open_streams
        uint32_t calls_waiting
        uint32_t peer_max_streams
        uint32_t peer_frame_size
        uint32_t peer_initial_window
        int64_t send_window
        int settings_seen
        int settings_acked
        int going_away
    int pbs_h2_new(const pbs_h2_options *options, pbs_h2 **out)
    void pbs_h2_free(pbs_h2 *h2)
    void pbs_h2_attach(pbs_h2 *h2, pbs_upload *upload)
    int pbs_h2_message_new(const pbs_h2_call *call, size_t body_size, pbs_h2_message **out,
                           uint8_t **out_body)
    void pbs_h2_message_free(pbs_h2_message *message)
    void pbs_h2_submit(pbs_h2 *h2, pbs_h2_message *message, size_t body_len)
    int pbs_h2_receive(pbs_h2 *h2, const uint8_t *data, size_t len)
    int pbs_h2_send(pbs_h2 *h2, size_t max_body, const uint8_t **out, size_t *out_len)
    size_t pbs_h2_unsent_calls(const pbs_h2 *h2)
    int pbs_h2_next_answer(pbs_h2 *h2, pbs_h2_answer *out)
    void pbs_h2_state_get "pbs_h2_state"(const pbs_h2 *h2, pbs_h2_state *out)
    const char *pbs_h2_error(const pbs_h2 *h2)

COLLECT = PBS_H2_COLLECT
DOWNLOAD = PBS_H2_DOWNLOAD
DISCARD = PBS_H2_DISCARD

FRAME_SIZE = 256 << 10
"""DATA payload of one frame (protocol/performance.md, "Frame sizes")."""

cdef enum:
    COPIED_BODY = 1 << 20

UPLOAD_TAG = -1
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
    settings_acked: bool
    going_away: bool


@cython.final
@cython.auto_pickle(False)
cdef class _Body:
    """Owns the body of an answer, and lends it as a read-only buffer."""

    cdef uint8_t *data
    cdef size_t size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, <Py_ssize_t>self.size, 1, flags)

    def __dealloc__(self):
        free(self.data)


cdef object _body(pbs_h2_answer *answer):
    """The body as bytes; one of some size goes along without a copy, as a memoryview."""
    cdef _Body owner
    try:
        owner = _Body.__new__(_Body)
    except MemoryError:
        free(answer.body)
        raise
    owner.data = answer.body
    owner.size = answer.body_len
    if answer.body_len < COPIED_BODY:
        return PyBytes_FromStringAndSize(<char *>answer.body, answer.body_len)
    return memoryview(owner)


cdef class Transport


@cython.final
@cython.auto_pickle(False)
cdef class TakenChunk:
    """A chunk that some thread reads, changes and gives to the sender; ``take_chunk`` makes it.

    ``job`` numbers the chunks as ``add_chunks`` took them, from 0 on; ``digest`` and ``size`` are of
    the plain one. Once it was read it lends its memory, writable, to whoever makes a memoryview of
    it: the whole body of its upload. One thread at a time.
    """

    cdef Transport _transport
    cdef pbs_reading _reading
    cdef Py_ssize_t _views
    cdef bint _here

    @property
    def job(self) -> int:
        """Its number."""
        return self._reading.number

    @property
    def digest(self) -> bytes:
        """Digest by which it lies in the chunk store."""
        return PyBytes_FromStringAndSize(<char *>self._reading.job.digest, 32)

    @property
    def size(self) -> int:
        """Plain bytes, as the index says."""
        return self._reading.job.plain_size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if not self._here:
            raise BufferError("the chunk is not in memory")
        PyBuffer_FillInfo(buffer, self, pbs_upload_body(&self._reading),
                          <Py_ssize_t>self._reading.body_len, 0, flags)
        self._views += 1
        self._transport._inside += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self._views -= 1
        self._transport._inside -= 1

    def read(self, int chunks_fd, bytes digest not None, str chunks_path not None) -> bool:
        """Read it to the end of its memory, once there is room; False: it is of no use any more.

        The arguments are those of ``chunks.read_chunk``, for which this stands; it is read from the
        folder that was attached. Checked likewise, and not to be encrypted (or to be so, as
        ``add_chunks`` was told). Raises ChunkError, ValueError for the digest of another.
        """
        cdef int status
        if digest != self.digest:
            raise ValueError("this is another chunk")
        cdef pbs_upload *upload = self._transport._entered()
        try:
            with nogil:
                status = pbs_upload_read(upload, &self._reading)
        finally:
            self._transport._inside -= 1
        if status == PBS_E_CLOSED:
            return False
        if status != PBS_OK:
            raise chunk_error(status, self.digest, chunks_path, self._reading.error)
        self._here = True
        return True

    cdef pbs_upload *_leave(self) except NULL:
        if self._views:
            raise BufferError("the chunk's memory is still in use: release the view first")
        if not self._here:
            raise ValueError("the chunk is not in memory")
        self._transport._check_open()
        self._here = False
        return self._transport._upload

    def give(self, bytes digest not None) -> None:
        """Send all of its memory, as the chunk of this ``digest``."""
        if len(digest) != 32:
            raise ValueError(f"a digest has 32 bytes, not {len(digest)}")
        pbs_upload_give(self._leave(), &self._reading, <const uint8_t *>PyBytes_AS_STRING(digest))

    def drop(self) -> None:
        """Send nothing: the target has it, and it counts as acknowledged."""
        pbs_upload_drop(self._leave(), &self._reading)


cdef void _release_chosen(Index index, const uint32_t *chosen, size_t n) noexcept nogil:
    """Let the pages go of the part of an index in which some entries lie."""
    cdef uint32_t lowest = chosen[0], highest = chosen[0]
    for i in range(1, n):
        lowest = min(lowest, chosen[i])
        highest = max(highest, chosen[i])
    index.release_entries(lowest, highest - lowest + 1)


@cython.no_gc  # nothing that it refers to refers to anything
cdef class Transport:
    """One HTTP/2 connection, without I/O, that uploads chunks.

    Used by one thread at a time; reader threads of its own read chunk files ahead, until it is
    closed or freed. The GIL is released in every call that does more than look something up.
    Once closed, only ``close``, ``state`` and the counts can be asked for; all else raises
    ValueError.
    """

    cdef pbs_h2 *_h2
    cdef pbs_upload *_upload
    cdef bytes _authority
    cdef SharedChunks _shared  # outlives the uploads
    # What send() gave, and how many views of it are out: then its memory must not change.
    cdef const uint8_t *_output
    cdef size_t _output_size
    cdef Py_ssize_t _views
    # Kept for after close().
    cdef pbs_h2_state _last_state
    cdef Py_ssize_t _inside  # threads in take_chunk or read, and views of chunks
    cdef uint64_t _last_added
    cdef uint64_t _last_acknowledged
    cdef size_t _last_most

    def __cinit__(self, str authority not None, *, size_t frame_size=FRAME_SIZE,
                  size_t span_size=FRAME_SIZE) -> None:
        """``authority`` is ``host:port``, in ASCII, for the requests.

        DATA frames carry at most ``frame_size`` bytes, also where the target allows more; after
        ``span_size`` bytes no more chunks are merged into one output; neither may be 0.
        """
        cdef pbs_h2_options options
        options.frame_size = frame_size
        options.span_size = span_size
        self._authority = authority.encode("ascii")
        status = pbs_h2_new(&options, &self._h2)
        if status:
            raise native_error(status, "setting up an HTTP/2 connection")

    def __dealloc__(self):
        self._free()

    cdef void _free(self) noexcept:
        cdef pbs_h2 *h2 = self._h2
        cdef pbs_upload *upload = self._upload
        self._h2 = NULL
        self._upload = NULL
        with nogil:
            pbs_h2_free(h2)
            pbs_upload_free(upload)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self._output is NULL:
            raise BufferError("nothing was sent")
        PyBuffer_FillInfo(buffer, self, <void *>self._output, self._output_size, 1, flags)
        self._views += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self._views -= 1

    cdef int _check_open(self) except -1:
        if self._h2 is NULL:
            raise ValueError("the transport is closed")
        return 0

    cdef int _check_unseen(self) except -1:
        if self._views:
            raise BufferError("the bytes that send() gave are still in use: release the view first")
        self._output = NULL
        return 0

    def close(self) -> None:
        """Stop the readers, waiting for those inside a system call, and free all memory.

        What was not answered stays so. May be called again. Raises BufferError while a view that
        ``send`` gave is in use.
        """
        if self._h2 is NULL:
            return
        self._check_unseen()
        if self._inside:
            raise BufferError("chunks are still being read or looked at: stop that first")
        pbs_h2_state_get(self._h2, &self._last_state)
        self._last_added = self.chunks_added
        self._last_acknowledged = self.chunks_acknowledged
        self._last_most = self.most_chunk_bytes
        self._free()

    def attach_uploads(self, int chunks_fd, *, unsigned readers, size_t buffer_bytes,
                       double open_delay_s=0.0, SharedChunks shared=None,
                       unsigned member=0) -> None:
        """Upload chunks from the folder ``.chunks`` that is open as ``chunks_fd``; once at most.

        ``readers`` threads read up to ``buffer_bytes`` ahead. The descriptor is borrowed for the
        transport's life, until it is closed. ``open_delay_s`` makes every open slower: a slow disk,
        for tests and benchmarks. With ``shared``, chunks are read once for all its members, of
        which this is number ``member``.
        """
        self._check_open()
        if self._upload is not NULL:
            raise ValueError("uploads are attached already")
        if not 0 <= open_delay_s <= 3600:
            raise ValueError("open_delay_s is not between 0 and an hour")
        cdef pbs_upload_options options
        options.chunks_fd = chunks_fd
        options.readers = readers
        options.buffer_bytes = buffer_bytes
        options.open_delay_us = <uint32_t>(open_delay_s * 1e6)
        options.authority = self._authority
        options.shared = NULL
        options.member = 0
        if shared is not None:
            options.shared = shared.shared
            options.member = shared.checked(member)
        self._shared = shared
        status = pbs_upload_new(&options, &self._upload)
        if status:
            raise native_error(status, "setting up the upload buffer")
        pbs_h2_attach(self._h2, self._upload)

    @property
    def event_fd(self) -> int:
        """Readable when a chunk is ready after ``send`` found nothing; -1 without uploads."""
        return -1 if self._upload is NULL else pbs_upload_event_fd(self._upload)

    def call(self, uint32_t tag, str method not None, str path not None, *, body=None,
             str content_type=None, int mode=PBS_H2_COLLECT, size_t max_body=65536,
             size_t part_size=0) -> None:
        """Queue a request; its answer comes from ``answers`` under ``tag``.

        ``path`` holds the query, percent-encoded. ``body`` is any contiguous buffer, copied. The
        body of a successful answer comes in parts of about ``part_size`` bytes, if that is not 0.
        Raises FormatError if the path is too long to send.
        """
        self._check_open()
        cdef const uint8_t[::1] view
        cdef uint8_t *memory = NULL
        cdef size_t size = 0
        if body is not None:
            view = body
            size = view.shape[0]
        cdef pbs_h2_message *message = self._message(tag, method, path, content_type, mode,
                                                     max_body, part_size, size, &memory, 0)
        if size:
            memcpy(memory, &view[0], size)
        pbs_h2_submit(self._h2, message, size)

    cdef pbs_h2_message *_message(self, uint32_t tag, str method, str path, str content_type,
                                  int mode, size_t max_body, size_t part_size, size_t size,
                                  uint8_t **memory, bint once) except NULL:
        if mode not in (PBS_H2_COLLECT, PBS_H2_DOWNLOAD, PBS_H2_DISCARD):
            raise ValueError(f"{mode} is not a mode of an answer")
        cdef pbs_h2_call call
        cdef pbs_h2_message *message = NULL
        cdef bytes method_bytes = method.encode("ascii")
        cdef bytes path_bytes = path.encode("ascii")
        cdef bytes type_bytes = b"" if content_type is None else content_type.encode("ascii")
        call.method = method_bytes
        call.authority = self._authority
        call.path = path_bytes
        call.content_type = NULL
        if content_type is not None:
            call.content_type = type_bytes
        call.mode = <pbs_h2_answer_mode>mode
        call.max_body = max_body
        call.part_size = part_size
        call.tag = tag
        call.once = once
        status = pbs_h2_message_new(&call, size, &message, memory)
        if status:
            raise native_error(status, f"making the request {method} {path[:80]}")
        return message

    def put_entries(self, uint32_t tag, str path not None, Index index not None, *,
                    uint32_t writer_id, size_t limit, positions=None, size_t first=0,
                    size_t count=0) -> int:
        """Queue a PUT of entries: of ``positions`` (u32, in order), or ``count`` from ``first`` on.

        As many as fit into a body of ``limit`` bytes; returns how many that are. Raises ValueError
        where not even one fits, there is none, or one is not in the index. Its memory is freed when
        it is sent, so a list that the target refuses then is not sent again.
        """
        self._check_open()
        cdef const uint32_t[::1] chosen
        cdef const uint32_t *pointer = NULL
        cdef _Mapping mapping = index.opened()  # stays, whoever closes the index meanwhile
        if positions is not None:
            chosen = positions
            count = chosen.shape[0]
            if count:
                pointer = &chosen[0]
        elif first > index.parsed.n or count > index.parsed.n - first:
            raise ValueError("these entries are not in the index")
        if count == 0:
            raise ValueError("no entries to put")
        cdef size_t size = PBS_ENTRIES_TEXT_AROUND + count * PBS_ENTRY_TEXT_MAX
        if size > limit:
            size = limit
        cdef uint8_t *memory = NULL
        cdef size_t fit = 0, length = 0
        cdef int status
        cdef pbs_h2_message *message = self._message(tag, "PUT", path, "application/json",
                                                     PBS_H2_COLLECT, 65536, 0, size, &memory, 1)
        with nogil:
            status = pbs_entries_body(&index.parsed, pointer, first, count, writer_id, memory,
                                      size, &fit, &length)
        if status:
            pbs_h2_message_free(message)
            raise native_error(status, f"making the entry list for {path}")
        if pointer is NULL:
            index.release_entries(first, fit)
        else:
            _release_chosen(index, pointer, fit)
        pbs_h2_submit(self._h2, message, length)
        return fit

    def add_chunks(self, Index index not None, positions, *, uint32_t writer_id,
                   bint encrypted) -> int:
        """Upload the chunks at ``positions`` (u32) of an index; returns how many were taken.

        Fewer than given means that enough are under way: give the rest later. Chunk files are
        checked to be ``encrypted`` or not. Raises ValueError for a position that is not in the
        index, FormatError for an entry of 4 GiB or more.
        """
        cdef const uint32_t[::1] chosen = positions
        cdef pbs_upload_archive archive
        cdef size_t added = 0
        cdef size_t n = chosen.shape[0]
        cdef int status = PBS_OK
        cdef _Mapping mapping = index.opened()
        self._check_open()
        if self._upload is NULL:
            raise ValueError("no uploads are attached")
        if n == 0:
            return 0
        archive.index = index.parsed
        archive.writer_id = writer_id
        archive.encrypted = encrypted
        with nogil:
            status = pbs_upload_add(self._upload, &archive, &chosen[0], n, &added)
        if status:
            raise native_error(status, "adding chunks to upload")
        if added:
            _release_chosen(index, &chosen[0], added)
        return added

    def take_over(self, *, size_t margin, size_t first_bytes) -> None:
        """From now on threads of the caller's read the chunks that are added, by ``take_chunk``.

        Before any is added. Chunks may become ``margin`` bytes longer. What is in memory is bounded
        by ``first_bytes`` to begin with, and by ``buffer_bytes`` where reads are slow.
        """
        self._check_open()
        if self._upload is NULL or pbs_upload_added(self._upload):
            raise ValueError("no uploads are attached, or some are under way")
        pbs_upload_take_over(self._upload, margin, first_bytes)

    cdef pbs_upload *_entered(self) except NULL:
        self._check_open()
        if self._upload is NULL:
            raise ValueError("no uploads are attached")
        self._inside += 1
        return self._upload

    def take_chunk(self) -> TakenChunk | None:
        """Wait for a chunk to read; None: there will be none. Any thread, as what it gives."""
        cdef int taken
        cdef TakenChunk chunk = TakenChunk.__new__(TakenChunk)
        cdef pbs_upload *upload = self._entered()
        chunk._transport = self
        try:
            with nogil:
                taken = pbs_upload_take(upload, &chunk._reading)
        finally:
            self._inside -= 1
        return chunk if taken else None

    def stop_chunks(self) -> None:
        """Let nobody wait in ``take_chunk`` or ``read``, and wake the sender. Any thread."""
        if self._upload is not NULL:
            pbs_upload_stop(self._upload)

    @property
    def most_chunk_bytes(self) -> int:
        """Most bytes that chunks have taken in memory at once."""
        return self._last_most if self._upload is NULL else pbs_upload_most_bytes(self._upload)

    @property
    def unsent_calls(self) -> int:
        """Bytes of the bodies of calls that are to be sent."""
        self._check_open()
        return pbs_h2_unsent_calls(self._h2)

    @property
    def chunks_added(self) -> int:
        """How many chunks were given to ``add_chunks`` and taken, so far."""
        return self._last_added if self._upload is NULL else pbs_upload_added(self._upload)

    @property
    def chunks_acknowledged(self) -> int:
        """How many of these, from the first on, the target has acknowledged."""
        if self._upload is NULL:
            return self._last_acknowledged
        return pbs_upload_acknowledged(self._upload)

    def send(self, max_body=None):
        """The next bytes for the target as a memoryview; None: there is nothing to send now.

        They carry at most ``max_body`` bytes of bodies (1 or more; None: as many as are worth it),
        and heads of requests besides.
        Release the view (it is a context manager) once all of it was sent or copied: until then
        ``send``, ``receive`` and ``close`` raise BufferError. Raises ProtocolError, ConnectError:
        those of ``receive``, again.
        """
        cdef int status
        cdef size_t limit = SIZE_MAX if max_body is None else max_body
        self._check_open()
        self._check_unseen()
        with nogil:
            status = pbs_h2_send(self._h2, limit, &self._output, &self._output_size)
        if status:
            self._output = NULL
            raise self._failure(status, "sending to the target")
        if self._output_size == 0:
            self._output = NULL
            return None
        return memoryview(self)

    def receive(self, const uint8_t[::1] data not None) -> None:
        """Take bytes of the target, any number.

        Raises ProtocolError when they are not HTTP/2 as agreed, ConnectError when the target gives
        the connection up (GOAWAY with an error). After an error the connection is beyond use.
        """
        cdef int status
        self._check_open()
        self._check_unseen()
        cdef size_t size = data.shape[0]
        if size == 0:
            return
        with nogil:
            status = pbs_h2_receive(self._h2, &data[0], size)
        if status:
            raise self._failure(status, "receiving from the target")

    cdef object _failure(self, int status, str doing):
        reason = pbs_h2_error(self._h2).decode("ascii", "replace")
        if not reason:
            return native_error(status, doing)
        return (ConnectError if status == PBS_E_CLOSED else ProtocolError)(f"HTTP/2: {reason}")

    def answers(self) -> list[Answer]:
        """The answers that came since the last call, in the order in which they were complete."""
        cdef pbs_h2_answer answer
        cdef uint8_t digest[32]
        self._check_open()
        found = []
        while pbs_h2_next_answer(self._h2, &answer):
            body = _body(&answer)
            about = None
            if answer.is_upload:
                if pbs_upload_digest(self._upload, answer.job, digest) == PBS_OK:
                    about = PyBytes_FromStringAndSize(<char *>digest, 32)
            # A reset with code 0 comes with another one, since 0 stands for none in C.
            reset_code = 0 if answer.reset_code == 0xffffffff else answer.reset_code
            found.append(Answer(UPLOAD_TAG if answer.is_upload else answer.tag, answer.status,
                                body, reset_code, bool(answer.body_too_large), about,
                                bool(answer.is_part)))
        return found

    def check_source(self, str chunks_path not None) -> None:
        """Raise ChunkError if a chunk could not be read; ``chunks_path`` is for the message."""
        cdef pbs_upload_failure failure
        if self._upload is not NULL and pbs_upload_failed(self._upload, &failure):
            digest = PyBytes_FromStringAndSize(<char *>failure.digest, 32)
            raise chunk_error(failure.status, digest, chunks_path, failure.error)

    def progress(self):
        """Numbers that differ when a request was begun or ended, or bytes of a body went or came.

        None where the target owes no answer, not even to chunks that it lets wait by allowing no
        stream.
        """
        cdef pbs_h2_state state
        if self._h2 is NULL:
            return None
        pbs_h2_state_get(self._h2, &state)
        cdef bint held_up = state.peer_max_streams == 0 and (
            self.chunks_added > self.chunks_acknowledged)
        if not (state.open_streams or state.calls_waiting or held_up):
            return None
        return state.requests, state.open_streams, state.sent_bytes, state.received_bytes

    @property
    def is_over(self) -> bool:
        """Whether the target takes no more requests, and has answered all."""
        cdef pbs_h2_state state = self._last_state
        if self._h2 is not NULL:
            pbs_h2_state_get(self._h2, &state)
        return bool(state.going_away) and not state.open_streams

    def state(self) -> TransportState:
        """Counts and limits as they are now."""
        cdef pbs_h2_state state = self._last_state
        if self._h2 is not NULL:
            pbs_h2_state_get(self._h2, &state)
        return TransportState(
            state.sent_bytes, state.received_bytes, state.uploads_done, state.uploads_bytes,
            state.requests, state.refused, state.open_streams, state.calls_waiting,
            state.peer_max_streams, state.peer_frame_size, state.send_window,
            bool(state.settings_seen), bool(state.settings_acked), bool(state.going_away))
