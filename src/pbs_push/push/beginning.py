"""Beginning a session for a snapshot: connections, locks that are held, and plans gone old."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from pbs_push.errors import (
    AuthError,
    BusyError,
    ConnectError,
    NotOwnerError,
    PbsPushError,
    ProtocolError,
    StatusError,
    drop_frames,
)
from pbs_push.names import MANIFEST_NAME
from pbs_push.push.findings import about_snapshot
from pbs_push.push.outcome import Finding, Settled, Skip
from pbs_push.push.patience import Patience
from pbs_push.push.sameness import difference_in_list
from pbs_push.push.vanished import VanishedSnapshot
from pbs_push.remote.preface import Preface

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbs_push._native.transport import Transport
    from pbs_push.formats.manifest import Manifest
    from pbs_push.names import Snapshot
    from pbs_push.push.opening import Opened
    from pbs_push.push.plan import GroupPlan
    from pbs_push.push.removal import Remover
    from pbs_push.push.run import Run
    from pbs_push.push.transfer import Transfer
    from pbs_push.remote.models import SnapshotItem
    from pbs_push.remote.session import BackupSession
    from pbs_push.source.items import SourceSnapshot

_RELEASE_WAITS_S: Final = (0.05, 0.2, 1.0)
"""What is left is removed in 10 ms (protocol/backup.md, "When a connection breaks")."""
_LOOK_AFTER_S: Final = 2.0
"""How long a lock is held before it is looked what whoever holds it has done."""


@dataclass(slots=True)
class _Tries:
    """How often it was tried to begin one session, and what was done about refusals."""

    patience: Patience
    waits: list[float]
    """Seconds to wait for what a session of ours left."""
    number: int = 0
    renewed: bool = False
    looked: bool = False


class Beginning:
    """Begins sessions for the snapshots of one group, one after another.

    A dead folder at the target that the plan says to remove is removed where it is in the way:
    the refusal to begin tells that nobody writes there, since the group's lock is taken before. So
    is one that a session of this run has made, where the target died with it.
    """

    def __init__(self, run: Run, plan: GroupPlan, remover: Remover, *, removing: bool) -> None:
        self._run = run
        self._target = run.target
        self._plan = plan
        self._remover = remover
        self._dead = {gone.snapshot: gone for gone in plan.dead} if removing else {}
        self._newest = plan.newest_at_target
        self._told = False
        self._ours: set[Snapshot] = set()
        """Those whose folder a session of ours may have made."""

    def begin(
        self,
        source: Opened,
        start: Callable[[BackupSession], Transfer],
        *,
        again: bool,
    ) -> tuple[BackupSession, Transfer, Preface]:
        """Connect, upgrade, and ``start`` the transfer; returned is also how HTTP/2 was begun.

        ``again`` after a session of ours broke, whose folder may linger. Raises Settled where there
        is nothing to push any more, PbsPushError, Cancelled.
        """
        item, manifest = source.item, source.archives.manifest
        tries = _Tries(
            Patience(self._run.options.lock_wait_s), list(_RELEASE_WAITS_S) if again else []
        )
        while True:
            transport = self._transport(source.chunks_fd)
            try:
                stream, fresh = self._run.supply.take(again=tries.number > 0)
            except BaseException:
                transport.close()
                raise
            tries.number += 1
            preface = self._target.preface.choose()
            try:
                session, transfer = self._target.start_backup(
                    stream,
                    self._plan.target_namespace,
                    item.snapshot,
                    start,
                    chunks_path=str(self._run.source.chunk_path),
                    transport=transport,
                    pacer=self._run.pacer,
                    preface=preface,
                )
            except ConnectError as error:
                # One that waited may have been closed by the target; and one that cannot take what
                # comes along with the request may break the connection before its answer is read.
                early = preface is Preface.WITH_REQUEST
                self._ours.add(item.snapshot)  # the answer alone may have been lost
                if fresh and not (early and self._target.preface.lost(preface)):
                    raise
                drop_frames(error)
                if early:  # it may have made the folder
                    tries.waits = list(_RELEASE_WAITS_S)
            except BusyError as error:
                self._target.preface.refused(preface)
                self._wait(item, manifest, error, tries.patience)
                drop_frames(error)
            except (AuthError, StatusError, ProtocolError) as error:
                self._target.preface.refused(preface)
                self._refused(item, manifest, error, tries)
                drop_frames(error)
            else:
                self._ours.add(item.snapshot)
                return session, transfer, preface

    def _refused(
        self,
        item: SourceSnapshot,
        manifest: Manifest,
        error: AuthError | StatusError | ProtocolError,
        tries: _Tries,
    ) -> None:
        """Returns where another try is worth it; else raises ``error``, or Settled."""
        if isinstance(error, NotOwnerError):
            raise Settled(Skip.NOT_OWNED, self._not_owned()) from None
        if isinstance(error, AuthError):
            if not error.renewable or tries.renewed:
                raise error
            tries.renewed = True
        elif tries.waits:
            self._run.pause(tries.waits.pop(0))
        elif isinstance(error, StatusError) and error.status == HTTPStatus.BAD_REQUEST:
            if tries.looked:
                raise error
            tries.looked = True
            self._look_at_refusal(item, manifest, error)
        else:
            raise error

    def _transport(self, chunks_fd: int) -> Transport:
        transport = self._target.transport()
        sharing = self._run.sharing
        transport.attach_uploads(
            chunks_fd,
            readers=self._run.options.read_ahead,
            buffer_bytes=self._run.buffer_bytes,
            shared=None if sharing is None else sharing.chunks,
            member=0 if sharing is None else sharing.member,
        )
        return transport

    def _not_owned(self) -> str:
        return (
            "at the target its group is owned by someone else than the remote user "
            f"{self._target.auth_id}"
        )

    def _wait(
        self, item: SourceSnapshot, manifest: Manifest, error: BusyError, patience: Patience
    ) -> None:
        """Wait a while for a lock. Raises BusyError when it was enough, Settled, Cancelled."""
        name = self._plan.name_of(str(item.snapshot))
        pause_s = patience.pause()
        if pause_s is None:
            raise BusyError(
                error.request,
                error.status,
                f"{error.text}; it stayed so for {patience.waited_s:.0f} s (--lock-wait): another "
                "backup or push into the group, or a task of the target, is running",
            )
        if not self._told:
            self._told = True
            self._run.note("info", f"{name}: waiting for the group at the target: {error.text}")
        self._run.pause(pause_s)
        if patience.waited_s > _LOOK_AFTER_S:
            newest = self._newest
            self._look_again(item, manifest)
            if self._newest != newest:
                patience.moved()

    def _look_at_refusal(
        self, item: SourceSnapshot, manifest: Manifest, error: StatusError
    ) -> None:
        """What a refusal to begin means. Returns if it is worth to try again.

        Raises Settled, or ``error``, with advice where there is any.
        """
        try:
            listed = self._look_again(item, manifest)
        except PbsPushError:
            raise error from None
        wanted = item.snapshot.backup_time
        left = next((one for one in listed if one.backup_time == wanted), None)
        if left is None or left.finished:
            raise _with_advice(error, listed)
        dead = self._dead.pop(item.snapshot, None)
        if item.snapshot in self._ours:
            dead = VanishedSnapshot(item.snapshot, protected=False, finished=False)
        if dead is not None:
            self._remover.dead(self._plan, dead)
            return
        raise StatusError(
            error.request,
            error.status,
            f"{error.text}; a backup of this time died there, and left its folder: remove it "
            "there, or push with --remove-vanished",
        )

    def _look_again(self, item: SourceSnapshot, manifest: Manifest) -> list[SnapshotItem]:
        """What the target has of the group.

        Raises Settled if this snapshot is there, or a newer one by now; PbsPushError.
        """
        listed = self._run.api.snapshots(self._plan.target_namespace, item.snapshot.group)
        newest = max((one.backup_time for one in listed if one.finished), default=None)
        self._newest = newest
        wanted = item.snapshot.backup_time
        same = next((one for one in listed if one.backup_time == wanted), None)
        if same is not None and same.finished:
            self._compare(item, manifest, same, newest)
            raise Settled(None, newest=newest)
        if newest is not None and newest > wanted:
            raise Settled(Skip.NOT_NEWER, "a newer one came to the target meanwhile", newest)
        return listed

    def _compare(
        self, item: SourceSnapshot, manifest: Manifest, there: SnapshotItem, newest: int | None
    ) -> None:
        """Raise Settled if what came to the target meanwhile is something else."""
        plan = self._plan
        if why := difference_in_list(manifest, there):
            alert = about_snapshot(
                Finding.OTHER_CONTENT,
                item.namespace,
                plan.target_namespace,
                item.snapshot.group,
                item.snapshot.backup_time,
                why,
            )
            self._run.alert(alert)
            raise Settled(Skip.OTHER_CONTENT, f"{Skip.OTHER_CONTENT.value}: {why}", newest)


def _with_advice(error: StatusError, listed: list[SnapshotItem]) -> StatusError:
    """A refusal, with what to do where a snapshot at the target seems to be its reason.

    A server reads the manifest of the newest one before it begins another.
    """
    newest = max(listed, key=lambda one: one.backup_time, default=None)
    if newest is None or newest.finished or not newest.has_file(MANIFEST_NAME):
        return error
    text = (
        f"{error.text}; the manifest of {newest.snapshot} there cannot be read: remove that "
        "snapshot there"
    )
    return StatusError(error.request, error.status, text)
