"""Removes at the target what a plan says has vanished, and counts only what the target confirms."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from pbs_push.errors import PbsPushError, StatusError
from pbs_push.push.events import Note

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbs_push.names import Group, Namespace
    from pbs_push.push.events import Listener
    from pbs_push.push.plan import GroupPlan, NamespacePlan
    from pbs_push.push.report import Report
    from pbs_push.push.vanished import VanishedGroup, VanishedNamespace
    from pbs_push.remote.models import DeleteStatistics
    from pbs_push.remote.target import Target


class Remover:
    """Carries out removals. What fails is a problem, what has to stay is a line; the rest goes on.

    Every method raises only what ends the whole push (Cancelled, from the listener).
    """

    def __init__(
        self,
        target: Target,
        report: Report,
        notify: Listener,
        on_problem: Callable[[str, PbsPushError], None],
    ) -> None:
        self._api = target.api
        self._target = target
        self._report = report
        self._notify = notify
        self._on_problem = on_problem

    def snapshots(self, plan: GroupPlan) -> None:
        """Forget the vanished snapshots of a group that was pushed without an error."""
        for item in plan.vanished:
            where = _place(plan.target_namespace, str(item.snapshot))
            if item.protected:
                self._report.count_removed(protected=1)
                self._info(f"{where}: vanished, but protected at the target: it stays")
                continue
            try:
                self._api.delete_snapshot(plan.target_namespace, item.snapshot)
            except StatusError as error:
                if item.finished:
                    self._on_problem(f"removing {where}", error)
                else:
                    self._info(f"{where}: vanished, but unfinished, it may be in use: {error}")
            except PbsPushError as error:
                self._on_problem(f"removing {where}", error)
            else:
                self._report.count_removed(snapshots=1)
                self._info(f"{where}: removed, it vanished from the source")

    def groups(self, plan: NamespacePlan) -> None:
        """Remove the vanished groups of a namespace that was pushed without an error."""
        for item in plan.vanished:
            where = _place(plan.target, str(item.group))
            try:
                self._group(plan.target, item, where)
            except PbsPushError as error:
                self._on_problem(f"removing group {where}", error)

    def namespace(self, item: VanishedNamespace) -> None:
        """Remove a vanished namespace, or say why it stays."""
        where = item.namespace.label
        if item.keep is not None:
            self._info(f"{where}: vanished from the source, but stays at the target: {item.keep}")
            return
        try:
            statistics = self._api.delete_namespace(
                item.namespace, self._target.features, delete_groups=True
            )
        except StatusError as error:
            if error.status == HTTPStatus.BAD_REQUEST and "ENOENT" in error.text:
                self._info(f"{where}: gone meanwhile at the target")
            else:
                self._on_problem(f"removing {where}", error)
        except PbsPushError as error:
            self._on_problem(f"removing {where}", error)
        else:
            self._removed_namespace(where, statistics)

    def _removed_namespace(self, where: str, statistics: DeleteStatistics) -> None:
        protected = statistics.protected_snapshots
        self._report.count_removed(
            namespaces=0 if protected else 1,
            groups=statistics.removed_groups,
            snapshots=statistics.removed_snapshots,
            protected=protected,
        )
        if protected:
            self._info(f"{where}: vanished, but stays: it holds {protected} protected snapshots")
        else:
            self._info(f"{where}: removed, it vanished from the source")

    def _group(self, namespace: Namespace, item: VanishedGroup, where: str) -> None:
        try:
            statistics = self._api.delete_group(namespace, item.group, self._target.features)
        except StatusError:
            # A refused delete has removed what was not protected (spec 02): look what is gone.
            left = self._protected_left(namespace, item.group)
            gone = max(0, item.snapshots - left)
            self._report.count_removed(snapshots=gone, protected=left)
            if not gone and not left:
                raise
            self._info(f"{where}: vanished, {gone} snapshots removed, {left} protected ones stay")
            return
        protected = statistics.protected_snapshots
        self._report.count_removed(
            groups=0 if protected else max(1, statistics.removed_groups),
            snapshots=statistics.removed_snapshots,
            protected=protected,
        )
        if protected:
            self._info(f"{where}: vanished, but stays: {protected} snapshots are protected")
        else:
            self._info(f"{where}: removed, it vanished from the source")

    def _protected_left(self, namespace: Namespace, group: Group) -> int:
        """How many protected snapshots a group still has; 0 if others are left too."""
        left = self._api.snapshots(namespace, group)
        return len(left) if all(item.protected for item in left) else 0

    def _info(self, text: str) -> None:
        self._notify(Note("info", text))


def _place(namespace: Namespace, name: str) -> str:
    return f"target {name}" if namespace.is_root else f"target {name} in {namespace.label}"
