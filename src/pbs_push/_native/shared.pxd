# What is shared between uploads to several targets, for the module that uploads.

from libc.stdint cimport uint8_t, uint64_t


cdef extern from "pbs_shared.h" nogil:
    struct pbs_shared:
        pass
    struct pbs_shared_counts:
        uint64_t read_chunks
        uint64_t read_bytes
        uint64_t taken_chunks
        uint64_t taken_bytes
        uint64_t again_chunks
        uint64_t again_bytes
    enum:
        PBS_SHARED_MEMBERS_MAX
        PBS_SHARED_KEY_SIZE
    int pbs_shared_new(const uint8_t *key, size_t room, unsigned members, pbs_shared **out)
    void pbs_shared_free(pbs_shared *shared)
    void pbs_shared_leave(pbs_shared *shared, unsigned member)
    void pbs_shared_count(pbs_shared *shared, unsigned member, pbs_shared_counts *out)
    void pbs_shared_held(pbs_shared *shared, size_t *out_now, size_t *out_most)


cdef class SharedChunks:
    cdef pbs_shared *shared
    cdef readonly unsigned members

    # Raises ValueError for a number that is no member's.
    cdef unsigned checked(self, unsigned member) except? 255
