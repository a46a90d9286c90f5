"""How fast each part would let a push run, from its figures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from pbs_push.push.schedule import BUSY_S_PER_SNAPSHOT, ROUND_TRIPS_PER_SNAPSHOT
from pbs_push.units import counted, rate_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pbs_push.bench.figures import (
        LinkFigures,
        MachineFigures,
        ReadRate,
        StoreFigures,
        UploadRate,
    )

NEARLY_ALL: Final = 0.9
"""More at once is not worth it for the rest."""
_ROUND_TRIPS_TO_BEGIN: Final = 2
"""That are part of how long beginning a snapshot takes: the upgrade, and the first request."""
_FALLS: Final = 0.5
"""More reads at once are bad for a disk that gives less than this part of its best with them."""
_SPINNING: Final = 400e6
"""Bytes a second that no single spinning disk gives."""


class Limit(Enum):
    """What a push waits for."""

    DISK = "disk"
    CPU = "cpu"
    LINK = "link"
    ROUND_TRIPS = "round trips"


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A rate in bytes a second that a push cannot exceed; ``why`` tells how it was found."""

    limit: Limit
    bytes_per_s: float
    why: str


def cpu_ceiling(machine: MachineFigures) -> Ceiling:
    """All cores check chunks and encrypt them for the line; the kernel's copies come on top."""
    one = 1 / (1 / machine.tls + 1 / machine.crc32)
    return Ceiling(
        Limit.CPU,
        machine.cores * one,
        f"CPU: {counted(machine.cores, 'core')} can encrypt for TLS at {rate_text(machine.tls)} "
        f"each and check CRCs at {rate_text(machine.crc32)}, together "
        f"{rate_text(machine.cores * one)} at most",
    )


def disk_ceiling(store: StoreFigures) -> Ceiling:
    """Cold reads, as few at once as come near the best."""
    best = enough_reads(store.cold)
    return Ceiling(
        Limit.DISK,
        best.bytes_per_s,
        f"Disk: chunks that are not in memory come at {rate_text(best.bytes_per_s)} with "
        f"{counted(best.readers, 'read')} at once",
    )


def link_ceiling(link: LinkFigures) -> Ceiling:
    """What the fastest number of connections carried."""
    best = best_upload(link)
    return Ceiling(
        Limit.LINK,
        best.bytes_per_s,
        f"Link: the line and the target's server take {rate_text(best.bytes_per_s)} over "
        f"{counted(best.connections, 'connection')}",
    )


def snapshots_per_s(link: LinkFigures, parallel: int) -> float:
    """How many small snapshots ``parallel`` groups at once can push at most.

    Each waits for the target, which takes its time to begin one, and is worked on here. That is
    mostly Python's work, on one core at a time.
    """
    begun_s = max(link.begin_s, _ROUND_TRIPS_TO_BEGIN * link.round_trip_s)
    others = ROUND_TRIPS_PER_SNAPSHOT - _ROUND_TRIPS_TO_BEGIN
    each_s = begun_s + others * link.round_trip_s + BUSY_S_PER_SNAPSHOT
    return 1 / max(each_s / parallel, BUSY_S_PER_SNAPSHOT)


def enough_reads(rates: Sequence[ReadRate]) -> ReadRate:
    """The one with the fewest reads at once that comes near the best rate."""
    best = max(rate.bytes_per_s for rate in rates)
    near = (rate for rate in rates if rate.bytes_per_s >= NEARLY_ALL * best)
    return min(near, key=lambda rate: rate.readers)


def seeks(rates: Sequence[ReadRate]) -> bool:
    """Whether many reads at once give much less than the best rate, and that is a spinning disk's.

    Where chunks come faster than that, from few files say, it is this program's threads that take
    the time.
    """
    most = max(rates, key=lambda rate: rate.readers)
    best = max(rate.bytes_per_s for rate in rates)
    return best <= _SPINNING and most.bytes_per_s < _FALLS * best


def best_upload(link: LinkFigures) -> UploadRate:
    """The fastest one, with the fewest connections of those."""
    return max(link.uploads, key=lambda item: item.bytes_per_s)
