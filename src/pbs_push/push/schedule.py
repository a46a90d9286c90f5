"""In which order groups are pushed, and how many at once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbs_push.push.plan import GroupPlan
    from pbs_push.source.datastore import Datastore

LEAST_PARALLEL: Final = 8
"""While some wait for what the target does, others keep two cores busy."""
MOST_PARALLEL: Final = 48
ROUND_TRIPS_PER_SNAPSHOT: Final = 6
"""Of a snapshot with new chunks, on a connection opened ahead: the flights of ``push.transfer``,
the first along with the upgrade. The first one of a group waits for TCP and TLS as well."""
_GROUPS_PER_CORE: Final = 2
BUSY_S_PER_SNAPSHOT: Final = 0.004
"""For which a small snapshot keeps a core busy (docs/performance.md)."""
_SECONDS_PER_GROUP: Final = BUSY_S_PER_SNAPSHOT / ROUND_TRIPS_PER_SNAPSHOT
"""Round trip that one more group at once makes up for."""

BUFFERS_TOGETHER: Final = 64 << 20
LEAST_BUFFER: Final = 8400 << 10
"""Two chunks of 4 MiB. Where more groups have large chunks to send than there is room for, some
wait; small snapshots need next to nothing."""

_KNOWN_PART: Final = 20
"""A group that the target knows is expected to have changed in one part of so many."""


def chosen_parallel(round_trip_s: float, groups: int) -> int:
    """How many groups to push at once, by this machine's cores and the link's round trip.

    On a fast link the cores decide; on a slow one most groups wait for answers most of the time.
    """
    cores = len(os.sched_getaffinity(0))
    busy = max(LEAST_PARALLEL, _GROUPS_PER_CORE * cores)
    waiting = int(round_trip_s / _SECONDS_PER_GROUP)
    return max(1, min(groups, MOST_PARALLEL, busy + waiting))


def buffer_share(parallel: int) -> int:
    """Bytes that each of so many groups may hold in memory for chunks read ahead."""
    return max(LEAST_BUFFER, BUFFERS_TOGETHER // parallel)


def largest_first(groups: Iterable[GroupPlan], source: Datastore) -> list[GroupPlan]:
    """The groups by expected transfer, so that the longest does not begin last."""
    weighed = [(expected(group, source), number, group) for number, group in enumerate(groups)]
    weighed.sort(key=lambda item: (-item[0], item[1]))
    return [group for _, _, group in weighed]


def expected(group: GroupPlan, source: Datastore) -> float:
    """What a group has to transfer, by and large: bytes of its indexes that have news."""
    sizes = [source.index_bytes(item) for item in group.snapshots]
    if not sizes:
        return 0.0
    known = group.newest_at_target is not None
    return (sizes[0] / _KNOWN_PART if known else sizes[0]) + sum(sizes[1:]) / _KNOWN_PART
