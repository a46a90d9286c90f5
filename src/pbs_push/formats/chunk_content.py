"""What chunks and blobs hold, checked against the digest that names them, without keeping it.

See protocol/datastore.md, "Data blob", "Chunk digests". The content goes by in pieces that stay in
a core's cache, so that a blob that would inflate to gigabytes takes no more memory than another.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from pbs_push.errors import BlobFormatError
from pbs_push.formats.blob import (
    ENCRYPTED_HEADER_SIZE,
    MAX_BLOB_FILE,
    PLAIN_HEADER_SIZE,
    BlobKind,
    BlobTooLong,
    check_blob,
)
from pbs_push.formats.keys import IV_SIZE, decrypt_into, keyed_digest
from pbs_push.formats.sealing import PieceDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pbs_push.errors import Fault
    from pbs_push.formats.keys import CryptKey

_TAG_AT: Final = PLAIN_HEADER_SIZE + IV_SIZE


class ContentError(BlobFormatError):
    """What a chunk holds is not what it should be; ``fault`` says so in a word."""

    def __init__(self, fault: Fault, reason: str) -> None:
        super().__init__(reason)
        self.fault: Final = fault


class ContentChecker:
    """Checks contents, one thread at a time, in memory that it keeps. The GIL is released."""

    def __init__(self, decoder: PieceDecoder | None = None) -> None:
        self._decoder = decoder or PieceDecoder()
        self._memory = bytearray()

    def chunk(
        self, blob: memoryview, digest: bytes, size: int, key: CryptKey | None = None
    ) -> bool:
        """Check the content of a chunk whose CRC-32 was checked: its length, and its digest.

        ``digest`` names the chunk and ``size`` is what the index says that it holds, in bytes. True
        if that is so; False for an encrypted chunk without a ``key``, of which nothing can be said.
        Raises ContentError for anything else, also for a chunk under another key.
        """
        kind = check_blob(blob, crc=False)
        if not kind.encrypted:
            key = None
        elif key is None:
            return False
        hasher = hashlib.sha256()
        found = 0
        for piece in self._content(blob, kind, key, size):
            hasher.update(piece)
            found += len(piece)
        made = hasher.digest() if key is None else keyed_digest(hasher, key)
        if made != digest:
            raise ContentError("digest", f"its content has the digest {made.hex()}")
        if found != size:
            raise ContentError("length", f"it holds {found} bytes, the index says {size}")
        return True

    def blob(self, blob: memoryview, key: CryptKey | None = None) -> bool:
        """Check that the content of a blob file whose CRC-32 was checked can be decoded.

        False for an encrypted one without a ``key``. Raises ContentError.
        """
        kind = check_blob(blob, crc=False)
        if not kind.encrypted:
            key = None
        elif key is None:
            return False
        for _ in self._content(blob, kind, key, MAX_BLOB_FILE):
            pass
        return True

    def _content(
        self, blob: memoryview, kind: BlobKind, key: CryptKey | None, max_size: int
    ) -> Iterator[memoryview]:
        """The content, up to ``max_size`` bytes of it."""
        payload = blob[kind.header_size :]
        if key is not None:
            payload = self._decrypted(blob, payload, key)
        try:
            yield from self._decoder.decoded(payload, compressed=kind.compressed, max_size=max_size)
        except BlobTooLong as error:
            raise ContentError("length", str(error)) from None
        except BlobFormatError as error:
            raise ContentError("content", str(error)) from None

    def _decrypted(self, blob: memoryview, payload: memoryview, key: CryptKey) -> memoryview:
        """The payload decrypted, in memory that is used again for the next one."""
        if len(self._memory) < len(payload):
            self._memory = bytearray(len(payload))
        out = memoryview(self._memory)[: len(payload)]
        iv = bytes(blob[PLAIN_HEADER_SIZE:_TAG_AT])
        tag = bytes(blob[_TAG_AT:ENCRYPTED_HEADER_SIZE])
        try:
            decrypt_into(key, iv, tag, payload, out)
        except BlobFormatError as error:
            raise ContentError("content", str(error)) from None
        return out
