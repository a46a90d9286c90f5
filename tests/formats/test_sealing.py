"""Blobs read piece by piece and encrypted where they lie: as decode_blob and encrypt_blob do it."""

from __future__ import annotations

import hashlib
import random
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from pbs_push.errors import BlobFormatError
from pbs_push.formats import sealing
from pbs_push.formats.blob import (
    MAX_CHUNK_SIZE,
    BlobKind,
    check_blob,
    decode_blob,
    encode_blob,
)
from pbs_push.formats.keys import CryptKey
from pbs_push.formats.sealing import PIECE, SEAL_GROWTH, PieceDecoder, seal

KEY = CryptKey(bytes(range(32)))
DECODER = PieceDecoder()


def zstd_blob(frame: bytes) -> bytes:
    return BlobKind.ZSTD.value + zlib.crc32(frame).to_bytes(4, "little") + frame


def decoded(blob: bytes) -> bytes:
    """What its pieces are together, each looked at before the next."""
    return b"".join(bytes(piece) for piece in DECODER.pieces(memoryview(blob)))


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)  # noqa: S311  (the same ones in each run)


def mixture(size: int) -> bytes:
    """Some of it compresses, some does not, and some is all zero."""
    parts = [noise(size // 4), b"word and word " * (size // 56), bytes(size // 2)]
    return b"".join(parts)[:size]


@given(st.binary(max_size=2000), st.booleans())
@example(bytes(70_000), True)
@example(mixture(PIECE), True)
@example(mixture(PIECE + 1), True)
@example(noise(3 * PIECE), False)
def test_the_pieces_are_the_content(content: bytes, compress: bool) -> None:
    blob = encode_blob(content, compress=compress)
    assert decoded(blob) == content == decode_blob(blob)


def streamed(content: bytes) -> bytes:
    """A frame that does not tell its content's size."""
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    return compressor.compress(content) + compressor.flush()


def wide(content: bytes) -> bytes:
    """A frame that demands more memory of its decoder than is kept."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        19, window_log=24, enable_ldm=True, write_content_size=False
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(content) + compressor.flush()


FRAMES: dict[str, Callable[[bytes], bytes]] = {
    "with a checksum": zstandard.ZstdCompressor(level=1, write_checksum=True).compress,
    "of unknown size": streamed,
    "with a wide window": wide,
    "of level 19": zstandard.ZstdCompressor(level=19).compress,
    "stored": zstandard.ZstdCompressor(level=-100).compress,
}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_frames_of_any_writer_are_taken(make: Callable[[bytes], bytes]) -> None:
    for content in (b"", b"x", bytes(400_000), noise(400_000), mixture(900_000)):
        blob = zstd_blob(make(content))
        assert decoded(blob) == content == decode_blob(blob)


def test_a_wide_frame_is_one() -> None:
    """Or the test above would not show what it is for."""
    window = zstandard.get_frame_parameters(wide(mixture(900_000))).window_size
    assert window > sealing._STREAMED_WINDOW


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_a_frame_is_whole_and_alone(make: Callable[[bytes], bytes]) -> None:
    frame = make(mixture(3000))
    for end in range(len(frame)):
        with pytest.raises(BlobFormatError, match="damaged"):
            decoded(zstd_blob(frame[:end]))
    for more in (b"\0", frame):
        with pytest.raises(BlobFormatError, match="damaged"):
            decoded(zstd_blob(frame + more))


@given(st.data())
def test_a_changed_frame_is_an_error_or_as_before(data: st.DataObject) -> None:
    """That is for the digest to tell; the decoder stays fit for use."""
    frame = bytearray(FRAMES["with a checksum"](mixture(3000)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(frame) - 1))
        frame[at] ^= data.draw(st.integers(1, 255))
    blob = zstd_blob(bytes(frame))
    try:
        expected = decode_blob(blob, max_size=MAX_CHUNK_SIZE)
    except BlobFormatError:
        expected = None
    if expected is None:
        with pytest.raises(BlobFormatError):
            decoded(blob)
    else:
        assert decoded(blob) == expected
    assert decoded(encode_blob(b"a word " * 99)) == b"a word " * 99


@given(st.binary(max_size=300))
def test_any_bytes_are_a_value_or_an_error_of_ours(payload: bytes) -> None:
    try:
        content = decoded(zstd_blob(payload))
    except BlobFormatError:
        return
    assert decode_blob(zstd_blob(payload)) == content


@pytest.mark.parametrize("make", [streamed, zstandard.ZstdCompressor().compress, wide])
def test_no_more_is_decoded_than_a_chunk_may_hold(make: Callable[[bytes], bytes]) -> None:
    assert len(decoded(zstd_blob(make(bytes(MAX_CHUNK_SIZE))))) == MAX_CHUNK_SIZE
    with pytest.raises(BlobFormatError, match=r"inflates to|full frame"):
        decoded(zstd_blob(make(bytes(MAX_CHUNK_SIZE + 1))))


def test_an_encrypted_blob_has_no_pieces() -> None:
    with pytest.raises(BlobFormatError, match="encrypted"):
        decoded(encode_blob(b"x", key=KEY))


@given(st.binary(max_size=2000), st.booleans())
@example(noise(2 * PIECE + 1), False)
@example(mixture(8 * PIECE), True)
def test_a_sealed_blob_is_one_that_was_encrypted(content: bytes, compress: bool) -> None:
    blob = encode_blob(content, compress=compress)
    memory = bytearray(SEAL_GROWTH) + blob
    seal(memoryview(memory), KEY)
    kind = check_blob(memory)
    assert kind.encrypted
    assert kind.compressed == check_blob(blob).compressed
    assert decode_blob(memory, key=KEY) == content
    iv = bytes(memory[12:28])
    assert memory == encode_blob(content, compress=compress, key=KEY, iv=iv)


def test_each_sealed_blob_has_an_iv_of_its_own() -> None:
    sealed = set()
    for _ in range(50):
        memory = bytearray(SEAL_GROWTH) + encode_blob(b"x", compress=False)
        seal(memoryview(memory), KEY)
        sealed.add(bytes(memory[12:28]))
    assert len(sealed) == 50


def test_nothing_of_a_chunk_is_copied() -> None:
    """Python allocates next to nothing for a chunk of 4 MiB, whatever is done with it."""
    for content in (noise(4 << 20), mixture(4 << 20)):
        memory = memoryview(bytearray(SEAL_GROWTH) + encode_blob(content))
        digest = hashlib.sha256()
        tracemalloc.start()
        try:
            for piece in DECODER.pieces(memory[SEAL_GROWTH:]):
                digest.update(piece)
            seal(memory, KEY)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert digest.digest() == hashlib.sha256(content).digest()
        assert peak < 64 << 10
