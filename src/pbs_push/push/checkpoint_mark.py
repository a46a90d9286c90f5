"""How a checkpoint is recognised at the target: its mark, owner and group.

See protocol/push.md, "Checkpoints". The mark is the first line of its notes, since that is what the
target's list of snapshots shows.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pbs_push.errors import InvalidName, PbsPushError
from pbs_push.names import AuthId, Snapshot, format_backup_time, parse_backup_time
from pbs_push.remote.models import GroupItem, SnapshotItem
from pbs_push.source.datastore import Datastore
from pbs_push.source.items import SourceSnapshot

_NOTHING: Final = "nothing"
_MARK: Final = re.compile(
    r"pbs-push checkpoint of (?P<of>\S{1,300}): (?P<entries>\d{1,15}) entries "
    r"over (?P<base>\S{1,40})",
    re.ASCII,
)
_EXPLANATION: Final = (
    "This is no backup: it is the part of one that a push has sent so far, so that a broken line "
    "does not cost it. The push removes it when it has sent all of it. If nothing is pushed into "
    "this group any more, it may be removed."
)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a checkpoint holds: of snapshot ``of`` the first ``entries``, over all its indexes in
    the manifest's order, and what is known of the rest from the snapshot of the time ``base``
    (None: nothing)."""

    of: Snapshot
    entries: int
    base: int | None

    @property
    def notes(self) -> str:
        """The notes of such a checkpoint."""
        over = _NOTHING if self.base is None else format_backup_time(self.base)
        head = f"pbs-push checkpoint of {self.of}: {self.entries} entries over {over}"
        return f"{head}\n{_EXPLANATION}"

    @classmethod
    def read(cls, notes: str | None, snapshot: Snapshot) -> Mark | None:
        """The mark of ``snapshot``, from its notes or the first line of them; None without one."""
        found = _MARK.fullmatch((notes or "").split("\n", 1)[0].rstrip("\r"))
        if found is None:
            return None
        try:
            of = Snapshot.parse(found["of"])
            base = None if found["base"] == _NOTHING else parse_backup_time(found["base"])
        except InvalidName:
            return None
        is_before = (base or 0) < snapshot.backup_time < of.backup_time
        return (
            cls(of, int(found["entries"]), base)
            if of.group == snapshot.group and is_before
            else None
        )


def is_checkpoint(source: Datastore, item: SourceSnapshot) -> bool:
    """Whether a snapshot of the source, the target of another push, is a checkpoint of that."""
    try:
        with source.open_snapshot(item, lock=False) as opened:
            return Mark.read(opened.manifest.notes, item.snapshot) is not None
    except PbsPushError:
        return False  # whoever pushes it will say what is wrong with it


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One that lies at the target."""

    snapshot: Snapshot
    mark: Mark


@dataclass(frozen=True, slots=True)
class Seen:
    """What the target has of a group: what is real, and apart from it ``checkpoints`` of ours.

    ``newest`` is the time of the newest finished snapshot, whichever of the two it is.
    """

    item: GroupItem | None
    listed: Sequence[SnapshotItem] | None
    checkpoints: tuple[Checkpoint, ...]
    newest: int | None


def without_checkpoints(
    item: GroupItem | None,
    listed: Sequence[SnapshotItem] | None,
    remote_user: AuthId,
    at_source: Collection[int],
) -> Seen:
    """Tell real snapshots from checkpoints, so that these hide nothing.

    A checkpoint bears our mark, is in a group that ``remote_user`` owns, and is of none of the
    times ``at_source``. ``listed`` is None where it was not asked for: then nothing is known.
    """
    newest = item.newest_finished if item is not None else None
    found = _found(listed or (), remote_user, at_source) if item is not None else {}
    if item is None or not found:
        return Seen(item, listed, (), newest)
    real = [one for one in listed or () if one.backup_time not in found]
    last = max((one for one in real if one.finished), key=lambda one: one.backup_time, default=None)
    shown = replace(
        item,
        last_backup=0 if last is None else last.backup_time,
        backup_count=max(0, item.backup_count - len(found)),
        files=() if last is None else tuple(file.filename for file in last.files),
    )
    return Seen(shown, real, tuple(found[time] for time in sorted(found)), newest)


def _found(
    listed: Sequence[SnapshotItem], remote_user: AuthId, at_source: Collection[int]
) -> dict[int, Checkpoint]:
    """By time, those that are ours."""
    found = {}
    for one in listed:
        if not one.finished or one.backup_time in at_source:
            continue
        if one.owner is None or not remote_user.owns(one.owner):
            continue
        mark = Mark.read(one.comment, one.snapshot)
        if mark is not None:
            found[one.backup_time] = Checkpoint(one.snapshot, mark)
    return found
