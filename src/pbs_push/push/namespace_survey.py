"""Looks into the target's namespaces that the source does not have; changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbs_push.errors import PbsPushError
from pbs_push.push.vanished import (
    VanishedNamespace,
    is_gone,
    judge_namespace,
    namespace_candidates,
    why_not_to_look,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

    from pbs_push.names import Namespace
    from pbs_push.push.run import Run
    from pbs_push.remote.models import GroupItem, SnapshotItem

    Inside = tuple[list[GroupItem], list[SnapshotItem]]


class NamespaceSurvey:
    """Which target namespaces vanished from the source, children first, and which of them may go.

    ``existing`` are the target's namespaces, ``mapped`` those that the source's have there. What
    cannot be looked into stays, and is a problem.
    """

    def __init__(self, run: Run, existing: set[Namespace], mapped: set[Namespace]) -> None:
        self._target = run.target
        self._api = run.api
        self._options = run.options
        self._on_problem = run.problem
        self._existing = existing
        self._candidates = namespace_candidates(existing, mapped, run.options)

    def hold_all_back(self, why: str) -> tuple[VanishedNamespace, ...]:
        """None goes, for this reason."""
        return tuple(
            VanishedNamespace(namespace, keep=why, held_back=True) for namespace in self._candidates
        )

    def look(self, pool: ThreadPoolExecutor) -> tuple[VanishedNamespace, ...]:
        """Look into each of them, several at once in ``pool``."""
        looks = [
            (namespace, why_not_to_look(namespace, self._existing, self._candidates))
            for namespace in self._candidates
        ]
        jobs = {ns: pool.submit(self._inside, ns) for ns, keep in looks if keep is None}
        judged: list[VanishedNamespace] = []
        for namespace, keep in looks:
            if keep is not None:
                judged.append(VanishedNamespace(namespace, keep=keep))
            else:
                judged.append(self._judged(namespace, jobs[namespace].result, judged))
        return tuple(judged)

    def _inside(self, namespace: Namespace) -> Inside:
        """What a target namespace holds."""
        groups = self._api.groups(namespace)
        return groups, self._api.snapshots(namespace) if groups else []

    def _judged(
        self, namespace: Namespace, inside: Callable[[], Inside], judged: list[VanishedNamespace]
    ) -> VanishedNamespace:
        options = self._options
        store = self._target.repository.datastore
        below = [other for other in judged if namespace.contains(other.namespace)]
        try:
            options.access.require_modify(options.remote_name, store, namespace)
            groups, listed = inside()
            return judge_namespace(
                namespace, groups, listed, below, options.group_filters, self._target.auth_id
            )
        except PbsPushError as error:
            if not is_gone(error):
                self._on_problem(f"removing target {namespace.label}", error)
            return VanishedNamespace(namespace, keep=str(error))
