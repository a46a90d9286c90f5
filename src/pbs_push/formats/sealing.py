"""Blobs that are read piece by piece, and encrypted where they lie: without a second copy.

For many chunks, one after another (protocol/datastore.md, "Data blob", "Encryption"); for one,
``decode_blob`` and ``encrypt_blob`` do the same.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from pbs_push._native.blob import crc32
from pbs_push.errors import BlobFormatError
from pbs_push.formats.blob import (
    ENCRYPTED_HEADER_SIZE,
    MAX_CHUNK_SIZE,
    PLAIN_HEADER_SIZE,
    BlobKind,
    BlobTooLong,
    check_blob,
    encrypted_header,
    inflate,
)
from pbs_push.formats.keys import IV_SIZE, encryption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zstandard import ZstdDecompressionReader

    from pbs_push.formats.keys import CryptKey

SEAL_GROWTH: Final = ENCRYPTED_HEADER_SIZE - PLAIN_HEADER_SIZE
"""Bytes by which a blob grows when it is encrypted."""
PIECE: Final = 512 << 10
"""Bytes decoded or encrypted at once: what comes next finds them in a core's cache."""
_STREAMED_WINDOW: Final = 4 << 20
"""Memory that a frame may demand of a decoder that is kept; PBS's frames demand 512 KiB."""
_BLOCK_HEADER: Final = 3
_RLE, _RESERVED = 1, 3


class PieceDecoder:
    """Decodes unencrypted blobs, one thread at a time, in memory that it keeps."""

    def __init__(self) -> None:
        import zstandard  # noqa: PLC0415  (as in formats/blob.py)

        self._zstd = zstandard
        self._buffer = memoryview(bytearray(PIECE))
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_STREAMED_WINDOW)

    def pieces(self, blob: memoryview, *, max_size: int = MAX_CHUNK_SIZE) -> Iterator[memoryview]:
        """The content of a chunk's blob whose CRC-32 was checked, in order; each until the next.

        Raises BlobFormatError as ``decode_blob`` does, perhaps behind some pieces: also for more
        than ``max_size`` bytes, which are never in memory at once.
        """
        kind = check_blob(blob, crc=False)
        if kind.encrypted:
            raise BlobFormatError("the blob is encrypted, and no key was given")
        return self.decoded(blob[kind.header_size :], compressed=kind.compressed, max_size=max_size)

    def decoded(
        self, payload: memoryview, *, compressed: bool, max_size: int = MAX_CHUNK_SIZE
    ) -> Iterator[memoryview]:
        """As ``pieces``, of what stands behind the header of a blob, decrypted."""
        if not compressed:
            if len(payload) > max_size:
                raise _too_long(max_size)
            yield payload
            return
        try:
            frame = self._zstd.get_frame_parameters(payload)
            first = self._zstd.frame_header_size(payload)
        except self._zstd.ZstdError as error:
            raise _damaged(error) from None
        _check_whole(payload, first, has_checksum=frame.has_checksum)
        if frame.window_size > _STREAMED_WINDOW:
            yield memoryview(inflate(payload, max_size))
            return
        left = max_size
        with self._decompressor.stream_reader(payload) as reader:
            while size := self._read(reader):
                left -= size
                if left < 0:
                    raise _too_long(max_size)
                yield self._buffer[:size]

    def _read(self, reader: ZstdDecompressionReader) -> int:
        try:
            return reader.readinto(self._buffer)
        except self._zstd.ZstdError as error:
            raise _damaged(error) from None


def seal(memory: memoryview, key: CryptKey) -> None:
    """Encrypt the blob that lies at the end of ``memory``, ``SEAL_GROWTH`` behind its beginning.

    Then all of ``memory`` is the encrypted blob. It is one that is not encrypted, of which that was
    checked.
    """
    kind = BlobKind(bytes(memory[SEAL_GROWTH : SEAL_GROWTH + len(BlobKind.PLAIN.value)]))
    payload = memory[ENCRYPTED_HEADER_SIZE:]
    iv = os.urandom(IV_SIZE)
    encryptor = encryption(key, iv)
    crc = 0
    for start in range(0, len(payload), PIECE):
        piece = payload[start : start + PIECE]
        encryptor.update_into(piece, piece)
        crc = crc32(piece, crc)
    encryptor.finalize()
    memory[:ENCRYPTED_HEADER_SIZE] = encrypted_header(
        compressed=kind.compressed, crc=crc, iv=iv, tag=encryptor.tag
    )


def _check_whole(frame: memoryview, at: int, *, has_checksum: bool) -> None:
    """Raise BlobFormatError unless this is one zstd frame; its first block is at ``at``.

    A reader of streams takes a frame without its end for one that goes on, and what follows a frame
    for none of its business.
    """
    last = 0
    while not last:
        header = int.from_bytes(frame[at : at + _BLOCK_HEADER], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        if at + _BLOCK_HEADER > len(frame) or kind == _RESERVED:
            raise _damaged("it has no end")
        at += _BLOCK_HEADER + (1 if kind == _RLE else size)
    at += 4 if has_checksum else 0
    if at != len(frame):
        raise _damaged(f"its frame takes {at} of {len(frame)} bytes")


def _too_long(max_size: int) -> BlobTooLong:
    return BlobTooLong(f"the blob inflates to more than {max_size} bytes")


def _damaged(reason: object) -> BlobFormatError:
    return BlobFormatError(f"the blob's compressed data is damaged: {reason}")
