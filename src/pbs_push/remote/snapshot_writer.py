"""A snapshot written at the target by hand, for programs whose data lies in no datastore.

A push has a way of its own (push/transfer.py), which reads chunks in C and sends them as they lie
on disk. Here contents come from Python, are cut into chunks, and are checked by nobody else.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import TYPE_CHECKING, Final

from pbs_push.closing import Closing
from pbs_push.errors import ConfigError, FormatError
from pbs_push.formats.blob import MAX_CHUNK_SIZE, MAX_PROTOCOL_BLOB, encode_blob
from pbs_push.formats.index import FIXED_CHUNK_SIZE, parse_index
from pbs_push.formats.manifest import CryptMode, FileInfo, Manifest
from pbs_push.names import (
    CLIENT_LOG_NAME,
    MANIFEST_NAME,
    format_fingerprint,
    is_safe_id,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from typing_extensions import Buffer

    from pbs_push.formats.index import Index
    from pbs_push.formats.keys import CryptKey
    from pbs_push.formats.strict_json import JsonValue
    from pbs_push.names import Snapshot
    from pbs_push.remote.session import BackupSession, Call

UNDER_WAY_BYTES: Final = 16 << 20
"""Encoded bytes of chunks that were sent, and are not acknowledged, at most (and one chunk)."""


class SnapshotWriter(Closing):
    """A new snapshot at a target: add its files, then ``finish`` it. ``Target.create_snapshot``
    makes one.

    Use it in ``with``. Until it is finished nobody sees it as whole, and if it never is, by an
    error or by leaving the ``with`` early, the target removes it. One thread at a time.

    Chunks that the group's previous snapshot has in an archive of the same name are not sent again.
    With a key all files are encrypted, and the manifest is signed.

    File names are letters, digits, ``.``, ``_`` and ``-``, with the ending that says what it is.
    What PBS's tools make of a file follows from its whole name: a ``.img.fidx`` is restored as an
    image, a ``.pxar.didx`` has to hold an archive in their format.

    All methods raise ConfigError for a name or an argument that cannot be, and RemoteError.
    """

    def __init__(
        self, session: BackupSession, snapshot: Snapshot, body_limit: int, key: CryptKey | None
    ) -> None:
        self.snapshot: Final = snapshot
        self._session = session
        self._body_limit = body_limit
        self._key = key
        self._files: dict[str, FileInfo] = {}
        self._known: set[bytes] = set()
        self._under_way: deque[tuple[Call, int]] = deque()
        self._under_way_bytes = 0
        self._finished = False
        self._previous = self._previous_manifest()
        self.sent_chunks = 0
        """Chunks sent so far; the others were there."""

    def __repr__(self) -> str:
        return f"<SnapshotWriter {self.snapshot}>"

    def close(self) -> None:
        """End the connection; what is not finished is removed by the target."""
        self._session.close()

    # -- files --

    def add_blob(self, name: str, content: Buffer) -> FileInfo:
        """Add a small file, named ``….blob``: up to 16 MiB, compressed where that helps."""
        self._check_name(name, ".blob")
        try:
            blob = encode_blob(content, key=self._key)
        except FormatError as error:
            raise ConfigError(f"{name}: {error}") from None
        if len(blob) > MAX_PROTOCOL_BLOB:
            raise ConfigError(f"{name}: a blob of {len(blob)} bytes is more than a target takes")
        self._done(self._session.upload_blob(name, blob))
        return self._add(name, len(blob), hashlib.sha256(blob).digest())

    def add_image(self, name: str, file: BinaryIO, size: int) -> FileInfo:
        """Add ``size`` bytes, at least one, read from ``file``, as an image, named ``….fidx``.

        It is cut into chunks of 4 MiB at fixed places, so that what does not move is found again.
        Raises ConfigError if the file ends before, and what reading it raises.
        """
        self._check_name(name, ".fidx")
        if size < 1:
            raise ConfigError(f"{name}: an image holds at least one byte")
        call = self._session.create_fixed(name, size)
        return self._add_archive(name, "fixed", call, _blocks(name, file, size))

    def add_archive(self, name: str, chunks: Iterable[Buffer]) -> FileInfo:
        """Add an archive, named ``….didx``, of chunks as they are given: 1 to 16 MiB each.

        Who cuts where contents say so, and not every so many bytes, finds again what has moved.
        Raises what ``chunks`` raises.
        """
        self._check_name(name, ".didx")
        call = self._session.create_dynamic(name)
        return self._add_archive(name, "dynamic", call, chunks)

    def finish(self, notes: str | None = None) -> Manifest:
        """Make the snapshot whole, with these notes, and end the connection; its manifest."""
        if self._finished:
            raise ConfigError(f"{self.snapshot} is finished already")
        if not self._files:
            raise ConfigError(f"{self.snapshot}: a snapshot has at least one file")
        unprotected: dict[str, JsonValue] = {} if notes is None else {"notes": notes}
        files = tuple(self._files.values())
        signature = None
        if self._key is not None:
            unprotected["key-fingerprint"] = format_fingerprint(self._key.fingerprint)
            signature = Manifest(self.snapshot, files).sign(self._key)
        manifest = Manifest(self.snapshot, files, unprotected, signature)
        self._done(self._session.upload_blob(MANIFEST_NAME, manifest.encode()))
        self._done(self._session.finish())
        self._finished = True
        self.close()
        return manifest

    # -- one archive --

    def _add_archive(
        self, name: str, kind: str, create: Call, chunks: Iterable[Buffer]
    ) -> FileInfo:
        self._session.wait([create])
        writer_id = create.writer_id()
        self._learn(name)
        digests, ends, end = bytearray(), [], 0
        for chunk in chunks:
            content = memoryview(chunk).cast("B")
            if not 1 <= len(content) <= MAX_CHUNK_SIZE:
                raise ConfigError(f"{name}: a chunk has 1 to {MAX_CHUNK_SIZE} bytes")
            digests += self._send(kind, writer_id, content)
            end += len(content)
            ends.append(end)
        if not ends:
            raise ConfigError(f"{name}: an archive has at least one chunk")
        self._settle(0)
        with _index(name, kind, bytes(digests), ends) as index:
            self._append(kind, writer_id, index)
            csum = index.header_csum
        close = self._session.close_writer(
            kind, writer_id, chunk_count=len(ends), size=end, csum=csum
        )
        self._done(close)
        return self._add(name, end, csum)

    def _send(self, kind: str, writer_id: int, content: memoryview) -> bytes:
        """Send a chunk, unless it is there; its digest."""
        key = self._key
        digest = hashlib.sha256(content).digest() if key is None else key.digest(content)
        if digest in self._known:
            return digest
        blob = encode_blob(content, key=key)
        call = self._session.upload_chunk(kind, writer_id, digest, size=len(content), blob=blob)
        self._known.add(digest)  # no entry names it before all of these are acknowledged
        self._under_way.append((call, len(blob)))
        self._under_way_bytes += len(blob)
        self.sent_chunks += 1
        self._settle(UNDER_WAY_BYTES)
        return digest

    def _settle(self, most: int) -> None:
        """Wait until no more than ``most`` bytes of chunks are under way."""
        while self._under_way and self._under_way_bytes > most:
            call, size = self._under_way.popleft()
            self._done(call)
            self._under_way_bytes -= size

    def _append(self, kind: str, writer_id: int, index: Index) -> None:
        """Send all entries, list after list: the order counts (protocol/backup.md, "Order")."""
        first = 0
        while first < len(index):
            call, taken = self._session.append(
                kind,
                writer_id,
                index,
                limit=self._body_limit,
                first=first,
                count=len(index) - first,
            )
            self._done(call)
            first += taken

    # -- the previous snapshot --

    def _previous_manifest(self) -> Manifest | None:
        """That of the group's previous snapshot; None where there is none that can be used."""
        call = self._session.previous_manifest()
        self._session.wait([call])
        if call.refused:
            return None
        try:
            return Manifest.decode(call.body())
        except FormatError:
            return None  # it only saves sending

    def _learn(self, name: str) -> None:
        """Have the target register the chunks that the archive had before, and note them."""
        previous = self._previous
        ours = None if self._key is None else self._key.fingerprint
        if previous is None or previous.file(name) is None or previous.key_fingerprint != ours:
            return
        call = self._session.previous_index(name)
        self._session.wait([call])
        if call.refused:
            return
        try:
            index = call.index(name)
        except FormatError:
            return
        with index:
            rows = index.digests.tobytes()
        self._known.update(rows[at : at + 32] for at in range(0, len(rows), 32))

    # -- small things --

    def _done(self, call: Call) -> None:
        self._session.wait([call])
        call.body()

    def _check_name(self, name: str, suffix: str) -> None:
        if self._finished:
            raise ConfigError(f"{self.snapshot} is finished: nothing can be added")
        if not is_safe_id(name) or not name.endswith(suffix) or name == suffix:
            raise ConfigError(f"'{name}' is no name for such a file: it must end in {suffix}")
        if name in (MANIFEST_NAME, CLIENT_LOG_NAME):
            raise ConfigError(f"'{name}' is a name that PBS keeps for itself")
        if name in self._files:
            raise ConfigError(f"{name} is in {self.snapshot} already")

    def _add(self, name: str, size: int, csum: bytes) -> FileInfo:
        mode = CryptMode.NONE if self._key is None else CryptMode.ENCRYPT
        info = self._files[name] = FileInfo(name, mode, size, csum)
        return info


def _blocks(name: str, file: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left:
        wanted = min(FIXED_CHUNK_SIZE, left)
        block = bytearray()
        while len(block) < wanted:  # a pipe gives less at a time
            piece = file.read(wanted - len(block))
            if not piece:
                raise ConfigError(f"{name}: the file ends {left - len(block)} bytes before {size}")
            block += piece
        left -= wanted
        yield bytes(block)


def _index(name: str, kind: str, digests: bytes, ends: list[int]) -> Index:
    """The whole index, in memory: what entry lists are made of."""
    from pbs_push.formats.index_writer import (  # noqa: PLC0415  (numpy, for who writes)
        dynamic_index_bytes,
        fixed_index_bytes,
    )

    if kind == "fixed":
        return parse_index(fixed_index_bytes(digests, ends[-1]), name)
    import numpy as np  # noqa: PLC0415  (as above)

    return parse_index(dynamic_index_bytes(np.array(ends, dtype=np.uint64), digests), name)
