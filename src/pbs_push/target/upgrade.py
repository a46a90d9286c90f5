"""From an HTTP/1.1 request to a backup session (protocol/backup.md, "Before the 101")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pbs_push.names import AuthId, Group, Namespace, Snapshot
from pbs_push.target import manifests
from pbs_push.target.answers import bad_request, not_found
from pbs_push.target.locks import DirectoryLock, try_lock
from pbs_push.target.params import (
    BOOLEAN,
    SNAPSHOT_KEYS,
    STORE,
    Params,
    Schema,
    optional,
    required,
)
from pbs_push.target.rights import Rights
from pbs_push.target.session import Place
from pbs_push.target.store import Store

PROTOCOL: Final = "proxmox-backup-protocol-v1"

UPGRADE_PARAMETERS: Final[Schema] = {
    "store": required(STORE),
    **SNAPSHOT_KEYS,
    "debug": optional(BOOLEAN),
    "benchmark": optional(BOOLEAN),
    "no-cache": optional(BOOLEAN),
}

_BENCHMARK: Final = Group("host", "benchmark")


def open_place(
    params: Params,
    upgrade_header: str | None,
    rights: Rights,
    open_store: Callable[[str], Store],
) -> Place:
    """Check an upgrade request in a real server's order, and make and lock the new snapshot.

    ``open_store`` gives the datastore for writing or refuses. Raises Refusal, OSError.
    """
    namespace = Namespace.parse(params.text("ns"))
    group = Group(params.text("backup-type"), params.text("backup-id"))
    snapshot = Snapshot(group, params.integer("backup-time"))
    rights.require_backup(params.text("store"), namespace)
    store = open_store(params.text("store"))
    check_protocol(upgrade_header, PROTOCOL)
    if not store.has_namespace(namespace):
        raise not_found("namespace not found")
    _check_benchmark(group, benchmark=params.boolean("benchmark"))
    place = Place(store, namespace, snapshot, None)
    try:
        _fill(place, rights)
    except BaseException:
        place.release()
        raise
    return place


def _fill(place: Place, rights: Rights) -> None:
    """Take the locks, find the previous snapshot and make the new one's folder."""
    store, namespace, group = place.store, place.namespace, place.snapshot.group
    place.locks.append(_lock_group(store, namespace, group, rights.auth_id))
    rights.require_owning(store, namespace, group)
    place.previous = _find_previous(store, namespace, group)
    if place.previous is not None:
        if place.snapshot.backup_time <= place.previous.backup_time:
            raise bad_request("backup timestamp is older than last backup.")
        previous_path = store.snapshot_path(namespace, place.previous)
        lock = try_lock(previous_path, exclusive=False)
        if lock is None:
            raise bad_request(f'unable to acquire shared snapshot lock on "{previous_path}"')
        place.locks.append(lock)
    path = store.create_snapshot(namespace, place.snapshot)
    lock = try_lock(path, exclusive=True)
    if lock is None:
        raise bad_request(f'unable to acquire snapshot lock on "{path}"')
    place.locks.append(lock)


def check_protocol(header: str | None, protocol: str) -> None:
    """Raise Refusal unless the ``Upgrade`` header names this protocol."""
    if header is None:
        raise bad_request("missing Upgrade header")
    if header != protocol:
        raise bad_request("invalid protocol name")


def _check_benchmark(group: Group, *, benchmark: bool) -> None:
    if benchmark and group != _BENCHMARK:
        raise bad_request("benchmark flags is only allowed on 'host/benchmark'")
    if group == _BENCHMARK and not benchmark:
        raise bad_request("unable to run benchmark without --benchmark flags")


def _lock_group(store: Store, namespace: Namespace, group: Group, creator: AuthId) -> DirectoryLock:
    """Make the group if needed, owned by ``creator``, and lock it."""
    path = store.group_path(namespace, group)
    with store.creating_group:
        is_new = store.create_group(namespace, group)
        lock = try_lock(path, exclusive=True)
    if lock is None:
        raise bad_request(
            f'unable to acquire backup group lock while creating locked backup group "{path}"'
        )
    if is_new:
        store.set_owner(namespace, group, creator)
    return lock


def _find_previous(store: Store, namespace: Namespace, group: Group) -> Snapshot | None:
    """The newest finished snapshot, unless its last verification failed."""
    newest = store.newest_finished(namespace, group)
    if newest is None:
        return None
    manifest = manifests.load(store.snapshot_path(namespace, newest))
    return None if manifest.verify_failed else newest
