"""What a source datastore holds, in detail, made as it is read: one group at a time.

``cli/listing_json`` and ``cli/listing_text`` tell it to programs and to people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pbs_push.errors import PbsPushError, SourceError
from pbs_push.formats.manifest import FileInfo, Manifest
from pbs_push.names import CLIENT_LOG_NAME, INDEX_SUFFIXES, MANIFEST_NAME, Namespace
from pbs_push.source.datastore import Datastore
from pbs_push.source.items import SourceGroup, SourceSnapshot
from pbs_push.source.snapshot import OpenSnapshot

_ROOT: Final = Namespace()


@dataclass(frozen=True, slots=True)
class IndexDetails:
    """What an index file says, and its ``csum`` computed anew from the entries.

    ``size`` in plain bytes of the archive; ``chunk_size`` is 0 for a dynamic index.
    """

    kind: str
    size: int
    entries: int
    chunk_size: int
    uuid: bytes
    ctime: int
    csum: bytes


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of a manifest; ``index`` where it is one and was read, ``error`` why it was not."""

    info: FileInfo
    index: IndexDetails | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ListedContent:
    """What a finished snapshot holds; sizes in bytes, of the files as they lie on disk."""

    manifest: Manifest
    manifest_size: int
    files: tuple[ListedFile, ...]
    client_log_size: int | None

    @property
    def size(self) -> int:
        """What PBS calls the snapshot's size: the sum over its files and its manifest."""
        return self.manifest_size + sum(file.info.size for file in self.files)


@dataclass(frozen=True, slots=True)
class ListedSnapshot:
    """A snapshot; ``content`` if it is finished and can be read.

    Of one without, ``names`` are the archives that lie in its folder, and ``error`` says why it
    cannot be read, unless it is just not finished.
    """

    item: SourceSnapshot
    content: ListedContent | None
    names: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ListedGroup:
    """A group with all its snapshots, oldest first; ``odd`` is what is left out of it.

    ``error`` says why ``notes`` that are there cannot be read; what is not UTF-8 in them is shown
    as U+FFFD.
    """

    item: SourceGroup
    notes: str | None
    snapshots: tuple[ListedSnapshot, ...]
    odd: tuple[tuple[str, str], ...]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ListingOptions:
    """What to list: from which namespace, how deep, and whether to read the index files.

    Reading them means reading 32 or 40 bytes for each chunk of each snapshot.
    """

    anchor: Namespace = _ROOT
    max_depth: int | None = None
    read_indexes: bool = True


DEFAULT_OPTIONS: Final = ListingOptions()


def list_groups(
    datastore: Datastore, namespace: Namespace, *, read_indexes: bool = True
) -> Iterator[ListedGroup]:
    """The groups of one namespace in order, each read when its turn comes; takes no locks.

    Raises SourceError where the namespace or a group cannot be listed. A snapshot, an index or
    notes that cannot be read are listed with their error.
    """
    for group in datastore.groups(namespace):
        found = datastore.snapshots(group)
        snapshots = tuple(
            _snapshot(datastore, snapshot, read_indexes=read_indexes)
            for snapshot in found.snapshots
        )
        notes = error = None
        try:
            notes = datastore.group_notes(group, errors="replace")
        except SourceError as problem:
            error = str(problem)
        yield ListedGroup(group, notes, snapshots, tuple(found.left_out), error)


def _snapshot(datastore: Datastore, item: SourceSnapshot, *, read_indexes: bool) -> ListedSnapshot:
    try:
        if not item.finished:
            return ListedSnapshot(item, None, tuple(datastore.archive_names(item)))
        with datastore.open_snapshot(item, lock=False) as opened:
            return ListedSnapshot(item, _content(opened, read_indexes=read_indexes))
    except PbsPushError as error:
        return ListedSnapshot(item, None, error=str(error))


def _content(opened: OpenSnapshot, *, read_indexes: bool) -> ListedContent:
    return ListedContent(
        opened.manifest,
        opened.size_of(MANIFEST_NAME),
        tuple(_file(opened, info, read_indexes=read_indexes) for info in opened.manifest.files),
        opened.size_of(CLIENT_LOG_NAME) if opened.has(CLIENT_LOG_NAME) else None,
    )


def _file(opened: OpenSnapshot, info: FileInfo, *, read_indexes: bool) -> ListedFile:
    if not read_indexes or not info.filename.endswith(INDEX_SUFFIXES):
        return ListedFile(info)
    try:
        with opened.open_index(info.filename) as index:
            details = IndexDetails(
                kind=index.kind,
                size=index.size,
                entries=len(index),
                chunk_size=index.chunk_size,
                uuid=index.uuid,
                ctime=index.ctime,
                csum=index.csum(),
            )
    except PbsPushError as error:
        return ListedFile(info, error=str(error))
    return ListedFile(info, details)
