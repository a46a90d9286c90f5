"""A server's own verification of snapshots (protocol/rest.md, "Verification")."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pbs_push.errors import BlobFormatError
from pbs_push.formats.blob import MAX_CHUNK_SIZE, decode_blob
from pbs_push.names import INDEX_SUFFIXES, AuthId, Group, Namespace, Snapshot
from pbs_push.target import manifests
from pbs_push.target.answers import Refusal, StreamKilled
from pbs_push.target.blobs import blob_kind
from pbs_push.target.locks import try_lock
from pbs_push.target.store import Store
from pbs_push.target.stored_files import index_chunks, open_stored_index
from pbs_push.target.tasks import OK, Task, Work

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Scope:
    """What is verified: namespaces to a depth, or one group, or of it one snapshot."""

    namespace: Namespace
    depth: int
    group: Group | None = None
    time: int | None = None

    @property
    def kind(self) -> str:
        """The task's type."""
        if self.group is None:
            return "verify"
        return "verify_group" if self.time is None else "verify_snapshot"

    def name(self, store: str) -> str:
        """What the task is about, as its id tells."""
        place = store if self.namespace.is_root else f"{store}:{self.namespace}"
        if self.group is None:
            return place
        name = f"{place}:{self.group}"
        return name if self.time is None else f"{name}/{self.time:08X}"

    def snapshots(
        self, store: Store, owned_by: AuthId | None
    ) -> Iterator[tuple[Namespace, Snapshot]]:
        """The finished snapshots; with ``owned_by`` those of groups that it owns."""
        for namespace in store.namespaces(self.namespace, self.depth):
            groups = [self.group] if self.group is not None else store.groups(namespace)
            for group in groups:
                owner = store.owner(namespace, group)
                if owned_by is not None and (owner is None or not owned_by.owns(owner)):
                    continue
                for snapshot in reversed(store.snapshots(namespace, group)):
                    wanted = self.time is None or snapshot.backup_time == self.time
                    if wanted and store.is_finished(namespace, snapshot):
                        yield namespace, snapshot


def verification(
    store: Store,
    scope: Scope,
    owned_by: AuthId | None,
    *,
    ignore_verified: bool,
    outdated_after: int | None,
) -> Work:
    """The work of a verification: each chunk once, what is bad is renamed, states are noted.

    ``ignore_verified`` leaves out what was verified before, unless that is more than
    ``outdated_after`` days ago.
    """

    def work(task: Task) -> str:
        run = _Run(store, task)
        failed = [
            str(snapshot)
            for namespace, snapshot in scope.snapshots(store, owned_by)
            if not run.snapshot(
                namespace, snapshot, ignore_verified=ignore_verified, outdated_after=outdated_after
            )
        ]
        if not failed:
            return OK
        task.log("Failed to verify the following snapshots/groups:")
        for name in failed:
            task.log(f"\t{name}")
        return "verification failed - please check the log for details"

    return work


class _Run:
    """One task: the chunks that it found good, and bad."""

    def __init__(self, store: Store, task: Task) -> None:
        self._store = store
        self._task = task
        self._good: set[bytes] = set()
        self._bad: set[bytes] = set()

    def snapshot(
        self,
        namespace: Namespace,
        snapshot: Snapshot,
        *,
        ignore_verified: bool,
        outdated_after: int | None,
    ) -> bool:
        """Verify one, and note its state; False if it failed. One that is locked is left out."""
        path = self._store.snapshot_path(namespace, snapshot)
        label = f"{self._store.name}:{snapshot}"
        lock = try_lock(path, exclusive=False)
        if lock is None:
            self._task.log(f"SKIPPED: verify {label} - could not acquire snapshot lock")
            return True
        with lock:
            try:
                manifest = manifests.load(path)
                state = manifest.unprotected.get("verify_state")
            except (Refusal, StreamKilled) as error:
                self._task.log(f"verify {label} - manifest load error: {error}")
                return False
            if ignore_verified and self._is_recent(state, outdated_after):
                self._task.log(f"SKIPPED: verify {label} (recently verified)")
                return True
            self._task.log(f"verify {label}")
            found = [self._file(path, file) for file in manifest.files]
            good = all(found)
            word = "ok" if good else "failed"
            entry = {"upid": self._task.upid, "state": word}
            manifests.save(path, manifest.with_unprotected({"verify_state": entry}))
            return good

    def _is_recent(self, state: object, outdated_after: int | None) -> bool:
        if not isinstance(state, dict) or "state" not in state:
            return False
        if outdated_after is None:
            return True
        with suppress(ValueError, IndexError):
            started = int(str(state.get("upid")).split(":")[5], 16)
            return self._task.started - started < outdated_after * _DAY_S
        return False

    def _file(self, path: Path, file: dict[str, object]) -> bool:
        name = str(file["filename"])
        try:
            if name.endswith(INDEX_SUFFIXES):
                return self._index(path / name, file)
            _check_blob_file((path / name).read_bytes(), file)
        except (Refusal, OSError, ValueError) as error:
            self._task.log(f"verify {name} failed: {error}")
            return False
        return True

    def _index(self, path: Path, file: dict[str, object]) -> bool:
        with open_stored_index(path) as index:
            if index.size != file["size"] or index.csum().hex() != file["csum"]:
                raise ValueError("wrong size, or wrong index checksum")
            chunks = dict(index_chunks(index))
        encrypted = file["crypt-mode"] == "encrypt"
        found = [self._chunk(digest, size, encrypted=encrypted) for digest, size in chunks.items()]
        return all(found)

    def _chunk(self, digest: bytes, size: int, *, encrypted: bool) -> bool:
        if digest in self._good or digest in self._bad:
            return digest in self._good
        path = self._store.chunk_path(digest.hex())
        try:
            data = path.read_bytes()
        except OSError as error:
            self._task.log(f"can't verify missing chunk {digest.hex()} - {error.strerror}")
            self._bad.add(digest)
            return False
        try:
            _check_chunk(data, digest, size, encrypted=encrypted)
        except (Refusal, BlobFormatError, ValueError) as error:
            self._task.log(f"can't verify chunk {digest.hex()} - {error}")
            self._bad.add(digest)
            self._put_aside(path)
            return False
        self._good.add(digest)
        return True

    def _put_aside(self, path: Path) -> None:
        """Rename a bad chunk, so that the next upload of it stores it anew."""
        number = 0
        while (aside := path.with_name(f"{path.name}.{number}.bad")).exists():
            number += 1
        path.rename(aside)
        self._task.log(f'corrupted chunk renamed to "{aside}"')


def _check_blob_file(data: bytes, file: dict[str, object]) -> None:
    if len(data) != file["size"] or hashlib.sha256(data).hexdigest() != file["csum"]:
        raise ValueError("wrong size, or wrong index checksum")


def _check_chunk(data: bytes, digest: bytes, size: int, *, encrypted: bool) -> None:
    """Raise an error unless the chunk is what its name says; of an encrypted one just the CRC."""
    kind = blob_kind(data)
    if kind.encrypted != encrypted:
        raise ValueError(f"chunk CryptMode mismatch, encrypted: {kind.encrypted}")
    if zlib.crc32(data[kind.header_size :]) != int.from_bytes(data[8:12], "little"):
        raise ValueError("Data blob has wrong CRC checksum.")
    if kind.encrypted:
        return
    content = decode_blob(data, max_size=MAX_CHUNK_SIZE)
    if len(content) != size:
        raise ValueError(f"detected chunk with wrong length ({size} != {len(content)})")
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("detected chunk with wrong digest.")
