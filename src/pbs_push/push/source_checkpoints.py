"""Leaves checkpoints of another push into the source out of a plan that somebody is to read.

A push finds them when it opens them (docs/protocol/push.md, "Checkpoints"). Only what is to be
pushed is looked at: one manifest for each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pbs_push.push.checkpoint_mark import is_checkpoint
from pbs_push.push.outcome import Skip
from pbs_push.push.plan import outcomes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbs_push.push.plan import GroupPlan, Plan
    from pbs_push.source.datastore import Datastore


def without_source_checkpoints(plan: Plan, source: Datastore, check: Callable[[], None]) -> Plan:
    """The same plan, in which the source's checkpoints are skipped. ``check`` may raise to end it.

    What cannot be read stays in: the push says what is wrong with it.
    """
    namespaces = tuple(
        replace(item, groups=tuple(_of_group(group, source, check) for group in item.groups))
        for item in plan.namespaces
    )
    return replace(plan, namespaces=namespaces)


def _of_group(group: GroupPlan, source: Datastore, check: Callable[[], None]) -> GroupPlan:
    marked = []
    for item in group.snapshots:
        check()
        if is_checkpoint(source, item):
            marked.append(item)
    if not marked:
        return group
    skipped = outcomes_of(group.source, group.target_namespace, marked, Skip.CHECKPOINT)
    return replace(
        group,
        snapshots=tuple(item for item in group.snapshots if item not in marked),
        outcomes=(*group.outcomes, *skipped),
    )
