"""From figures to words: what limits a push here, and which options follow from that.

Pure: nothing is measured here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from pbs_push.bench.words import counted, number_text, rate_text, size_text, time_text
from pbs_push.push.options import DEFAULT_READ_AHEAD, MAX_PARALLEL
from pbs_push.push.schedule import ROUND_TRIPS_PER_SNAPSHOT

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pbs_push.bench.figures import LinkFigures, MachineFigures, ReadRate, StoreFigures

TYPICAL_CHANGE: Final = 16 << 20
"""Four chunks of an image: where a snapshot must bring more than this before the line counts for
more than the round trips, round trips are what limits a usual push."""
NEARLY_ALL: Final = 0.9
"""More at once is not worth it for the rest."""
_FALLS: Final = 0.5
"""More reads at once are bad for a disk that gives less than this part of its best with them."""
_SAME: Final = 0.7
"""Cold reads that come this near to warm ones may have come from memory as well."""
_SCALES: Final = 1.5
"""More connections help where they carry this many times what one carries."""


_SERVER_WINDOW: Final = 32 << 20
"""Bytes that a real server lets one connection have on the way (spec 03)."""
_BUFFER_BOUND: Final = 0.4
"""Near the bound, since the kernel counts its own overhead, up to half of a send buffer, too."""


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
    ceilings = [_cpu_ceiling(machine)]
    if store is not None:
        ceilings.append(_disk_ceiling(store))
    if link is not None:
        ceilings.append(_link_ceiling(link))
    ceilings.sort(key=lambda item: item.bytes_per_s)
    crossover = None if link is None else _crossover(link, ceilings[0].bytes_per_s, parallel)
    limit = _limit(ceilings, crossover)
    sentences = [_headline(limit, ceilings), *(f"{item.why}." for item in ceilings)]
    if link is not None and crossover is not None:
        sentences += [_round_trip_words(link, parallel, crossover), _connections_words(link)]
        sentences += _buffer_words(link)
    if store is not None:
        sentences.append(_reads_words(store))
    sentences.append(_options_words(parallel, auto_parallel, read_ahead))
    sentences += _unknown(store, link, given)
    return Verdict(limit, tuple(ceilings), crossover, parallel, read_ahead, tuple(sentences))


def _limit(ceilings: Sequence[Ceiling], crossover: float | None) -> Limit | None:
    if crossover is not None and crossover > TYPICAL_CHANGE:
        return Limit.ROUND_TRIPS
    return ceilings[0].limit if len(ceilings) > 1 else None


def _cpu_ceiling(machine: MachineFigures) -> Ceiling:
    """All cores check chunks and encrypt them for the line; the kernel's copies come on top."""
    one = 1 / (1 / machine.tls + 1 / machine.crc32)
    return Ceiling(
        Limit.CPU,
        machine.cores * one,
        f"CPU: {counted(machine.cores, 'core')} can encrypt for TLS at {rate_text(machine.tls)} "
        f"each and check CRCs at {rate_text(machine.crc32)}, together "
        f"{rate_text(machine.cores * one)} at most",
    )


def _disk_ceiling(store: StoreFigures) -> Ceiling:
    best = _enough_reads(store.cold)
    return Ceiling(
        Limit.DISK,
        best.bytes_per_s,
        f"Disk: chunks that are not in memory come at {rate_text(best.bytes_per_s)} with "
        f"{counted(best.readers, 'read')} at once",
    )


def _link_ceiling(link: LinkFigures) -> Ceiling:
    best = max(link.uploads, key=lambda item: item.bytes_per_s)
    return Ceiling(
        Limit.LINK,
        best.bytes_per_s,
        f"Link: the line and the target's server take {rate_text(best.bytes_per_s)} over "
        f"{counted(best.connections, 'connection')}",
    )


def _crossover(link: LinkFigures, bytes_per_s: float, parallel: int) -> float:
    """Bytes of a snapshot that take as long as its round trips, ``parallel`` of them at once."""
    return ROUND_TRIPS_PER_SNAPSHOT * link.round_trip_s * bytes_per_s / parallel


def _enough_reads(rates: Sequence[ReadRate]) -> ReadRate:
    """The one with the fewest reads at once that comes near the best rate."""
    best = max(rate.bytes_per_s for rate in rates)
    near = (rate for rate in rates if rate.bytes_per_s >= NEARLY_ALL * best)
    return min(near, key=lambda rate: rate.readers)


def _falls(rates: Sequence[ReadRate]) -> bool:
    """Whether many reads at once give much less than the best rate."""
    most = max(rates, key=lambda rate: rate.readers)
    return most.bytes_per_s < _FALLS * max(rate.bytes_per_s for rate in rates)


def _parallel(link: LinkFigures | None, auto_parallel: int) -> int:
    """What ``auto`` chooses, or more where only more connections fill the line."""
    if link is None:
        return auto_parallel
    best = max(upload.bytes_per_s for upload in link.uploads)
    near = (item for item in link.uploads if item.bytes_per_s >= NEARLY_ALL * best)
    needed = min(item.connections for item in near)
    return min(MAX_PARALLEL, max(auto_parallel, needed))


def _read_ahead(store: StoreFigures | None, parallel: int) -> int:
    """Reads at once, for each group: the default, unless the disk wants more or fewer."""
    if store is None:
        return DEFAULT_READ_AHEAD
    enough = _enough_reads(store.cold).readers
    if _falls(store.cold):
        return max(1, min(DEFAULT_READ_AHEAD, enough // parallel))
    return max(DEFAULT_READ_AHEAD, enough)


def _headline(limit: Limit | None, ceilings: Sequence[Ceiling]) -> str:
    rate = rate_text(ceilings[0].bytes_per_s)
    if limit is None:
        return (
            f"This machine alone would let a push run at {rate}; disk and link were not measured."
        )
    words = {
        Limit.DISK: f"The disk limits a push here: {rate}",
        Limit.CPU: f"The CPU limits a push here: {rate}",
        Limit.LINK: f"The link, or the target's server, limits a push here: {rate}",
        Limit.ROUND_TRIPS: (f"Round trips limit a push here; large snapshots could reach {rate}"),
    }
    return f"{words[limit]}."


def _round_trip_words(link: LinkFigures, parallel: int, crossover: float) -> str:
    each = ROUND_TRIPS_PER_SNAPSHOT * link.round_trip_s
    return (
        f"Round trips: one takes {time_text(link.round_trip_s)}, a snapshot about "
        f"{ROUND_TRIPS_PER_SNAPSHOT} of them, {time_text(each)}; with {parallel} groups at once "
        f"that is at most {number_text(parallel / max(each, 1e-9))} snapshots a second, and one "
        f"that brings less than {size_text(crossover)} waits for round trips more than for its "
        "bytes."
    )


def _connections_words(link: LinkFigures) -> str:
    one, best = link.uploads[0], max(link.uploads, key=lambda item: item.bytes_per_s)
    if best.bytes_per_s < _SCALES * one.bytes_per_s:
        return (
            f"One connection carries {rate_text(one.bytes_per_s)}, and more of them hardly carry "
            "more: a single large group can use all of it."
        )
    return (
        f"One connection carries {rate_text(one.bytes_per_s)}, {best.connections} carry "
        f"{rate_text(best.bytes_per_s)}: several groups at once are needed to use all of it."
    )


def _buffer_words(link: LinkFigures) -> list[str]:
    """Where one connection comes near what its send buffer lets be on the way at once."""
    most = link.most_in_flight
    if most is None or most >= _SERVER_WINDOW:
        return []
    if link.uploads[0].bytes_per_s * link.round_trip_s < _BUFFER_BOUND * most:
        return []
    return [
        f"This system lets one connection have {size_text(most)} on the way, which is "
        f"{rate_text(most / link.round_trip_s)} at such a round trip: with more in the last number "
        "of the sysctl net.ipv4.tcp_wmem, or as root, one could carry more; so can several."
    ]


def _reads_words(store: StoreFigures) -> str:
    one, enough = store.cold[0], _enough_reads(store.cold)
    warm = max(rate.bytes_per_s for rate in store.warm)
    text = (
        f"One read at a time gives {rate_text(one.bytes_per_s)} cold; from memory it is up to "
        f"{rate_text(warm)}"
    )
    if _falls(store.cold):
        return (
            f"{text}. More than {enough.readers} at once make this disk slower, as spinning ones "
            "are."
        )
    if enough.bytes_per_s >= _SAME * warm:
        return (
            f"{text}. That cold is about as fast as warm can mean that the kernel kept the files "
            "in memory: then the disk was not measured."
        )
    return f"{text}."


def _options_words(parallel: int, auto_parallel: int, read_ahead: int) -> str:
    text = f"Take --parallel {parallel}"
    if parallel == auto_parallel:
        text += " (what auto chooses, given as many groups)"
    text += f" and --read-ahead {read_ahead}"
    return f"{text}{' (the default)' if read_ahead == DEFAULT_READ_AHEAD else ''}."


def _unknown(
    store: StoreFigures | None, link: LinkFigures | None, given: Collection[Limit]
) -> list[str]:
    hints = []
    if store is None:
        how = "it failed, see below" if Limit.DISK in given else "give --datastore"
        hints.append(f"The disk was not measured: {how}.")
    if link is None:
        how = "it failed, see below" if Limit.LINK in given else "give --repository"
        hints.append(f"The link was not measured: {how}.")
    return hints
