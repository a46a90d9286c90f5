# cython: language_level=3, embedsignature=True
"""Chunks that uploads to several targets read once, in C (csrc/pbs_shared.h)."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING

import os
from typing import NamedTuple

from pbs_push._native.status import native_error

MOST_MEMBERS = PBS_SHARED_MEMBERS_MAX
"""Targets that can share."""


class ReadCounts(NamedTuple):
    """Chunks, and bytes of their files, that uploads to one target needed.

    ``read`` from files by themselves, ``taken`` from memory. ``again`` are those of the read ones
    that had been read for another target, and were not kept for this one.
    """

    read_chunks: int
    read_bytes: int
    taken_chunks: int
    taken_bytes: int
    again_chunks: int
    again_bytes: int


@cython.final
@cython.auto_pickle(False)
cdef class SharedChunks:
    """Memory of up to ``room`` bytes for chunks that uploads to ``members`` targets read once.

    Give it to ``Transport.attach_uploads``, with the number of the target, from 0 on. Safe for
    threads. Raises ValueError for fewer members than 1, or more than ``MOST_MEMBERS``.
    """

    def __cinit__(self, size_t room, unsigned members) -> None:
        if not 1 <= members <= PBS_SHARED_MEMBERS_MAX:
            raise ValueError(f"{members} members: 1 to {MOST_MEMBERS} can share")
        cdef bytes key = os.urandom(PBS_SHARED_KEY_SIZE)
        cdef const uint8_t *c_key = <const uint8_t *>PyBytes_AS_STRING(key)
        cdef int status = pbs_shared_new(c_key, room, members, &self.shared)
        if status:
            raise native_error(status, "setting up memory for chunks of several targets")
        self.members = members

    def __dealloc__(self):
        pbs_shared_free(self.shared)

    cdef unsigned checked(self, unsigned member) except? 255:
        if member >= self.members:
            raise ValueError(f"there is no member {member}: there are {self.members}")
        return member

    def leave(self, unsigned member) -> None:
        """This one needs nothing any more: nothing is kept for it."""
        self.checked(member)
        with nogil:
            pbs_shared_leave(self.shared, member)

    def counts(self, unsigned member) -> ReadCounts:
        """What a member has read, and taken, so far."""
        cdef pbs_shared_counts found
        pbs_shared_count(self.shared, self.checked(member), &found)
        return ReadCounts(found.read_chunks, found.read_bytes, found.taken_chunks,
                          found.taken_bytes, found.again_chunks, found.again_bytes)

    @property
    def held_bytes(self) -> int:
        """Bytes of memory for chunks, now."""
        cdef size_t now = 0, most = 0
        pbs_shared_held(self.shared, &now, &most)
        return now

    @property
    def most_held_bytes(self) -> int:
        """The most that there were at once."""
        cdef size_t now = 0, most = 0
        pbs_shared_held(self.shared, &now, &most)
        return most
