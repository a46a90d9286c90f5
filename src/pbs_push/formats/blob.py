"""The data blob, which holds chunks and small files (protocol/datastore.md, "Data blob").

::

    offset  size  field (integers little endian)
    0       8     magic: one of the four kinds
    8       4     CRC-32 of everything behind the header
    12      …     data, unencrypted kinds (header of 12 bytes)
    12      16    IV, encrypted kinds
    28      16    GCM tag, encrypted kinds (header of 44 bytes)
    44      …     encrypted data
"""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, Final

from pbs_push._native.blob import crc32
from pbs_push.errors import BlobFormatError

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from pbs_push.formats.keys import CryptKey

MAX_CHUNK_SIZE: Final = 16 << 20
"""Plain bytes that a chunk may hold."""
MAX_PROTOCOL_BLOB: Final = 16_777_260
"""Bytes of an encoded blob that the backup protocol carries: 16 MiB and the longest header."""
MAX_BLOB_FILE: Final = 128 << 20
"""Bytes of a blob file on disk."""

PLAIN_HEADER_SIZE: Final = 12
ENCRYPTED_HEADER_SIZE: Final = 44
"""Bytes by which a blob grows when it is encrypted: IV and tag."""

_MAGIC_AND_CRC: Final = struct.Struct("<8sI")
_COMPRESSION_LEVEL: Final = 1
_ZSTD_UNKNOWN_SIZE: Final = -1


class BlobTooLong(BlobFormatError):
    """A blob holds more than it may."""


class BlobKind(enum.Enum):
    """What a blob's magic says about its data; the value is the magic itself."""

    PLAIN = bytes((66, 171, 56, 7, 190, 131, 112, 161))
    ZSTD = bytes((49, 185, 88, 66, 111, 182, 163, 127))
    ENCRYPTED = bytes((123, 103, 133, 190, 34, 45, 76, 240))
    ZSTD_ENCRYPTED = bytes((230, 89, 27, 191, 11, 191, 216, 11))

    @property
    def encrypted(self) -> bool:
        """Whether the data can be read only with a key."""
        return self in (BlobKind.ENCRYPTED, BlobKind.ZSTD_ENCRYPTED)

    @property
    def compressed(self) -> bool:
        """Whether the data (once decrypted) is a zstd frame."""
        return self in (BlobKind.ZSTD, BlobKind.ZSTD_ENCRYPTED)

    @property
    def header_size(self) -> int:
        """Bytes in front of the data: 12, or 44 for the encrypted kinds."""
        return ENCRYPTED_HEADER_SIZE if self.encrypted else PLAIN_HEADER_SIZE

    @classmethod
    def of(cls, *, compressed: bool, encrypted: bool) -> BlobKind:
        """The kind with these two properties."""
        if encrypted:
            return cls.ZSTD_ENCRYPTED if compressed else cls.ENCRYPTED
        return cls.ZSTD if compressed else cls.PLAIN


def check_blob(data: Buffer, *, crc: bool = True) -> BlobKind:
    """Check what can be checked without a key: magic, length and, unless told otherwise, CRC-32.

    ``data`` is a whole encoded blob; it is read, not copied or kept. Raises BlobFormatError.
    """
    view = memoryview(data).cast("B")
    if len(view) < PLAIN_HEADER_SIZE:
        raise BlobFormatError(f"a blob of {len(view)} bytes is too short to be one")
    magic, claimed = _MAGIC_AND_CRC.unpack_from(view)
    try:
        kind = BlobKind(magic)
    except ValueError:
        raise BlobFormatError(f"unknown blob magic {magic.hex()}") from None
    if len(view) < kind.header_size:
        raise BlobFormatError(f"an encrypted blob of {len(view)} bytes is too short to be one")
    if len(view) > MAX_BLOB_FILE:
        raise BlobFormatError(f"a blob of {len(view)} bytes is longer than {MAX_BLOB_FILE}")
    if crc and (found := crc32(view[kind.header_size :])) != claimed:
        raise BlobFormatError(f"wrong CRC-32: {found:08x}, the blob's header says {claimed:08x}")
    return kind


def decode_blob(
    data: Buffer,
    *,
    key: CryptKey | None = None,
    max_size: int = MAX_BLOB_FILE,
    crc: bool = True,
) -> bytes:
    """Return the content of an encoded blob, its CRC-32 checked (unless that was done before).

    ``key`` is needed for (and only looked at for) encrypted kinds. Never inflates beyond
    ``max_size`` bytes. Raises BlobFormatError for a damaged blob, a missing or another key, and a
    content longer than that.
    """
    kind = check_blob(data, crc=crc)
    view = memoryview(data).cast("B")
    payload: bytes | memoryview = view[kind.header_size :]
    if kind.encrypted:
        if key is None:
            raise BlobFormatError("the blob is encrypted, and no key was given")
        iv = bytes(view[PLAIN_HEADER_SIZE : PLAIN_HEADER_SIZE + 16])
        tag = bytes(view[PLAIN_HEADER_SIZE + 16 : ENCRYPTED_HEADER_SIZE])
        payload = key.decrypt(iv, tag, payload)
    if kind.compressed:
        return inflate(payload, max_size)
    content = bytes(payload)
    if len(content) > max_size:
        raise BlobFormatError(f"the blob holds {len(content)} bytes, more than {max_size}")
    return content


def encode_blob(
    content: Buffer,
    *,
    compress: bool = True,
    key: CryptKey | None = None,
    iv: bytes | None = None,
) -> bytes:
    """Make an encoded blob of ``content``: zstd level 1 where that makes it shorter, then the key.

    ``iv`` (16 bytes, encrypted kinds only) is for reproducible sample data; see CryptKey.encrypt.
    Raises BlobFormatError if the blob were longer than a blob file may be.
    """
    plain = memoryview(content).cast("B")
    payload: bytes | memoryview = plain
    compressed = False
    if compress:
        import zstandard  # noqa: PLC0415  (see inflate)

        deflated = zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL).compress(plain)
        compressed = len(deflated) < len(plain)
        payload = deflated if compressed else plain
    return _blob(payload, compressed=compressed, key=key, iv=iv)


def encrypt_blob(blob: Buffer, key: CryptKey, *, crc: bool = True) -> bytes:
    """Encrypt an encoded blob that is not: its data, compressed or not, goes along as it is.

    Its CRC-32 is checked unless that was done before. Raises BlobFormatError for a damaged blob,
    and one that is encrypted already.
    """
    kind = check_blob(blob, crc=crc)
    if kind.encrypted:
        raise BlobFormatError("the blob is encrypted already")
    payload = memoryview(blob).cast("B")[kind.header_size :]
    return _blob(payload, compressed=kind.compressed, key=key, iv=None)


def encrypted_header(*, compressed: bool, crc: int, iv: bytes, tag: bytes) -> bytes:
    """What stands in front of the encrypted data of a blob; ``crc`` is that of these."""
    kind = BlobKind.of(compressed=compressed, encrypted=True)
    return _MAGIC_AND_CRC.pack(kind.value, crc) + iv + tag


def _blob(
    payload: bytes | memoryview, *, compressed: bool, key: CryptKey | None, iv: bytes | None
) -> bytes:
    """An encoded blob of data that is compressed already, or is not to be."""
    if key is None:
        kind = BlobKind.of(compressed=compressed, encrypted=False)
        header = _MAGIC_AND_CRC.pack(kind.value, crc32(payload))
    else:
        iv, tag, payload = key.encrypt(payload, iv=iv)
        header = encrypted_header(compressed=compressed, crc=crc32(payload), iv=iv, tag=tag)
    blob = b"".join((header, payload))
    if len(blob) > MAX_BLOB_FILE:
        raise BlobFormatError(f"a blob of {len(blob)} bytes is longer than {MAX_BLOB_FILE}")
    return blob


def inflate(frame: bytes | memoryview, max_size: int) -> bytes:
    """Decompress one zstd frame to at most ``max_size`` bytes. Raises BlobFormatError."""
    # Imported here: most pushes take chunks, and have nothing to send, as they are.
    import zstandard  # noqa: PLC0415

    try:
        declared = zstandard.frame_content_size(frame)
        # Asked for before decompressing: the library allocates what the frame claims.
        if declared != _ZSTD_UNKNOWN_SIZE and declared > max_size:
            raise BlobTooLong(f"the blob inflates to {declared} bytes, more than {max_size}")
        # max_output_size 0 would mean "no limit" and need a declared size.
        content = zstandard.ZstdDecompressor().decompress(
            frame, max_output_size=max(max_size, 1), allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise BlobFormatError(f"the blob's compressed data is damaged: {error}") from None
    if len(content) > max_size:
        raise BlobTooLong(f"the blob inflates to more than {max_size} bytes")
    return content
