"""Small datastores for tests, snapshot by snapshot."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from pbs_push.formats.keys import CryptKey
from pbs_push.names import MAX_NAMESPACE_DEPTH, AuthId, Namespace, Snapshot
from pbs_push.remote.snapshot_writer import SnapshotWriter
from pbs_push.testing.memory_target import MemoryTarget


def write_snapshot(
    path: Path | str,
    snapshot: Snapshot | str,
    files: Mapping[str, bytes | Sequence[bytes]],
    namespace: Namespace | str = "",
    *,
    owner: AuthId | str = "root@pam",
    notes: str | None = None,
    protected: bool = False,
    key: CryptKey | None = None,
) -> None:
    """Add a snapshot to the datastore in ``path``, made if missing, for either side of a push.

    ``files`` by their names: the contents of ``….blob`` and ``….fidx``, the chunks of ``….didx``
    (bytes are one). It has to be newer than the other snapshots of its group, of which ``owner`` is
    that of the first. ``key`` encrypts it. Raises ConfigError for a name or a content that cannot
    be, StatusError where such a snapshot could not be written to a server either.
    """
    if isinstance(snapshot, str):
        snapshot = Snapshot.parse(snapshot)
    if isinstance(namespace, str):
        namespace = Namespace.parse(namespace)
    with MemoryTarget(path, auth_id=owner) as target:
        for depth in range(min(namespace.depth, MAX_NAMESPACE_DEPTH)):
            target.api.create_namespace(Namespace(namespace.components[: depth + 1]))
        with target.create_snapshot(snapshot, namespace, key=key) as writer:
            for name, content in files.items():
                _add(writer, name, content)
            writer.finish(notes)
        if protected:
            target.api.set_protected(namespace, snapshot, protected=True)


def _add(writer: SnapshotWriter, name: str, content: bytes | Sequence[bytes]) -> None:
    chunks = [content] if isinstance(content, bytes) else content
    if name.endswith(".didx"):
        writer.add_archive(name, chunks)
    elif name.endswith(".fidx"):
        whole = b"".join(chunks)
        writer.add_image(name, io.BytesIO(whole), len(whole))
    else:
        writer.add_blob(name, b"".join(chunks))
