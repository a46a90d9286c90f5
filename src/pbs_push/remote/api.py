"""The REST calls of one datastore at the target, typed (protocol/rest.md, "Calls")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from urllib.parse import quote

from pbs_push.errors import InvalidName, ProtocolError
from pbs_push.names import Namespace
from pbs_push.remote.features import Features, Version
from pbs_push.remote.groups import GroupTable
from pbs_push.remote.models import (
    DeleteStatistics,
    GroupItem,
    NamespaceItem,
    SnapshotItem,
    StatusAnswer,
    TaskStatus,
    VersionAnswer,
)
from pbs_push.remote.reading import read, read_items
from pbs_push.remote.words import Words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pbs_push.names import Group, Snapshot
    from pbs_push.remote.pacing import Paced
    from pbs_push.remote.rest import Params


T = TypeVar("T")

MAX_NAMESPACES: Final = 100_000


class Calls(Protocol):
    """How requests are made: ``Rest``, or something around it."""

    def get(self, path: str, params: Params | None = None) -> Any:
        """The ``data`` of a GET. Raises RemoteError, as all of these."""

    def items(self, path: str, params: Params | None, collect: Callable[[Iterator[Any]], T]) -> T:
        """What ``collect`` makes of the objects in the ``data`` of a GET, as they come."""

    def post(self, path: str, params: Params | None = None) -> Any:
        """The ``data`` of a POST."""

    def put(self, path: str, params: Params | None = None) -> Any:
        """The ``data`` of a PUT."""

    def delete(self, path: str, params: Params | None = None) -> Any:
        """The ``data`` of a DELETE."""

    def upload(self, path: str, params: Params, content: Paced) -> Any:
        """The ``data`` of a POST of raw bytes."""


class TargetApi:
    """Calls on one datastore of the target; ``features`` are fixed by its version.

    ``words`` shows what the target says.

    Safe for threads. Each call raises RemoteError with what was asked, and of what.
    """

    def __init__(self, rest: Calls, datastore: str, words: Words | None = None) -> None:
        self._words = Words() if words is None else words
        self.rest = rest
        self.datastore = datastore
        self._base = f"admin/datastore/{datastore}"

    def features(self) -> Features:
        """Ask for the version and decide what it can do. Raises RemoteError if it is too old."""
        answer = read(VersionAnswer, self.rest.get("version"), "GET version")
        return Features.of(Version.parse(answer.version, answer.release))

    def namespaces(self, parent: Namespace, max_depth: int | None = None) -> list[Namespace]:
        """The namespaces at and below ``parent`` that the identity may see, in no order.

        ``parent`` itself stands in the answer also where it does not exist
        (protocol/rest.md, "Namespace list").
        """
        params: Params = {
            "parent": None if parent.is_root else str(parent),
            "max-depth": max_depth,
        }

        def collect(items: Iterator[Any]) -> list[Namespace]:
            found = []
            for item in read_items(NamespaceItem, items, "namespaces"):
                self._check_names("namespaces", item.ns)
                try:
                    found.append(Namespace.parse(item.ns))
                except InvalidName as error:
                    shown = self._words.shown(str(error))
                    raise ProtocolError(f"namespaces of {self.datastore}: {shown}") from None
                if len(found) > MAX_NAMESPACES:
                    raise ProtocolError(
                        f"namespaces of {self.datastore}: the target lists more than "
                        f"{MAX_NAMESPACES}"
                    )
            return found

        return self.rest.items(f"{self._base}/namespace", params, collect)

    def create_namespace(self, namespace: Namespace) -> None:
        """Create one namespace below its parent, which must exist; also fine if it exists."""
        parent = None if namespace.parent.is_root else str(namespace.parent)
        self.rest.post(
            f"{self._base}/namespace", {"name": namespace.components[-1], "parent": parent}
        )

    def delete_empty_namespace(self, namespace: Namespace) -> None:
        """Delete a namespace that holds no group; one that does is refused (StatusError)."""
        self.rest.delete(f"{self._base}/namespace", {"ns": str(namespace), "delete-groups": False})

    def groups(self, namespace: Namespace) -> list[GroupItem]:
        """The groups of one namespace, in no order."""
        return self._groups(namespace, list)

    def groups_by_name(self, namespace: Namespace) -> Mapping[Group, GroupItem]:
        """The groups of one namespace by their names, in no order.

        One whose name is none of a group is left out: it cannot be at the source, nor do we write
        or remove it.
        """
        return self._groups(namespace, GroupTable.of)

    def _groups(self, namespace: Namespace, make: Callable[[Iterator[GroupItem]], T]) -> T:
        def collect(items: Iterator[Any]) -> T:
            asked = f"groups of {namespace.label}"
            return make(self._named(read_items(GroupItem, items, asked), asked))

        return self.rest.items(f"{self._base}/groups", {"ns": str(namespace)}, collect)

    def delete_group(
        self, namespace: Namespace, group: Group, features: Features
    ) -> DeleteStatistics:
        """Delete a group; protected snapshots stay, and are counted."""
        params = self._group(namespace, group)
        if features.delete_statistics:
            params["error-on-protected"] = False
        data = self.rest.delete(f"{self._base}/groups", params)
        return read(DeleteStatistics, data or {}, f"deleting group {group}")

    def snapshots(self, namespace: Namespace, group: Group | None = None) -> list[SnapshotItem]:
        """The snapshots of one group, or of all groups of a namespace, in no order."""
        params: dict[str, str | int | bool | None] = {"ns": str(namespace)}
        if group is not None:
            params = self._group(namespace, group)

        def collect(items: Iterator[Any]) -> list[SnapshotItem]:
            found = []
            asked = f"snapshots of {namespace.label}"
            for item in read_items(SnapshotItem, items, asked):
                self._check_names(asked, item.backup_id, *(file.filename for file in item.files))
                found.append(item)
            return found

        return self.rest.items(f"{self._base}/snapshots", params, collect)

    def delete_snapshot(self, namespace: Namespace, snapshot: Snapshot) -> None:
        """Delete one snapshot; one that is protected or in use is refused (StatusError)."""
        self.rest.delete(f"{self._base}/snapshots", self._snapshot(namespace, snapshot))

    def upload_log(self, namespace: Namespace, snapshot: Snapshot, blob: Paced) -> None:
        """Add ``client.log.blob`` to a snapshot that has none. Raises Cancelled too."""
        self.rest.upload(
            f"{self._base}/upload-backup-log", self._snapshot(namespace, snapshot), blob
        )

    def notes(self, namespace: Namespace, snapshot: Snapshot) -> str:
        """The whole notes of a snapshot, ``""`` if it has none."""
        data = self.rest.get(f"{self._base}/notes", self._snapshot(namespace, snapshot))
        return "" if data is None else str(data)

    def set_notes(self, namespace: Namespace, snapshot: Snapshot, notes: str) -> None:
        """Replace the notes of a snapshot."""
        params = self._snapshot(namespace, snapshot)
        self.rest.put(f"{self._base}/notes", {**params, "notes": notes})

    def group_notes(self, namespace: Namespace, group: Group) -> str:
        """The whole notes of a group, ``""`` if it has none."""
        data = self.rest.get(f"{self._base}/group-notes", self._group(namespace, group))
        return "" if data is None else str(data)

    def set_group_notes(self, namespace: Namespace, group: Group, notes: str) -> None:
        """Replace the notes of a group."""
        params = self._group(namespace, group)
        self.rest.put(f"{self._base}/group-notes", {**params, "notes": notes})

    def set_protected(self, namespace: Namespace, snapshot: Snapshot, *, protected: bool) -> None:
        """Set or clear the flag that keeps a snapshot from being pruned."""
        params = self._snapshot(namespace, snapshot)
        self.rest.put(f"{self._base}/protected", {**params, "protected": protected})

    def privileges(self, namespace: Namespace) -> frozenset[str]:
        """What the identity may do in a namespace: ``Datastore.Prune`` and so on.

        Empty also where the target does not tell.
        """
        path = "/".join(("/datastore", self.datastore, *namespace.components))
        found = self.rest.get("access/permissions", {"path": path})
        held = found.get(path) if isinstance(found, dict) else None
        return frozenset(held) if isinstance(held, dict) else frozenset()

    def verify(self, namespace: Namespace, group: Group, backup_time: int | None = None) -> str:
        """Start the server's own verification of a group, or of one of its snapshots; its UPID.

        What was verified before is verified again (protocol/rest.md, "Verification").
        """
        params = {**self._group(namespace, group), "ignore-verified": False}
        if backup_time is not None:
            params["backup-time"] = backup_time
        data = self.rest.post(f"{self._base}/verify", params)
        if not isinstance(data, str) or not data.startswith("UPID:") or not data.isprintable():
            raise ProtocolError(f"verifying {group}: the answer is no task")
        return data

    def task(self, upid: str) -> TaskStatus:
        """What became of a task so far (protocol/rest.md, "Tasks")."""
        path = f"nodes/localhost/tasks/{quote(upid, safe='')}/status"
        return read(TaskStatus, self.rest.get(path), "status of a task")

    def status(self) -> StatusAnswer:
        """Space of the datastore in bytes."""
        data = self.rest.get(f"{self._base}/status")
        return read(StatusAnswer, data, f"status of {self.datastore}")

    def _named(self, items: Iterator[GroupItem], asked: str) -> Iterator[GroupItem]:
        for item in items:
            self._check_names(asked, item.backup_id, *item.files)
            if item.owner is not None:
                self._check_names(asked, str(item.owner))
            yield item

    def _check_names(self, asked: str, *names: str) -> None:
        """Raise ProtocolError for a name that holds what was sent: it would be shown and kept."""
        if any(self._words.betrayed_by(name) for name in names):
            raise ProtocolError(f"{asked}: the target names something by our own credentials")

    @staticmethod
    def _group(namespace: Namespace, group: Group) -> dict[str, str | int | bool | None]:
        return {
            "ns": str(namespace),
            "backup-type": group.backup_type,
            "backup-id": group.backup_id,
        }

    def _snapshot(
        self, namespace: Namespace, snapshot: Snapshot
    ) -> dict[str, str | int | bool | None]:
        return {
            **self._group(namespace, snapshot.group),
            "backup-time": snapshot.backup_time,
        }
