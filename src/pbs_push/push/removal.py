"""Removes at the target what a plan says has vanished, and counts only what the target confirms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbs_push.errors import PbsPushError, StatusError
from pbs_push.push.events import Note
from pbs_push.push.vanished import is_gone, why_to_keep

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbs_push.access.filters import GroupFilters
    from pbs_push.names import Group, Namespace
    from pbs_push.push.events import Listener
    from pbs_push.push.plan import GroupPlan, NamespacePlan
    from pbs_push.push.report import Report
    from pbs_push.push.vanished import VanishedGroup, VanishedNamespace, VanishedSnapshot
    from pbs_push.remote.models import DeleteStatistics, SnapshotItem
    from pbs_push.remote.target import Target


class Remover:
    """Carries out removals. What fails is a problem, what has to stay is a line; the rest goes on.

    ``filters`` are those of the push. Every method raises only what ends the whole push: Cancelled,
    from ``check_cancelled``, which is called before each removal.
    """

    def __init__(
        self,
        target: Target,
        filters: GroupFilters,
        report: Report,
        notify: Listener,
        on_problem: Callable[[str, PbsPushError], None],
        check_cancelled: Callable[[], None],
    ) -> None:
        self._api = target.api
        self._target = target
        self._filters = filters
        self._report = report
        self._notify = notify
        self._on_problem = on_problem
        self._check_cancelled = check_cancelled
        self._stayed: list[Namespace] = []

    def snapshots(self, plan: GroupPlan) -> None:
        """Forget the vanished snapshots of a group that was pushed without an error."""
        for item in plan.vanished:
            self._check_cancelled()
            where = _place(plan.target_namespace, str(item.snapshot))
            if item.protected:
                self._report.count_removed(protected=1)
                self._info(f"{where}: vanished, but protected at the target: it stays")
                continue
            try:
                self._api.delete_snapshot(plan.target_namespace, item.snapshot)
            except PbsPushError as error:
                self._snapshot_stays(plan.target_namespace, item, where, error)
            else:
                self._report.count_removed(snapshots=1)
                self._info(f"{where}: removed, it vanished from the source")

    def groups(self, plan: NamespacePlan) -> None:
        """Remove the vanished groups of a namespace that was pushed without an error."""
        for item in plan.vanished:
            self._check_cancelled()
            where = _place(plan.target, str(item.group))
            try:
                self._group(plan.target, item, where)
            except PbsPushError as error:
                self._on_problem(f"removing group {where}", error)

    def namespace(self, item: VanishedNamespace) -> None:
        """Remove a vanished namespace, or say why it stays; those below it must come before."""
        self._check_cancelled()
        where = f"target {item.namespace.label}"
        try:
            keep = item.keep or self._why_to_keep_now(item)
            if keep is not None:
                self._stayed.append(item.namespace)
                self._info(f"{where}: vanished from the source, but stays: {keep}")
                return
            statistics = self._api.delete_namespace(
                item.namespace, self._target.features, delete_groups=True
            )
        except PbsPushError as error:
            self._namespace_stays(item, where, error)
        else:
            self._removed_namespace(item, where, statistics)

    # -- snapshots --

    def _snapshot_stays(
        self, namespace: Namespace, item: VanishedSnapshot, where: str, error: PbsPushError
    ) -> None:
        """What a failed removal means: nothing, where it is gone; little, where it is in use."""
        if not isinstance(error, StatusError):
            self._on_problem(f"removing {where}", error)
        elif self._is_gone(namespace, item):
            self._info(f"{where}: gone meanwhile at the target")
        elif item.finished:
            self._on_problem(f"removing {where}", error)
        else:
            self._info(f"{where}: vanished, but unfinished, it may be in use: {error}")

    def _is_gone(self, namespace: Namespace, item: VanishedSnapshot) -> bool:
        try:
            left = self._api.snapshots(namespace, item.snapshot.group)
        except PbsPushError:
            return False
        return all(other.backup_time != item.snapshot.backup_time for other in left)

    # -- groups --

    def _group(self, namespace: Namespace, item: VanishedGroup, where: str) -> None:
        try:
            statistics = self._api.delete_group(namespace, item.group, self._target.features)
        except StatusError as error:
            self._group_stays(namespace, item, where, error)
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

    def _group_stays(
        self, namespace: Namespace, item: VanishedGroup, where: str, error: StatusError
    ) -> None:
        """A refused removal has removed what was not protected (spec 02): look what is left."""
        left = self._left(namespace, item.group, error)
        if not left:
            self._info(f"{where}: gone meanwhile at the target")
            return
        protected = sum(snapshot.protected for snapshot in left)
        gone = max(0, item.snapshots + item.protected - len(left))
        self._report.count_removed(snapshots=gone, protected=protected)
        if protected < len(left):
            raise error
        self._info(f"{where}: vanished, {gone} snapshots removed, {protected} protected ones stay")

    def _left(
        self, namespace: Namespace, group: Group | None, error: StatusError
    ) -> list[SnapshotItem]:
        """What is left after a removal was refused; raises that error where it cannot be asked."""
        try:
            return self._api.snapshots(namespace, group)
        except PbsPushError:
            raise error from None

    # -- namespaces --

    def _why_to_keep_now(self, item: VanishedNamespace) -> str | None:
        """A push takes hours: look again at what would be deleted, whoever owns it."""
        for below in self._stayed:
            if item.namespace.contains(below):
                return f"{below.label} below it stays"
        groups = self._api.groups(item.namespace)
        if keep := why_to_keep(groups, self._filters, self._target.auth_id):
            return keep
        count = sum(group.backup_count for group in groups)
        if count > item.snapshots + item.protected:
            return "a backup came into it since the push began"
        return None

    def _namespace_stays(self, item: VanishedNamespace, where: str, error: PbsPushError) -> None:
        """As with groups: what was not protected may be gone all the same."""
        if is_gone(error):
            self._info(f"{where}: gone meanwhile at the target")
            return
        self._stayed.append(item.namespace)
        try:
            left = self._left(item.namespace, None, error) if isinstance(error, StatusError) else []
        except StatusError:
            left = []
        protected = sum(snapshot.protected for snapshot in left)
        gone = max(0, item.snapshots + item.protected - len(left)) if left else 0
        self._report.count_removed(snapshots=gone, protected=protected)
        if left and protected == len(left):
            self._say_protected(where, protected)
        else:
            self._on_problem(f"removing {where}", error)

    def _removed_namespace(
        self, item: VanishedNamespace, where: str, statistics: DeleteStatistics
    ) -> None:
        protected = statistics.protected_snapshots
        self._report.count_removed(
            namespaces=0 if protected else 1,
            groups=statistics.removed_groups,
            snapshots=statistics.removed_snapshots,
            protected=protected,
        )
        if protected:
            self._stayed.append(item.namespace)
            self._say_protected(where, protected)
        else:
            self._info(f"{where}: removed, it vanished from the source")

    def _say_protected(self, where: str, number: int) -> None:
        text = f"{where}: vanished, but stays: it holds {number} protected snapshots"
        self._notify(Note("warning", text))

    def _info(self, text: str) -> None:
        self._notify(Note("info", text))


def _place(namespace: Namespace, name: str) -> str:
    return f"target {name}" if namespace.is_root else f"target {name} in {namespace.label}"
