"""Chunk files for Python: read and checked by the C that uploads them too (csrc/pbs_chunks.h)."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from posix.unistd cimport close

from pbs_push._native.chunk_errors import chunk_error


cdef extern from "pbs_error.h" nogil:
    enum:
        PBS_OK


cdef extern from "pbs_chunks.h" nogil:
    enum:
        PBS_DIGEST_SIZE
        PBS_CHUNK_EITHER
        PBS_CHUNK_FILE_MAX

    const uint64_t PBS_CHUNK_ANY_SIZE

    int pbs_chunk_open(int chunks_fd, const uint8_t *digest, int *out_fd, size_t *out_size,
                       int *out_errno)
    int pbs_chunk_read(int fd, size_t size, uint64_t plain_size, int want_encrypted, uint8_t *out,
                       int *out_errno)


CHUNK_FILE_MAX = PBS_CHUNK_FILE_MAX


def read_chunk_into(int chunks_fd, bytes digest not None, str chunks_path not None,
                    uint8_t[::1] memory not None):
    """As ``read_chunk``, into ``memory``, which is used again for others; returns the blob's bytes.

    It must have room for the largest chunk file, ``CHUNK_FILE_MAX`` bytes; ValueError otherwise.
    """
    cdef int fd = -1, status, saved_errno = 0
    cdef size_t size = 0
    cdef const uint8_t *wanted = _digest(digest)
    if memory.shape[0] < <Py_ssize_t>PBS_CHUNK_FILE_MAX:
        raise ValueError(f"a chunk file may have {PBS_CHUNK_FILE_MAX} bytes")
    with nogil:
        status = pbs_chunk_open(chunks_fd, wanted, &fd, &size, &saved_errno)
        if status == PBS_OK:
            status = pbs_chunk_read(fd, size, PBS_CHUNK_ANY_SIZE, PBS_CHUNK_EITHER, &memory[0],
                                    &saved_errno)
            close(fd)
    if status != PBS_OK:
        raise chunk_error(status, digest, chunks_path, saved_errno)
    return size


cdef const uint8_t *_digest(bytes digest) except NULL:
    if len(digest) != PBS_DIGEST_SIZE:
        raise ValueError(f"a digest has {PBS_DIGEST_SIZE} bytes, not {len(digest)}")
    return <const uint8_t *>PyBytes_AS_STRING(digest)


def read_chunk(int chunks_fd, bytes digest not None, str chunks_path not None):
    """Read the chunk of ``digest`` (32 bytes) from the folder ``.chunks`` open as ``chunks_fd``.

    Returns the blob as it lies on disk, its magic, length and CRC-32 checked; what is in it is not
    looked at. ``chunks_path`` is that folder, for messages. Raises ChunkError where the file is
    missing, corrupt or cannot be read, ValueError for a digest of another length. The GIL is
    released.
    """
    cdef int fd = -1, status, saved_errno = 0
    cdef size_t size = 0
    cdef const uint8_t *wanted = _digest(digest)
    cdef uint8_t *out
    with nogil:
        status = pbs_chunk_open(chunks_fd, wanted, &fd, &size, &saved_errno)
    if status != PBS_OK:
        raise chunk_error(status, digest, chunks_path, saved_errno)
    try:
        blob = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
        out = <uint8_t *>PyBytes_AS_STRING(blob)
        with nogil:
            status = pbs_chunk_read(fd, size, PBS_CHUNK_ANY_SIZE, PBS_CHUNK_EITHER, out,
                                    &saved_errno)
    finally:
        close(fd)
    if status != PBS_OK:
        raise chunk_error(status, digest, chunks_path, saved_errno)
    return blob
