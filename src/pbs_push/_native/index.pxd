# What the other extension modules use of this one.

# Let the kernel take pages back that a pass is done with, see csrc/pbs_map.h. Memory that is in no
# mapping of ours is left alone.
cdef void release_pages(const void *start, size_t length) noexcept nogil
