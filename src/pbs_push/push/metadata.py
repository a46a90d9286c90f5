"""What is not in archives and may change after a snapshot was pushed: logs, notes, protection."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pbs_push.errors import PbsPushError, SnapshotVanished, StatusError
from pbs_push.push import late_logs
from pbs_push.push.changes import MetadataChange, MetadataKind
from pbs_push.push.encryption import encrypt_log
from pbs_push.push.findings import about_snapshot
from pbs_push.push.outcome import Finding
from pbs_push.push.sameness import difference_in_list
from pbs_push.remote.pacing import Paced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pbs_push.push.plan import GroupPlan
    from pbs_push.push.run import Run
    from pbs_push.remote.models import GroupItem, SnapshotItem
    from pbs_push.source.items import SourceSnapshot

    Common = Sequence[tuple[SourceSnapshot, SnapshotItem]]


class MetadataComparison:
    """Finds out what differs; changes nothing. What cannot be compared is a problem."""

    def __init__(self, run: Run) -> None:
        self._source = run.source
        self._api = run.api
        self._options = run.options
        self._on_problem = run.problem

    def changes(
        self, plan: GroupPlan, at_target: GroupItem | None, common: Common
    ) -> tuple[MetadataChange, ...]:
        """What is to be set for one group. ``common`` are the snapshots that both sides have."""
        found: list[MetadataChange] = []
        if self._options.sync_metadata:
            found += self._all_notes(plan, at_target, common)
        if self._options.sync_protected:
            found += _protection(plan, common)
        return tuple(found)

    def _all_notes(
        self, plan: GroupPlan, at_target: GroupItem | None, common: Common
    ) -> Iterator[MetadataChange]:
        steps = [
            (
                plan.name_of(str(here.snapshot)),
                partial(self._notes, plan, here, there.comment),
            )
            for here, there in common
        ]
        if at_target is not None or plan.snapshots:
            steps.append((plan.label, partial(self._group_notes, plan, at_target)))
        for label, step in steps:
            try:
                change = step()
            except PbsPushError as error:
                self._on_problem(f"{label}: comparing notes", error)
            else:
                if change is not None:
                    yield change

    def _notes(
        self, plan: GroupPlan, here: SourceSnapshot, first_line: str | None
    ) -> MetadataChange | None:
        """Lists show the first line only, which may be empty, so the whole is asked for.

        See protocol/push.md, "Notes and protection".

        Without any line there are no notes.
        """
        with self._source.open_snapshot(here, lock=False) as opened:
            notes = opened.manifest.notes or ""
        there = ""
        if first_line is not None:
            there = self._api.notes(plan.target_namespace, here.snapshot)
        return None if notes == there else MetadataChange(MetadataKind.NOTES, here, notes)

    def _group_notes(self, plan: GroupPlan, at_target: GroupItem | None) -> MetadataChange | None:
        notes = self._source.group_notes(plan.source) or ""
        there = ""
        if at_target is not None and at_target.comment is not None:
            there = self._api.group_notes(plan.target_namespace, plan.source.group)
        if notes == there:
            return None
        return MetadataChange(MetadataKind.GROUP_NOTES, None, notes, after_push=at_target is None)


def _protection(plan: GroupPlan, common: Common) -> Iterator[MetadataChange]:
    for here, there in common:
        if here.protected != there.protected:
            kind = MetadataKind.PROTECT if here.protected else MetadataKind.UNPROTECT
            yield MetadataChange(kind, here)
    for item in plan.snapshots:
        if item.protected:
            yield MetadataChange(MetadataKind.PROTECT, item, after_push=True)


class MetadataSync:
    """Brings the target's metadata up to date; what fails is a problem of the report.

    Cancelled is all that is raised.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._source = run.source
        self._api = run.api
        self._key = run.options.encryption_key

    def log(self, plan: GroupPlan, item: SourceSnapshot) -> None:
        """Add the client log of a snapshot of the group that the target has without."""
        label = plan.name_of(str(item.snapshot))
        self._try(label, "adding its client log", partial(self._late_log, plan, item, label))

    def group(self, plan: GroupPlan, pushed: list[SourceSnapshot]) -> None:
        """All that is due for one group, after these snapshots of it were pushed."""
        if plan.log_for is not None:
            self.log(plan, plan.log_for)
        for change in plan.changes:
            if change.is_due(pushed):
                item = change.snapshot
                label = plan.label if item is None else plan.name_of(str(item.snapshot))
                self._try(label, "updating metadata", partial(self._apply, plan, change, label))

    def _try(self, label: str, doing: str, step: Callable[[], None]) -> None:
        self._run.check_cancelled()
        try:
            step()
        except SnapshotVanished as error:
            self._run.note("info", f"{label}: {doing}: {error}")
        except PbsPushError as error:
            self._run.problem(f"{label}: {doing}", error)

    def _late_log(self, plan: GroupPlan, item: SourceSnapshot, label: str) -> None:
        """A log that appeared after its snapshot was pushed."""
        namespace = plan.target_namespace
        listed = self._api.snapshots(namespace, item.snapshot.group)
        copy = late_logs.lacking(item, listed)
        if copy is None:
            return
        with self._source.open_snapshot(item) as opened:
            log = opened.client_log()
            manifest = opened.manifest
        if log is None:
            return
        if why := difference_in_list(manifest, copy):
            self._run.alert(
                about_snapshot(
                    Finding.OTHER_CONTENT,
                    item.namespace,
                    namespace,
                    item.snapshot.group,
                    item.snapshot.backup_time,
                    why,
                )
            )
            return
        if why := late_logs.why_not(manifest, copy, self._key):
            self._run.note("warning", f"{label}: its client log is not added: {why}")
            return
        log = encrypt_log(log, manifest, self._key)
        paced = Paced(log, self._run.pacer, self._run.check_cancelled)
        try:
            self._api.upload_log(namespace, item.snapshot, paced)
        except StatusError:
            # Of a try before, the answer alone may have been lost; or another push was quicker.
            if not late_logs.has_one(item, self._api.snapshots(namespace, item.snapshot.group)):
                raise
        self._run.report.count(logs_added=1)
        self._run.note("info", f"{label}: client log added at the target")

    def _apply(self, plan: GroupPlan, change: MetadataChange, label: str) -> None:
        namespace = plan.target_namespace
        if change.snapshot is None:
            self._api.set_group_notes(namespace, plan.source.group, change.notes)
        elif change.kind is MetadataKind.NOTES:
            self._api.set_notes(namespace, change.snapshot.snapshot, change.notes)
        else:
            protected = change.kind is MetadataKind.PROTECT
            self._api.set_protected(namespace, change.snapshot.snapshot, protected=protected)
        self._run.report.count(metadata_updates=1)
        self._run.note("info", f"{label}: set at the target: {change.kind.value}")
