"""A datastore on disk, read only: what it holds, and its chunks (spec 01)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from pbs_push.errors import (
    BlobFormatError,
    ChunkError,
    InvalidName,
    SnapshotVanished,
    SourceError,
)
from pbs_push.formats.blob import MAX_PROTOCOL_BLOB, check_blob
from pbs_push.names import (
    ARCHIVE_SUFFIXES,
    BACKUP_TYPES,
    INDEX_SUFFIXES,
    MANIFEST_NAME,
    AuthId,
    Group,
    Namespace,
    Snapshot,
    is_safe_id,
    parse_backup_time,
)
from pbs_push.source.directories import (
    directory,
    file_names,
    folder_names,
    is_regular_file,
    os_errors_as_source_errors,
    read_file,
    subfolder,
)
from pbs_push.source.items import SnapshotList, SourceGroup, SourceSnapshot
from pbs_push.source.locks import SnapshotLocks
from pbs_push.source.snapshot import OpenSnapshot, open_snapshot

_TIME_SHAPE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_ROOT: Final = Namespace()
_MAX_OWNER_FILE: Final = 4 << 10
_MAX_NOTES_FILE: Final = 1 << 20


class Datastore:
    """A datastore's base directory, read only.

    Holds no open files, so it may be shared between threads and sent to other processes. ``name``
    is what PBS calls the datastore (its locks go by that name); the directory's name unless given.
    ``lock_root`` is where PBS keeps its run-time state.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        lock_root: Path = Path("/run/proxmox-backup"),
    ) -> None:
        """Raises SourceError where ``path`` is not a datastore's base directory."""
        self.path: Final = Path(path).absolute()
        self.name: Final = self.path.resolve().name if name is None else name
        self.chunk_path: Final = self.path / ".chunks"
        self._lock_root = lock_root
        if not self.path.is_dir():
            raise SourceError(f"source {self.path} is no directory: is the datastore mounted?")
        if self.chunk_path.is_symlink() or not self.chunk_path.is_dir():
            raise SourceError(f"source {self.path} is not a datastore: it has no folder '.chunks'")

    def namespaces(
        self, anchor: Namespace = _ROOT, max_depth: int | None = None
    ) -> list[Namespace]:
        """``anchor`` and the namespaces below it, parents first, siblings by name.

        ``max_depth`` levels below the anchor (0: just the anchor), all unless given. Raises
        SourceError where the anchor does not exist, or a folder cannot be read.
        """
        return list(self._walk(anchor, max_depth))

    def groups(self, namespace: Namespace) -> list[SourceGroup]:
        """The groups of one namespace, by type and then naturally by id.

        Raises SourceError where the namespace does not exist or cannot be read.
        """
        with (
            os_errors_as_source_errors(f"list groups of source {namespace.label}"),
            directory(self.path, namespace.disk_path) as namespace_fd,
        ):
            found = [
                SourceGroup(namespace, group, owner)
                for backup_type in BACKUP_TYPES
                for group, owner in _groups_of_type(namespace_fd, backup_type)
            ]
        found.sort(key=lambda item: item.group.sort_key)
        return found

    def snapshots(self, group: SourceGroup) -> SnapshotList:
        """The snapshots of one group, oldest first, finished or not.

        Raises SnapshotVanished where the group is gone, SourceError where it cannot be read.
        """
        found: list[SourceSnapshot] = []
        odd: list[tuple[str, str]] = []
        with self._group_directory(group) as group_fd:
            for name in folder_names(".", group_fd):
                if _TIME_SHAPE.fullmatch(name) is None:
                    continue
                try:
                    snapshot = Snapshot(group.group, parse_backup_time(name))
                except InvalidName as error:
                    odd.append((name, str(error)))
                    continue
                found.append(
                    SourceSnapshot(
                        group.namespace,
                        snapshot,
                        finished=is_regular_file(f"{name}/{MANIFEST_NAME}", group_fd),
                        protected=is_regular_file(f"{name}/.protected", group_fd),
                    )
                )
        found.sort(key=lambda item: item.snapshot.backup_time)
        return SnapshotList(tuple(found), tuple(sorted(odd)))

    def open_snapshot(self, snapshot: SourceSnapshot, *, lock: bool = True) -> OpenSnapshot:
        """Open a finished snapshot, with its shared lock unless told otherwise.

        Raises SourceLocked if another process writes or removes it, SnapshotVanished if it is gone,
        SourceError if it has no manifest or cannot be read, ManifestError if its manifest cannot be
        understood or does not belong to it.
        """
        locks = SnapshotLocks(self._lock_root, self.name) if lock else None
        return open_snapshot(self.path, snapshot, locks)

    def links_in(self, namespace: Namespace) -> list[str]:
        """Symbolic links where a namespace's folders, groups or snapshots should be.

        They are not followed (spec 01), so what they lead to seems not to be there.
        """
        base = self.path / namespace.disk_path
        kinds = [base / name for name in (*BACKUP_TYPES, "ns")]
        found = [path for path in kinds if path.is_symlink()]
        for kind in kinds:
            if kind.is_symlink() or not kind.is_dir():
                continue
            inside = list(kind.iterdir())
            found += [path for path in inside if path.is_symlink()]
            if kind.name != "ns":
                groups = [path for path in inside if not path.is_symlink() and path.is_dir()]
                found += [
                    path
                    for group in groups
                    for path in group.iterdir()
                    if _TIME_SHAPE.fullmatch(path.name) and path.is_symlink()
                ]
        return [str(path.relative_to(self.path)) for path in found]

    def archive_names(self, snapshot: SourceSnapshot) -> list[str]:
        """Names of the archives and blobs that lie in a snapshot's folder, finished or not."""
        with (
            os_errors_as_source_errors(f"list files of source snapshot {snapshot.label}"),
            directory(self.path, snapshot.disk_path) as snapshot_fd,
        ):
            names = file_names(snapshot_fd)
        return sorted(
            name for name in names if name.endswith(ARCHIVE_SUFFIXES) and is_safe_id(name)
        )

    def index_bytes(self, snapshot: SourceSnapshot) -> int:
        """Bytes of the index files in a snapshot's folder; 0 where they cannot be looked at."""
        try:
            with directory(self.path, snapshot.disk_path) as snapshot_fd:
                return sum(
                    os.stat(name, dir_fd=snapshot_fd, follow_symlinks=False).st_size
                    for name in os.listdir(snapshot_fd)  # noqa: PTH208  (of a descriptor)
                    if name.endswith(INDEX_SUFFIXES)
                )
        except OSError:
            return 0

    def owner(self, namespace: Namespace, group: Group) -> AuthId | None:
        """The owner of a group; None where the group, or a readable owner, is not there."""
        item = SourceGroup(namespace, group, None)
        try:
            with directory(self.path, item.disk_path) as group_fd:
                return _read_owner(group_fd)
        except OSError:
            return None

    def group_notes(self, group: SourceGroup) -> str | None:
        """The notes of a group, None where it has none. Raises SourceError if unreadable."""
        with self._group_directory(group) as group_fd:
            if not is_regular_file("notes", group_fd):
                return None
            text = read_file("notes", group_fd, _MAX_NOTES_FILE)
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError:
            raise SourceError(f"notes of source group {group.label} are not UTF-8") from None

    def chunk_path_of(self, digest: bytes) -> Path:
        """Where the chunk of this digest (32 bytes) lies, if the datastore has it."""
        digest_hex = digest.hex()
        return self.chunk_path / digest_hex[:4] / digest_hex

    def read_chunk(self, digest: bytes) -> bytes:
        """The chunk as it lies on disk, an encoded blob: magic, length and CRC-32 checked.

        Raises ChunkError where it is missing or corrupt. The digest is not checked.
        """
        path = self.chunk_path_of(digest)
        try:
            with directory(self.chunk_path, path.parent.name) as folder_fd:
                data = read_file(path.name, folder_fd, MAX_PROTOCOL_BLOB)
            if not data:
                raise ChunkError(path.name, str(path), "the file is empty")
            check_blob(data)
        except (FileNotFoundError, NotADirectoryError):
            raise ChunkError(path.name, str(path), _why_missing(path)) from None
        except OSError as error:
            raise ChunkError(path.name, str(path), f"unreadable: {error.strerror}") from error
        except BlobFormatError as error:
            raise ChunkError(path.name, str(path), f"corrupt: {error}") from error
        return data

    def _walk(self, namespace: Namespace, max_depth: int | None) -> Iterator[Namespace]:
        with (
            os_errors_as_source_errors(f"list source {namespace.label} of {self.path}"),
            directory(self.path, namespace.disk_path) as namespace_fd,
        ):
            names = sorted(folder_names("ns", namespace_fd)) if max_depth != 0 else []
        yield namespace
        below = None if max_depth is None else max_depth - 1
        for name in names:
            try:
                child = namespace.child(name)
            except InvalidName:
                continue
            yield from self._walk(child, below)

    @contextmanager
    def _group_directory(self, group: SourceGroup) -> Iterator[int]:
        gone = f"source group {group.label} is gone since it was listed"
        with os_errors_as_source_errors(f"read source group {group.label}"), ExitStack() as stack:
            try:
                group_fd = stack.enter_context(directory(self.path, group.disk_path))
            except (FileNotFoundError, NotADirectoryError):
                raise SnapshotVanished(gone) from None
            yield group_fd


def _groups_of_type(namespace_fd: int, backup_type: str) -> Iterator[tuple[Group, AuthId | None]]:
    names = [name for name in folder_names(backup_type, namespace_fd) if is_safe_id(name)]
    if not names:
        return
    with subfolder(backup_type, namespace_fd) as type_fd:
        for name in names:
            yield Group(backup_type, name), _owner_in(type_fd, name)


def _owner_in(type_fd: int, group_name: str) -> AuthId | None:
    try:
        with subfolder(group_name, type_fd) as group_fd:
            return _read_owner(group_fd)
    except OSError:
        return None


def _read_owner(group_fd: int) -> AuthId | None:
    """The auth-id in the first line of a group's owner file, None where that is none."""
    text = read_file("owner", group_fd, _MAX_OWNER_FILE)
    try:
        return AuthId.parse(text.decode("utf-8").partition("\n")[0].strip())
    except (UnicodeDecodeError, InvalidName):
        return None


def _why_missing(path: Path) -> str:
    """Tell a chunk that verification set aside from one that is not there at all."""
    if any(path.parent.glob(f"{path.name}.*.bad")):
        return "missing: a verification found it corrupt and renamed it to .bad"
    return "missing"
