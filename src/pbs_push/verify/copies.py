"""The snapshots of both sides, put together: what is to be compared, and what one side lacks."""

from __future__ import annotations

import enum
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pbs_push.errors import (
    AuthError,
    Cancelled,
    ConnectError,
    InvalidName,
    PbsPushError,
    ProtocolError,
    SnapshotVanished,
    SourceError,
    TlsError,
)
from pbs_push.names import Group, Snapshot, placed, route_label
from pbs_push.push.checkpoint_mark import is_checkpoint
from pbs_push.push.mapping import check_depths
from pbs_push.push.outcome import Problem
from pbs_push.push.vanished import is_gone
from pbs_push.verify.target_report import CopyPlace, CopyResult, CopyVerdict, Difference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pbs_push.names import Namespace
    from pbs_push.push.run import Run
    from pbs_push.remote.models import SnapshotItem
    from pbs_push.source.datastore import Datastore
    from pbs_push.source.items import SnapshotList, SourceGroup, SourceSnapshot
    from pbs_push.verify.target_report import TargetReport

_LISTING_THREADS: Final = 8

ENDING: Final = (AuthError, Cancelled, ConnectError, TlsError)
"""Errors of all of it, and not of one namespace or snapshot."""


class _There(enum.Enum):
    """What the target says of a snapshot: of thousands, no more is kept."""

    WHOLE = enum.auto()
    FAILED = enum.auto()
    """Whole, but its server's verification failed."""
    HALF = enum.auto()
    """Not finished, or without a readable manifest."""

    @classmethod
    def of(cls, item: SnapshotItem) -> _There:
        """Of an entry of a list."""
        if not item.finished:
            return cls.HALF
        failed = item.verification is not None and item.verification.state == "failed"
        return cls.FAILED if failed else cls.WHOLE


Listed = dict[Group, dict[int, _There]]
"""A namespace of the target: its snapshots by group and time."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A snapshot that both sides have, whole; ``failed``: the server's verification says so."""

    item: SourceSnapshot
    place: CopyPlace
    failed: bool = False


@dataclass(slots=True)
class GroupPair:
    """A group of the source, and what there is of it at the target: ``copies``, oldest first."""

    label: str
    target_namespace: Namespace
    group: Group
    copies: list[Copy] = field(default_factory=list)


class BothSides:
    """Lists both sides of a run. What cannot be listed is a problem of the report."""

    def __init__(self, run: Run, report: TargetReport) -> None:
        self._run = run
        self._options = run.options
        self._report = report

    def pairs(self) -> list[GroupPair]:
        """What is to be compared; all else is in the report then.

        Raises PbsPushError where nothing can be listed at all.
        """
        options, source = self._options, self._run.source
        found = source.namespaces(options.source_namespace, options.max_depth)
        anchors = options.source_namespace, options.target_namespace
        check_depths(*anchors, options.max_depth, found)
        with ThreadPoolExecutor(_LISTING_THREADS, thread_name_prefix="list") as pool:
            lists = {ns: pool.submit(self._listed, ns.mapped(*anchors)) for ns in found}
            pairs: list[GroupPair] = []
            for namespace in found:
                target = namespace.mapped(*anchors)
                try:
                    listed = lists[namespace].result()
                    pairs += self._pairs(namespace, target, listed)
                except ENDING:
                    raise
                except PbsPushError as error:
                    self._problem(f"source {route_label(namespace, target)}", error)
            self._only_there(pool, {ns.mapped(*anchors) for ns in found})
        return pairs

    def _listed(self, namespace: Namespace) -> Listed:
        """The target's snapshots of a namespace by group; none where it is not there."""
        listed: Listed = {}
        try:
            items = self._run.api.snapshots(namespace)
        except PbsPushError as error:
            if not is_gone(error):
                raise
            return listed
        for item in items:
            with suppress(InvalidName):  # what is none cannot be at the source
                snapshot = item.snapshot
                if snapshot.time_text and self._options.group_filters.accepts(snapshot.group):
                    listed.setdefault(snapshot.group, {})[item.backup_time] = _There.of(item)
        return listed

    def _pairs(
        self, namespace: Namespace, target: Namespace, listed: Listed
    ) -> Iterator[GroupPair]:
        for group, found in self._run.source.contents(namespace):
            if not self._options.group_filters.accepts(group.group):
                continue
            there = listed.pop(group.group, {})
            if isinstance(found, SnapshotVanished):
                continue
            if isinstance(found, SourceError):
                name = placed(namespace, target, str(group.group))
                self._problem(f"source group {name}", found)
                continue
            self._report.groups += 1
            for name, why in found.left_out:
                where = placed(namespace, target, f"{group.group}/{name}")
                self._run.note("warning", f"{where}: skipped: {why}")
            yield self._pair(group, found, target, there)
        for other, times in listed.items():
            self._tell_only_there(namespace, target, other, times)

    def _pair(
        self,
        group: SourceGroup,
        found: SnapshotList,
        target: Namespace,
        there: dict[int, _There],
    ) -> GroupPair:
        label = placed(group.namespace, target, str(group.group))
        pair = GroupPair(label, target, group.group)
        whole = [time for time, state in there.items() if state is not _There.HALF]
        for item in found.snapshots:
            time = item.snapshot.backup_time
            place = CopyPlace(group.namespace, target, item.snapshot)
            copy = there.pop(time, None)
            if not item.finished:
                self._report.add(CopyResult(place, CopyVerdict.LEFT))
            elif copy is None and (why := _never_pushed(self._run.source, group, item)):
                self._report.add(CopyResult(place, CopyVerdict.LEFT, (Difference(None, why),)))
            elif copy is None:
                self._report.add(CopyResult(place, _lacking(time, whole)))
            elif copy is _There.HALF:
                half = Difference(None, "at the target it is not finished, or has no manifest")
                self._report.add(CopyResult(place, CopyVerdict.DIFFERENT, (half,)))
            else:
                pair.copies.append(Copy(item, place, copy is _There.FAILED))
        self._tell_only_there(group.namespace, target, group.group, there)
        return pair

    def _only_there(self, pool: ThreadPoolExecutor, mapped: set[Namespace]) -> None:
        """Snapshots in namespaces that the source does not have."""
        options = self._options
        anchor = options.target_namespace
        try:
            existing = self._run.api.namespaces(anchor, options.max_depth)
        except ProtocolError:
            return  # a server that has none (protocol/backup.md, "Other servers")
        except ENDING:
            raise
        except PbsPushError as error:
            self._problem(f"namespaces below target {anchor.label}", error)
            return
        others = [ns for ns in existing if ns not in mapped and anchor.contains(ns)]
        for namespace, job in [(ns, pool.submit(self._listed, ns)) for ns in others]:
            try:
                source = namespace.mapped(anchor, options.source_namespace)
                for name, items in job.result().items():
                    self._tell_only_there(source, namespace, name, items)
            except ENDING:
                raise
            except PbsPushError as error:
                self._problem(f"target {namespace.label}", error)

    def _tell_only_there(
        self, namespace: Namespace, target: Namespace, group: Group, times: Iterable[int]
    ) -> None:
        for time in times:
            place = CopyPlace(namespace, target, Snapshot(group, time))
            self._report.add(CopyResult(place, CopyVerdict.TARGET_ONLY))

    def _problem(self, what: str, error: PbsPushError) -> None:
        self._report.add_problem(Problem(what, error))
        self._run.note("error", f"{what}: {error}")


def _never_pushed(source: Datastore, group: SourceGroup, item: SourceSnapshot) -> str | None:
    """Why no push ever takes a snapshot (push/group_rules.py); None: one does."""
    if group.owner is None:
        return "its group has no readable owner: a push skips it"
    if str(group.group) == "host/benchmark":
        return "a server keeps this group for its benchmarks"
    if is_checkpoint(source, item):
        return "it is a checkpoint of a push, and no backup"
    early = item.snapshot.backup_time < 1
    return "a server takes no snapshot from before 1970" if early else None


def _lacking(time: int, there: list[int]) -> CopyVerdict:
    """Why the target lacks a snapshot, by the times of those that it has of the group."""
    if not there or time > max(there):
        return CopyVerdict.NOT_PUSHED
    return CopyVerdict.OLDER if time < min(there) else CopyVerdict.GAP
