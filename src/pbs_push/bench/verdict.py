"""From figures to words: what limits a push here, and which options follow from that.

Pure: nothing is measured here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pbs_push.bench.limits import (
    NEARLY_ALL,
    Ceiling,
    Limit,
    best_upload,
    cpu_ceiling,
    disk_ceiling,
    enough_reads,
    link_ceiling,
    seeks,
)
from pbs_push.bench.sentences import (
    buffer_words,
    congestion_words,
    connections_words,
    headline,
    missing_words,
    options_words,
    reads_words,
    round_trip_words,
    small_snapshots_words,
)
from pbs_push.push.options import DEFAULT_READ_AHEAD, MAX_PARALLEL
from pbs_push.push.schedule import ROUND_TRIPS_PER_SNAPSHOT

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pbs_push.bench.figures import LinkFigures, MachineFigures, StoreFigures

TYPICAL_CHANGE: Final = 16 << 20
"""Four chunks of an image: where a snapshot must bring more than this before the line counts for
more than the round trips, round trips are what limits a usual push."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``limit`` is None where too little was measured to tell. ``sentences`` say it in words.

    ``parallel`` and ``read_ahead`` are for the options of these names. ``crossover_bytes``: a
    snapshot that brings less waits for round trips more than for its bytes; None without a target.
    """

    limit: Limit | None
    ceilings: tuple[Ceiling, ...]
    crossover_bytes: float | None
    parallel: int
    read_ahead: int
    sentences: tuple[str, ...]


def judge(
    machine: MachineFigures,
    store: StoreFigures | None,
    link: LinkFigures | None,
    auto_parallel: int,
    given: Collection[Limit] = (),
) -> Verdict:
    """What limits a push. ``auto_parallel``: what ``--parallel auto`` would choose here.

    ``given``: DISK where a datastore was given, LINK where a target was, measured or not.
    """
    parallel = _parallel(link, auto_parallel)
    read_ahead = _read_ahead(store, parallel)
    ceilings = [cpu_ceiling(machine)]
    if store is not None:
        ceilings.append(disk_ceiling(store))
    if link is not None:
        ceilings.append(link_ceiling(link))
    ceilings.sort(key=lambda item: item.bytes_per_s)
    crossover = None if link is None else _crossover(link, ceilings[0].bytes_per_s, parallel)
    limit = _limit(ceilings, crossover)
    sentences = [headline(limit, ceilings), *(f"{item.why}." for item in ceilings)]
    if link is not None and crossover is not None:
        sentences += [
            round_trip_words(link, parallel, crossover),
            small_snapshots_words(link, parallel),
            connections_words(link),
        ]
        sentences += buffer_words(link)
        sentences += congestion_words(link)
    if store is not None:
        sentences.append(reads_words(store))
    sentences.append(options_words(parallel, auto_parallel, read_ahead))
    sentences += missing_words(store, link, given)
    return Verdict(limit, tuple(ceilings), crossover, parallel, read_ahead, tuple(sentences))


def _limit(ceilings: Sequence[Ceiling], crossover: float | None) -> Limit | None:
    if crossover is not None and crossover > TYPICAL_CHANGE:
        return Limit.ROUND_TRIPS
    return ceilings[0].limit if len(ceilings) > 1 else None


def _crossover(link: LinkFigures, bytes_per_s: float, parallel: int) -> float:
    """Bytes of a snapshot that take as long as its round trips, ``parallel`` of them at once."""
    return ROUND_TRIPS_PER_SNAPSHOT * link.round_trip_s * bytes_per_s / parallel


def _parallel(link: LinkFigures | None, auto_parallel: int) -> int:
    """What ``auto`` chooses, or more where only more connections fill the line."""
    if link is None:
        return auto_parallel
    best = best_upload(link).bytes_per_s
    near = (item for item in link.uploads if item.bytes_per_s >= NEARLY_ALL * best)
    needed = min(item.connections for item in near)
    return min(MAX_PARALLEL, max(auto_parallel, needed))


def _read_ahead(store: StoreFigures | None, parallel: int) -> int:
    """Reads at once, for each group: the default, unless the disk wants more or fewer."""
    if store is None:
        return DEFAULT_READ_AHEAD
    enough = enough_reads(store.cold).readers
    if seeks(store.cold):
        return max(1, min(DEFAULT_READ_AHEAD, enough // parallel))
    return max(DEFAULT_READ_AHEAD, enough)
