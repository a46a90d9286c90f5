"""What a plan costs: chunks, bytes, round trips, and the time of these (docs/performance.md).

Apart from the plan, since it reads all indexes of what is to be pushed, and the plan reads none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pbs_push.push.schedule import ROUND_TRIPS_PER_SNAPSHOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pbs_push.push.document import Json
    from pbs_push.push.events import Estimated
    from pbs_push.push.plan import GroupPlan, Plan
    from pbs_push.source.items import SourceSnapshot

_TO_BEGIN: Final = 4
"""Round trips before the first snapshot: TCP, TLS, and the upgrade."""


@dataclass(frozen=True, slots=True)
class Sending:
    """What is to be sent: ``chunks`` of ``size`` plain bytes together; not ``exact``, at most so
    much. ``unknown`` snapshots could not be read."""

    chunks: int = 0
    size: int = 0
    exact: bool = True
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a plan costs, pushed with ``parallel`` groups at once.

    ``round_trip_s`` is the target's; ``rate`` is how many bytes a second the link carries, None if
    that is not known.
    """

    plan: Plan
    estimates: Mapping[SourceSnapshot, Estimated]
    parallel: int
    round_trip_s: float
    rate: float | None = None

    def at(self, rate: float) -> Forecast:
        """The same for a link that carries so many bytes a second."""
        return replace(self, rate=rate)

    def of(self, group: GroupPlan) -> Sending:
        """What is to be sent of one group."""
        return _sum(self.estimates.get(item) for item in group.snapshots)

    @property
    def total(self) -> Sending:
        """What is to be sent in all."""
        return _sum(self.estimates.get(item) for group in self._groups for item in group.snapshots)

    @property
    def round_trips(self) -> int:
        """How many have to be waited for, one after another: a group's snapshots go one by one."""
        counts = [len(group.snapshots) for group in self._groups if group.snapshots]
        if not counts:
            return 0
        in_a_row = max(*counts, -(-sum(counts) // self.parallel))
        return _TO_BEGIN + ROUND_TRIPS_PER_SNAPSHOT * in_a_row

    @property
    def seconds(self) -> float | None:
        """How long it takes at least; None without a rate. Chunks may shrink on the wire."""
        if self.rate is None:
            return None
        return self.total.size / self.rate + self.round_trips * self.round_trip_s

    @property
    def _groups(self) -> list[GroupPlan]:
        return [group for item in self.plan.namespaces for group in item.groups]

    def to_dict(self) -> Json:
        """``forecast`` of the plan's document (docs/json.md)."""
        seconds = self.seconds
        return {
            "forecast": {
                **_sending(self.total),
                "round-trips": self.round_trips,
                "round-trip-seconds": round(self.round_trip_s, 6),
                "parallel": self.parallel,
                "rate": None if self.rate is None else round(self.rate),
                "seconds": None if seconds is None else round(seconds, 1),
                "groups": [
                    {
                        "ns": str(group.source.namespace),
                        "target-ns": str(group.target_namespace),
                        "group": str(group.source.group),
                        "snapshots": len(group.snapshots),
                        **_sending(self.of(group)),
                    }
                    for group in self._groups
                    if group.snapshots
                ],
            }
        }


def _sum(estimates: Iterable[Estimated | None]) -> Sending:
    chunks = size = unknown = 0
    exact = True
    for one in estimates:
        if one is None:
            unknown += 1
            continue
        chunks, size = chunks + one.chunks, size + one.plain_bytes
        exact = exact and one.exact
    return Sending(chunks, size, exact, unknown)


def _sending(sending: Sending) -> Json:
    return {
        "chunks": sending.chunks,
        "plain-bytes": sending.size,
        "exact": sending.exact,
        "unknown": sending.unknown,
    }
