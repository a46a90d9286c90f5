"""One reader session: what may be read on a connection, without HTTP (protocol/reader.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from pbs_push.names import INDEX_SUFFIXES, Group, Namespace, Snapshot
from pbs_push.target.answers import Refusal, bad_request
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
from pbs_push.target.session import Turn
from pbs_push.target.store import Store
from pbs_push.target.stored_files import open_stored_index, read_stored_file
from pbs_push.target.upgrade import check_protocol

PROTOCOL: Final = "proxmox-backup-reader-protocol-v1"

UPGRADE_PARAMETERS: Final[Schema] = {
    "store": required(STORE),
    **SNAPSHOT_KEYS,
    "debug": optional(BOOLEAN),
}


@dataclass(frozen=True, slots=True)
class ReadPlace:
    """The snapshot that a session reads, with the shared lock that it holds there."""

    store: Store
    namespace: Namespace
    snapshot: Snapshot
    lock: DirectoryLock

    def release(self) -> None:
        """Give back the lock."""
        self.lock.release()

    def abandon(self) -> None:
        """As if it had not been opened: there is nothing else to undo."""
        self.release()


def open_for_reading(
    params: Params,
    upgrade_header: str | None,
    rights: Rights,
    open_store: Callable[[str], Store],
) -> ReadPlace:
    """Check an upgrade request and lock its snapshot (protocol/reader.md, "Upgrade").

    ``open_store`` gives the datastore for reading or refuses. Raises Refusal, OSError.
    """
    namespace = Namespace.parse(params.text("ns"))
    group = Group(params.text("backup-type"), params.text("backup-id"))
    snapshot = Snapshot(group, params.integer("backup-time"))
    full = rights.require_reading(params.text("store"), namespace)
    store = open_store(params.text("store"))
    check_protocol(upgrade_header, PROTOCOL)
    path = store.snapshot_path(namespace, snapshot)
    if not path.is_dir():
        raise bad_request(f"snapshot {snapshot} does not exist.")
    if not full:
        owner = store.owner(namespace, group)
        if owner is None or not rights.auth_id.owns(owner):
            raise bad_request("backup owner check failed!")
    lock = try_lock(path, exclusive=False)
    if lock is None:
        raise bad_request(f'unable to acquire shared snapshot lock on "{path}"')
    return ReadPlace(store, namespace, snapshot, lock)


class ReaderSession:
    """The state of one connection that reads one snapshot. All methods raise Refusal, OSError."""

    def __init__(self, place: ReadPlace) -> None:
        self.place = place
        self._readable: dict[bytes, int] = {}

    def download(self, name: str, turn: Turn) -> bytes:
        """A file as it lies on disk; the chunks of an index may be read from this answer on.

        Strict where a real server is so by chance, as requests run side by side there: who asks for
        a chunk must have seen the answer to the index.
        """
        place = self.place
        path = place.store.snapshot_path(place.namespace, place.snapshot) / name
        if name.endswith(INDEX_SUFFIXES):
            with open_stored_index(path) as index:
                digests = index.digests.tobytes()
            for at in range(0, len(digests), 32):
                self._readable.setdefault(digests[at : at + 32], turn.answer)
        return read_stored_file(path)

    def chunk(self, digest: str, turn: Turn) -> bytes:
        """A chunk's blob as it lies on disk: nothing of it is checked."""
        told = self._readable.get(bytes.fromhex(digest))
        if told is None or told > turn.seen:
            raise Refusal(HTTPStatus.UNAUTHORIZED, f'download chunk "{digest}" not allowed')
        path = self.place.store.chunk_path(digest)
        try:
            return path.read_bytes()
        except OSError as error:
            reason = f"{error.strerror} (os error {error.errno})"
            raise bad_request(f'reading file "{path}" failed: {reason}') from None

    def end(self) -> None:
        """The connection is over: the snapshot may be removed again."""
        self.place.release()
