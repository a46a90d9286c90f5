"""Answers of the REST API as checked values (protocol/rest.md, "Calls"): what a push needs.

Plain dataclasses: there may be tens of thousands of groups. ``remote/reading.py`` makes them of
JSON, with pydantic where that is needed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from pbs_push.errors import InvalidName
from pbs_push.names import CLIENT_LOG_NAME, MANIFEST_NAME, AuthId, Group, Snapshot

if TYPE_CHECKING:
    from pydantic_core import CoreSchema


def _auth_id(value: object) -> AuthId | None:
    """Owners are shown as they are stored; one that is not an auth-id owns nothing."""
    if value is None or isinstance(value, AuthId):
        return value
    return _parsed(str(value))


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> AuthId | None:
    """Thousands of groups have the same owner."""
    try:
        return AuthId.parse(text)
    except InvalidName:
        return None


class ReadBy:
    """Marks a field that is made by ``read``, whatever stands there."""

    def __init__(self, read: Callable[[object], object]) -> None:
        self.read = read

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415  (see remote/reading.py)

        return core_schema.no_info_plain_validator_function(self.read)


Owner = Annotated[AuthId | None, ReadBy(_auth_id)]


def key_of(field: str) -> str:
    """The name in JSON of a field of these classes."""
    return field.replace("_", "-")


_CONFIG: Final = {
    "extra": "ignore",
    "arbitrary_types_allowed": True,
    "alias_generator": key_of,
    "populate_by_name": True,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What all have in common."""

    __pydantic_config__: ClassVar = _CONFIG


@dataclass(frozen=True, slots=True)
class VersionAnswer(Answer):
    """``GET version``."""

    version: str
    release: str = "0"


@dataclass(frozen=True, slots=True)
class NamespaceItem(Answer):
    """One of ``GET …/namespace``."""

    ns: str


@dataclass(frozen=True, slots=True)
class GroupItem(Answer):
    """One of ``GET …/groups``."""

    backup_type: str
    backup_id: str
    last_backup: int = 0
    backup_count: int = 0
    files: tuple[str, ...] = ()
    owner: Owner = None
    comment: str | None = None

    @property
    def group(self) -> Group:
        """The group's name. Raises InvalidName."""
        return Group(self.backup_type, self.backup_id)

    def is_owned_by(self, auth_id: AuthId) -> bool:
        """Whether the target lets ``auth_id`` write into this group."""
        return self.owner is not None and auth_id.owns(self.owner)

    @property
    def newest_finished(self) -> int | None:
        """Time of the newest finished snapshot, None if there is none.

        A group that holds just an unfinished snapshot shows that one's time; only ``files`` tells
        (protocol/rest.md, "Group list").
        """
        return self.last_backup if self.last_backup and MANIFEST_NAME in self.files else None


@dataclass(frozen=True, slots=True)
class SnapshotFile(Answer):
    """A file of a snapshot in ``GET …/snapshots``."""

    filename: str
    crypt_mode: str | None = None
    size: int | None = None

    @property
    def is_archive(self) -> bool:
        """Whether the manifest names it; the server adds the manifest itself and the log."""
        return self.filename not in (MANIFEST_NAME, CLIENT_LOG_NAME)


@dataclass(frozen=True, slots=True)
class Verification(Answer):
    """The verify state of a snapshot."""

    state: str
    upid: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotItem(Answer):
    """One of ``GET …/snapshots``."""

    backup_type: str
    backup_id: str
    backup_time: int
    files: tuple[SnapshotFile, ...] = ()
    size: int | None = None
    verification: Verification | None = None
    fingerprint: str | None = None
    owner: Owner = None
    comment: str | None = None
    protected: bool = False

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot's name. Raises InvalidName."""
        return Snapshot(Group(self.backup_type, self.backup_id), self.backup_time)

    @property
    def finished(self) -> bool:
        """Whether it is whole: others have no size (protocol/rest.md, "Snapshot list")."""
        return self.size is not None

    def has_file(self, name: str) -> bool:
        """Whether a file of this name lies in it."""
        return any(file.filename == name for file in self.files)


@dataclass(frozen=True, slots=True)
class DeleteStatistics(Answer):
    """What a delete took with it; older servers answer nothing, which counts as zeros."""

    removed_groups: int = 0
    removed_snapshots: int = 0
    protected_snapshots: int = 0


@dataclass(frozen=True, slots=True)
class StatusAnswer(Answer):
    """``GET …/status``: bytes."""

    total: int = 0
    used: int = 0
    avail: int = 0
    backend_type: str | None = None


@dataclass(frozen=True, slots=True)
class TaskStatus(Answer):
    """``GET nodes/N/tasks/UPID/status``: ``exitstatus`` once it is no more ``running``."""

    status: str
    exitstatus: str | None = None

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self.status == "running"
