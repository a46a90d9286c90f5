"""The lists of groups and snapshots as the REST API tells them (protocol/rest.md, "Group list")."""

from __future__ import annotations

from collections.abc import Iterator

from pbs_push.names import MANIFEST_NAME, Group, Namespace, Snapshot
from pbs_push.target import manifests
from pbs_push.target.answers import Refusal, StreamKilled
from pbs_push.target.store import NOTES_NAME, Store

Json = dict[str, object]


def group_notes(store: Store, namespace: Namespace, group: Group) -> str:
    """A group's notes, empty if it has none."""
    try:
        return (store.group_path(namespace, group) / NOTES_NAME).read_text()
    except FileNotFoundError:
        return ""


def list_group(store: Store, namespace: Namespace, group: Group) -> Json | None:
    """A group's entry; None if PBS hides it (no readable owner, or no snapshot)."""
    owner = store.owner(namespace, group)
    snapshots = store.snapshots(namespace, group)
    if owner is None or not snapshots:
        return None
    finished = [one for one in snapshots if store.is_finished(namespace, one)]
    if finished:
        shown, last = finished[-1], finished[-1].backup_time
    else:
        # A lone unfinished snapshot is shown as if it were a backup; of several, none is.
        shown = snapshots[-1]
        last = shown.backup_time if len(snapshots) == 1 else 0
    entry: Json = {
        "backup-type": group.backup_type,
        "backup-id": group.backup_id,
        "last-backup": last,
        "backup-count": len(snapshots),
        "files": store.archives(namespace, shown) if last else [],
        "owner": str(owner),
    }
    notes = group_notes(store, namespace, group)
    if notes:
        entry["comment"] = notes.splitlines(keepends=True)[0]
    return entry


def list_snapshots(store: Store, namespace: Namespace, group: Group) -> Iterator[Json]:
    """The entries of a group's snapshots; none if PBS hides the group."""
    owner = store.owner(namespace, group)
    if owner is None:
        return
    for snapshot in store.snapshots(namespace, group):
        yield {
            "backup-type": group.backup_type,
            "backup-id": group.backup_id,
            "backup-time": snapshot.backup_time,
            "owner": str(owner),
            "protected": store.is_protected(namespace, snapshot),
            **_content(store, namespace, snapshot),
        }


def list_files(store: Store, namespace: Namespace, snapshot: Snapshot) -> list[Json]:
    """All files of a finished snapshot, what the manifest says of them first. Raises Refusal."""
    manifest = manifests.load(store.snapshot_path(namespace, snapshot))
    return _files(manifest, store.archives(namespace, snapshot))


def _content(store: Store, namespace: Namespace, snapshot: Snapshot) -> Json:
    """What an entry tells of a snapshot's files and manifest; just names if it has none."""
    names = store.archives(namespace, snapshot)
    try:
        manifest = manifests.load(store.snapshot_path(namespace, snapshot))
        unprotected = manifest.unprotected
    except (Refusal, StreamKilled):
        return {"files": [{"filename": name} for name in names]}
    files = _files(manifest, names)
    content: Json = {
        "files": files,
        "size": sum(size for file in files if isinstance(size := file.get("size"), int)),
    }
    if manifest.notes:
        content["comment"] = manifest.notes.splitlines()[0]
    if unprotected.get("verify_state"):
        content["verification"] = unprotected["verify_state"]
    if unprotected.get("key-fingerprint"):
        content["fingerprint"] = unprotected["key-fingerprint"]
    return content


def _files(manifest: manifests.StoredManifest, names: list[str]) -> list[Json]:
    files: list[Json] = [
        {key: file[key] for key in ("filename", "crypt-mode", "size")} for file in manifest.files
    ]
    mode = "sign-only" if manifest.signed else "none"
    files.append({"filename": MANIFEST_NAME, "crypt-mode": mode, "size": manifest.file_size})
    told = {file["filename"] for file in files}
    return files + [{"filename": name} for name in names if name not in told]
