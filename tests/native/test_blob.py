"""CRC-32 against zlib's."""

from __future__ import annotations

import zlib

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push._native.blob import crc32, crc32_backend


@given(st.binary(max_size=3000), st.integers(0, 2**32 - 1))
def test_same_as_zlib(data: bytes, value: int) -> None:
    assert crc32(data) == zlib.crc32(data)
    assert crc32(data, value) == zlib.crc32(data, value)


def test_every_length_and_alignment() -> None:
    content = numpy.random.default_rng(1).bytes(700)
    view = memoryview(content)
    for length in range(600):
        offset = length % 64
        part = view[offset : offset + length]
        assert crc32(part) == zlib.crc32(part)


@given(st.binary(max_size=500), st.integers(0, 500))
def test_parts_add_up(data: bytes, at: int) -> None:
    assert crc32(data[at:], crc32(data[:at])) == crc32(data)


def test_known_answer() -> None:
    assert crc32(b"123456789") == 0xCBF43926


def test_any_contiguous_buffer_will_do() -> None:
    array = numpy.arange(100, dtype=numpy.uint32)
    expected = zlib.crc32(array.tobytes())
    assert crc32(array) == crc32(array.tobytes()) == crc32(bytearray(array)) == expected
    assert crc32(array.reshape(10, 10)) == expected
    with pytest.raises((ValueError, BufferError)):
        crc32(array[::2])
    with pytest.raises(TypeError):
        crc32("text")  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        crc32(b"", 2**32)


def test_backend_has_a_name() -> None:
    assert crc32_backend() in ("portable", "pclmul", "vpclmul")
