"""The files of one snapshot, checked against its manifest: all but what its chunks hold."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, field
from errno import EIO
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from pbs_push.errors import (
    BlobFormatError,
    FormatError,
    PbsPushError,
    SourceError,
)
from pbs_push.formats.blob import MAX_CHUNK_SIZE
from pbs_push.formats.manifest import CryptMode, FileInfo
from pbs_push.names import CLIENT_LOG_NAME, MANIFEST_NAME
from pbs_push.verify.report import FileDamage, Place
from pbs_push.verify.seen import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from pbs_push.errors import Fault
    from pbs_push.formats.chunk_content import ContentChecker
    from pbs_push.formats.index import Index
    from pbs_push.formats.keys import CryptKey
    from pbs_push.source.items import SourceSnapshot
    from pbs_push.source.snapshot import OpenSnapshot

    Sizes = NDArray[np.uint64]

T = TypeVar("T")

BLOCK: Final = 16_384
"""Entries of an index that are looked at in one go."""


@dataclass(frozen=True, slots=True)
class VerifiedIndex:
    """An index that is what its manifest says; ``mode`` says how to take its chunks."""

    place: Place
    index: Index
    mode: Mode

    def blocks(self) -> Iterator[tuple[int, NDArray[np.uint8], Sizes]]:
        """Its entries some at a time: the first one's position, digests, and lengths in bytes."""
        sizes = entry_sizes(self.index)
        for begin in range(0, len(self.index), BLOCK):
            end = begin + BLOCK
            yield begin, self.index.digests[begin:end], sizes[begin:end]


@dataclass(slots=True)
class VerifiedFiles:
    """An open snapshot whose files were checked. Whoever has it closes ``resources``."""

    snapshot: OpenSnapshot
    resources: ExitStack = field(default_factory=ExitStack)
    indexes: list[VerifiedIndex] = field(default_factory=list)
    damages: list[FileDamage] = field(default_factory=list)
    not_checked: int = 0
    """Blobs that are encrypted, without the key for them."""

    @property
    def item(self) -> SourceSnapshot:
        """What it is."""
        return self.snapshot.item


def check_files(
    snapshot: OpenSnapshot, key: CryptKey | None, checker: ContentChecker
) -> VerifiedFiles:
    """Check the manifest's signature, and each file that it names; a client log, too.

    Indexes stay open, and so does ``snapshot``, which the result takes. Raises SourceError for what
    keeps any file from being read at this moment (a missing right, too many open files).
    """
    manifest = snapshot.manifest
    if key is not None and manifest.key_fingerprint != key.fingerprint:
        key = None
    files = VerifiedFiles(snapshot)
    try:
        if key is not None and manifest.signature and not manifest.verify_signature(key):
            _note(files, MANIFEST_NAME, "crc", "the manifest's signature is not that of its key")
        for info in manifest.files:
            _check_file(files, info, key, checker)
        _check_log(files, key, checker)
    except BaseException:
        files.resources.close()
        raise
    files.resources.callback(snapshot.close)
    return files


def damage_of(item: SourceSnapshot, filename: str, error: PbsPushError) -> FileDamage:
    """What an error about a file says. Raises it again where the file is not to blame."""
    if isinstance(error, SourceError):
        if not error.damage:
            raise error
        fault: Fault = "missing" if error.errno is None else "unreadable"
    elif isinstance(error, _Wrong):
        fault = error.fault
    else:
        fault = "crc" if "wrong CRC-32" in str(error) else "format"
    return FileDamage(Place(item, filename), fault, _without(item, str(error)))


def read_twice(read: Callable[[], T]) -> T:
    """What ``read`` returns, called again after an I/O error: one that comes twice is damage."""
    try:
        return read()
    except SourceError as error:
        if error.errno != EIO:
            raise
    return read()


def entry_sizes(index: Index) -> Sizes:
    """Bytes of each entry (protocol/datastore.md, "Index files")."""
    if index.kind == "dynamic":
        return np.diff(index.end_offsets, prepend=np.uint64(0))
    sizes = np.full(len(index), index.chunk_size, dtype=np.uint64)
    if len(index):
        sizes[-1] = index.size - (len(index) - 1) * index.chunk_size
    return sizes


class _Wrong(FormatError):
    """A file is not what its manifest says."""

    def __init__(self, fault: Fault, reason: str) -> None:
        super().__init__(reason)
        self.fault: Final = fault


def _check_file(
    files: VerifiedFiles, info: FileInfo, key: CryptKey | None, checker: ContentChecker
) -> None:
    try:
        if info.filename.endswith(".blob"):
            _check_blob(files, info, key, checker)
        else:
            _check_index(files, info, key)
    except (FormatError, SourceError) as error:
        files.damages.append(damage_of(files.item, info.filename, error))


def _check_index(files: VerifiedFiles, info: FileInfo, key: CryptKey | None) -> None:
    name = info.filename
    index = read_twice(lambda: files.snapshot.open_index(name))
    with ExitStack() as keep:
        keep.callback(index.close)
        csum = index.csum()
        if csum != info.csum:
            raise _Wrong(
                "crc",
                f"{name}: the csum of its entries is {csum.hex()}, "
                f"the manifest says {info.csum.hex()}",
            )
        if index.header_csum != csum:
            raise _Wrong("crc", f"{name}: its header has another csum than its entries")
        if index.size != info.size:
            raise _Wrong(
                "length",
                f"{name}: it describes {index.size} bytes, the manifest says {info.size}",
            )
        if index.largest_chunk > MAX_CHUNK_SIZE:
            raise _Wrong(
                "format",
                f"{name}: it has a chunk of {index.largest_chunk} bytes; "
                f"a chunk may hold {MAX_CHUNK_SIZE}",
            )
        keep.pop_all()
    files.resources.callback(index.close)
    mode = Mode.PLAIN
    if info.crypt_mode is CryptMode.ENCRYPT:
        mode = Mode.SEALED if key is None else Mode.KEYED
    files.indexes.append(VerifiedIndex(Place(files.item, name), index, mode))


def _check_blob(
    files: VerifiedFiles, info: FileInfo, key: CryptKey | None, checker: ContentChecker
) -> None:
    name = info.filename
    data = read_twice(lambda: files.snapshot.read_blob(name))
    if len(data) != info.size:
        raise _Wrong("length", f"{name}: it has {len(data)} bytes, the manifest says {info.size}")
    if hashlib.sha256(data).digest() != info.csum:
        raise _Wrong("digest", f"{name}: its SHA-256 is not the one in the manifest")
    _check_content(files, name, data, key, checker)


def _check_log(files: VerifiedFiles, key: CryptKey | None, checker: ContentChecker) -> None:
    """The client's log, of which no manifest says anything."""
    try:
        data = read_twice(files.snapshot.client_log)
        if data is not None:
            _check_content(files, CLIENT_LOG_NAME, data, key, checker)
    except (FormatError, SourceError) as error:
        files.damages.append(damage_of(files.item, CLIENT_LOG_NAME, error))


def _check_content(
    files: VerifiedFiles, name: str, data: bytes, key: CryptKey | None, checker: ContentChecker
) -> None:
    try:
        if not checker.blob(memoryview(data), key):
            files.not_checked += 1
    except BlobFormatError as error:
        raise _Wrong("content", f"{name}: {error}") from None


def _note(files: VerifiedFiles, name: str, fault: Fault, reason: str) -> None:
    files.damages.append(FileDamage(Place(files.item, name), fault, reason))


def _without(item: SourceSnapshot, text: str) -> str:
    """A message without the snapshot's name in front, which stands beside it."""
    return text.removeprefix(f"source snapshot {item.label}: ")
