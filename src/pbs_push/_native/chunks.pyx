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

    const uint64_t PBS_CHUNK_ANY_SIZE

    int pbs_chunk_open(int chunks_fd, const uint8_t *digest, int *out_fd, size_t *out_size,
                       int *out_errno)
    int pbs_chunk_read(int fd, size_t size, uint64_t plain_size, int want_encrypted, uint8_t *out,
                       int *out_errno)


def read_chunk(int chunks_fd, bytes digest not None, str chunks_path not None):
    """Read the chunk of ``digest`` (32 bytes) from the folder ``.chunks`` open as ``chunks_fd``.

    Returns the blob as it lies on disk, its magic, length and CRC-32 checked; what is in it is not
    looked at. ``chunks_path`` is that folder, for messages. Raises ChunkError where the file is
    missing, corrupt or cannot be read, ValueError for a digest of another length. The GIL is
    released.
    """
    cdef int fd = -1, status, saved_errno = 0
    cdef size_t size = 0
    cdef const uint8_t *wanted
    cdef uint8_t *out
    if len(digest) != PBS_DIGEST_SIZE:
        raise ValueError(f"a digest has {PBS_DIGEST_SIZE} bytes, not {len(digest)}")
    wanted = <const uint8_t *>PyBytes_AS_STRING(digest)
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
