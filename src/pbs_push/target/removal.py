"""Deleting snapshots, groups and namespaces, with statistics (protocol/rest.md, "Deleting")."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from pbs_push.names import MANIFEST_NAME, Group, Namespace, Snapshot
from pbs_push.target.answers import bad_request
from pbs_push.target.locks import try_lock
from pbs_push.target.store import NOTES_NAME, OWNER_NAME, Store

_GROUP_FILES = frozenset({OWNER_NAME, NOTES_NAME})


@dataclass(slots=True)
class DeleteStatistics:
    """What a deletion removed, and what protection kept."""

    removed_groups: int = 0
    removed_snapshots: int = 0
    protected_snapshots: int = 0

    def as_json(self) -> dict[str, int]:
        """The form in an answer."""
        return {
            "removed-groups": self.removed_groups,
            "removed-snapshots": self.removed_snapshots,
            "protected-snapshots": self.protected_snapshots,
        }


def remove_snapshot(store: Store, namespace: Namespace, snapshot: Snapshot) -> None:
    """Delete one snapshot, and its group with the last one. Raises Refusal."""
    path = store.snapshot_path(namespace, snapshot)
    context = "failed to delete snapshot"
    if not path.is_dir():
        raise bad_request(
            f'{context} - removing backup snapshot "{path}" failed - '
            "No such file or directory (os error 2)"
        )
    if store.is_protected(namespace, snapshot):
        raise bad_request(f"{context} - cannot remove protected snapshot")
    _destroy_snapshot(path, context)
    _remove_if_empty(store.group_path(namespace, snapshot.group))


def remove_group(
    store: Store, namespace: Namespace, group: Group, statistics: DeleteStatistics
) -> None:
    """Delete a group's unprotected snapshots, then the group if it is empty. Raises Refusal."""
    path = store.group_path(namespace, group)
    if not path.is_dir():
        raise bad_request(f'read dir "{path}" - ENOENT: No such file or directory')
    context = f"while destroying group '{namespace}:{group}'"
    lock = try_lock(path, exclusive=True)
    if lock is None:
        raise bad_request(context)
    kept = 0
    with lock:
        for snapshot in store.snapshots(namespace, group):
            if store.is_protected(namespace, snapshot):
                kept += 1
                continue
            _destroy_snapshot(store.snapshot_path(namespace, snapshot), context)
            statistics.removed_snapshots += 1
        if kept:
            statistics.protected_snapshots += kept
        else:
            shutil.rmtree(path)
            statistics.removed_groups += 1


def remove_namespace(
    store: Store, namespace: Namespace, statistics: DeleteStatistics, *, with_groups: bool
) -> bool:
    """Delete a namespace with all below it; False if something is left.

    Without ``with_groups`` only empty namespaces go, and one that is missing is none that is left.
    Raises Refusal.
    """
    if not store.has_namespace(namespace) and not with_groups:
        return True
    empty = True
    for child in store.children(namespace):
        empty &= remove_namespace(store, child, statistics, with_groups=with_groups)
    for group in store.groups(namespace):
        if with_groups:
            remove_group(store, namespace, group, statistics)
        empty &= not store.group_path(namespace, group).exists()
    if empty:
        shutil.rmtree(store.namespace_path(namespace))
    return empty


def _destroy_snapshot(path: Path, context: str) -> None:
    lock = try_lock(path, exclusive=True)
    if lock is None:
        raise bad_request(
            f'{context} - while destroying snapshot "{path}": unable to acquire snapshot lock'
        )
    with lock:
        (path / MANIFEST_NAME).unlink(missing_ok=True)
        shutil.rmtree(path)


def _remove_if_empty(group_path: Path) -> None:
    """Remove a group without snapshots, unless a backup into it has just begun."""
    lock = try_lock(group_path, exclusive=True)
    if lock is None:
        return
    with lock:
        if all(entry.name in _GROUP_FILES for entry in group_path.iterdir()):
            shutil.rmtree(group_path)
