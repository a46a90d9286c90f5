"""What a snapshot becomes at the target beside its chunks: the same, or the same under a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from pbs_push.names import CLIENT_LOG_NAME
from pbs_push.push.encryption import encrypt_blob_archive, encrypt_manifest, is_ours

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pbs_push.formats.keys import CryptKey
    from pbs_push.formats.manifest import FileInfo, Manifest
    from pbs_push.push.archives import Archives, BlobArchive

    NamedBlobs = Sequence[tuple[str, bytes]]


class Content(Protocol):
    """One snapshot as it is to stand at the target."""

    @property
    def blobs(self) -> NamedBlobs:
        """Its blob files and the client log, by name, as they are to be uploaded."""

    def manifest(self, indexes: Iterable[FileInfo]) -> Manifest:
        """Its manifest; ``indexes`` are its index archives as they were written."""

    def accepts(self, there: Manifest) -> bool:
        """Whether chunks of the target's previous snapshot, with this manifest, are of use."""


class AsItIs:
    """Byte for byte what the source has; only what PBS notes for itself stays behind.

    ``log`` is the client log, if it has one that goes along.
    """

    def __init__(self, archives: Archives, log: bytes | None) -> None:
        self._manifest = archives.manifest
        self.blobs: Final = _named(archives.blobs, log)

    def manifest(self, indexes: Iterable[FileInfo]) -> Manifest:
        """The source's, without the state of its verification."""
        del indexes  # they are those of the source's manifest
        return self._manifest.without_source_state()

    def accepts(self, there: Manifest) -> bool:
        """A chunk is a chunk, whatever it is of."""
        del there
        return True


class UnderKey:
    """Encrypted with ``key``, ``log`` already. Raises FormatError for a blob that cannot be."""

    def __init__(self, archives: Archives, log: bytes | None, key: CryptKey) -> None:
        self._manifest = archives.manifest
        self._key = key
        blobs = [encrypt_blob_archive(blob, key) for blob in archives.blobs]
        self._infos = [blob.info for blob in blobs]
        self.blobs: Final = _named(blobs, log)

    def manifest(self, indexes: Iterable[FileInfo]) -> Manifest:
        """Signed; its files are the encrypted ones."""
        return encrypt_manifest(self._manifest, [*self._infos, *indexes], self._key)

    def accepts(self, there: Manifest) -> bool:
        """Under another key the same chunks have other digests."""
        return is_ours(there, self._key)


def _named(blobs: Iterable[BlobArchive], log: bytes | None) -> NamedBlobs:
    named = [(blob.info.filename, blob.data) for blob in blobs]
    return named if log is None else [*named, (CLIENT_LOG_NAME, log)]
