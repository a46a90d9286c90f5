"""Index files over a read-only mapping: checked once, then seen as numpy views.

Numpy is imported with the first view: who only checks a file does not wait for it.
"""

import hashlib
import os

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from cpython.buffer cimport PyBuffer_FillInfo

from pbs_push._native.status import Status, native_error
from pbs_push.errors import IndexFormatError, SourceError
from pbs_push.names import why_not_a_path


cdef extern from "<fcntl.h>" nogil:
    const int AT_FDCWD


cdef extern from "pbs_error.h" nogil:
    enum:
        PBS_OK


cdef extern from "pbs_map.h" nogil:
    int pbs_map_open(int dir_fd, const char *path, pbs_map *out, int *out_errno)
    int pbs_map_open_again(int fd, pbs_map *out, int *out_errno)
    void pbs_map_close(pbs_map *map)
    bint pbs_map_shrunk(const pbs_map *map)
    void pbs_map_release(const void *start, size_t length)


cdef extern from "pbs_index.h" nogil:
    enum:
        PBS_DIGEST_SIZE
        PBS_INDEX_HEADER_SIZE

    int pbs_index_parse(const uint8_t *base, size_t length, pbs_index *out)
    int pbs_index_check(pbs_index *index, size_t first, size_t n, size_t *out_pos)


cdef extern from "pbs_entries.h" nogil:
    int pbs_entries_changed(const pbs_index *index, const pbs_index *previous, size_t first,
                            size_t n, uint32_t *out, size_t *out_n)


cdef extern from "pbs_chunks.h" nogil:
    void pbs_chunk_inodes(int chunks_fd, const uint8_t *digests, size_t stride,
                          const uint32_t *positions, size_t n, uint64_t *out)


cdef enum:
    # What is hashed, checked and released at once: what a core's caches hold, and so much that
    # coming back to the interpreter after each is nothing beside it.
    BLOCK = 1 << 20
    COMPARED = 1 << 15  # entries compared in one go


cdef void release_pages(const void *start, size_t length) noexcept nogil:
    # For all extension modules, since the table of mappings exists once, in this one.
    pbs_map_release(start, length)


@cython.final
@cython.auto_pickle(False)
cdef class _Mapping:
    """Owns one mapping, or the bytes in its place, and lends it as a read-only buffer.

    Every view holds a reference, so the memory goes with the last of them and never before.
    """

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(
            buffer, self, <void *>self.map.base, <Py_ssize_t>self.map.length, 1, flags
        )

    def __dealloc__(self):
        if self.is_open:
            pbs_map_close(&self.map)


@cython.final
@cython.auto_pickle(False)
cdef class Index:
    """A checked ``.fidx`` or ``.didx`` file, mapped (protocol/datastore.md, "Index files").

    Views stay valid, and the file mapped, as long as they are referenced, also after ``close``.
    Bytes lost because the file shrinks meanwhile read as zeros: call ``check_unchanged`` after
    reading what matters. May be used from several threads at once; ``close`` once.
    Reading an attribute of a closed index other than the plain values raises ValueError.
    """

    def __init__(self):
        raise TypeError("an Index is made by open_index() only")

    @property
    def path(self):
        """As it was given to ``open_index``."""
        return self.name

    @property
    def kind(self):
        """Which of the two formats: ``fixed`` or ``dynamic``."""
        return "fixed" if self.parsed.kind == PBS_INDEX_FIXED else "dynamic"

    @property
    def uuid(self):
        """The 16 bytes that the writer chose."""
        return bytes(self.parsed.uuid[:16])

    @property
    def ctime(self):
        """When it was written, seconds since 1970, as the header says."""
        return self.parsed.ctime

    @property
    def size(self):
        """Plain bytes of the archive."""
        return self.parsed.size

    @property
    def chunk_size(self):
        """Plain bytes of every chunk but the last, a power of two; 0 for a dynamic index."""
        return self.parsed.chunk_size

    @property
    def largest_chunk(self):
        """Plain bytes of the largest chunk; 0 without entries."""
        return self.parsed.largest

    @property
    def header_csum(self):
        """The csum that the header claims; not trusted, see ``csum``."""
        return bytes(self.parsed.csum[:PBS_DIGEST_SIZE])

    @property
    def entries(self):
        """All entries as they lie in the file: n times 32 or 40 bytes, read-only, no copy."""
        return self.views()[0]

    @property
    def digests(self):
        """The chunks' digests, shape (n, 32), read-only, no copy; rows are 32 or 40 bytes apart."""
        return self.views()[1]

    @property
    def end_offsets(self):
        """Where each chunk ends in the archive, shape (n,), read-only.

        A view of the file for a dynamic index; for a fixed one computed on each access, O(n).
        """
        import numpy

        found = self.views()[2]
        if found is not None:
            return found
        ends = numpy.arange(1, len(self) + 1, dtype=numpy.uint64)
        ends *= numpy.uint64(self.parsed.chunk_size)
        ends[-1] = self.parsed.size
        ends.flags.writeable = False
        return ends

    def csum(self):
        """SHA-256 over the entries as they lie in the file.

        That of a dynamic file is computed when it is opened, all others on each call, with the GIL
        released; the pages are given back to the kernel behind it, which brings them in again when
        they are used. Raises IndexFormatError if the file shrank meanwhile.
        """
        cdef _Mapping mapping = self.opened()
        if self.csum_when_opened is None:
            return _checked_csum(self.name, mapping, &self.parsed)
        self.check_unchanged()
        return self.csum_when_opened

    def check_unchanged(self):
        """Raise IndexFormatError if the file shrank, or a page of it could not be read."""
        cdef _Mapping mapping = self.opened()
        if mapping.is_open and pbs_map_shrunk(&mapping.map):
            raise _error(Status.SHRUNK, self.name)

    def changed(self, Index previous not None):
        """Positions at which this index differs from ``previous``, increasing, shape (m,).

        The last one counts as different where it covers other bytes. Raises ValueError unless both
        are fixed, and of the same length and chunk size. O(n), GIL released.
        """
        import numpy

        cdef size_t first = 0, n = 0, count = 0
        cdef int status = PBS_OK
        # Both mappings stay while they are compared, whoever closes an index meanwhile.
        cdef _Mapping ours = self.opened(), theirs = previous.opened()
        cdef bytearray found = bytearray()
        cdef bytearray part = bytearray(sizeof(uint32_t) * COMPARED)
        cdef uint8_t[::1] out = part
        while True:
            n = min(<size_t>COMPARED, self.parsed.n - first)
            with nogil:
                status = pbs_entries_changed(&self.parsed, &previous.parsed, first, n,
                                             <uint32_t *>&out[0], &count)
                self.release_entries(first, n)
                previous.release_entries(first, n)
            if status != PBS_OK:
                raise ValueError("only two fixed indexes of the same length can be compared")
            found += part[:sizeof(uint32_t) * count]
            first += n
            if first == self.parsed.n:
                return numpy.frombuffer(found, numpy.uint32)

    def inodes(self, int chunks_fd, const uint32_t[::1] positions not None):
        """Inode numbers of the chunks at ``positions`` (uint32, contiguous), in the same order.

        ``chunks_fd`` is the open folder ``.chunks``; 0 stands for a chunk that is not there. Raises
        ValueError for a position outside of the index. One system call each, GIL released.
        """
        import numpy

        cdef size_t n = positions.shape[0], i
        cdef _Mapping mapping = self.opened()
        for i in range(n):
            if positions[i] >= self.parsed.n:
                raise ValueError(f"position {positions[i]} is outside of the index")
        found = numpy.empty(n, numpy.uint64)
        cdef uint64_t[::1] out = found
        if n:
            with nogil:
                pbs_chunk_inodes(chunks_fd, self.parsed.digests, self.parsed.stride,
                                 &positions[0], n, &out[0])
        return found

    cdef void release_entries(self, size_t first, size_t n) noexcept nogil:
        cdef size_t stride = self.parsed.stride
        if n:
            pbs_map_release(self.parsed.digests + first * stride, (n - 1) * stride + 1)

    def close(self):
        """Give up the mapping; it goes when the last view does. May be called again."""
        self.mapping = None
        self.made_views = None

    cdef _Mapping opened(self):
        if self.mapping is None:
            raise ValueError(f"index '{self.name}' is closed")
        return self.mapping

    cdef tuple views(self):
        cdef _Mapping mapping = self.opened()
        cdef tuple made = self.made_views
        if made is None:
            self.made_views = made = _views(mapping, &self.parsed)
        return made

    def __len__(self):
        return <Py_ssize_t>self.parsed.n

    def __enter__(self):
        self.opened()
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __repr__(self):
        return f"<Index {self.name!r} {self.kind}, {len(self)} entries>"


def open_index(path, *, dir_fd=None):
    """Map and check the index file ``path``, relative to the directory ``dir_fd`` if given.

    Reads the header, and all of a dynamic index, whose csum is computed along with the check of its
    end offsets; the GIL is released. A symbolic link as last component is not followed. The kind
    comes from the file's magic, not from its name.
    Raises SourceError where the file cannot be opened or is not a regular file, IndexFormatError where
    its bytes are not a valid index, PbsPushError with 32,768 files mapped already.
    """
    cdef const char *c_path
    cdef int c_dir_fd = AT_FDCWD if dir_fd is None else dir_fd
    cdef int status, saved_errno = 0
    cdef _Mapping mapping = _Mapping.__new__(_Mapping)

    if why := why_not_a_path(path):
        raise SourceError(f"cannot open index {path!r}: {why}")
    name = os.fsdecode(path)
    raw_path = os.fsencode(path)
    c_path = raw_path
    with nogil:
        status = pbs_map_open(c_dir_fd, c_path, &mapping.map, &saved_errno)
    return _of_file(name, mapping, status, saved_errno)


def open_index_again(int fd, str name not None):
    """Map and check the index file that ``fd`` is open on; ``name`` is for messages.

    The descriptor stays the caller's, and may be closed. Otherwise as ``open_index``.
    """
    cdef int status, saved_errno = 0
    cdef _Mapping mapping = _Mapping.__new__(_Mapping)

    with nogil:
        status = pbs_map_open_again(fd, &mapping.map, &saved_errno)
    return _of_file(name, mapping, status, saved_errno)


cdef Index _of_file(str name, _Mapping mapping, int status, int saved_errno):
    """The index of a file that was mapped with this status."""
    cdef pbs_index parsed
    if status != 0:
        raise _error(status, name, errno=saved_errno)
    mapping.is_open = True
    with nogil:
        status = pbs_index_parse(mapping.map.base, mapping.map.length, &parsed)
    _raise_for(status, name, mapping)
    if parsed.kind == PBS_INDEX_FIXED:
        return _describe(name, mapping, &parsed, None)
    # All of it has to be read now, so that hashing it is better done now as well.
    return _describe(name, mapping, &parsed, _checked_csum(name, mapping, &parsed))


def parse_index(content not None, str name not None):
    """Check an index file that is in memory (downloaded, say); ``name`` is for messages.

    The content is kept, not copied, and must not change. Raises IndexFormatError where it is not a
    valid index.
    """
    cdef const uint8_t[::1] view = content
    cdef int status
    cdef size_t bad_pos = 0
    cdef pbs_index parsed
    cdef _Mapping mapping = _Mapping.__new__(_Mapping)

    mapping.content = view
    mapping.map.base = &view[0] if view.shape[0] else NULL
    mapping.map.length = <size_t>view.shape[0]
    with nogil:
        status = pbs_index_parse(mapping.map.base, mapping.map.length, &parsed)
        if status == 0:
            status = pbs_index_check(&parsed, 0, parsed.n, &bad_pos)
    _raise_for(status, name, mapping, bad_pos)
    return _describe(name, mapping, &parsed, None)


cdef bytes _checked_csum(str path, _Mapping mapping, pbs_index *parsed):
    """SHA-256 over the entries, whose order is checked in the same pass."""
    cdef size_t first = 0, bad_pos = 0, n
    cdef int status = 0
    hashed = hashlib.sha256()
    entries = memoryview(mapping)[PBS_INDEX_HEADER_SIZE:]
    while first < parsed.n and status == 0:
        n = min(<size_t>BLOCK // parsed.stride, parsed.n - first)
        hashed.update(entries[first * parsed.stride:(first + n) * parsed.stride])
        with nogil:
            status = pbs_index_check(parsed, first, n, &bad_pos)
            pbs_map_release(
                mapping.map.base + PBS_INDEX_HEADER_SIZE + first * parsed.stride, n * parsed.stride
            )
        first += n
    _raise_for(status, path, mapping, bad_pos)
    return hashed.digest()


cdef int _raise_for(int status, str path, _Mapping mapping, size_t bad_pos=0) except -1:
    # A file cut meanwhile reads as zeros and may be refused for any reason: say the true one.
    if mapping.is_open and pbs_map_shrunk(&mapping.map):
        raise _error(Status.SHRUNK, path)
    if status != 0:
        raise _error(status, path, pos=bad_pos if status == Status.ORDER else None)
    return 0


cdef Index _describe(str path, _Mapping mapping, const pbs_index *parsed, bytes csum):
    cdef Index index = Index.__new__(Index)
    index.name = path
    index.parsed = parsed[0]
    index.csum_when_opened = csum
    index.mapping = mapping
    return index


cdef tuple _views(_Mapping mapping, const pbs_index *parsed):
    import numpy

    entries = numpy.frombuffer(mapping, numpy.uint8)[PBS_INDEX_HEADER_SIZE:]
    rows = entries.reshape(parsed.n, parsed.stride)
    digests = rows[:, parsed.stride - PBS_DIGEST_SIZE:]
    if parsed.kind == PBS_INDEX_FIXED:
        return entries, digests, None
    ends = rows[:, :sizeof(uint64_t)].view(numpy.dtype("<u8"))
    return entries, digests, ends.reshape(parsed.n)


def _error(code, path, **context):
    return native_error(code, f"cannot read index '{path}'", damaged=IndexFormatError, **context)
