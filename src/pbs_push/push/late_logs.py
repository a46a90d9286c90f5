"""Client logs that came late (protocol/push.md, "Late logs"): which are added, and how.

Only the newest snapshot that both sides have is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from pbs_push.errors import InvalidName
from pbs_push.formats.keys import CryptKey
from pbs_push.formats.manifest import Manifest, Protection
from pbs_push.names import CLIENT_LOG_NAME, parse_fingerprint
from pbs_push.remote.models import GroupItem, SnapshotItem
from pbs_push.source.items import SourceSnapshot

LogFinder = Callable[[SourceSnapshot], bool]


def candidate(
    snapshots: Sequence[SourceSnapshot],
    at_target: GroupItem | None,
    listed: Sequence[SnapshotItem],
    has_log: LogFinder,
    unfit: Collection[int] = (),
) -> SourceSnapshot | None:
    """The newest snapshot that both sides have, if it has a log here and none there.

    ``unfit`` are times of which the target has something else, or not all.

    Where the target's snapshots are not listed, that is its newest one or none: the list of groups
    tells the files of that one, so that nothing has to be asked for.
    """
    if at_target is None:
        return None
    if listed:
        common = in_common(snapshots, listed, unfit)
        if not common or common[-1][1].has_file(CLIENT_LOG_NAME):
            return None
        return common[-1][0] if has_log(common[-1][0]) else None
    if CLIENT_LOG_NAME in at_target.files or at_target.newest_finished in unfit:
        return None
    for item in snapshots:
        if item.finished and item.snapshot.backup_time == at_target.newest_finished:
            return item if has_log(item) else None
    return None


def in_common(
    snapshots: Sequence[SourceSnapshot],
    listed: Sequence[SnapshotItem],
    unfit: Collection[int] = (),
) -> tuple[tuple[SourceSnapshot, SnapshotItem], ...]:
    """Finished snapshots that both sides have, but those of ``unfit`` times."""
    at_target = {
        item.backup_time: item for item in listed if item.finished and item.backup_time not in unfit
    }
    return tuple(
        (item, at_target[item.snapshot.backup_time])
        for item in snapshots
        if item.finished and item.snapshot.backup_time in at_target
    )


def lacking(item: SourceSnapshot, listed: Sequence[SnapshotItem]) -> SnapshotItem | None:
    """The target's copy of a snapshot, if it is there and has no log."""
    for found in listed:
        if found.backup_time == item.snapshot.backup_time:
            return None if found.has_file(CLIENT_LOG_NAME) else found
    return None


def has_one(item: SourceSnapshot, listed: Sequence[SnapshotItem]) -> bool:
    """Whether the target's copy of a snapshot has a log."""
    return any(
        found.backup_time == item.snapshot.backup_time and found.has_file(CLIENT_LOG_NAME)
        for found in listed
    )


def why_not(source: Manifest, copy: SnapshotItem, key: CryptKey | None) -> str | None:
    """Why a log does not go to the target's ``copy``, None if it does.

    It must be readable like the rest of the copy, which may have been pushed under another key than
    ``key``, or under none. With a key, a plain log goes as it is only with a snapshot that is
    encrypted at the source already, and so goes as it is, too.
    """
    here, there = Protection.of(source), _protection_of(copy)
    if key is None or here is Protection.FULL:
        as_it_is = here is there and source.key_fingerprint == _fingerprint_of(copy)
        return None if as_it_is else "the target's copy is not encrypted as the source's is"
    if there is Protection.FULL and _fingerprint_of(copy) == key.fingerprint:
        return None
    return "the target's copy is not encrypted with this key"


def _protection_of(copy: SnapshotItem) -> Protection:
    return Protection.of_modes(
        file.crypt_mode == "encrypt" for file in copy.files if file.is_archive
    )


def _fingerprint_of(copy: SnapshotItem) -> bytes | None:
    try:
        return parse_fingerprint(copy.fingerprint) if copy.fingerprint else None
    except InvalidName:
        return None
