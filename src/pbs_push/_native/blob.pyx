"""CRC-32 of data blobs, by carry-less multiplication where the CPU has it."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t


cdef extern from "pbs_blob.h" nogil:
    uint32_t pbs_crc32(uint32_t crc, const uint8_t *data, size_t length)
    const char *pbs_crc32_backend()


def crc32(data, value=0):
    """CRC-32 (IEEE, as ``zlib.crc32``) of contiguous ``data``; ``value`` is that of what precedes.

    ``data`` must not change during the call: the GIL is released. Raises TypeError for an object
    that lends no bytes, ValueError or BufferError for bytes that are not contiguous, OverflowError
    for a ``value`` outside 32 bits.
    """
    cdef Py_buffer buffer
    cdef uint32_t crc = value
    # Not a typed memoryview: for 200 bytes, making one takes longer than all the rest.
    PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
    try:
        with nogil:
            crc = pbs_crc32(crc, <const uint8_t *>buffer.buf, <size_t>buffer.len)
    finally:
        PyBuffer_Release(&buffer)
    return crc


def crc32_backend():
    """How ``crc32`` works on this CPU: ``portable``, ``pclmul`` or ``vpclmul``."""
    return pbs_crc32_backend().decode("ascii")
