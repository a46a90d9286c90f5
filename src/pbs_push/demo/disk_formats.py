"""A second, independent reading of PBS's formats (protocol/datastore.md), for ``verify``.

Shares nothing with ``formats`` or the native code, so that an error there shows. Plain and slow,
and easy to compare with the specification. ValueError for whatever is not as it should be.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_PLAIN_MAGIC: Final = hashlib.sha256(b"Proxmox Backup uncompressed blob v1.0").digest()[:8]
_ZSTD_MAGIC: Final = hashlib.sha256(b"Proxmox Backup zstd compressed blob v1.0").digest()[:8]
_ENCRYPTED_MAGIC: Final = hashlib.sha256(b"Proxmox Backup encrypted blob v1.0").digest()[:8]
_ZSTD_ENCRYPTED_MAGIC: Final = hashlib.sha256(
    b"Proxmox Backup zstd compressed encrypted blob v1.0"
).digest()[:8]
_FIXED_MAGIC: Final = hashlib.sha256(b"Proxmox Backup fixed sized chunk index v1.0").digest()[:8]
_DYNAMIC_MAGIC: Final = hashlib.sha256(b"Proxmox Backup dynamic sized chunk index v1.0").digest()[
    :8
]
_MAX_PLAIN: Final = 128 << 20


@dataclass(frozen=True, slots=True)
class DiskKey:
    """An encryption key's 32 bytes, for contents that nobody else can check."""

    enc_key: bytes

    def __repr__(self) -> str:
        return "DiskKey(…)"

    def open(self, iv: bytes, tag: bytes, sealed: bytes) -> bytes:
        """Decrypt."""
        try:
            return AESGCM(self.enc_key).decrypt(iv, sealed + tag, None)
        except InvalidTag:
            raise ValueError("cannot be decrypted with the key given") from None

    def digest(self, content: bytes) -> bytes:
        """The digest of an encrypted chunk with this content."""
        id_key = hashlib.pbkdf2_hmac("sha256", self.enc_key, b"_id_key", 10)
        return hashlib.sha256(content + id_key).digest()


@dataclass(frozen=True, slots=True)
class DiskBlob:
    """A data blob; ``content`` is None where it is encrypted and there is no key."""

    encrypted: bool
    content: bytes | None
    plain_size: int | None


def read_blob(data: bytes, key: DiskKey | None = None) -> DiskBlob:
    """Check and decode a data blob."""
    if len(data) < 12:  # noqa: PLR2004 - protocol/datastore.md, "Data blob"
        raise ValueError(f"blob of {len(data)} bytes")
    magic, crc = data[:8], struct.unpack("<I", data[8:12])[0]
    encrypted = magic in (_ENCRYPTED_MAGIC, _ZSTD_ENCRYPTED_MAGIC)
    if not encrypted and magic not in (_PLAIN_MAGIC, _ZSTD_MAGIC):
        raise ValueError(f"blob magic {magic.hex()}")
    payload = data[44:] if encrypted else data[12:]
    if zlib.crc32(payload) != crc:
        raise ValueError("blob CRC-32 differs")
    if encrypted and key is None:
        return DiskBlob(True, None, len(payload) if magic == _ENCRYPTED_MAGIC else None)
    if encrypted and key is not None:
        payload = key.open(data[12:28], data[28:44], payload)
    if magic in (_ZSTD_MAGIC, _ZSTD_ENCRYPTED_MAGIC):
        payload = _decompress(payload)
    return DiskBlob(encrypted, payload, len(payload))


def _decompress(frame: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=_MAX_PLAIN)
    except zstandard.ZstdError as error:
        raise ValueError(f"zstd: {error}") from None


@dataclass(frozen=True, slots=True)
class DiskIndex:
    """An index file: what it says, and its csum, computed."""

    kind: str
    size: int
    chunk_size: int
    header_csum: bytes
    csum: bytes
    entries: tuple[tuple[int, bytes], ...]
    """End offset and digest of each chunk."""

    def chunks(self) -> Iterator[tuple[bytes, int]]:
        """Digest and plain size of each chunk."""
        start = 0
        for end, digest in self.entries:
            yield digest, end - start
            start = end


def read_index(data: bytes) -> DiskIndex:
    """Check and read a fixed or dynamic index."""
    if len(data) < 4096:  # noqa: PLR2004 - protocol/datastore.md, "Index files"
        raise ValueError(f"index of {len(data)} bytes")
    body, header_csum = data[4096:], data[32:64]
    csum = hashlib.sha256(body).digest()
    if data[:8] == _FIXED_MAGIC:
        size, chunk_size = struct.unpack("<QQ", data[64:80])
        if chunk_size == 0 or len(body) != 32 * -(-size // chunk_size):
            raise ValueError(f"fixed index of {len(body)} bytes for an image of {size}")
        digests = (body[at : at + 32] for at in range(0, len(body), 32))
        entries = tuple(
            (min((number + 1) * chunk_size, size), digest) for number, digest in enumerate(digests)
        )
        return DiskIndex("fixed", size, chunk_size, header_csum, csum, entries)
    if data[:8] != _DYNAMIC_MAGIC:
        raise ValueError(f"index magic {data[:8].hex()}")
    if len(body) % 40:
        raise ValueError(f"dynamic index of {len(body)} bytes")
    entries = tuple(struct.iter_unpack("<Q32s", body))
    ends = [0, *(end for end, _ in entries)]
    if any(end <= start for start, end in pairwise(ends)):
        raise ValueError("end offsets do not increase")
    return DiskIndex("dynamic", ends[-1], 0, header_csum, csum, entries)


def read_manifest(data: bytes) -> dict[str, Any]:
    """The JSON object in an ``index.json.blob``."""
    blob = read_blob(data)
    if blob.content is None:
        raise ValueError("the manifest is encrypted")
    manifest = json.loads(blob.content)
    if not isinstance(manifest, dict):
        raise ValueError("the manifest is not a JSON object")  # noqa: TRY004
    return manifest
