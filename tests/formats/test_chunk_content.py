"""Contents of chunks and blobs against their digests: any bytes, within bounds of memory."""

from __future__ import annotations

import hashlib
import tracemalloc
import zlib
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.formats.blob import MAX_CHUNK_SIZE, BlobKind, encode_blob
from pbs_push.formats.chunk_content import ContentChecker, ContentError
from pbs_push.formats.keys import CryptKey

KEY = CryptKey(bytes(range(32)))
CHECKER = ContentChecker()
CONTENT = b"some text, and the same again " * 300
DIGEST = hashlib.sha256(CONTENT).digest()


@pytest.mark.parametrize("compress", [True, False])
def test_what_is_right(compress: bool) -> None:
    plain = memoryview(encode_blob(CONTENT, compress=compress))
    sealed = memoryview(encode_blob(CONTENT, compress=compress, key=KEY))
    before = bytes(sealed)
    assert CHECKER.chunk(plain, DIGEST, len(CONTENT))
    assert CHECKER.chunk(plain, DIGEST, len(CONTENT), KEY), "a key for it is not needed"
    assert CHECKER.chunk(sealed, KEY.digest(CONTENT), len(CONTENT), KEY)
    assert CHECKER.chunk(sealed, b"?" * 32, 1) is False, "nothing can be said"
    assert CHECKER.blob(plain)
    assert CHECKER.blob(sealed, KEY)
    assert CHECKER.blob(sealed) is False
    assert bytes(sealed) == before, "and it is as it was"


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
def test_what_is_wrong(key: CryptKey | None) -> None:
    blob = memoryview(encode_blob(CONTENT, key=key))
    digest = DIGEST if key is None else key.digest(CONTENT)
    for size in (len(CONTENT) - 1, len(CONTENT) + 1):
        with pytest.raises(ContentError) as caught:
            CHECKER.chunk(blob, digest, size, key)
        assert caught.value.fault == "length"
    with pytest.raises(ContentError, match="its content has the digest") as caught:
        CHECKER.chunk(blob, bytes(32), len(CONTENT), key)
    assert caught.value.fault == "digest"


def test_a_plain_digest_is_none_of_an_encrypted_chunk() -> None:
    with pytest.raises(ContentError) as caught:
        CHECKER.chunk(memoryview(encode_blob(CONTENT, key=KEY)), DIGEST, len(CONTENT), KEY)
    assert caught.value.fault == "digest"


def test_the_key_of_another() -> None:
    blob = memoryview(encode_blob(CONTENT, key=CryptKey(bytes(32))))
    for check in (lambda: CHECKER.blob(blob, KEY), lambda: CHECKER.chunk(blob, DIGEST, 1, KEY)):
        with pytest.raises(ContentError, match="another key") as caught:
            check()
        assert caught.value.fault == "content"


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("declared", [False, True])
def test_a_bomb_takes_no_memory(declared: bool, sealed: bool) -> None:
    compressor = zstandard.ZstdCompressor(level=1, write_content_size=declared).compressobj(
        size=1 << 30 if declared else -1
    )
    frame = b"".join(
        [*(compressor.compress(bytes(1 << 20)) for _ in range(1024)), compressor.flush()]
    )
    if sealed:
        iv, tag, payload = KEY.encrypt(frame)
        head = BlobKind.ZSTD_ENCRYPTED.value + zlib.crc32(payload).to_bytes(4, "little") + iv + tag
        blob = memoryview(head + payload)
    else:
        head = BlobKind.ZSTD.value + zlib.crc32(frame).to_bytes(4, "little")
        blob = memoryview(head + frame)
    checker = ContentChecker()
    tracemalloc.start()
    try:
        for size in (5000, MAX_CHUNK_SIZE):
            with pytest.raises(ContentError, match="inflates to") as caught:
                checker.chunk(blob, bytes(32), size, KEY)
            assert caught.value.fault == "length"
        with pytest.raises(ContentError):
            checker.blob(blob, KEY)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@given(
    st.sampled_from(list(BlobKind)), st.binary(max_size=200), st.integers(0, 1 << 40), st.booleans()
)
def test_no_foreign_exception_for_any_bytes(
    kind: BlobKind, payload: bytes, size: int, with_key: bool
) -> None:
    if len(payload) < kind.header_size - 12:
        return
    blob = memoryview(kind.value + bytes(4) + payload)
    for check in (
        lambda: CHECKER.chunk(blob, bytes(32), size, KEY if with_key else None),
        lambda: CHECKER.blob(blob, KEY if with_key else None),
    ):
        with suppress(ContentError):
            check()
