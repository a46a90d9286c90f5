# An index's C side, for the extension modules that compare and upload its entries.

from libc.stdint cimport int64_t, uint8_t, uint64_t


cdef extern from "pbs_map.h" nogil:
    struct pbs_map:
        const uint8_t *base
        size_t length


cdef extern from "pbs_index.h" nogil:
    enum pbs_index_kind:
        PBS_INDEX_FIXED

    struct pbs_index:
        pbs_index_kind kind
        const uint8_t *digests
        size_t stride
        size_t n
        uint64_t size
        uint64_t chunk_size
        uint64_t largest
        int64_t ctime
        uint8_t uuid[16]
        uint8_t csum[32]


# Let the kernel take pages back that a pass is done with, see csrc/pbs_map.h. Memory that is in no
# mapping of ours is left alone.
cdef void release_pages(const void *start, size_t length) noexcept nogil


cdef class _Mapping:
    cdef pbs_map map
    cdef bint is_open  # a file is mapped
    cdef object content  # otherwise a memoryview, which `map` points into


cdef class Index:
    cdef str name
    cdef pbs_index parsed  # points into the mapping
    cdef bytes csum_when_opened
    cdef _Mapping mapping
    cdef tuple made_views

    # What keeps `parsed` in place as long as it is referenced. Raises ValueError once closed.
    cdef _Mapping opened(self)

    # Entries, digests and end offsets (None if it is fixed) as numpy sees them, made when they are
    # first asked for. Raises ValueError once closed.
    cdef tuple views(self)

    # Let the pages of n entries from `first` on go, after a pass over them; they may come in again.
    cdef void release_entries(self, size_t first, size_t n) noexcept nogil
