"""What a push under a key is made of, each part by itself, in a fresh process: says what they took.

    python parts.py SOURCE PORT

Every chunk of SOURCE is read and its CRC checked, decoded, hashed, encrypted, and sent to a sink
that drops (PORT), one part after the other, in memory that is used again: as simple as it gets. No
part knows of another, so the sum is what a push would take that did nothing besides.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

from pbs_push._native.blob import crc32
from pbs_push.formats.blob import BlobKind
from processes import KEY
from sink_push import plain_connection

if TYPE_CHECKING:
    import ssl

HEADER: Final = 12
CHUNK: Final = 4 << 20
ID_KEY: Final = bytes(32)


class Parts:
    """CPU seconds of this thread for each part so far."""

    def __init__(self) -> None:
        self.cpu_s: Final = dict.fromkeys(("read", "crc", "zstd", "sha256", "aes", "tls"), 0.0)
        self.plain_bytes = self.encoded_bytes = 0
        self._file = memoryview(bytearray(CHUNK + HEADER))
        self._plain = memoryview(bytearray(CHUNK))
        self._decompressor = zstandard.ZstdDecompressor()
        self._began = 0.0

    def chunk(self, path: Path, connection: ssl.SSLSocket) -> None:
        """All parts for one chunk."""
        blob = self._file[: path.stat().st_size]
        payload = blob[HEADER:]
        self._begin()
        with path.open("rb", buffering=0) as file:
            file.readinto(blob)
        self._end("read")
        if crc32(payload) != int.from_bytes(blob[8:HEADER], "little"):
            raise ValueError(f"{path} is damaged")
        self._end("crc")
        plain = payload
        if bytes(blob[:8]) == BlobKind.ZSTD.value:
            with self._decompressor.stream_reader(payload) as reader:
                plain = self._plain[: reader.readinto(self._plain)]
        self._end("zstd")
        both = hashlib.sha256(plain)
        found = both.digest()
        both.update(ID_KEY)
        both.digest()
        self._end("sha256")
        if found.hex() != path.name:
            raise ValueError(f"{path} has another content")
        encryptor = Cipher(AES(KEY), GCM(os.urandom(16))).encryptor()
        self._begin()
        encryptor.update_into(payload, payload)
        encryptor.finalize()
        self._end("aes")
        crc32(payload)
        self._end("crc")
        connection.sendall(blob)
        self._end("tls")
        self.plain_bytes += len(plain)
        self.encoded_bytes += len(blob)

    def _begin(self) -> None:
        self._began = time.thread_time()

    def _end(self, part: str) -> None:
        now = time.thread_time()
        self.cpu_s[part] += now - self._began
        self._began = now


def main() -> None:
    """Take all chunks apart."""
    source, port = Path(sys.argv[1]), int(sys.argv[2])
    parts = Parts()
    with plain_connection(port) as connection:
        for path in sorted(source.glob(".chunks/*/*")):
            parts.chunk(path, connection)
    print(
        json.dumps(
            {
                "cpu_s": parts.cpu_s,
                "plain_bytes": parts.plain_bytes,
                "encoded_bytes": parts.encoded_bytes,
            }
        )
    )


if __name__ == "__main__":
    main()
