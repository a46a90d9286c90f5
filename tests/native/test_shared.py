"""Memory for chunks of several targets, as Python sees it (see csrc/tests/test_shared.c)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pbs_push._native.shared import MOST_MEMBERS, ReadCounts, SharedChunks
from pbs_push._native.transport import Transport


@pytest.mark.parametrize("members", [0, MOST_MEMBERS + 1])
def test_numbers_of_members(members: int) -> None:
    with pytest.raises(ValueError, match="1 to 64 can share"):
        SharedChunks(1 << 20, members)


def test_who_is_no_member(tmp_path: Path) -> None:
    shared = SharedChunks(1 << 20, 2)
    with pytest.raises(ValueError, match="there is no member 2"):
        shared.counts(2)
    with pytest.raises(ValueError, match="there is no member 2"):
        shared.leave(2)
    chunks_fd = os.open(tmp_path, os.O_RDONLY)
    transport = Transport("a:1")
    try:
        with pytest.raises(ValueError, match="there is no member 2"):
            transport.attach_uploads(chunks_fd, readers=1, buffer_bytes=0, shared=shared, member=2)
        transport.attach_uploads(chunks_fd, readers=1, buffer_bytes=0, shared=shared, member=1)
        del shared  # the transport keeps it
    finally:
        transport.close()
        os.close(chunks_fd)


def test_a_new_one_holds_nothing() -> None:
    shared = SharedChunks(1 << 20, MOST_MEMBERS)
    shared.leave(MOST_MEMBERS - 1)
    assert shared.members == MOST_MEMBERS
    assert shared.counts(0) == ReadCounts(0, 0, 0, 0, 0, 0)
    assert (shared.held_bytes, shared.most_held_bytes) == (0, 0)
