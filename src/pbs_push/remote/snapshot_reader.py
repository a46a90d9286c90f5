"""A snapshot of the target read back by hand: manifest, blobs, indexes, contents.

A server checks nothing of what it sends (protocol/reader.md), so all of it is checked here: files
by the manifest, chunks by their digests.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import TYPE_CHECKING, Final

from pbs_push.closing import Closing
from pbs_push.errors import (
    BlobFormatError,
    ConfigError,
    FormatError,
    IndexFormatError,
    ManifestError,
)
from pbs_push.formats.blob import MAX_BLOB_FILE, MAX_CHUNK_SIZE, check_blob, decode_blob
from pbs_push.formats.index import FIXED_CHUNK_SIZE, HEADER_SIZE
from pbs_push.formats.manifest import Manifest, check_manifest
from pbs_push.names import CLIENT_LOG_NAME, INDEX_SUFFIXES
from pbs_push.remote.session import MAX_PREVIOUS_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pbs_push.formats.index import Index
    from pbs_push.formats.keys import CryptKey
    from pbs_push.formats.manifest import FileInfo
    from pbs_push.names import Snapshot
    from pbs_push.remote.reader import ReaderSession
    from pbs_push.remote.session import Call

UNDER_WAY_BYTES: Final = 32 << 20
"""Plain bytes of chunks that are asked for ahead of who reads them."""


class SnapshotReader(Closing):
    """A snapshot of a target, open for reading: ``Target.open_snapshot`` makes one.

    Use it in ``with``. While it is open the target does not let the snapshot be removed. One thread
    at a time. ``manifest`` says what it holds; with a key, the signature of an encrypted one is
    checked, and its files are decrypted.

    All methods raise RemoteError, and FormatError for what is not as the manifest says.
    """

    def __init__(self, session: ReaderSession, snapshot: Snapshot, key: CryptKey | None) -> None:
        self.snapshot: Final = snapshot
        self._session = session
        self._key = key
        try:
            manifest = Manifest.decode(self._body(session.manifest()))
            check_manifest(manifest, snapshot)
        except ManifestError as error:
            raise ManifestError(f"{snapshot} at the target: {error}") from None
        if key is not None and manifest.signature and not manifest.verify_signature(key):
            raise ManifestError(f"{snapshot} at the target: its signature is not that of this key")
        self.manifest: Final = manifest

    def __repr__(self) -> str:
        return f"<SnapshotReader {self.snapshot}>"

    def close(self) -> None:
        """End the connection, and so the target's lock on the snapshot."""
        self._session.close()

    def read_blob(self, name: str) -> bytes:
        """The content of a blob file; also of ``client.log.blob``, which no manifest names."""
        if name == CLIENT_LOG_NAME:
            return self._decoded(name, self._body(self._session.file(name, MAX_BLOB_FILE)))
        info = self._file(name, (".blob",))
        blob = self._body(self._session.file(name, max(1, min(info.size, MAX_BLOB_FILE))))
        if len(blob) != info.size or hashlib.sha256(blob).digest() != info.csum:
            raise BlobFormatError(self._about(name, "not the file that the manifest names"))
        return self._decoded(name, blob)

    def open_index(self, name: str) -> Index:
        """The index of an archive, which says what its chunks are; close it."""
        info = self._file(name, INDEX_SUFFIXES)
        call = self._session.index(name, _longest_index(info))
        self._session.wait([call])
        try:
            index = call.index(name)
        except FormatError as error:
            raise IndexFormatError(self._about(name, str(error))) from None
        if index.csum() != info.csum or index.size != info.size:
            index.close()
            raise IndexFormatError(self._about(name, "not the index that the manifest names"))
        return index

    def read_archive(self, name: str) -> Iterator[bytes]:
        """The content of an archive or image, chunk by chunk; some are asked for ahead."""
        with self.open_index(name) as index:
            under_way: deque[tuple[bytes, int, Call]] = deque()
            ahead, start = 0, 0
            for row, end in enumerate(index.end_offsets.tolist()):
                digest, size = index.digests[row].tobytes(), end - start
                start = end
                if size > MAX_CHUNK_SIZE:
                    raise IndexFormatError(self._about(name, f"a chunk of {size} bytes"))
                while under_way and ahead + size > UNDER_WAY_BYTES:
                    ahead -= under_way[0][1]
                    yield self._chunk(name, *under_way.popleft())
                under_way.append((digest, size, self._session.chunk(digest, size)))
                ahead += size
            while under_way:
                yield self._chunk(name, *under_way.popleft())

    def _chunk(self, name: str, digest: bytes, size: int, call: Call) -> bytes:
        """The content of a chunk that was asked for."""
        what = f"chunk {digest.hex()} of {name}"
        blob = self._body(call)
        content = self._decoded(what, blob, size)
        key = self._key if check_blob(blob, crc=False).encrypted else None
        made = hashlib.sha256(content).digest() if key is None else key.digest(content)
        if made != digest or len(content) != size:
            raise BlobFormatError(self._about(what, "its content is another"))
        return content

    def _decoded(self, what: str, blob: bytes, most: int = MAX_BLOB_FILE) -> bytes:
        try:
            return decode_blob(blob, key=self._key, max_size=most)
        except BlobFormatError as error:
            raise BlobFormatError(self._about(what, str(error))) from None

    def _body(self, call: Call) -> bytes:
        self._session.wait([call])
        return bytes(call.body())

    def _file(self, name: str, suffixes: tuple[str, ...]) -> FileInfo:
        info = self.manifest.file(name)
        if info is None or not name.endswith(suffixes):
            kinds = " or ".join(suffixes)
            raise ConfigError(f"{self.snapshot} at the target has no {kinds} file '{name}'")
        return info

    def _about(self, what: str, reason: str) -> str:
        return f"{what} of {self.snapshot} at the target: {reason}"


def _longest_index(info: FileInfo) -> int:
    """Bytes that an index of an archive of this size can have, as far as they are taken."""
    entry, chunk = (32, FIXED_CHUNK_SIZE) if info.filename.endswith(".fidx") else (40, 1)
    return min(MAX_PREVIOUS_BYTES, HEADER_SIZE + entry * -(-info.size // chunk))
