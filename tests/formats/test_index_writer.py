"""Index files as they are written: bytes by protocol/datastore.md, and read back natively."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pbs_push.errors import IndexFormatError
from pbs_push.formats.index import open_index
from pbs_push.formats.index_writer import (
    DYNAMIC_MAGIC,
    FIXED_MAGIC,
    write_dynamic_index,
    write_fixed_index,
)

UUID = bytes(range(16))
DIGESTS = hashlib.sha256(b"one").digest() + hashlib.sha256(b"two").digest()


def test_magics_are_the_hashes_of_their_phrases() -> None:
    for phrase, magic in (
        ("Proxmox Backup fixed sized chunk index v1.0", FIXED_MAGIC),
        ("Proxmox Backup dynamic sized chunk index v1.0", DYNAMIC_MAGIC),
    ):
        assert hashlib.sha256(phrase.encode()).digest()[:8] == magic


def test_fixed_index_byte_by_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.fidx"
    csum = write_fixed_index(path, DIGESTS, 5 << 20, uuid=UUID, ctime=77)
    data = path.read_bytes()
    assert data[:80] == FIXED_MAGIC + UUID + struct.pack("<q", 77) + csum + struct.pack(
        "<QQ", 5 << 20, 4 << 20
    )
    assert data[80:4096] == bytes(4016)
    assert data[4096:] == DIGESTS
    assert csum == hashlib.sha256(DIGESTS).digest()


def test_dynamic_index_byte_by_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.didx"
    ends = np.array([100, 5000], dtype=np.uint64)
    csum = write_dynamic_index(path, ends, DIGESTS, uuid=UUID, ctime=-1)
    data = path.read_bytes()
    assert data[:64] == DYNAMIC_MAGIC + UUID + struct.pack("<q", -1) + csum
    assert data[64:4096] == bytes(4032)
    assert data[4096:] == (
        struct.pack("<Q", 100) + DIGESTS[:32] + struct.pack("<Q", 5000) + DIGESTS[32:]
    )
    assert csum == hashlib.sha256(data[4096:]).digest()


@given(
    st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=20),
    st.integers(1, 4096),
    st.data(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fixed_round_trip(
    tmp_path: Path, digests: list[bytes], last: int, data: st.DataObject
) -> None:
    path = tmp_path / "a.fidx"
    size = 4096 * (len(digests) - 1) + last
    csum = write_fixed_index(path, b"".join(digests), size, chunk_size=4096)
    with open_index(path) as index:
        assert (index.kind, index.size, index.chunk_size, len(index)) == (
            "fixed",
            size,
            4096,
            len(digests),
        )
        assert index.header_csum == index.csum() == csum
        assert index.digests.tobytes() == b"".join(digests)
        assert index.end_offsets[-1] == size


@given(
    st.lists(st.tuples(st.integers(1, 1 << 24), st.binary(min_size=32, max_size=32)), min_size=1)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_dynamic_round_trip(tmp_path: Path, chunks: list[tuple[int, bytes]]) -> None:
    path = tmp_path / "a.didx"
    ends = np.cumsum([size for size, _ in chunks], dtype=np.uint64)
    rows = np.frombuffer(b"".join(digest for _, digest in chunks), dtype=np.uint8).reshape(-1, 32)
    csum = write_dynamic_index(path, ends, rows)
    with open_index(path) as index:
        assert (index.kind, index.size, len(index)) == ("dynamic", int(ends[-1]), len(chunks))
        assert index.header_csum == index.csum() == csum
        assert index.digests.tobytes() == rows.tobytes()
        assert index.end_offsets.tolist() == ends.tolist()


def test_uuid_and_time_are_made_up_if_not_given(tmp_path: Path) -> None:
    uuids = set()
    for name in ("a", "b"):
        write_fixed_index(tmp_path / name, DIGESTS, 8 << 20)
        with open_index(tmp_path / name) as index:
            uuids.add(index.uuid)
            assert index.ctime > 1_700_000_000
    assert len(uuids) == 2


@pytest.mark.parametrize(
    ("digests", "size", "chunk_size"),
    [(DIGESTS, 4 << 20, 4 << 20), (DIGESTS, (8 << 20) + 1, 4 << 20), (b"x" * 33, 1, 4096),
     (DIGESTS, 8000, 4000), (DIGESTS, 8000, 0)],
)  # fmt: skip
def test_fixed_entries_must_fit_the_size(
    tmp_path: Path, digests: bytes, size: int, chunk_size: int
) -> None:
    with pytest.raises(IndexFormatError, match=r"do not fit|not a power of two"):
        write_fixed_index(tmp_path / "a.fidx", digests, size, chunk_size=chunk_size)
    assert not (tmp_path / "a.fidx").exists()


@pytest.mark.parametrize("ends", [[1], [1, 2, 3], [2, 2], [2, 1], [0, 1]])
def test_dynamic_offsets_must_increase_and_fit(tmp_path: Path, ends: list[int]) -> None:
    with pytest.raises(IndexFormatError, match=r"do not fit|do not increase"):
        write_dynamic_index(tmp_path / "a.didx", np.array(ends, dtype=np.uint64), DIGESTS)
    assert not (tmp_path / "a.didx").exists()
