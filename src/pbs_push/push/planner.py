"""Looks at both sides and makes the plan; changes nothing anywhere."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pbs_push.access.paths import datastore_path
from pbs_push.errors import AccessError, InvalidName, PbsPushError, ProtocolError
from pbs_push.names import CLIENT_LOG_NAME, Namespace
from pbs_push.push.mapping import check_depths
from pbs_push.push.plan import (
    GroupPlan,
    NamespacePlan,
    Plan,
    is_owned,
    namespaces_to_create,
    outcomes_of,
    plan_group,
)
from pbs_push.push.report import Result, Skip
from pbs_push.push.vanished import (
    VanishedNamespace,
    is_gone,
    judge_namespace,
    namespace_candidates,
    too_many,
    vanished_groups,
    why_not_to_look,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbs_push.formats.manifest import Manifest
    from pbs_push.names import Group
    from pbs_push.push.options import PushOptions
    from pbs_push.remote.models import GroupItem, SnapshotItem
    from pbs_push.remote.target import Target
    from pbs_push.source.datastore import Datastore
    from pbs_push.source.items import SnapshotList, SourceGroup, SourceSnapshot

LISTING_THREADS: Final = 8
"""As many REST requests at once as the pool has connections."""


class Planner:
    """Makes one plan. ``on_problem(what, error)`` is told what could not be looked at.

    ``on_problem`` is called from several threads.
    """

    def __init__(
        self,
        source: Datastore,
        target: Target,
        options: PushOptions,
        on_problem: Callable[[str, PbsPushError], None],
    ) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._on_problem = on_problem
        self._store = target.repository.datastore
        self._failed = False
        self._links = False

    def plan(self) -> Plan:
        """Decide about everything. Raises PbsPushError where nothing can be planned at all."""
        options = self._options
        options.access.require_source(options.source_name)
        options.access.require_remote(options.remote_name)
        with ThreadPoolExecutor(LISTING_THREADS, thread_name_prefix="plan") as pool:
            features = pool.submit(lambda: self._target.features)
            listed = pool.submit(self._target.api.namespaces, Namespace())
            found = self._source.namespaces(options.source_namespace, options.max_depth)
            check_depths(
                options.source_namespace, options.target_namespace, options.max_depth, found
            )
            visible = self._visible(found)
            features.result()
            existing = self._existing(listed.result, visible)
            jobs = [pool.submit(self._namespace, ns, existing) for ns in visible]
            plans = [plan for job in jobs if (plan := job.result()) is not None]
            vanished = self._vanished_namespaces(pool, found, existing, plans)
        return self._limited(Plan(tuple(_created_once(plans)), vanished))

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
        """The target's namespaces. A server that cannot list any still has its root (spec 03)."""
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
            # A right that is missing says nothing about what vanished: only this step fails.
            self._failed = self._failed or not isinstance(error, AccessError)
            self._on_problem(f"source {namespace.label}", error)
            return None

    def _planned_namespace(self, namespace: Namespace, existing: set[Namespace]) -> NamespacePlan:
        options = self._options
        target = namespace.mapped(options.source_namespace, options.target_namespace)
        options.access.require_push(options.remote_name, self._store, target)
        create = namespaces_to_create(target, existing)
        for missing in create:
            options.access.require_modify(options.remote_name, self._store, missing)
        at_target: dict[Group, GroupItem] = {}
        listed: dict[Group, list[SnapshotItem]] = {}
        if not create:
            at_target = self._groups_at_target(target)
            listed = self._snapshots_at_target(target)
        at_source = self._source.groups(namespace)
        made = (self._group(group, target, at_target, listed) for group in at_source)
        groups = tuple(group for group in made if group is not None)
        at_target_count = sum(
            item.backup_count
            for group, item in at_target.items()
            if is_owned(item, self._target.auth_id) and options.group_filters.accepts(group)
        )
        plan = NamespacePlan(
            namespace,
            target,
            create,
            groups,
            target_snapshots=at_target_count,
            incomplete=len(groups) < len(at_source),
        )
        return self._with_vanished(plan, at_source, at_target, listed)

    def _groups_at_target(self, namespace: Namespace) -> dict[Group, GroupItem]:
        found = {}
        for item in self._target.api.groups(namespace):
            try:
                found[item.group] = item
            except InvalidName:
                continue  # no such group can be at the source, nor may we remove it
        return found

    def _snapshots_at_target(self, namespace: Namespace) -> dict[Group, list[SnapshotItem]]:
        """All snapshots of a namespace in one request, where something needs them."""
        options = self._options
        found: dict[Group, list[SnapshotItem]] = {}
        if not (options.remove_vanished or options.sync_metadata or options.sync_protected):
            return found
        for item in self._target.api.snapshots(namespace):
            try:
                found.setdefault(item.snapshot.group, []).append(item)
            except InvalidName:
                continue
        return found

    def _with_vanished(
        self,
        plan: NamespacePlan,
        at_source: list[SourceGroup],
        at_target: dict[Group, GroupItem],
        listed: dict[Group, list[SnapshotItem]],
    ) -> NamespacePlan:
        """Add the groups to remove, or say why none is; likewise without their snapshots."""
        options = self._options
        if not options.remove_vanished:
            return plan
        if links := self._source.links_in(plan.source):
            self._links = True
            note = (
                f"source {plan.source.label}: {links[0]} is a symbolic link, and not "
                "followed: nothing is removed at the target for what may lie behind it"
            )
            groups = tuple(replace(group, vanished=()) for group in plan.groups)
            return replace(plan, groups=groups, notes=(note,))
        empty = not any(group.finished for group in plan.groups)
        if empty and at_target and not options.allow_empty_source:
            note = (
                f"source {plan.source.label} is empty (no finished snapshot) and the target's is "
                "not: nothing is removed there (--allow-empty-source would)"
            )
            groups = tuple(replace(group, vanished=()) for group in plan.groups)
            return replace(plan, groups=groups, notes=(note,))
        gone = vanished_groups(
            {item.group for item in at_source},
            at_target,
            listed,
            options.group_filters,
            self._target.auth_id,
        )
        if not gone and not any(group.vanished for group in plan.groups):
            return plan
        try:
            options.access.require_prune(options.remote_name, self._store, plan.target)
        except PbsPushError as error:  # this step fails, not the push
            self._on_problem(f"removing what vanished from the target's {plan.target.label}", error)
            groups = tuple(replace(group, vanished=()) for group in plan.groups)
            return replace(plan, groups=groups)
        return replace(plan, vanished=gone)

    # -- one group --

    def _group(
        self,
        group: SourceGroup,
        target: Namespace,
        at_target: dict[Group, GroupItem],
        listed: dict[Group, list[SnapshotItem]],
    ) -> GroupPlan | None:
        try:
            found = self._source.snapshots(group)
        except PbsPushError as error:
            self._failed = True
            self._on_problem(f"source group {group.label}", error)
            return None
        if not self._options.group_filters.accepts(group.group):
            return self._skipped(group, found, target, Skip.FILTERED)
        if not self._may_read(group):
            return self._skipped(group, found, target, Skip.NO_RIGHT)
        return plan_group(
            group,
            found,
            at_target.get(group.group),
            target,
            self._target.auth_id,
            self._options,
            self._read_manifest,
            self._has_log,
            listed.get(group.group, ()),
        )

    def _skipped(
        self, group: SourceGroup, found: SnapshotList, target: Namespace, skip: Skip
    ) -> GroupPlan:
        outcomes = outcomes_of(group, found.snapshots, Result.SKIPPED, skip)
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
        try:
            return CLIENT_LOG_NAME in self._source.archive_names(item)
        except PbsPushError:
            return False  # gone meanwhile: nothing to add

    # -- vanished namespaces --

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
        candidates = namespace_candidates(existing, mapped, options)
        if (
            self._failed
            or self._links
            or (
                not options.allow_empty_source
                and not any(group.finished for plan in plans for group in plan.groups)
            )
        ):
            why = "the push had errors" if self._failed else "the source is empty"
            why = "the source has symbolic links" if self._links else why
            return tuple(VanishedNamespace(ns, keep=why) for ns in candidates)
        looks = [(ns, why_not_to_look(ns, existing, candidates)) for ns in candidates]
        jobs = {ns: pool.submit(self._inside, ns) for ns, keep in looks if keep is None}
        judged: list[VanishedNamespace] = []
        for namespace, keep in looks:
            if keep is not None:
                judged.append(VanishedNamespace(namespace, keep=keep))
            else:
                judged.append(self._judged(namespace, jobs[namespace].result, judged))
        return tuple(judged)

    def _inside(self, namespace: Namespace) -> tuple[list[GroupItem], list[SnapshotItem]]:
        """What a target namespace holds."""
        groups = self._target.api.groups(namespace)
        return groups, self._target.api.snapshots(namespace) if groups else []

    def _judged(
        self,
        namespace: Namespace,
        inside: Callable[[], tuple[list[GroupItem], list[SnapshotItem]]],
        judged: list[VanishedNamespace],
    ) -> VanishedNamespace:
        options = self._options
        below = [other for other in judged if namespace.contains(other.namespace)]
        try:
            options.access.require_modify(options.remote_name, self._store, namespace)
            groups, listed = inside()
            return judge_namespace(
                namespace, groups, listed, below, options.group_filters, self._target.auth_id
            )
        except PbsPushError as error:
            if not is_gone(error):
                self._on_problem(f"removing target {namespace.label}", error)
            return VanishedNamespace(namespace, keep=str(error))

    def _limited(self, plan: Plan) -> Plan:
        """Forbid all removals where they are more than was allowed."""
        at_target = sum(ns.target_snapshots for ns in plan.namespaces)
        at_target += sum(item.snapshots + item.protected for item in plan.vanished)
        reason = too_many(plan.removals, at_target, self._options) if plan.removals else None
        return replace(plan, no_removals=reason)


def _created_once(plans: list[NamespacePlan]) -> list[NamespacePlan]:
    """Each namespace is created once: by the first plan, in order, that needs it."""
    seen: set[Namespace] = set()
    result = []
    for plan in plans:
        create = tuple(namespace for namespace in plan.create if namespace not in seen)
        seen.update(create)
        result.append(replace(plan, create=create))
    return result
