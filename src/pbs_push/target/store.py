"""A datastore on disk as a target writes it (protocol/datastore.md); no protocol, no rights."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pbs_push.errors import InvalidName, SourceError
from pbs_push.formats.blob import BlobKind
from pbs_push.names import (
    ARCHIVE_SUFFIXES,
    BACKUP_TYPES,
    MANIFEST_NAME,
    AuthId,
    Group,
    Namespace,
    Snapshot,
    is_safe_id,
    parse_backup_time,
)
from pbs_push.target.answers import bad_request

CHUNK_FOLDER: Final = ".chunks"
CHUNK_FOLDER_COUNT: Final = 1 << 16
PROTECTED_NAME: Final = ".protected"
OWNER_NAME: Final = "owner"
NOTES_NAME: Final = "notes"
_FOLDER_MODE: Final = 0o750
_ENOENT: Final = "ENOENT: No such file or directory"


def create_datastore(path: Path | str, *, all_chunk_folders: bool = True) -> Path:
    """Make an empty datastore at ``path`` (created if missing) and return its path.

    A real server refuses a store that lacks any of the 65,536 chunk folders; making them takes a
    second or two, so tests that no real server will read leave them out: they are then made when a
    chunk needs one. Raises SourceError if ``path`` is a datastore already, OSError as usual.
    """
    base = Path(path)
    chunks = base / CHUNK_FOLDER
    if chunks.exists():
        raise SourceError(f"cannot create a datastore at {base}: there is one; use it as it is")
    base.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    chunks.mkdir(mode=_FOLDER_MODE)
    if all_chunk_folders:
        _make_chunk_folders(chunks)
    (base / ".lock").touch()
    return base


def _make_chunk_folders(chunks: Path) -> None:
    """All of them, relative to an open directory: half the time of whole paths."""
    fd = os.open(chunks, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in range(CHUNK_FOLDER_COUNT):
            os.mkdir(f"{number:04x}", _FOLDER_MODE, dir_fd=fd)
    finally:
        os.close(fd)


class Store:
    """One datastore: where things lie, what is there, and how it gets there."""

    def __init__(self, name: str, path: Path) -> None:
        if not (path / CHUNK_FOLDER).is_dir():
            raise SourceError(f"{path} is not a datastore: it has no {CHUNK_FOLDER} folder")
        self.name = name
        self.path = path
        self.creating_group = threading.Lock()
        """Held from making a group to locking it, so that nobody comes between."""

    def namespace_path(self, namespace: Namespace) -> Path:
        """Folder of a namespace."""
        return self.path / namespace.disk_path

    def group_path(self, namespace: Namespace, group: Group) -> Path:
        """Folder of a group."""
        return self.namespace_path(namespace) / group.backup_type / group.backup_id

    def snapshot_path(self, namespace: Namespace, snapshot: Snapshot) -> Path:
        """Folder of a snapshot."""
        return self.group_path(namespace, snapshot.group) / snapshot.time_text

    def has_namespace(self, namespace: Namespace) -> bool:
        """Whether the namespace exists."""
        return self.namespace_path(namespace).is_dir()

    def create_namespace(self, namespace: Namespace) -> None:
        """Make a namespace whose parent exists; nothing happens if it is there."""
        path = self.namespace_path(namespace)
        path.parent.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        path.mkdir(mode=_FOLDER_MODE, exist_ok=True)

    def children(self, namespace: Namespace) -> list[Namespace]:
        """The namespaces directly below one."""
        names = _folders(self.namespace_path(namespace) / "ns")
        return [namespace.child(name) for name in sorted(names) if is_safe_id(name)]

    def namespaces(self, anchor: Namespace, depth: int) -> Iterator[Namespace]:
        """``anchor``, existing or not, and what is up to ``depth`` levels below; parents first."""
        yield anchor
        if depth > 0:
            for child in self.children(anchor):
                yield from self.namespaces(child, depth - 1)

    def groups(self, namespace: Namespace) -> list[Group]:
        """The groups of a namespace, readable owner or not. Raises Refusal if it is missing."""
        path = self.namespace_path(namespace)
        if not path.is_dir():
            raise bad_request(_ENOENT)
        return [
            Group(backup_type, backup_id)
            for backup_type in BACKUP_TYPES
            for backup_id in sorted(_folders(path / backup_type))
            if is_safe_id(backup_id)
        ]

    def owner(self, namespace: Namespace, group: Group) -> AuthId | None:
        """The group's owner; None without a readable one (PBS hides such a group)."""
        try:
            text = (self.group_path(namespace, group) / OWNER_NAME).read_text()
            return AuthId.parse(text.partition("\n")[0].strip())
        except (OSError, ValueError):
            return None

    def set_owner(self, namespace: Namespace, group: Group, owner: AuthId) -> None:
        """Write a group's owner."""
        replace_file(self.group_path(namespace, group) / OWNER_NAME, f"{owner}\n".encode())

    def create_group(self, namespace: Namespace, group: Group) -> bool:
        """Make a group's folder; False if it was there."""
        path = self.group_path(namespace, group)
        path.parent.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        try:
            path.mkdir(mode=_FOLDER_MODE)
        except FileExistsError:
            return False
        return True

    def snapshots(self, namespace: Namespace, group: Group) -> list[Snapshot]:
        """All snapshots of a group, finished or not, by time; none if there is no such group.

        Raises Refusal for a folder that looks like a time but is not a date, as PBS then fails too.
        """
        times = []
        for name in _folders(self.group_path(namespace, group)):
            if not name[:1].isdigit() or not name.endswith("Z"):
                continue
            try:
                times.append(parse_backup_time(name))
            except InvalidName as error:
                raise bad_request(f"group {group}: {error}") from None
        return [Snapshot(group, time) for time in sorted(times)]

    def is_finished(self, namespace: Namespace, snapshot: Snapshot) -> bool:
        """Whether the snapshot has a manifest."""
        return (self.snapshot_path(namespace, snapshot) / MANIFEST_NAME).is_file()

    def newest_finished(self, namespace: Namespace, group: Group) -> Snapshot | None:
        """The newest snapshot with a manifest."""
        for snapshot in reversed(self.snapshots(namespace, group)):
            if self.is_finished(namespace, snapshot):
                return snapshot
        return None

    def create_snapshot(self, namespace: Namespace, snapshot: Snapshot) -> Path:
        """Make a snapshot's folder. Raises Refusal if it exists."""
        path = self.snapshot_path(namespace, snapshot)
        try:
            path.mkdir(mode=_FOLDER_MODE)
        except FileExistsError:
            raise bad_request("backup directory already exists.") from None
        return path

    def archives(self, namespace: Namespace, snapshot: Snapshot) -> list[str]:
        """The names of the files in a snapshot that count; none if it is gone."""
        try:
            with os.scandir(self.snapshot_path(namespace, snapshot)) as entries:
                return sorted(
                    entry.name
                    for entry in entries
                    if entry.name.endswith(ARCHIVE_SUFFIXES)
                    and entry.is_file(follow_symlinks=False)
                )
        except FileNotFoundError:
            return []

    def is_protected(self, namespace: Namespace, snapshot: Snapshot) -> bool:
        """Whether the snapshot is protected from prune."""
        return (self.snapshot_path(namespace, snapshot) / PROTECTED_NAME).exists()

    def chunk_path(self, digest: str) -> Path:
        """Where the chunk with this digest (hex) lies."""
        return self.path / CHUNK_FOLDER / digest[:4] / digest

    def insert_chunk(self, digest: str, blob: memoryview) -> bool:
        """Store a checked chunk with a CRC of our own; False if the store has it already.

        ``blob`` is not kept. Raises OSError.
        """
        path = self.chunk_path(digest)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > 0:
                os.utime(path)
                return False
        head = BlobKind(bytes(blob[:8])).header_size
        crc = zlib.crc32(blob[head:]).to_bytes(4, "little")
        path.parent.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        replace_file(path, blob[:8], crc, blob[12:])
        return True


def replace_file(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file under a temporary name beside it, then rename: it is whole or not there."""
    temporary = path.with_name(f"{path.name}.tmp_{secrets.token_hex(3)}")
    try:
        with temporary.open("xb") as file:
            for part in parts:
                file.write(part)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _folders(path: Path) -> list[str]:
    """Names of the folders in ``path``, links not followed; none if there is no such folder."""
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
