"""The data blob: layout, checks, and that no bytes whatever make the decoder misbehave."""

from __future__ import annotations

import hashlib
import mmap
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.errors import BlobFormatError
from pbs_push.formats.blob import (
    MAX_BLOB_FILE,
    BlobKind,
    check_blob,
    decode_blob,
    encode_blob,
)
from pbs_push.formats.keys import CryptKey

KEY = CryptKey(bytes(range(32)))
OTHER_KEY = CryptKey(bytes(32))
IV = bytes(range(16))

PHRASES = {
    BlobKind.PLAIN: "Proxmox Backup uncompressed blob v1.0",
    BlobKind.ZSTD: "Proxmox Backup zstd compressed blob v1.0",
    BlobKind.ENCRYPTED: "Proxmox Backup encrypted blob v1.0",
    BlobKind.ZSTD_ENCRYPTED: "Proxmox Backup zstd compressed encrypted blob v1.0",
}

GOLDEN_PLAIN = bytes.fromhex("42ab3807be8370a1" + "65d88785" + "6162636465")
"""``abcde``, by protocol/datastore.md, "Data blob": magic, CRC-32 little endian, data."""
GOLDEN_ENCRYPTED = bytes.fromhex(
    "7b6785be222d4cf0"
    "9b307d20"
    "000102030405060708090a0b0c0d0e0f"
    "dde1d026b9549c6567bfc0e13f4e591f"
    "060ec3125c"
)
"""The same under the key 00 01 … 1f with the IV 00 01 … 0f."""


def blob_of(kind: BlobKind, payload: bytes) -> bytes:
    return kind.value + zlib.crc32(payload).to_bytes(4, "little") + payload


@pytest.mark.parametrize("kind", BlobKind)
def test_each_magic_is_the_hash_of_its_phrase(kind: BlobKind) -> None:
    assert hashlib.sha256(PHRASES[kind].encode()).digest()[:8] == kind.value


def test_golden_plain_blob() -> None:
    assert encode_blob(b"abcde") == GOLDEN_PLAIN
    assert decode_blob(GOLDEN_PLAIN) == b"abcde"


def test_golden_encrypted_blob() -> None:
    assert encode_blob(b"abcde", key=KEY, iv=IV) == GOLDEN_ENCRYPTED
    assert decode_blob(GOLDEN_ENCRYPTED, key=KEY) == b"abcde"


@given(st.binary(max_size=3000), st.booleans(), st.booleans())
def test_round_trip(content: bytes, compress: bool, encrypt: bool) -> None:
    key = KEY if encrypt else None
    blob = encode_blob(content, compress=compress, key=key)
    kind = check_blob(blob)
    assert kind.encrypted == encrypt
    assert not kind.compressed or compress
    assert decode_blob(blob, key=key) == content
    assert len(blob) <= len(content) + kind.header_size


def test_compression_is_kept_only_where_it_pays() -> None:
    assert check_blob(encode_blob(b"x" * 1000)) is BlobKind.ZSTD
    assert check_blob(encode_blob(b"x" * 1000, compress=False)) is BlobKind.PLAIN
    assert check_blob(encode_blob(hashlib.sha512(b"noise").digest())) is BlobKind.PLAIN
    assert check_blob(encode_blob(b"x" * 1000, key=KEY)) is BlobKind.ZSTD_ENCRYPTED


def test_two_encryptions_of_the_same_differ() -> None:
    assert encode_blob(b"same", key=KEY) != encode_blob(b"same", key=KEY)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_a_value_or_our_error(data: bytes, with_magic: bool) -> None:
    if with_magic:
        kinds = list(BlobKind)
        data = blob_of(kinds[len(data) % len(kinds)], data)
    try:
        content = decode_blob(data, key=KEY, max_size=1000)
    except BlobFormatError:
        return
    assert len(content) <= 1000


@given(st.data())
def test_a_changed_byte_is_noticed(data: st.DataObject) -> None:
    blob = bytearray(encode_blob(b"some text, some text, some text, some text", key=KEY, iv=IV))
    position = data.draw(st.integers(0, len(blob) - 1))
    blob[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BlobFormatError):
        decode_blob(blob, key=KEY)


def test_truncated_at_every_byte() -> None:
    for blob in (encode_blob(b"content" * 20), GOLDEN_ENCRYPTED):
        for length in range(len(blob)):
            with pytest.raises(BlobFormatError):
                decode_blob(blob[:length], key=KEY)


def test_crc_can_be_left_to_others() -> None:
    blob = GOLDEN_PLAIN[:-1] + b"?"
    assert check_blob(blob, crc=False) is BlobKind.PLAIN
    with pytest.raises(BlobFormatError, match="CRC-32"):
        check_blob(blob)


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", "0 bytes"),
        (b"x" * 44, "magic 7878"),
        (BlobKind.ENCRYPTED.value + bytes(35), "encrypted blob of 43 bytes"),
        (blob_of(BlobKind.ZSTD, b"no frame"), "compressed data"),
        (blob_of(BlobKind.ZSTD, zstandard.compress(b"a") + b"trailing"), "compressed data"),
        (blob_of(BlobKind.ZSTD, zstandard.compress(b"a" * 99)[:-2]), "compressed data"),
    ],
)
def test_damage_is_named(blob: bytes, message: str) -> None:
    with pytest.raises(BlobFormatError, match=message):
        decode_blob(blob)


@pytest.mark.parametrize("declared", [True, False])
def test_never_inflates_beyond_the_limit(declared: bool) -> None:
    frame = zstandard.ZstdCompressor(write_content_size=declared).compress(bytes(5000))
    blob = blob_of(BlobKind.ZSTD, frame)
    assert decode_blob(blob, max_size=5000) == bytes(5000)
    with pytest.raises(BlobFormatError):
        decode_blob(blob, max_size=4999)
    with pytest.raises(BlobFormatError, match="more than 0"):
        decode_blob(blob_of(BlobKind.PLAIN, b"x"), max_size=0)


def test_a_frame_that_claims_a_terabyte_allocates_nothing() -> None:
    # Frame header with an 8-byte content size and one empty raw block (RFC 8878, 3.1.1).
    frame = bytes.fromhex("28b52ffd e0") + (1 << 40).to_bytes(8, "little") + bytes((1, 0, 0))
    with pytest.raises(BlobFormatError, match="inflates to"):
        decode_blob(blob_of(BlobKind.ZSTD, frame))


def test_wrong_and_missing_key() -> None:
    with pytest.raises(BlobFormatError, match="no key"):
        decode_blob(GOLDEN_ENCRYPTED)
    with pytest.raises(BlobFormatError, match="cannot decrypt with key"):
        decode_blob(GOLDEN_ENCRYPTED, key=OTHER_KEY)


def test_a_blob_longer_than_a_blob_file_is_refused() -> None:
    with mmap.mmap(-1, MAX_BLOB_FILE + 1) as blob:  # no memory but for the page written to
        blob[:8] = BlobKind.PLAIN.value
        with pytest.raises(BlobFormatError, match="longer than"):
            check_blob(blob, crc=False)
