"""What a server checks about an uploaded blob or chunk; texts as in the recordings.

See protocol/backup.md, "Uploading chunks", "Blobs".
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Final

import zstandard

from pbs_push.formats.blob import BlobKind
from pbs_push.target.answers import bad_request

_UNKNOWN_SIZE: Final = (zstandard.CONTENTSIZE_UNKNOWN, -1)


def blob_kind(data: bytes | bytearray | memoryview) -> BlobKind:
    """The kind of a blob that is long enough for its header. Raises Refusal."""
    try:
        kind = BlobKind(bytes(data[:8]))
    except ValueError:
        raise bad_request("unable to parse raw blob - wrong magic") from None
    if len(data) < kind.header_size:
        word = "encrypted blob" if kind.encrypted else "blob"
        raise bad_request(f"{word} too small ({len(data)} bytes).")
    return kind


def check_uploaded_blob(data: bytearray) -> None:
    """Magic, length and CRC of a blob of any kind. Raises Refusal."""
    kind = blob_kind(data)
    if zlib.crc32(memoryview(data)[kind.header_size :]) != int.from_bytes(data[8:12], "little"):
        raise bad_request("Data blob has wrong CRC checksum.")


def check_uploaded_chunk(data: bytearray, digest: str, size: int) -> None:
    """All that a server checks of a chunk: an unencrypted one has to be what its digest says.

    ``size`` is the announced length of the plain data. An encrypted chunk cannot be checked, and
    the CRC is not looked at. Raises Refusal.
    """
    kind = blob_kind(data)
    if kind.encrypted:
        return
    stored = memoryview(data)[kind.header_size :]
    content = _inflate(stored, size) if kind.compressed else stored
    if len(content) != size:
        raise _wrong_length(size, len(content))
    if hashlib.sha256(content).hexdigest() != digest:
        raise bad_request("detected chunk with wrong digest.")


def _inflate(frame: memoryview, size: int) -> bytes:
    """The plain data of a zstd frame that should hold ``size`` bytes; never inflates more."""
    try:
        announced = zstandard.get_frame_parameters(frame).content_size
        if announced not in (*_UNKNOWN_SIZE, size):
            raise _wrong_length(size, announced)
        return zstandard.ZstdDecompressor().decompress(
            frame, max_output_size=size, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise bad_request(f"Data corruption detected ({error})") from None


def _wrong_length(announced: int, actual: int) -> Exception:
    return bad_request(f"detected chunk with wrong length ({announced} != {actual})")
