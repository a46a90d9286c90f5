"""A datastore on disk: what it holds, and its chunks (protocol/datastore.md). It is only read."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, overload

from pbs_push.errors import (
    ConfigError,
    InvalidName,
    SnapshotVanished,
    SourceError,
)
from pbs_push.formats import chunk_files
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
    looks_like_backup_time,
    parse_backup_time,
    why_not_a_path,
)
from pbs_push.source.directories import (
    directory,
    exists,
    file_names,
    is_regular_file,
    look_inside,
    os_errors_as_source_errors,
    read_file,
    subfolder,
)
from pbs_push.source.items import SnapshotList, SourceGroup, SourceSnapshot
from pbs_push.source.locks import SnapshotLocks
from pbs_push.source.marks import Marks, protection_in
from pbs_push.source.snapshot import OpenSnapshot, open_snapshot

RUN_FOLDER: Final = Path("/run/proxmox-backup")
"""Where PBS keeps its run-time state on its host."""

T = TypeVar("T")
ChunkReader = Callable[[int, bytes, str], T]
"""As ``formats.chunk_files.read_chunk``, but for what it returns."""

_ROOT: Final = Namespace()
_MAX_OWNER_FILE: Final = 4 << 10
_MAX_NOTES_FILE: Final = 1 << 20


class SourceIdentity(NamedTuple):
    """Which directories a datastore is, by device and inode; None for one that is not there."""

    base: tuple[int, int] | None
    chunks: tuple[int, int] | None

    def inodes(self) -> tuple[int | None, int | None]:
        """What is the same on each host that mounts a shared file system: device numbers differ."""
        return (self.base and self.base[1], self.chunks and self.chunks[1])


class Datastore:
    """A datastore's base directory, read only but for ``marks``.

    Holds no open files and nothing that was found, so it may be shared between threads and pushes,
    and sent to other processes. ``name`` is what PBS calls the datastore (its locks go by that
    name); the directory's name unless given. ``lock_root`` is where PBS keeps its run-time state
    (None: /run/proxmox-backup).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        lock_root: Path | None = None,
    ) -> None:
        """Raises SourceError where ``path`` is not a datastore's base directory."""
        if why := why_not_a_path(path):
            raise SourceError(f"source {path!r} is not a directory: {why}")
        self.path: Final = Path(path).absolute()
        self.chunk_path: Final = self.path / ".chunks"
        self._lock_root = RUN_FOLDER if lock_root is None else lock_root
        self.identity()
        self.name: Final = self.path.resolve().name if name is None else name

    def identity(self) -> SourceIdentity:
        """What lies at the path now, to be recognised later.

        Raises SourceError where it is not a datastore's base directory.
        """
        with os_errors_as_source_errors(f"look for source {self.path}"):
            is_directory = self.path.is_dir()
            is_store = self.chunk_path.is_dir() and not self.chunk_path.is_symlink()
        if not is_directory:
            raise SourceError(f"source {self.path} is not a directory: is the datastore mounted?")
        if not is_store:
            raise SourceError(f"source {self.path} is not a datastore: it has no folder '.chunks'")
        return self._seen()

    def check_is(self, identity: SourceIdentity) -> None:
        """Raise SourceError if this is not that datastore (any more): unmounted, say.

        What it lacks has not vanished from it then.
        """
        if self._seen() != identity:
            raise SourceError(
                f"source {self.path} is not what it was in the beginning: was it unmounted, or "
                "replaced?"
            )

    def _seen(self) -> SourceIdentity:
        return SourceIdentity(_device_and_inode(self.path), _device_and_inode(self.chunk_path))

    @contextmanager
    def open_chunk_store(self) -> Iterator[int]:
        """A descriptor of the folder that the chunks are in. Raises SourceError."""
        with os_errors_as_source_errors(f"open the chunk store of source {self.path}"):
            chunks_fd = os.open(self.chunk_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield chunks_fd
        finally:
            os.close(chunks_fd)

    def namespaces(
        self, anchor: Namespace = _ROOT, max_depth: int | None = None
    ) -> list[Namespace]:
        """``anchor`` and the namespaces below it, parents first, siblings by name.

        ``max_depth`` levels below the anchor (0: just the anchor), all unless given. Raises
        ConfigError where the anchor does not exist, SourceError where a folder cannot be read.
        """
        with os_errors_as_source_errors(f"look for source {anchor.label} of {self.path}"):
            try:
                os.lstat(self.path / anchor.disk_path)
            except FileNotFoundError:
                raise ConfigError(
                    f"source {self.path} has no {anchor.label}; 'pbs-push list' shows those it has"
                ) from None
        return list(self._walk(anchor, max_depth))

    def groups(self, namespace: Namespace) -> list[SourceGroup]:
        """The groups of one namespace, by type and then naturally by id.

        Raises SourceError where the namespace does not exist or cannot be read.
        """
        with (
            os_errors_as_source_errors(f"list groups of source {namespace.label}"),
            directory(self.path, namespace.disk_path) as namespace_fd,
        ):
            return [
                SourceGroup(namespace, group, _owner_in(type_fd, group.backup_id))
                for group, type_fd in _groups_in(namespace_fd, [])
            ]

    def contents(
        self, namespace: Namespace, links: list[str] | None = None
    ) -> Iterator[tuple[SourceGroup, SnapshotList | SourceError]]:
        """As ``groups``, each with its ``snapshots``, or the error that reading these raised.

        One pass over the disk: twice as fast as both calls. Folders are open between the steps.
        ``links`` is filled with the paths, in the namespace, of symbolic links where groups or
        namespaces should be, and of what is not a folder where one of types or of namespaces should
        be: they are not followed (protocol/datastore.md, "Names that do not match"),
        so what they lead to seems not to be there.
        """
        links = [] if links is None else links
        with (
            os_errors_as_source_errors(f"list groups of source {namespace.label}"),
            directory(self.path, namespace.disk_path) as namespace_fd,
        ):
            links += look_inside("ns", namespace_fd).links
            for group, type_fd in _groups_in(namespace_fd, links):
                yield _content(namespace, group, type_fd)

    def snapshots(self, group: SourceGroup) -> SnapshotList:
        """The snapshots of one group, oldest first, finished or not.

        Raises SnapshotVanished where the group is gone, SourceError where it cannot be read.
        """
        with self._group_directory(group) as group_fd:
            return _snapshots_in(group.namespace, group.group, group_fd)

    def open_snapshot(self, snapshot: SourceSnapshot, *, lock: bool = True) -> OpenSnapshot:
        """Open a finished snapshot, with its shared lock unless told otherwise.

        Raises SourceLocked if another process writes or removes it, SnapshotVanished if it is gone,
        SourceError if it has no manifest or cannot be read, ManifestError if its manifest cannot be
        understood or does not belong to it.
        """
        locks = SnapshotLocks(self._lock_root, self.name) if lock else None
        return open_snapshot(self.path, snapshot, locks)

    def marks(self) -> Marks:
        """What keeps snapshots from prune until they are copied: the only thing that is written."""
        return Marks(self.path, SnapshotLocks(self._lock_root, self.name))

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

    def has_file(self, snapshot: SourceSnapshot, name: str) -> bool:
        """Whether a file of this name lies in a snapshot's folder, as far as can be seen."""
        try:
            found = os.lstat(f"{self.path}/{snapshot.disk_path}/{name}")
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode)

    def has_anything(self, snapshot: SourceSnapshot, name: str) -> bool:
        """Whether there is anything of this name in a snapshot's folder, be it a dead link."""
        return os.path.lexists(f"{self.path}/{snapshot.disk_path}/{name}")

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
                return _owner_of(group_fd)
        except OSError:
            return None

    def group_notes(self, group: SourceGroup, *, errors: str = "strict") -> str | None:
        """The notes of a group, None where it has none. Raises SourceError if unreadable.

        ``errors`` as in ``bytes.decode``: to show notes that are not UTF-8, and not to copy them.
        """
        with self._group_directory(group) as group_fd:
            if not is_regular_file("notes", group_fd):
                return None
            text = read_file("notes", group_fd, _MAX_NOTES_FILE)
        try:
            return text.decode("utf-8", errors)
        except UnicodeDecodeError:
            raise SourceError(f"notes of source group {group.label} are not UTF-8") from None

    def chunk_path_of(self, digest: bytes) -> Path:
        """Where the chunk of this digest (32 bytes) lies, if the datastore has it."""
        return Path(chunk_files.chunk_path(str(self.chunk_path), digest))

    @overload
    def read_chunk(self, digest: bytes, chunks_fd: int | None = None) -> bytes: ...
    @overload
    def read_chunk(self, digest: bytes, chunks_fd: int | None, read: ChunkReader[T]) -> T: ...
    def read_chunk(
        self,
        digest: bytes,
        chunks_fd: int | None = None,
        read: ChunkReader[Any] | None = None,
    ) -> Any:
        """The chunk as it lies on disk, an encoded blob: magic, length and CRC-32 checked.

        ``chunks_fd`` is what ``open_chunk_store`` gave, for many chunks. ``read`` (chunks_fd,
        digest, path of the store) reads it otherwise, to memory of its own, say; what that returns
        is returned. Raises ChunkError where it is missing, corrupt or cannot be read, ValueError
        for what is not 32 bytes. The digest is not checked. The GIL is released.
        """
        read = read or chunk_files.read_chunk
        if chunks_fd is None:
            with self.open_chunk_store() as opened_fd:
                return read(opened_fd, digest, str(self.chunk_path))
        return read(chunks_fd, digest, str(self.chunk_path))

    def _walk(self, namespace: Namespace, max_depth: int | None) -> Iterator[Namespace]:
        with (
            os_errors_as_source_errors(f"list source {namespace.label} of {self.path}"),
            directory(self.path, namespace.disk_path) as namespace_fd,
        ):
            names = sorted(look_inside("ns", namespace_fd).folders) if max_depth != 0 else []
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
        with os_errors_as_source_errors(f"read source group {group.label}"), ExitStack() as stack:
            try:
                group_fd = stack.enter_context(directory(self.path, group.disk_path))
            except (FileNotFoundError, NotADirectoryError):
                raise _gone(group) from None
            yield group_fd


def _device_and_inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _gone(group: SourceGroup) -> SnapshotVanished:
    return SnapshotVanished(f"source group {group.label} is gone since it was listed")


def _groups_in(namespace_fd: int, links: list[str]) -> Iterator[tuple[Group, int]]:
    """The groups of a namespace by type, then naturally by id, with the folder of their type.

    ``links`` is filled with those where groups or types should be.
    """
    for backup_type in BACKUP_TYPES:
        inside = look_inside(backup_type, namespace_fd)
        links += inside.links
        groups = [Group(backup_type, name) for name in inside.folders if is_safe_id(name)]
        if not groups:
            continue
        groups.sort(key=lambda group: group.sort_key)
        with subfolder(backup_type, namespace_fd) as type_fd:
            for group in groups:
                yield group, type_fd


def _content(
    namespace: Namespace, group: Group, type_fd: int
) -> tuple[SourceGroup, SnapshotList | SourceError]:
    found = SourceGroup(namespace, group, None)
    try:
        with subfolder(group.backup_id, type_fd) as group_fd:
            found = SourceGroup(namespace, group, _owner_of(group_fd))
            return found, _snapshots_in(namespace, group, group_fd)
    except (FileNotFoundError, NotADirectoryError):
        return found, _gone(found)
    except OSError as error:
        return found, SourceError.of(f"read source group {found.label}", error)


def _snapshots_in(namespace: Namespace, group: Group, group_fd: int) -> SnapshotList:
    found: list[SourceSnapshot] = []
    odd: list[tuple[str, str]] = []
    with os.scandir(group_fd) as entries:
        likely = [entry for entry in entries if looks_like_backup_time(entry.name)]
    links = sorted(entry.name for entry in likely if entry.is_symlink())
    for name in (entry.name for entry in likely if entry.is_dir(follow_symlinks=False)):
        try:
            snapshot = Snapshot(group, parse_backup_time(name))
        except InvalidName as error:
            odd.append((name, str(error)))
            continue
        # Whatever lies in a manifest's place: reading it will say what is wrong with it.
        finished = exists(f"{name}/{MANIFEST_NAME}", group_fd)
        protected, waits_for = protection_in(name, group_fd)
        found.append(SourceSnapshot(namespace, snapshot, finished, protected, waits_for))
    found.sort(key=lambda item: item.snapshot.backup_time)
    return SnapshotList(tuple(found), tuple(sorted(odd)), tuple(links))


def _owner_in(type_fd: int, group_name: str) -> AuthId | None:
    try:
        with subfolder(group_name, type_fd) as group_fd:
            return _owner_of(group_fd)
    except OSError:
        return None


def _owner_of(group_fd: int) -> AuthId | None:
    """The owner of a group; None where it cannot be read, or is none."""
    try:
        return _parse_owner(read_file("owner", group_fd, _MAX_OWNER_FILE))
    except OSError:
        return None


@functools.lru_cache(maxsize=256)
def _parse_owner(text: bytes) -> AuthId | None:
    """The auth-id in the first line of an owner file. Thousands of groups have the same."""
    try:
        return AuthId.parse(text.decode("utf-8").partition("\n")[0].strip())
    except (UnicodeDecodeError, InvalidName):
        return None
