"""Looks at both sides and makes the plan; changes nothing anywhere."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from pbs_push.access.paths import datastore_path
from pbs_push.errors import (
    AccessError,
    InvalidName,
    PbsPushError,
    ProtocolError,
    SnapshotVanished,
    SourceError,
)
from pbs_push.names import CLIENT_LOG_NAME, Group, Namespace, placed, route_label
from pbs_push.push import late_logs
from pbs_push.push.checkpoint_mark import without_checkpoints
from pbs_push.push.findings import NO_FINDINGS, BothSides
from pbs_push.push.group_rules import plan_group
from pbs_push.push.mapping import check_depths
from pbs_push.push.metadata import MetadataComparison
from pbs_push.push.namespace_survey import NamespaceSurvey
from pbs_push.push.outcome import HeldBack, Skip
from pbs_push.push.plan import (
    GroupPlan,
    NamespacePlan,
    Plan,
    namespaces_to_create,
    outcomes_of,
)
from pbs_push.push.source_marks import no_longer_due, place_of
from pbs_push.push.vanished import vanished_groups
from pbs_push.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pbs_push.formats.manifest import Manifest
    from pbs_push.push.findings import Findings
    from pbs_push.push.outcome import Outcome
    from pbs_push.push.run import Run
    from pbs_push.push.vanished import VanishedNamespace
    from pbs_push.remote.api import TargetApi
    from pbs_push.remote.models import GroupItem, SnapshotItem
    from pbs_push.source.items import SnapshotList, SourceGroup, SourceSnapshot

LISTING_THREADS: Final = 8
"""As many REST requests at once as the pool has connections."""

_NOT_FOLLOWED: Final = "it is a symbolic link, or no folder, and is not followed"
_LINKS: Final = "the source has symbolic links, or files where folders should be"


class Planner:
    """Makes the plan of one run. What cannot be looked at is a problem of its report."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._source = run.source
        self._target = run.target
        self._api = run.api
        self._options = options = run.options
        self._on_problem = run.problem
        self._store = run.target.repository.datastore
        self._comparison = MetadataComparison(run)
        self._wants_lists = (
            options.remove_vanished or options.sync_metadata or options.sync_protected
        )
        self._comparers = ThreadPoolExecutor(LISTING_THREADS, thread_name_prefix="compare")
        self._anchor: Future[Mapping[Group, GroupItem]] | None = None
        """The groups of the target namespace that the source's first is mapped to."""
        self._failed = False
        self._links = False
        self._kept: list[SourceSnapshot] = []
        """Those that an earlier push has marked for this target, where this one sets no marks."""

    def plan(self) -> Plan:
        """Decide about everything. Raises PbsPushError where nothing can be planned at all."""
        options = self._options
        options.access.require_source(options.source_name)
        options.access.require_remote(options.remote_name)
        identity = self._run.look()
        found = self._source.namespaces(options.source_namespace, options.max_depth)
        check_depths(options.source_namespace, options.target_namespace, options.max_depth, found)
        visible = self._visible(found)
        listers = ThreadPoolExecutor(LISTING_THREADS, thread_name_prefix="plan")
        with listers as pool, self._comparers:
            # All at once, which saves two round trips; most often the last is all that is needed.
            features = pool.submit(self._run.trying, "GET version", lambda: self._target.features)
            listed = pool.submit(self._api.namespaces, Namespace())
            self._anchor = pool.submit(self._api.groups_by_name, options.target_namespace)
            features.result()
            existing = self._existing(listed.result, visible)
            jobs = [pool.submit(self._namespace, ns, existing) for ns in visible]
            plans = [plan for job in jobs if (plan := job.result()) is not None]
            vanished = self._vanished_namespaces(pool, found, existing, plans)
        notes = []
        if len(plans) == len(visible) and not self._failed and not any(p.finished for p in plans):
            notes.append("the source holds no finished snapshot to push")
        if self._kept:
            which = counted(len(self._kept), "snapshot")
            notes.append(
                f"an earlier push with --protect-source keeps {which} of the source from prune: "
                "push with it again, which ends that, or see docs/troubleshooting.md"
            )
        report = self._run.report
        return self._limited(
            Plan(
                tuple(_created_once(plans)),
                vanished,
                notes=tuple(notes),
                source_identity=identity,
                problems=tuple(report.problems),
                sides=report.sides,
            )
        )

    def _visible(self, found: list[Namespace]) -> list[Namespace]:
        """Those that the local user may see. Raises AccessError where that is none at all."""
        options = self._options
        store = options.source_name
        visible = [ns for ns in found if options.access.may_see_namespace(store, ns)]
        if not visible:
            path = datastore_path(store or "", options.source_namespace)
            raise AccessError(("Datastore.Read", "Datastore.Backup"), path, partial=True)
        return visible

    def _existing(
        self, listed: Callable[[], list[Namespace]], wanted: list[Namespace]
    ) -> set[Namespace]:
        """The target's namespaces. A server that cannot list any still has its root.

        See protocol/push.md, "Target namespaces".
        """
        try:
            return set(listed())
        except ProtocolError:
            if self._options.target_namespace.is_root and all(
                ns == self._options.source_namespace for ns in wanted
            ):
                return {Namespace()}
            raise

    # -- one namespace --

    def _namespace(self, namespace: Namespace, existing: set[Namespace]) -> NamespacePlan | None:
        try:
            return self._planned_namespace(namespace, existing)
        except PbsPushError as error:
            # A right that is missing says nothing about what vanished: only this step fails. But
            # one to make a namespace may be missing for what another was renamed to.
            options = self._options
            target = namespace.mapped(options.source_namespace, options.target_namespace)
            if not isinstance(error, AccessError) or target not in existing:
                self._failed = True
            self._on_problem(f"source {route_label(namespace, target)}", error)
            return None

    def _planned_namespace(self, namespace: Namespace, existing: set[Namespace]) -> NamespacePlan:
        options = self._options
        target = namespace.mapped(options.source_namespace, options.target_namespace)
        options.access.require_push(options.remote_name, self._store, target)
        create = namespaces_to_create(target, existing)
        for missing in create:
            options.access.require_modify(options.remote_name, self._store, missing)
        groups = {} if create else self._groups_at_target(target)
        at_target = _AtTarget(self._api, target, groups)
        look = partial(self._group, target=target, at_target=at_target)
        links: list[str] = []
        contents = self._source.contents(namespace, links)
        # Comparing notes takes a request for most snapshots.
        made = (self._comparers.map if options.sync_metadata else map)(look, contents)
        draft = _Draft()
        for group in made:
            draft.add(group)
        links = [path for path in links if self._is_pushed(namespace, path)]
        notes = [f"source {namespace.label}: {path}: {_NOT_FOLLOWED}" for path in links]
        plan = NamespacePlan(
            namespace,
            target,
            create,
            tuple(draft.groups),
            tuple(draft.settled),
            notes=tuple(notes),
            looked_at=len(draft.names),
            finished=draft.finished,
        )
        if links or draft.links:
            self._links = True
        if not options.remove_vanished:
            return plan
        plan = self._with_vanished(plan, at_target, draft)
        return plan.without_removals(_LINKS) if links or draft.links else plan

    def _is_pushed(self, namespace: Namespace, path: str) -> bool:
        """Whether what lies at a path of a namespace (``vm/100``, ``ns/a``) would be pushed."""
        options = self._options
        kind, _, name = path.partition("/")
        if kind == "ns":
            depth = len(namespace.components) - len(options.source_namespace.components)
            return options.max_depth is None or depth < options.max_depth
        with suppress(InvalidName):
            return not name or options.group_filters.accepts(Group(kind, name))
        return True

    def _groups_at_target(self, namespace: Namespace) -> Mapping[Group, GroupItem]:
        if self._anchor is not None and namespace == self._options.target_namespace:
            return self._anchor.result()
        return self._api.groups_by_name(namespace)

    def _with_vanished(
        self, plan: NamespacePlan, at_target: _AtTarget, draft: _Draft
    ) -> NamespacePlan:
        """Add the groups to remove, or say why none is; likewise without their snapshots."""
        options = self._options
        there = sum(
            item.backup_count
            for group, item in at_target.groups.items()
            if item.is_owned_by(self._target.auth_id) and options.group_filters.accepts(group)
        )
        gone = vanished_groups(
            draft.names,
            at_target.groups,
            at_target.snapshots,
            options.group_filters,
            self._target.auth_id,
        )
        plan = replace(plan, target_snapshots=there, vanished=gone)
        if gone and draft.unread:
            what = f"vanished groups of target {plan.target.label}"
            why = f"not all groups of source {plan.source.label} can be read"
            held = HeldBack(what, why)
            plan = replace(plan, vanished=(), held_back=(*plan.held_back, held))
        if not plan.finished and not options.allow_empty_source:
            plan = plan.without_removals(
                f"source {plan.source.label} is empty (no finished snapshot), and the target's is "
                "not; --allow-empty-source would remove it"
            )
        if not plan.removes:
            return plan
        try:
            options.access.require_prune(options.remote_name, self._store, plan.target)
        except PbsPushError as error:  # this step fails, not the push
            self._on_problem(f"removing what vanished from the target's {plan.target.label}", error)
            return plan.without_removals(None)
        return plan

    # -- one group --

    def _group(
        self,
        content: tuple[SourceGroup, SnapshotList | SourceError],
        target: Namespace,
        at_target: _AtTarget,
    ) -> GroupPlan | None:
        group, found = content
        if isinstance(found, SnapshotVanished):
            self._run.note("info", str(found))
            return GroupPlan(group, target, None)
        if isinstance(found, SourceError):
            self._failed = True
            name = placed(group.namespace, target, str(group.group))
            self._on_problem(f"source group {name}", found)
            return None
        if not self._options.group_filters.accepts(group.group):
            return self._skipped(group, found, target, Skip.FILTERED)
        if not self._may_read(group):
            return self._skipped(group, found, target, Skip.NO_RIGHT)
        item = at_target.groups.get(group.group)
        listed = self._listed(group, found, item, target, at_target)
        if listed is None and late_logs.candidate(found.snapshots, item, (), self._has_log):
            listed = at_target.snapshots.get(group.group, [])  # is it the same, and without a log?
        times = {one.snapshot.backup_time for one in found.snapshots}
        seen = without_checkpoints(item, listed, self._target.auth_id, times)
        item, listed = seen.item, seen.listed
        findings = self._findings(group, found, item, listed, target)
        plan = plan_group(
            group,
            found,
            item,
            target,
            self._target.auth_id,
            self._options,
            self._read_manifest,
            self._has_log,
            listed or (),
            findings,
        )
        plan = self._with_marks(plan, found)
        if seen.checkpoints:
            gone = () if plan.leave_alone else seen.checkpoints
            plan = replace(plan, newest_at_target=seen.newest, checkpoints=gone)
        if plan.log_for is not None:
            plan = self._with_late_log(plan, plan.log_for, at_target)
        wants_metadata = self._options.sync_metadata or self._options.sync_protected
        foreign = findings.leave_alone or findings.unrelated
        if plan.finished and wants_metadata and not foreign:
            common = late_logs.in_common(found.snapshots, listed or (), findings.unfit)
            plan = replace(plan, changes=self._comparison.changes(plan, item, common))
        return plan

    def _with_marks(self, plan: GroupPlan, found: SnapshotList) -> GroupPlan:
        """Add the marks that may go; they stay, and are told of, unless marks are asked for."""
        if not any(item.waits_for for item in found.snapshots):
            return plan
        place = place_of(self._target.repository, plan.target_namespace)
        if not self._options.protect_source:
            self._kept += [item for item in found.snapshots if place in item.waits_for]
            return plan
        left = no_longer_due(found.snapshots, plan.snapshots, plan.outcomes, place)
        return replace(plan, marks_left=left) if left else plan

    def _listed(
        self,
        group: SourceGroup,
        found: SnapshotList,
        item: GroupItem | None,
        target: Namespace,
        at_target: _AtTarget,
    ) -> Sequence[SnapshotItem] | None:
        """The target's snapshots of a group, where they are needed; None where they are not.

        The list of groups tells the newest one alone. If that is none of the source's, only the
        list tells whether there are others in common; so it does of a checkpoint before it.
        """
        newest = item.newest_finished if item is not None else None
        times = {one.snapshot.backup_time for one in found.snapshots if one.finished}
        hidden = newest is not None and bool(times) and newest not in times
        if newest is not None and not hidden:
            hidden = self._run.checkpoint_memory.may_have(target, group.group)
        if self._wants_lists or hidden:
            return at_target.snapshots.get(group.group, [])
        return None

    def _findings(
        self,
        group: SourceGroup,
        found: SnapshotList,
        item: GroupItem | None,
        listed: Sequence[SnapshotItem] | None,
        target: Namespace,
    ) -> Findings:
        if item is None or group.owner is None or not item.is_owned_by(self._target.auth_id):
            return NO_FINDINGS
        sides = BothSides(group, target, found.snapshots, item, listed, time.time())
        return sides.look(self._read_manifest, self._names_of)

    def _names_of(self, item: SourceSnapshot) -> list[str]:
        try:
            return self._source.archive_names(item)
        except PbsPushError:
            return []  # the push will say what is wrong, if it comes to that

    def _with_late_log(
        self, plan: GroupPlan, item: SourceSnapshot, at_target: _AtTarget
    ) -> GroupPlan:
        """Keep the late log in the plan only if it can go to the target's copy of its snapshot."""
        without = replace(plan, log_for=None)
        label = plan.name_of(str(item.snapshot))
        try:
            copy = late_logs.lacking(item, at_target.snapshots.get(item.snapshot.group, []))
            if copy is None:
                return without
            why = late_logs.why_not(self._read_manifest(item), copy, self._options.encryption_key)
        except PbsPushError as error:
            self._on_problem(f"{label}: looking at its client log", error)
            return without
        if why is None:
            return plan
        note = f"{label}: its client log, which came late, is not added: {why}"
        return replace(without, notes=(*plan.notes, note))

    def _skipped(
        self, group: SourceGroup, found: SnapshotList, target: Namespace, skip: Skip
    ) -> GroupPlan:
        outcomes = outcomes_of(group, target, found.snapshots, skip)
        finished = sum(item.finished for item in found.snapshots)
        return GroupPlan(group, target, None, outcomes=outcomes, finished=finished)

    def _may_read(self, group: SourceGroup) -> bool:
        if group.owner is None:
            return True  # it is skipped for that reason, with a warning
        return self._options.access.may_read_group(
            self._options.source_name, group.namespace, group.owner
        )

    def _read_manifest(self, item: SourceSnapshot) -> Manifest:
        with self._source.open_snapshot(item, lock=False) as opened:
            return opened.manifest

    def _has_log(self, item: SourceSnapshot) -> bool:
        return self._source.has_file(item, CLIENT_LOG_NAME)

    # -- removals as a whole --

    def _vanished_namespaces(
        self,
        pool: ThreadPoolExecutor,
        found: list[Namespace],
        existing: set[Namespace],
        plans: list[NamespacePlan],
    ) -> tuple[VanishedNamespace, ...]:
        options = self._options
        if not options.remove_vanished:
            return ()
        mapped = {ns.mapped(options.source_namespace, options.target_namespace) for ns in found}
        survey = NamespaceSurvey(self._run, existing, mapped)
        why = self._why_no_namespace_vanished(plans)
        return survey.hold_all_back(why) if why is not None else survey.look(pool)

    def _why_no_namespace_vanished(self, plans: list[NamespacePlan]) -> str | None:
        """Why the source does not tell which of the target's namespaces vanished from it."""
        if self._links:
            return _LINKS
        if self._failed:
            return "the push had errors"
        empty = not any(plan.finished for plan in plans)
        return "the source is empty" if empty and not self._options.allow_empty_source else None

    def _limited(self, plan: Plan) -> Plan:
        """Forbid all removals where they are more than was allowed."""
        at_target = sum(ns.target_snapshots for ns in plan.namespaces)
        at_target += sum(item.snapshots + item.protected for item in plan.vanished)
        limit = self._options.max_removals
        if limit is None or not plan.removals:
            return plan
        return replace(plan, no_removals=limit.exceeded_by(plan.removals, at_target))


class _Draft:
    """What was found of a namespace's groups so far."""

    def __init__(self) -> None:
        self.groups: list[GroupPlan] = []
        self.settled: list[Outcome] = []
        self.names: set[Group] = set()
        self.finished = 0
        self.unread = 0
        self.links = False

    def add(self, plan: GroupPlan | None) -> None:
        """Take a group; None for one that could not be read."""
        if plan is None:
            self.unread += 1
            return
        self.names.add(plan.source.group)
        self.finished += plan.finished
        self.links = self.links or plan.has_links
        if plan.is_quiet:
            self.settled += plan.outcomes
        else:
            self.groups.append(plan)


class _AtTarget:
    """What a target namespace holds, by group; nothing where it does not exist yet.

    ``snapshots``, of all groups in one request, are asked for where something needs them.
    """

    def __init__(
        self, api: TargetApi, namespace: Namespace, groups: Mapping[Group, GroupItem]
    ) -> None:
        self._api = api
        self._namespace = namespace
        self.groups: Final = groups
        self._lock = threading.Lock()
        self._snapshots: dict[Group, list[SnapshotItem]] | None = None

    @property
    def snapshots(self) -> dict[Group, list[SnapshotItem]]:
        with self._lock:
            if self._snapshots is None:
                self._snapshots = self._listed()
            return self._snapshots

    def _listed(self) -> dict[Group, list[SnapshotItem]]:
        found: dict[Group, list[SnapshotItem]] = {}
        for item in self._api.snapshots(self._namespace) if self.groups else ():
            with suppress(InvalidName):  # no such group can be at the source
                found.setdefault(item.snapshot.group, []).append(item)
        return found


def _created_once(plans: list[NamespacePlan]) -> list[NamespacePlan]:
    """Each namespace is created once: by the first plan, in order, that needs it."""
    seen: set[Namespace] = set()
    result = []
    for plan in plans:
        create = tuple(namespace for namespace in plan.create if namespace not in seen)
        seen.update(create)
        result.append(replace(plan, create=create))
    return result
