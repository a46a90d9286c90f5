"""One source snapshot, open for reading: its manifest and its archives."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from pbs_push.closing import Closing
from pbs_push.errors import (
    BlobFormatError,
    IndexFormatError,
    ManifestError,
    SnapshotVanished,
    SourceError,
)
from pbs_push.formats.blob import MAX_BLOB_FILE, MAX_PROTOCOL_BLOB, check_blob
from pbs_push.formats.index import Index, open_index
from pbs_push.formats.manifest import Manifest, check_manifest
from pbs_push.names import (
    CLIENT_LOG_NAME,
    MANIFEST_NAME,
    is_safe_id,
)
from pbs_push.source.directories import (
    directory,
    exists,
    is_regular_file,
    os_errors_as_source_errors,
    read_file,
)
from pbs_push.source.items import SourceSnapshot
from pbs_push.source.locks import SnapshotLocks

_SUFFIX_OF_KIND: Final = {"fixed": ".fidx", "dynamic": ".didx"}


class OpenSnapshot(Closing):
    """A finished source snapshot, open until it is closed; made by ``Datastore.open_snapshot``.

    Use it as a context manager. ``manifest`` is as it was on opening, and has been checked against
    the snapshot's folder. ``directory_fd`` is the open folder, borrowed: it ends with this object.
    ``locked``: the snapshot's shared lock is held; a file system may have none.
    May be read from several threads at once, but not be closed meanwhile.
    """

    def __init__(
        self,
        item: SourceSnapshot,
        manifest: Manifest,
        directory_fd: int,
        resources: ExitStack,
        *,
        locked: bool,
    ) -> None:
        self.item: Final = item
        self.manifest: Final = manifest
        self.directory_fd: Final = directory_fd
        self.locked: Final = locked
        self._resources = resources
        self._label = _label(item)

    def has(self, filename: str) -> bool:
        """Whether a regular file of this name lies in the snapshot's folder."""
        return _has(self.item, self.directory_fd, filename)

    def size_of(self, filename: str) -> int:
        """Length in bytes of a file of the snapshot. Raises SourceError where it is missing."""
        with os_errors_as_source_errors(f"{self._label}: look for {filename!r}"):
            return os.stat(filename, dir_fd=self.directory_fd, follow_symlinks=False).st_size

    def open_index(self, filename: str) -> Index:
        """Map the index file ``filename``; the caller closes it, it may outlive this object.

        Raises IndexFormatError for a damaged file, SourceError for one that is missing.
        """
        self._require(filename)
        try:
            index = open_index(filename, dir_fd=self.directory_fd)
        except IndexFormatError as error:
            raise IndexFormatError(f"{self._label}: {error}") from error
        except SourceError as error:
            raise SourceError(
                f"{self._label}: {error}", errno=error.errno, damage=error.damage
            ) from error
        if filename.endswith(_SUFFIX_OF_KIND[index.kind]):
            return index
        index.close()
        raise IndexFormatError(f"{self._label}: {filename} holds a {index.kind} index")

    def read_blob(self, filename: str, *, limit_bytes: int = MAX_BLOB_FILE) -> bytes:
        """The blob file ``filename`` as it lies on disk, header and CRC-32 checked.

        Raises BlobFormatError for a damaged blob, SourceError for one that is missing or longer
        than ``limit_bytes``.
        """
        self._require(filename)
        data = _read(self.item, self.directory_fd, filename, limit_bytes)
        try:
            check_blob(data)
        except BlobFormatError as error:
            raise BlobFormatError(f"{self._label}: {filename}: {error}") from error
        return data

    def client_log(self, *, limit_bytes: int = MAX_BLOB_FILE) -> bytes | None:
        """The client's log as it lies on disk, an encoded blob; None where there is none."""
        if not self.has(CLIENT_LOG_NAME):
            return None
        return self.read_blob(CLIENT_LOG_NAME, limit_bytes=limit_bytes)

    def close(self) -> None:
        """Release the lock and the folder; more than once does nothing."""
        self._resources.close()

    def _require(self, filename: str) -> None:
        if not is_safe_id(filename):
            raise SourceError(f"{self._label}: {filename!r} is not a file name", damage=True)
        if not self.has(filename):
            raise SourceError(
                f"{self._label}: file {filename} is missing from its folder", damage=True
            )


def open_snapshot(base: Path, item: SourceSnapshot, locks: SnapshotLocks | None) -> OpenSnapshot:
    """Open a finished snapshot below the datastore's ``base``; ``locks`` None takes no lock.

    Raises as ``Datastore.open_snapshot`` says.
    """
    with ExitStack() as resources:
        directory_fd = _open_directory(base, item, resources)
        locked = False
        if locks is not None:
            locked = resources.enter_context(locks.shared(item, directory_fd))
            _check_still_there(base, item, directory_fd)
        manifest = _read_manifest(item, directory_fd)
        return OpenSnapshot(item, manifest, directory_fd, resources.pop_all(), locked=locked)


def _label(item: SourceSnapshot) -> str:
    return f"source snapshot {item.label}"


def _open_directory(base: Path, item: SourceSnapshot, resources: ExitStack) -> int:
    try:
        return resources.enter_context(directory(base, item.disk_path))
    except (FileNotFoundError, NotADirectoryError):
        raise SnapshotVanished(f"{_label(item)} is gone since it was listed") from None
    except OSError as error:
        raise SourceError.of(f"open {_label(item)}", error) from error


def _check_still_there(base: Path, item: SourceSnapshot, directory_fd: int) -> None:
    """Who removes a snapshot holds its lock: the one opened before the lock may be gone by now."""
    with ExitStack() as resources:
        again_fd = _open_directory(base, item, resources)
        if not os.path.samestat(os.fstat(again_fd), os.fstat(directory_fd)):
            raise SnapshotVanished(f"{_label(item)} was replaced while it was opened")


def _has(item: SourceSnapshot, directory_fd: int, filename: str) -> bool:
    with os_errors_as_source_errors(f"{_label(item)}: look for {filename!r}"):
        return is_regular_file(filename, directory_fd)


def _read(item: SourceSnapshot, directory_fd: int, filename: str, limit_bytes: int) -> bytes:
    with os_errors_as_source_errors(f"{_label(item)}: read {filename}"):
        return read_file(filename, directory_fd, limit_bytes)


def _read_manifest(item: SourceSnapshot, directory_fd: int) -> Manifest:
    with os_errors_as_source_errors(f"{_label(item)}: look for {MANIFEST_NAME!r}"):
        there = exists(MANIFEST_NAME, directory_fd)
    if not there:
        raise SourceError(
            f"{_label(item)} has no manifest ({MANIFEST_NAME}): its backup is running, or died"
        )
    try:
        manifest = Manifest.decode(_read(item, directory_fd, MANIFEST_NAME, MAX_PROTOCOL_BLOB))
        check_manifest(manifest, item.snapshot)
    except ManifestError as error:
        raise ManifestError(f"{_label(item)}: {error}") from error
    return manifest
