"""Sets of digests that refer to rows of index files instead of copying them.

Numpy is imported with the first answer.
"""

import os
import threading

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pbs_push._native.index cimport release_pages
from pbs_push._native.status import native_error


cdef extern from "pbs_digests.h" nogil:
    enum:
        PBS_DIGEST_SIZE
        PBS_DIGESTS_KEY_SIZE

    struct pbs_digests:
        pass

    struct pbs_rows:
        const uint8_t *base
        ptrdiff_t stride
        size_t n

    struct pbs_batch:
        pbs_rows rows
        const uint32_t *at
        size_t n

    pbs_batch pbs_all(pbs_rows rows)

    struct pbs_digests_stats:
        uint64_t count
        uint64_t nbytes

    ctypedef void pbs_digests_passed(const void *start, size_t length) noexcept

    int pbs_digests_new(const uint8_t *key, uint64_t expected, pbs_digests_passed *passed,
                        pbs_digests **out)
    void pbs_digests_free(pbs_digests *digests)
    void pbs_digests_measure(const pbs_digests *digests, pbs_digests_stats *out)
    int pbs_digests_insert(
        pbs_digests *digests, pbs_batch batch, uint8_t *out_new, uint32_t *out_pos,
        size_t *out_added
    )
    int pbs_digests_contains(pbs_digests *digests, pbs_batch batch, uint8_t *out_found)
    int pbs_digests_difference(
        pbs_digests *digests, pbs_batch batch, uint32_t *out_pos, size_t *out_n
    )


@cython.final
@cython.auto_pickle(False)
cdef class DigestSet:
    """A set of 32-byte digests that keeps references to the rows given to it, not copies.

    ``rows`` is always a uint8 buffer of shape (n, 32), any row stride, such as ``Index.digests``.
    ``at``, if given, has the positions of those rows that are meant: any contiguous buffer of u32,
    best ascending, neither copied nor kept. What all methods return goes in its order.
    Batches that brought a new member are kept referenced as long as the set lives; their bytes must
    not change. 8 bytes for each 3/4 digest: 10.2 MiB for a million, up to 1.5 times that where
    ``expected`` (digests to make room for at once) was too low. The hash is keyed by random bytes,
    so that crafted digests cannot slow it down. Pages of mapped index files that a call is done
    with are given back to the kernel.

    Any thread may call any method; calls on one set wait for each other, with the GIL released.
    Raises ValueError for rows of another shape or type, and for positions beyond them, PbsPushError
    beyond 2^32 - 2 rows.
    """

    cdef pbs_digests *digests
    cdef list owners
    cdef object lock

    def __cinit__(self, expected=0):
        cdef bytes key = os.urandom(PBS_DIGESTS_KEY_SIZE)
        cdef uint64_t c_expected = expected
        _check(pbs_digests_new(key, c_expected, release_pages, &self.digests))
        self.owners = []
        self.lock = threading.Lock()

    def __dealloc__(self):
        pbs_digests_free(self.digests)

    def insert(self, rows, *, at=None):
        """Insert digests; True where one is new, also among the rows before it. O(n)."""
        import numpy

        cdef pbs_batch batch
        cdef size_t added = 0
        owners = _batch(rows, at, &batch)
        new = numpy.empty(batch.n, numpy.bool_)
        self._insert(owners, batch, _flags(new), NULL, &added)
        return new

    def contains(self, rows, *, at=None):
        """True where a digest is in the set; ``rows`` are not kept. O(n)."""
        import numpy

        cdef pbs_batch batch
        cdef int status
        owners = _batch(rows, at, &batch)
        found = numpy.empty(batch.n, numpy.bool_)
        cdef uint8_t *c_found = _flags(found)
        with self.lock:
            with nogil:
                status = pbs_digests_contains(self.digests, batch, c_found)
        _check(status)
        return found

    def difference(self, rows, *, at=None, bint insert=False):
        """Positions of the rows not in the set, in the order of ``at``, else ascending. O(n).

        With ``insert`` they are in the set afterwards, and of equal rows only the first counts.
        """
        import numpy

        cdef pbs_batch batch
        cdef size_t n = 0
        cdef int status
        owners = _batch(rows, at, &batch)
        places = numpy.empty(batch.n, numpy.uint32)
        cdef uint32_t *c_places = _positions(places)
        if insert:
            self._insert(owners, batch, NULL, c_places, &n)
        else:
            with self.lock:
                with nogil:
                    status = pbs_digests_difference(self.digests, batch, c_places, &n)
            _check(status)
        return places[:n].copy() if at is None else numpy.asarray(owners[1])[places[:n]]

    cdef int _insert(
        self, tuple owners, pbs_batch batch, uint8_t *out_new, uint32_t *out_pos, size_t *out_added
    ) except -1:
        cdef int status
        with self.lock:
            # Kept before the call: a batch that fails midway has members in the set already.
            self.owners.append(owners[0])
            with nogil:
                status = pbs_digests_insert(self.digests, batch, out_new, out_pos, out_added)
            _check(status)
            if out_added[0] == 0:
                self.owners.pop()
        return 0

    @property
    def nbytes(self):
        """Memory held beside the rows, in bytes."""
        return self._stats().nbytes

    cdef pbs_digests_stats _stats(self):
        cdef pbs_digests_stats stats
        with self.lock:
            pbs_digests_measure(self.digests, &stats)
        return stats

    def __len__(self):
        return self._stats().count

    def __contains__(self, digest):
        """Whether one digest of 32 bytes is in the set; for many, see ``contains``."""
        return bool(self.contains(memoryview(digest).cast("B", (1, PBS_DIGEST_SIZE)))[0])

    def __repr__(self):
        return f"<DigestSet of {len(self)}>"


cdef tuple _batch(object rows, object at, pbs_batch *out):
    """Describe rows, and which of them are meant, to C; what is returned keeps both in place."""
    cdef memoryview view = memoryview(rows)
    cdef const uint8_t[:, :] typed = view
    cdef const uint32_t[::1] picked
    cdef pbs_rows c_rows
    if typed.shape[1] != PBS_DIGEST_SIZE or typed.strides[1] != 1:
        raise ValueError(
            f"digests must be rows of {PBS_DIGEST_SIZE} contiguous bytes, "
            f"not of shape {view.shape} with strides {view.strides}"
        )
    c_rows.n = <size_t>typed.shape[0]
    c_rows.stride = typed.strides[0]
    c_rows.base = &typed[0, 0] if c_rows.n > 0 else NULL
    out[0] = pbs_all(c_rows)
    if at is None:
        return view, None
    picked = at
    out.n = <size_t>picked.shape[0]
    # Of no positions there is no address; then nothing is looked at either.
    out.at = &picked[0] if out.n > 0 else NULL
    return view, picked


cdef uint8_t *_flags(object array) except? NULL:
    cdef uint8_t[::1] view = array.view("u1")
    return &view[0] if view.shape[0] > 0 else NULL


cdef uint32_t *_positions(object array) except? NULL:
    cdef uint32_t[::1] view = array
    return &view[0] if view.shape[0] > 0 else NULL


cdef int _check(int status) except -1:
    if status != 0:
        raise native_error(status, "cannot hold the digests")
    return 0
