"""Removes at the target what a plan says has vanished, and counts only what the target confirms."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeVar

from pbs_push.errors import BusyError, Cancelled, PbsPushError, SnapshotVanished, StatusError
from pbs_push.push.events import Removal
from pbs_push.push.outcome import HeldBack
from pbs_push.push.patience import Patience
from pbs_push.push.vanished import VanishedGroup, is_gone, why_to_keep
from pbs_push.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pbs_push.names import Group, Namespace, Snapshot
    from pbs_push.push.plan import GroupPlan, NamespacePlan
    from pbs_push.push.run import Run
    from pbs_push.push.vanished import VanishedNamespace, VanishedSnapshot
    from pbs_push.remote.models import GroupItem, SnapshotItem


T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE: Final = 8
"""Groups that are removed at once, unless ``parallel`` says fewer."""
_VANISHED: Final = "it vanished from the source"
_GREW: Final = "a backup came into it since the push began"


class Remover:
    """Carries out removals. What fails is a problem, what has to stay is a line; the rest goes on.

    Every method raises only what ends the whole push: Cancelled.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._source = run.source
        self._target = run.target
        self._api = run.api
        self._options = run.options
        self._filters = run.options.group_filters
        self._report = run.report
        self._on_problem = run.problem
        self._check_cancelled = run.check_cancelled
        self._stayed: list[Namespace] = []

    def dead(self, plan: GroupPlan, item: VanishedSnapshot) -> None:
        """Forget what has no manifest and is in the way of a push."""
        self._snapshot(plan.target_namespace, item, "it was dead, and in the way of a push")

    def checkpoint(self, namespace: Namespace, snapshot: Snapshot) -> bool:
        """Forget a checkpoint of ours; one that stays is told, and harms nothing: then False."""
        where = _place(namespace, str(snapshot))
        try:
            self._patiently(where, partial(self._api.delete_snapshot, namespace, snapshot))
        except Cancelled:
            raise
        except PbsPushError as error:
            if not is_gone(error):
                text = f"{where}: this checkpoint of a push is not needed any more, but stays"
                self._run.note("warning", f"{text}: {error}")
                return False
        return True

    def snapshots(self, plan: GroupPlan) -> None:
        """Forget the vanished snapshots of a group that was pushed without an error."""
        where = _place(plan.target_namespace, str(plan.source.group))
        try:
            with self._run.source_staying():
                here = self._source.snapshots(plan.source).snapshots
            there = self._api.snapshots(plan.target_namespace, plan.source.group)
        except SnapshotVanished as error:
            self._hold_back(plan, str(error))
            return
        except PbsPushError as error:
            self._on_problem(f"removing what vanished from {where}", error)
            return
        finished = {item.snapshot.backup_time for item in here if item.finished}
        lasting = any(item.backup_time in finished for item in there if item.finished)
        if plan.finished and not lasting and not self._options.allow_empty_source:
            self._hold_back(plan, "the target has no other snapshot of the source's")
            return
        again = {item.snapshot.backup_time for item in here}
        for item in plan.vanished:
            if item.snapshot.backup_time not in again:
                self._snapshot(plan.target_namespace, item, _VANISHED)

    def _hold_back(self, plan: GroupPlan, why: str) -> None:
        what = f"what vanished from target {plan.target_label}"
        self._run.hold_back(HeldBack(what, why))

    def groups(self, plan: NamespacePlan) -> None:
        """Remove the vanished groups of a namespace that was pushed without an error."""
        if not plan.vanished:
            return
        try:
            there = self._api.groups_by_name(plan.target)
            with self._run.source_staying():
                here = {item.group for item in self._source.groups(plan.source)}
        except PbsPushError as error:
            self._on_problem(f"removing groups of target {plan.target.label}", error)
            return

        def remove(item: VanishedGroup) -> None:
            self._check_cancelled()
            where = _place(plan.target, str(item.group))
            try:
                now = there.get(item.group)
                if now is None:
                    self._info(f"{where}: gone meanwhile at the target")
                    return
                keep = self._why_to_keep_group(plan.target, item, now, here)
                if keep is None:
                    self._group(plan.target, item, where)
                else:
                    self._report.count_kept(groups=1)
                    self._info(f"{where}: vanished from the source, but stays: {keep}")
            except PbsPushError as error:
                self._on_problem(f"removing group {where}", error)

        self._some_at_once(remove, plan.vanished)

    def namespace(self, item: VanishedNamespace, *, why_not: str | None = None) -> None:
        """Remove a vanished namespace, or say why it stays; those below it must come before.

        It is held back if the plan says so, or ``why_not``, unless a rule keeps it anyway.

        Its groups are removed by themselves, and then the namespace only if it is empty: the target
        would remove with it what we were never shown
        (protocol/push.md, "Vanished namespaces").
        """
        self._check_cancelled()
        where = f"target {item.namespace.label}"
        if item.held_back or (item.keep is None and why_not is not None):
            self._stayed.append(item.namespace)
            self._run.hold_back(HeldBack(f"vanished {where}", item.keep or why_not or ""))
            return
        try:
            groups = [] if item.keep else list(self._api.groups_by_name(item.namespace).values())
            keep = item.keep or self._why_to_keep_now(item, groups)
            if keep is not None:
                self._stays(item.namespace, f"{where}: vanished from the source, but stays: {keep}")
                return
            left = self._some_at_once(partial(self._group_of_vanished, item.namespace), groups)
            if None in left:
                text = f"{where}: vanished, but stays: not all of it could be removed"
                self._stays(item.namespace, text)
                return
            if staying := sum(filter(None, left)):
                held = counted(staying, "snapshot")
                text = f"{where}: vanished, but stays: it holds {held}, protected or in use"
                self._stays(item.namespace, text)
                return
            self._api.delete_empty_namespace(item.namespace)
        except PbsPushError as error:
            if is_gone(error):
                self._info(f"{where}: gone meanwhile at the target")
            elif isinstance(error, StatusError) and error.status == HTTPStatus.BAD_REQUEST:
                self._stayed.append(item.namespace)
                text = f"the target keeps it: {error}; a group that is empty may be in it"
                self._run.hold_back(HeldBack(f"vanished {where}", text))
            else:
                self._stayed.append(item.namespace)
                self._on_problem(f"removing {where}", error)
            return
        self._report.count_removed(namespaces=1)
        self._run.notify(Removal("namespace", item.namespace, str(item.namespace), _VANISHED))

    def _group_of_vanished(self, namespace: Namespace, item: GroupItem) -> int | None:
        """Remove a group of a vanished namespace; how many snapshots stay, protected or in use.

        None: it stays, and that is a problem.
        """
        self._check_cancelled()
        where = _place(namespace, str(item.group))
        try:
            listed = self._api.snapshots(namespace, item.group)
            protected = sum(snapshot.protected for snapshot in listed)
            group = VanishedGroup(item.group, len(listed) - protected, protected)
            return self._group(namespace, group, where)
        except PbsPushError as error:
            if is_gone(error):
                return 0
            self._on_problem(f"removing group {where}", error)
            return None

    def _stays(self, namespace: Namespace, text: str) -> None:
        self._stayed.append(namespace)
        self._report.count_kept(namespaces=1)
        self._run.note("warning", text)

    # -- snapshots --

    def _snapshot(self, namespace: Namespace, item: VanishedSnapshot, why: str) -> None:
        self._check_cancelled()
        where = _place(namespace, str(item.snapshot))
        if item.protected:
            self._report.count_removed(protected=1)
            self._info(f"{where}: vanished, but protected at the target: it stays")
            return
        delete = partial(self._api.delete_snapshot, namespace, item.snapshot)
        try:
            if item.finished:
                self._patiently(where, delete)
            else:
                delete()  # whoever writes it holds its lock for as long as that takes
        except PbsPushError as error:
            self._snapshot_stays(namespace, item, where, error)
        else:
            self._report.count_removed(snapshots=1)
            self._run.notify(Removal("snapshot", namespace, str(item.snapshot), why))

    def _snapshot_stays(
        self, namespace: Namespace, item: VanishedSnapshot, where: str, error: PbsPushError
    ) -> None:
        """What a failed removal means: nothing, where it is gone; little, where it is in use."""
        if not isinstance(error, StatusError):
            self._on_problem(f"removing {where}", error)
            return
        try:
            left = {
                other.backup_time: other
                for other in self._api.snapshots(namespace, item.snapshot.group)
            }
        except PbsPushError:
            self._on_problem(f"removing {where}", error)
            return
        now = left.get(item.snapshot.backup_time)
        if now is None:
            self._info(f"{where}: gone meanwhile at the target")
        elif now.protected:
            self._report.count_removed(protected=1)
            self._info(f"{where}: vanished, but protected at the target: it stays")
        elif not item.finished:
            self._info(f"{where}: stays; it is unfinished and may be in use: {error}")
        elif isinstance(error, BusyError):
            self._info(f"{where}: vanished, but stays: it is in use at the target: {error.text}")
        else:
            self._on_problem(f"removing {where}", error)

    def _patiently(self, where: str, remove: Callable[[], R]) -> R:
        """Remove; what is locked is waited for. Raises BusyError when it was enough."""
        patience = Patience(self._options.lock_wait_s)
        while True:
            try:
                return remove()
            except BusyError as error:
                pause_s = patience.pause()
                if pause_s is None:
                    raise
                if patience.waited_s == pause_s:
                    self._info(f"{where}: waiting, it is in use at the target: {error.text}")
                self._run.pause(pause_s)

    # -- groups --

    def _some_at_once(self, work: Callable[[T], R], groups: Iterable[T]) -> list[R]:
        """What ``work`` returns for each: to look, and to remove, are some round trips."""
        threads = min(self._options.parallel or _AT_ONCE, _AT_ONCE)
        with ThreadPoolExecutor(threads, thread_name_prefix="remove") as pool:
            return list(pool.map(work, groups))

    def _why_to_keep_group(
        self, namespace: Namespace, item: VanishedGroup, now: GroupItem, here: set[Group]
    ) -> str | None:
        """A push takes hours: look again, on both sides, at what would be deleted."""
        if item.group in here:
            return "the source has it again"
        if keep := why_to_keep([now], self._filters, self._target.auth_id):
            return keep
        listed = self._api.snapshots(namespace, item.group)
        return None if item.seen.issuperset(one.backup_time for one in listed) else _GREW

    def _group(self, namespace: Namespace, item: VanishedGroup, where: str) -> int:
        """Remove a group; how many snapshots stay, protected or in use, and the group with them."""
        delete = partial(self._api.delete_group, namespace, item.group, self._target.features)
        try:
            statistics = self._patiently(where, delete)
        except StatusError as error:
            return self._group_stays(namespace, item, where, error)
        protected = statistics.protected_snapshots
        self._report.count_removed(
            groups=0 if protected else max(1, statistics.removed_groups),
            snapshots=statistics.removed_snapshots,
            protected=protected,
        )
        if protected:
            self._report.count_kept(groups=1)
            self._info(f"{where}: vanished, but stays: {protected} snapshots are protected")
        else:
            self._run.notify(Removal("group", namespace, str(item.group), _VANISHED))
        return protected

    def _group_stays(
        self, namespace: Namespace, item: VanishedGroup, where: str, error: StatusError
    ) -> int:
        """A refused removal removed others (protocol/rest.md, "Deleting"): look what is left.

        Returns how many snapshots there are. Raises ``error`` if it is not a rule that they stay.
        """
        left = self._left(namespace, item.group, error)
        if not left:
            self._info(f"{where}: gone meanwhile at the target")
            return 0
        protected = sum(snapshot.protected for snapshot in left)
        gone = max(0, item.snapshots + item.protected - len(left))
        self._report.count_removed(snapshots=gone, protected=protected)
        in_use = len(left) - protected
        if in_use and not isinstance(error, BusyError):
            raise error
        self._report.count_kept(groups=1)
        stays = f"{counted(protected, 'protected snapshot')} stay" if protected else ""
        if in_use:
            stays = f"it is in use at the target: {error.text}"
        self._info(f"{where}: vanished, {counted(gone, 'snapshot')} removed, but stays: {stays}")
        return len(left)

    def _left(self, namespace: Namespace, group: Group, error: StatusError) -> list[SnapshotItem]:
        """What is left after a removal was refused; raises that error where it cannot be asked."""
        try:
            return self._api.snapshots(namespace, group)
        except PbsPushError:
            raise error from None

    # -- namespaces --

    def _why_to_keep_now(self, item: VanishedNamespace, groups: list[GroupItem]) -> str | None:
        """Look again at what would be deleted, whoever owns it."""
        for below in self._stayed:
            if item.namespace.contains(below):
                return f"{below.label} below it stays"
        if any(item.namespace.contains(namespace) for namespace in self._at_source()):
            return "the source has it again"
        if keep := why_to_keep(groups, self._filters, self._target.auth_id):
            return keep
        listed = self._api.snapshots(item.namespace) if groups else []
        return None if item.seen.issuperset(one.snapshot for one in listed) else _GREW

    def _at_source(self) -> list[Namespace]:
        """Where the source's namespaces have their place at the target, as they are now."""
        options = self._options
        with self._run.source_staying():
            found = self._source.namespaces(options.source_namespace, options.max_depth)
        return [ns.mapped(options.source_namespace, options.target_namespace) for ns in found]

    def _info(self, text: str) -> None:
        self._run.note("info", text)


def _place(namespace: Namespace, name: str) -> str:
    return f"target {name}" if namespace.is_root else f"target {name} in {namespace.label}"
