"""What is not in archives and may change after a snapshot was pushed: logs, notes, protection."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pbs_push.errors import PbsPushError
from pbs_push.names import CLIENT_LOG_NAME
from pbs_push.push.events import Note

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbs_push.push.events import Listener
    from pbs_push.push.options import PushOptions
    from pbs_push.push.plan import GroupPlan
    from pbs_push.push.report import Report
    from pbs_push.remote.models import SnapshotItem
    from pbs_push.remote.target import Target
    from pbs_push.source.datastore import Datastore
    from pbs_push.source.items import SourceSnapshot


class MetadataSync:
    """Brings the target's metadata up to date; what fails is a problem of the report."""

    def __init__(
        self,
        source: Datastore,
        target: Target,
        options: PushOptions,
        report: Report,
        notify: Listener,
        on_problem: Callable[[str, PbsPushError], None],
    ) -> None:
        self._source = source
        self._api = target.api
        self._options = options
        self._report = report
        self._notify = notify
        self._on_problem = on_problem

    def group(self, plan: GroupPlan, pushed: list[SourceSnapshot]) -> None:
        """All that is due for one group, after these snapshots of it were pushed."""
        if plan.log_for is not None:
            late = plan.log_for
            self._try(late.label, "adding its client log", partial(self._late_log, plan, late))
        for here, there in plan.common:
            if self._options.sync_metadata:
                self._try(here.label, "setting notes", partial(self._notes, plan, here, there))
            if self._options.sync_protected and here.protected != there.protected:
                self._protect(plan, here)
        if self._options.sync_protected:
            for item in pushed:
                if item.protected:
                    self._protect(plan, item)
        if self._options.sync_metadata and (plan.at_target is not None or pushed):
            self._try(plan.source.label, "setting notes", partial(self._group_notes, plan))

    def _protect(self, plan: GroupPlan, item: SourceSnapshot) -> None:
        self._try(item.label, "setting protection", partial(self._protected, plan, item))

    def _try(self, label: str, doing: str, step: Callable[[], None]) -> None:
        try:
            step()
        except PbsPushError as error:
            self._on_problem(f"{label}: {doing}", error)

    def _late_log(self, plan: GroupPlan, item: SourceSnapshot) -> None:
        """A log that appeared after its snapshot was pushed."""
        namespace = plan.target_namespace
        listed = self._api.snapshots(namespace, item.snapshot.group)
        there = [found for found in listed if found.backup_time == item.snapshot.backup_time]
        if not there or there[0].has_file(CLIENT_LOG_NAME):
            return
        with self._source.open_snapshot(item) as opened:
            log = opened.client_log()
        if log is not None:
            self._api.upload_log(namespace, item.snapshot, log)
            self._report.count(logs_added=1)
            self._notify(Note("info", f"{item.label}: client log added at the target"))

    def _notes(self, plan: GroupPlan, here: SourceSnapshot, there: SnapshotItem) -> None:
        """Lists show the first line only, so equal lines have to be looked at whole (spec 05)."""
        with self._source.open_snapshot(here, lock=False) as opened:
            notes = opened.manifest.notes or ""
        if not notes and not there.comment:
            return
        namespace = plan.target_namespace
        if notes == self._api.notes(namespace, here.snapshot):
            return
        self._api.set_notes(namespace, here.snapshot, notes)
        self._report.count(metadata_updates=1)
        self._notify(Note("info", f"{here.label}: notes set at the target"))

    def _group_notes(self, plan: GroupPlan) -> None:
        notes = self._source.group_notes(plan.source) or ""
        comment = plan.at_target.comment if plan.at_target is not None else None
        if not notes and not comment:
            return
        namespace, group = plan.target_namespace, plan.source.group
        if comment is not None and notes == self._api.group_notes(namespace, group):
            return
        self._api.set_group_notes(namespace, group, notes)
        self._report.count(metadata_updates=1)
        self._notify(Note("info", f"{plan.source.label}: group notes set at the target"))

    def _protected(self, plan: GroupPlan, item: SourceSnapshot) -> None:
        self._api.set_protected(plan.target_namespace, item.snapshot, protected=item.protected)
        self._report.count(metadata_updates=1)
        word = "protected" if item.protected else "no longer protected"
        self._notify(Note("info", f"{item.label}: {word} at the target"))
