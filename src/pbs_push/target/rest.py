"""The REST calls on a datastore (protocol/rest.md, "Calls"): a table of parameters and functions.

A function gets a `RestCall` and returns what stands under ``data``; it raises Refusal for the rest.
Rights are checked before existence, but for the list of namespaces.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from pbs_push.names import (
    BACKUP_TYPES,
    CLIENT_LOG_NAME,
    MAX_NAMESPACE_DEPTH,
    Group,
    Namespace,
    Snapshot,
)
from pbs_push.target import listing, manifests
from pbs_push.target.answers import Refusal, bad_request
from pbs_push.target.blobs import check_uploaded_blob
from pbs_push.target.habits import Habits
from pbs_push.target.params import (
    BACKUP_TIME,
    BACKUP_TYPE,
    BOOLEAN,
    DEPTH,
    GROUP_KEYS,
    NAMESPACE,
    NAMESPACE_NAME,
    NOTES,
    SAFE_ID,
    SNAPSHOT_KEYS,
    Integer,
    Params,
    Schema,
    optional,
    required,
    without,
)
from pbs_push.target.removal import (
    DeleteStatistics,
    remove_group,
    remove_namespace,
    remove_snapshot,
)
from pbs_push.target.rights import AUDIT, BACKUP, MODIFY, PRUNE, VERIFY, Rights
from pbs_push.target.store import NOTES_NAME, PROTECTED_NAME, Store, replace_file
from pbs_push.target.stores import Stores
from pbs_push.target.tasks import Tasks
from pbs_push.target.verifying import Scope, verification


@dataclass(frozen=True, slots=True)
class RestCall:
    """One request on a datastore, authenticated, its parameters checked."""

    stores: Stores
    store_name: str
    rights: Rights
    params: Params
    body: bytearray
    habits: Habits
    tasks: Tasks

    @property
    def namespace(self) -> Namespace:
        """The parameter ``ns``."""
        return Namespace.parse(self.params.text("ns"))

    @property
    def group(self) -> Group:
        """The group parameters."""
        return Group(self.params.text("backup-type"), self.params.text("backup-id"))

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot parameters."""
        return Snapshot(self.group, self.params.integer("backup-time"))

    def require_group(self, full: str, partial: str, *, write: bool) -> Store:
        """Check the right on the group; returns its datastore."""
        self.rights.needs_owning(self.store_name, self.namespace, full, partial)
        store = self._open(write=write)
        self.rights.require_group(store, self.namespace, self.group, full, partial)
        return store

    def require(self, namespace: Namespace, privilege: str) -> Store:
        """Check a privilege on a namespace; returns its datastore, for writing."""
        self.rights.require(self.store_name, namespace, privilege)
        return self._open(write=True)

    def _open(self, *, write: bool) -> Store:
        stores = self.stores
        return stores.writable(self.store_name) if write else stores.readable(self.store_name)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A call: its parameters, what it does, and whether its body is data (the query counts)."""

    parameters: Schema
    run: Callable[[RestCall], object]
    raw_body: bool = False

    def known_to(self, habits: Habits) -> Schema:
        """The parameters that a server with these habits knows."""
        if habits.delete_statistics:
            return self.parameters
        return without(self.parameters, "error-on-protected")


def _list_namespaces(call: RestCall) -> object:
    store = call.stores.readable(call.store_name)
    parent = Namespace.parse(call.params.text("parent"))
    depth = call.params.integer("max-depth", MAX_NAMESPACE_DEPTH)
    seen = [
        {"ns": str(namespace)}
        for namespace in store.namespaces(parent, depth)
        if call.rights.sees_namespace(store.name, namespace)
    ]
    if not seen:
        raise Refusal(HTTPStatus.FORBIDDEN, "permission check failed")
    return seen


def _create_namespace(call: RestCall) -> object:
    parent = Namespace.parse(call.params.text("parent"))
    store = call.require(parent, MODIFY)
    if parent.depth >= MAX_NAMESPACE_DEPTH:
        raise bad_request(f"namespace too deep, {parent.depth} >= max {MAX_NAMESPACE_DEPTH}")
    if not store.has_namespace(parent):
        raise bad_request(f"cannot create new namespace, parent {parent} doesn't already exists")
    namespace = parent.child(call.params.text("name"))
    store.create_namespace(namespace)
    return str(namespace)


def _delete_namespace(call: RestCall) -> object:
    namespace = call.namespace
    store = call.require(namespace.parent, MODIFY)
    if namespace.is_root:
        raise bad_request("Cannot create/delete root namespace!")
    with_groups = call.params.boolean("delete-groups")
    statistics = DeleteStatistics()
    gone = remove_namespace(store, namespace, statistics, with_groups=with_groups)
    if not gone and call.params.boolean("error-on-protected", default=True):
        if with_groups:
            raise bad_request("group only partially deleted due to protected snapshots")
        raise bad_request(
            "only partially deleted due to existing groups but `delete-groups` not true"
        )
    return _told(call, statistics)


def _told(call: RestCall, statistics: DeleteStatistics) -> object:
    """What a server tells of a deletion: the older ones nothing."""
    return statistics.as_json() if call.habits.delete_statistics else None


def _listed_groups(call: RestCall) -> tuple[Store, list[Group]]:
    """The datastore, and the groups of the namespace that the caller may see."""
    namespace = call.namespace
    only_owned = call.rights.needs_owning(call.store_name, namespace, AUDIT, BACKUP)
    store = call.stores.readable(call.store_name)
    backup_type, backup_id = call.params.text("backup-type"), call.params.text("backup-id")
    if backup_type and backup_id:
        groups = [Group(backup_type, backup_id)]
    elif backup_id:
        groups = [Group(each_type, backup_id) for each_type in BACKUP_TYPES]
    else:
        groups = [
            group for group in store.groups(namespace) if backup_type in ("", group.backup_type)
        ]
    if only_owned:
        groups = [
            group
            for group in groups
            if (owner := store.owner(namespace, group)) is not None
            and call.rights.auth_id.owns(owner)
        ]
    return store, groups


def _list_groups(call: RestCall) -> object:
    store, groups = _listed_groups(call)
    entries = (listing.list_group(store, call.namespace, group) for group in groups)
    return [entry for entry in entries if entry is not None]


def _list_snapshots(call: RestCall) -> object:
    store, groups = _listed_groups(call)
    return [
        entry for group in groups for entry in listing.list_snapshots(store, call.namespace, group)
    ]


def _delete_group(call: RestCall) -> object:
    store = call.require_group(MODIFY, PRUNE, write=True)
    statistics = DeleteStatistics()
    remove_group(store, call.namespace, call.group, statistics)
    if statistics.protected_snapshots and call.params.boolean("error-on-protected", default=True):
        raise bad_request("group only partially deleted due to protected snapshots")
    return _told(call, statistics)


def _delete_snapshot(call: RestCall) -> object:
    store = call.require_group(MODIFY, PRUNE, write=True)
    remove_snapshot(store, call.namespace, call.snapshot)
    return None


def _list_files(call: RestCall) -> object:
    store = call.require_group(AUDIT, BACKUP, write=False)
    if not store.snapshot_path(call.namespace, call.snapshot).is_dir():
        raise bad_request("ENOENT: No such file or directory")
    if not store.is_finished(call.namespace, call.snapshot):
        raise bad_request(f"manifest not found for snapshot '{call.snapshot}'")
    return listing.list_files(store, call.namespace, call.snapshot)


def _upload_log(call: RestCall) -> object:
    store = call.require(call.namespace, BACKUP)
    call.rights.require_owning(store, call.namespace, call.group)
    path = store.snapshot_path(call.namespace, call.snapshot) / CLIENT_LOG_NAME
    if path.exists():
        raise bad_request("backup already contains a log.")
    check_uploaded_blob(call.body)
    replace_file(path, memoryview(call.body))
    return None


def _get_notes(call: RestCall) -> object:
    store = call.require_group(AUDIT, BACKUP, write=False)
    return manifests.load(store.snapshot_path(call.namespace, call.snapshot)).notes


def _set_notes(call: RestCall) -> object:
    store = call.require_group(MODIFY, BACKUP, write=True)
    path = store.snapshot_path(call.namespace, call.snapshot)
    changes = {"notes": call.params.text("notes")}
    manifests.save(path, manifests.load(path).with_unprotected(changes))
    return None


def _get_group_notes(call: RestCall) -> object:
    store = call.require_group(AUDIT, BACKUP, write=False)
    return listing.group_notes(store, call.namespace, call.group)


def _set_group_notes(call: RestCall) -> object:
    store = call.require_group(MODIFY, BACKUP, write=True)
    path = store.group_path(call.namespace, call.group) / NOTES_NAME
    replace_file(path, call.params.text("notes").encode())
    return None


def _get_protected(call: RestCall) -> object:
    store = call.require_group(AUDIT, BACKUP, write=False)
    return store.is_protected(call.namespace, call.snapshot)


def _set_protected(call: RestCall) -> object:
    store = call.require_group(MODIFY, BACKUP, write=True)
    path = store.snapshot_path(call.namespace, call.snapshot)
    if not path.is_dir():
        raise bad_request(f"snapshot {call.snapshot} does not exist!")
    mark = path / PROTECTED_NAME
    if call.params.boolean("protected"):
        mark.touch()
    else:
        mark.unlink(missing_ok=True)
    return None


def _status(call: RestCall) -> object:
    root = Namespace()
    all_seen = AUDIT in call.rights.at(call.store_name, root)
    if not all_seen and BACKUP not in call.rights.at(call.store_name, root):
        store = call.stores.readable(call.store_name)
        everything = store.namespaces(root, MAX_NAMESPACE_DEPTH)
        if not any(call.rights.sees_namespace(store.name, one) for one in everything):
            raise Refusal(HTTPStatus.FORBIDDEN, "permission check failed")
    usage = shutil.disk_usage(call.stores.readable(call.store_name).path)
    numbers = (usage.total, usage.used, usage.free) if all_seen else (0, 0, 0)
    return {
        **dict(zip(("total", "used", "avail"), numbers, strict=True)),
        "backend-type": "filesystem",
    }


def _verify(call: RestCall) -> object:
    params, namespace = call.params, call.namespace
    only_owned = call.rights.needs_owning(call.store_name, namespace, VERIFY, BACKUP)
    store = call.stores.readable(call.store_name)
    given = tuple(name in params for name in ("backup-type", "backup-id", "backup-time"))
    scope = Scope(namespace, params.integer("max-depth", MAX_NAMESPACE_DEPTH))
    if given[:2] == (True, True):
        if only_owned:
            call.rights.require_owning(store, namespace, call.group)
        time = params.integer("backup-time") if given[2] else None
        scope = Scope(namespace, 0, call.group, time)
    elif any(given):
        raise bad_request("parameters do not specify a backup group or snapshot")
    owned_by = call.rights.auth_id if only_owned else None
    ignore = params.boolean("ignore-verified", default=True)
    outdated = params.integer("outdated-after") if "outdated-after" in params else None
    work = verification(store, scope, owned_by, ignore_verified=ignore, outdated_after=outdated)
    return call.tasks.start(scope.kind, scope.name(store.name), call.rights.auth_id, work)


_GROUP_FILTER: Final[Schema] = {
    "ns": optional(NAMESPACE),
    "backup-type": optional(BACKUP_TYPE),
    "backup-id": optional(SAFE_ID),
}

ENDPOINTS: Final[Mapping[tuple[str, str], Endpoint]] = {
    ("GET", "namespace"): Endpoint(
        {"parent": optional(NAMESPACE), "max-depth": optional(DEPTH)}, _list_namespaces
    ),
    ("POST", "namespace"): Endpoint(
        {"name": required(NAMESPACE_NAME), "parent": optional(NAMESPACE)}, _create_namespace
    ),
    ("DELETE", "namespace"): Endpoint(
        {
            "ns": required(NAMESPACE),
            "delete-groups": optional(BOOLEAN),
            "error-on-protected": optional(BOOLEAN),
        },
        _delete_namespace,
    ),
    ("GET", "groups"): Endpoint({"ns": optional(NAMESPACE)}, _list_groups),
    ("DELETE", "groups"): Endpoint(
        {**GROUP_KEYS, "error-on-protected": optional(BOOLEAN)}, _delete_group
    ),
    ("GET", "snapshots"): Endpoint(_GROUP_FILTER, _list_snapshots),
    ("DELETE", "snapshots"): Endpoint(SNAPSHOT_KEYS, _delete_snapshot),
    ("GET", "files"): Endpoint(SNAPSHOT_KEYS, _list_files),
    ("POST", "upload-backup-log"): Endpoint(SNAPSHOT_KEYS, _upload_log, raw_body=True),
    ("GET", "notes"): Endpoint(SNAPSHOT_KEYS, _get_notes),
    ("PUT", "notes"): Endpoint({**SNAPSHOT_KEYS, "notes": required(NOTES)}, _set_notes),
    ("GET", "group-notes"): Endpoint(GROUP_KEYS, _get_group_notes),
    ("PUT", "group-notes"): Endpoint({**GROUP_KEYS, "notes": required(NOTES)}, _set_group_notes),
    ("GET", "protected"): Endpoint(SNAPSHOT_KEYS, _get_protected),
    ("PUT", "protected"): Endpoint(
        {**SNAPSHOT_KEYS, "protected": required(BOOLEAN)}, _set_protected
    ),
    ("GET", "status"): Endpoint({}, _status),
    ("POST", "verify"): Endpoint(
        {
            **_GROUP_FILTER,
            "backup-time": optional(BACKUP_TIME),
            "ignore-verified": optional(BOOLEAN),
            "outdated-after": optional(Integer(minimum=0)),
            "max-depth": optional(DEPTH),
        },
        _verify,
    ),
}
