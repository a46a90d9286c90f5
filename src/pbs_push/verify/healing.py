"""Bad chunks of the target, sent again (protocol/backup.md, "Restoring chunks").

A chunk that is not on the server's disk is stored by an upload in any session of the datastore,
also one that is then dropped. So a group of our own is begun, used, and never finished: the server
removes it, and the chunks stay. Nothing is sent whose content was not checked here before, and each
chunk is read back behind it.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

from pbs_push.errors import (
    AuthError,
    BlobFormatError,
    Cancelled,
    DeniedError,
    PbsPushError,
    ProtocolError,
    SourceError,
    StatusError,
)
from pbs_push.formats.blob import check_blob, decode_blob
from pbs_push.names import Group, Snapshot
from pbs_push.push.encryption import encrypt_chunk
from pbs_push.push.outcome import Problem
from pbs_push.verify.target_events import BadChunkTreated
from pbs_push.verify.target_report import Healing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pbs_push.formats.keys import CryptKey
    from pbs_push.names import Namespace
    from pbs_push.push.run import Run
    from pbs_push.remote.session import BackupSession, Call
    from pbs_push.verify.target_events import TargetVerifyEvent
    from pbs_push.verify.target_report import BadChunk, TargetReport

SCRATCH_TYPE: Final = "host"
SCRATCH_PREFIX: Final = "pbs-push-heal-"
_ARCHIVE: Final = "heal.didx"
_UNDER_WAY_BYTES: Final = 32 << 20
_UNDER_WAY_CHUNKS: Final = 64
_GONE_WAITS_S: Final = (0.05, 0.2, 0.5, 1.0, 2.0)
"""What is left of a session that was dropped goes in 10 ms
(protocol/backup.md, "When a connection breaks")."""


class Unusable(Exception):  # never leaves this module
    """Why a chunk of the source cannot be sent."""

    def __init__(self, healing: Healing, why: str) -> None:
        super().__init__(why)
        self.healing = healing


class Prepared(NamedTuple):
    """A chunk that is to be sent: as the target is to have it."""

    chunk: BadChunk
    blob: bytes


class Healer:
    """Sends bad chunks of the target again, from the source's chunk store.

    The scratch group lies in the namespace of a snapshot that is spoiled, where there are rights as
    a rule; in ``namespace`` where none is known. ``key`` is for what was encrypted, here or on the
    way. ``notify`` is told of each chunk that could not be sent.
    """

    def __init__(
        self,
        run: Run,
        report: TargetReport,
        namespace: Namespace,
        key: CryptKey | None,
        notify: Callable[[TargetVerifyEvent], None],
    ) -> None:
        self._run = run
        self._report = report
        self._namespace = namespace
        self._key = key
        self._notify = notify
        self._may_be_there = False

    def send(self, chunks: Sequence[BadChunk]) -> list[BadChunk]:
        """Send those that the source can vouch for; these are returned, to be read back.

        Of the others ``healing`` says why. Where the target refuses, that is a problem of the
        report, and none is returned. Raises ConnectError, Cancelled.
        """
        sent: list[BadChunk] = []
        usable = self._usable(chunks)
        first = next(usable, None)
        if first is None:
            return sent
        snapshot = _scratch()
        for place, _name in chunks[0].spoils[:1]:
            self._namespace = place.target_namespace
        try:
            self._upload(snapshot, first, usable, sent)
        except (Cancelled, AuthError):
            raise
        except DeniedError as error:
            self._problem(_without_right(error))
        except (StatusError, ProtocolError) as error:
            self._problem(error)
        finally:
            if self._may_be_there:
                self._see_it_gone(snapshot)
        return sent

    def _usable(self, chunks: Sequence[BadChunk]) -> Iterator[Prepared]:
        for chunk in chunks:
            self._run.check_cancelled()
            try:
                yield Prepared(chunk, self._checked(chunk))
            except Unusable as reason:
                chunk.healing, chunk.why = reason.healing, str(reason)
                self._notify(BadChunkTreated(chunk))

    def _checked(self, chunk: BadChunk) -> bytes:
        """The chunk as the target is to have it, decoded and checked. Raises Unusable."""
        try:
            blob = self._run.source.read_chunk(chunk.source_digest)
            kind = check_blob(blob, crc=False)
        except SourceError as error:
            raise Unusable(Healing.NOT_AT_SOURCE, str(error)) from error
        on_the_way = chunk.source_digest != chunk.digest
        if kind.encrypted != (chunk.encrypted and not on_the_way):
            raise Unusable(Healing.NOT_AT_SOURCE, "the source's is encrypted otherwise")
        try:
            if on_the_way:
                return self._sealed(chunk, blob)
            if kind.encrypted and self._key is None:
                raise Unusable(
                    Healing.NOT_CHECKABLE,
                    "it is encrypted: without its key nobody can say that the source's is right",
                )
            content = decode_blob(blob, key=self._key, max_size=chunk.size, crc=False)
        except BlobFormatError as error:
            raise Unusable(Healing.NOT_AT_SOURCE, f"damaged at the source: {error}") from error
        digest = _digest(content, self._key if kind.encrypted else None)
        if digest != chunk.digest or len(content) != chunk.size:
            raise Unusable(
                Healing.NOT_AT_SOURCE,
                f"damaged at the source: its content has {len(content)} bytes and the digest "
                f"{digest.hex()}",
            )
        return blob

    def _sealed(self, chunk: BadChunk, blob: bytes) -> bytes:
        """The source's chunk under the key, as a push has sent it. Raises BlobFormatError."""
        if self._key is None:
            raise Unusable(Healing.NOT_CHECKABLE, "it was encrypted on the way, with a key")
        digest, sealed = encrypt_chunk(blob, chunk.source_digest, chunk.size, self._key)
        if digest != chunk.digest:
            raise Unusable(
                Healing.NOT_AT_SOURCE, f"under the key the source's has the digest {digest.hex()}"
            )
        return sealed

    # -- the scratch group --

    def _upload(
        self,
        snapshot: Snapshot,
        first: Prepared,
        others: Iterable[Prepared],
        sent: list[BadChunk],
    ) -> None:
        """Upload in a session that is dropped; ``sent`` is filled with what was acknowledged."""
        with closing(self._begin(snapshot)) as session:
            created = session.create_dynamic(_ARCHIVE)
            session.wait([created])
            writer_id = created.writer_id()
            under_way: deque[tuple[Prepared, Call]] = deque()

            def acknowledge() -> None:
                one, call = under_way.popleft()
                session.wait([call])
                call.body()
                sent.append(one.chunk)

            for prepared in _behind(first, others):
                while under_way and not _has_room(under_way, prepared):
                    acknowledge()
                call = session.upload_chunk(
                    "dynamic",
                    writer_id,
                    prepared.chunk.digest,
                    size=prepared.chunk.size,
                    blob=prepared.blob,
                )
                under_way.append((prepared, call))
            while under_way:
                acknowledge()

    def _begin(self, snapshot: Snapshot) -> BackupSession:
        def begin() -> BackupSession:
            self._may_be_there = True
            return self._run.target.begin_backup(
                self._run.target.connect(self._run.cancelled),
                self._namespace,
                snapshot,
                chunks_path=str(self._run.source.chunk_path),
                transport=self._run.target.transport(),
            )

        try:
            return self._run.trying(f"beginning {snapshot} to heal in", begin)
        except AuthError as error:
            if not error.renewable:
                raise
        except StatusError:
            self._may_be_there = False
            raise
        return begin()

    def _see_it_gone(self, snapshot: Snapshot) -> None:
        """Wait until the scratch group is gone; where the server leaves it, remove it."""
        try:
            for pause_s in _GONE_WAITS_S:
                if snapshot.group not in self._run.api.groups_by_name(self._namespace):
                    return
                self._run.pause(pause_s)
            # Its name is random: nobody else's can it be. It has no finished snapshot.
            self._run.api.delete_group(self._namespace, snapshot.group, self._run.target.features)
        except Cancelled:
            raise
        except PbsPushError as error:
            self._problem(error, f"removing {snapshot.group} at the target, made to heal in")

    def _problem(self, error: PbsPushError, what: str = "sending chunks again") -> None:
        self._report.add_problem(Problem(what, error))
        self._run.note("error", f"{what}: {error}")


def _scratch() -> Snapshot:
    """A snapshot of a group that nobody else has."""
    group = Group(SCRATCH_TYPE, f"{SCRATCH_PREFIX}{secrets.token_hex(6)}")
    return Snapshot(group, int(time.time()))


def _behind(first: Prepared, others: Iterable[Prepared]) -> Iterator[Prepared]:
    yield first
    yield from others


def _has_room(under_way: Sequence[tuple[Prepared, Call]], one: Prepared) -> bool:
    held = sum(len(prepared.blob) for prepared, _ in under_way)
    return len(under_way) < _UNDER_WAY_CHUNKS and held + len(one.blob) <= _UNDER_WAY_BYTES


def _digest(content: bytes, key: CryptKey | None) -> bytes:
    return hashlib.sha256(content).digest() if key is None else key.digest(content)


def _without_right(error: StatusError) -> StatusError:
    text = (
        f"{error.text}; sending chunks again takes Datastore.Backup in the namespace of a "
        "snapshot that is spoiled"
    )
    return type(error)(error.request, error.status, text)
