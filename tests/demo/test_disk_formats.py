"""The second reading of the formats agrees with the first, and misses nothing."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.demo.disk_formats import DiskKey, read_blob, read_index, read_manifest
from pbs_push.formats.blob import encode_blob
from pbs_push.formats.index_writer import write_dynamic_index, write_fixed_index
from pbs_push.formats.keys import CryptKey

RAW_KEY = bytes(range(32))


@given(st.binary(max_size=2000), st.booleans())
def test_blobs_of_the_other_implementation(content: bytes, encrypt: bool) -> None:
    key = CryptKey(RAW_KEY)
    data = encode_blob(content, key=key if encrypt else None)
    blob = read_blob(data, DiskKey(RAW_KEY))
    assert (blob.content, blob.encrypted, blob.plain_size) == (content, encrypt, len(content))
    assert DiskKey(RAW_KEY).digest(content) == key.digest(content)
    if encrypt:
        assert read_blob(data).content is None
        with pytest.raises(ValueError, match="cannot be decrypted"):
            read_blob(data, DiskKey(bytes(32)))


def test_the_plain_size_of_an_encrypted_blob() -> None:
    key = CryptKey(RAW_KEY)
    assert read_blob(encode_blob(b"abc", key=key)).plain_size == 3
    assert read_blob(encode_blob(b"a" * 999, key=key)).plain_size is None


@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    for read in (read_blob, read_index, read_manifest):
        for content in (data, data + bytes(4096), encode_blob(data)):
            try:
                read(content)
            except ValueError:
                continue


def test_indexes_of_the_other_implementation(tmp_path: Path) -> None:
    digests = [hashlib.sha256(bytes((number,))).digest() for number in range(3)]
    path = tmp_path / "index"
    csum = write_fixed_index(path, b"".join(digests), 9000, chunk_size=4096)
    index = read_index(path.read_bytes())
    assert (index.kind, index.size, index.chunk_size) == ("fixed", 9000, 4096)
    assert index.csum == index.header_csum == csum
    assert list(index.chunks()) == list(zip(digests, (4096, 4096, 808), strict=True))
    ends = np.array([10, 4000, 4001], dtype=np.uint64)
    csum = write_dynamic_index(path, ends, b"".join(digests))
    index = read_index(path.read_bytes())
    assert (index.kind, index.size) == ("dynamic", 4001)
    assert index.csum == index.header_csum == csum
    assert list(index.chunks()) == list(zip(digests, (10, 3990, 1), strict=True))


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, b"x", "magic"),
        (72, struct.pack("<Q", 0), "fixed index"),
        (64, struct.pack("<Q", 4 << 30), "fixed index"),
    ],
)
def test_damaged_fixed_indexes(tmp_path: Path, position: int, value: bytes, message: str) -> None:
    write_fixed_index(tmp_path / "index", bytes(32), 100)
    data = bytearray((tmp_path / "index").read_bytes())
    data[position : position + len(value)] = value
    with pytest.raises(ValueError, match=message):
        read_index(bytes(data))


def test_damaged_dynamic_indexes(tmp_path: Path) -> None:
    ends = np.array([10, 20], dtype=np.uint64)
    write_dynamic_index(tmp_path / "index", ends, bytes(64))
    data = (tmp_path / "index").read_bytes()
    with pytest.raises(ValueError, match="dynamic index of 79 bytes"):
        read_index(data[:-1])
    with pytest.raises(ValueError, match="do not increase"):
        read_index(data[:4136] + data[4096:4136])


def test_a_key_shows_nothing() -> None:
    assert repr(DiskKey(RAW_KEY)) == "DiskKey(…)"
