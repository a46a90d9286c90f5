"""The verdict in words, a sentence for each thing that a user should know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbs_push.bench.limits import (
    NEARLY_ALL,
    Limit,
    best_upload,
    enough_reads,
    seeks,
    snapshots_per_s,
)
from pbs_push.bench.words import number_text, time_text
from pbs_push.push.options import DEFAULT_READ_AHEAD
from pbs_push.push.schedule import BUSY_S_PER_SNAPSHOT, ROUND_TRIPS_PER_SNAPSHOT
from pbs_push.remote.tls_stream import SEND_BUFFER
from pbs_push.units import counted, rate_text, size_text

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pbs_push.bench.figures import LinkFigures, StoreFigures
    from pbs_push.bench.limits import Ceiling

_SAME: Final = 0.7
"""Cold reads that come this near to warm ones may have come from memory as well."""
_SCALES: Final = 1.5
"""More connections are needed where they carry this many times what one carries."""
_BUFFER_BOUND: Final = 0.4
"""Near the bound, since the kernel counts its own overhead, up to half of a send buffer, too."""
_LARGER_BUFFER: Final = f"sysctl -w net.ipv4.tcp_wmem='4096 16384 {SEND_BUFFER}'"
"""The kernel's defaults, but for the last one."""
_BEST_CONTROL: Final = "bbr"
_LONG_S: Final = 0.01
_PARTS: Final = len(Limit) - 1
"""That have a ceiling: all but round trips."""


def headline(limit: Limit | None, ceilings: Sequence[Ceiling]) -> str:
    """What limits a push, as far as that was measured."""
    rate = rate_text(ceilings[0].bytes_per_s)
    if limit is None:
        return (
            f"This machine alone would let a push run at {rate}; disk and link were not measured."
        )
    words = {
        Limit.DISK: f"the disk limits a push here: {rate}.",
        Limit.CPU: f"the CPU limits a push here: {rate}.",
        Limit.LINK: f"the link, or the target's server, limits a push here: {rate}.",
        Limit.ROUND_TRIPS: f"round trips limit a push here; large snapshots could reach {rate}.",
    }[limit]
    if len(ceilings) < _PARTS:
        return f"Of what was measured, {words}"
    return words[0].upper() + words[1:]


def round_trip_words(link: LinkFigures, parallel: int, crossover: float) -> str:
    """How long a snapshot waits, and from which size on that does not matter."""
    each = ROUND_TRIPS_PER_SNAPSHOT * link.round_trip_s
    return (
        f"Round trips: one takes {time_text(link.round_trip_s)}, a snapshot about "
        f"{ROUND_TRIPS_PER_SNAPSHOT} of them, {time_text(each)}; with "
        f"{counted(parallel, 'group')} at once one that brings less than {size_text(crossover)} "
        "waits for round trips more than for its bytes."
    )


def small_snapshots_words(link: LinkFigures, parallel: int) -> str:
    """How many there can be in a second."""
    return (
        f"Small snapshots: the target takes {time_text(link.begin_s)} to begin one, and each keeps "
        f"a core here busy for about {time_text(BUSY_S_PER_SNAPSHOT)}; with "
        f"{counted(parallel, 'group')} at once that is about "
        f"{number_text(snapshots_per_s(link, parallel))} a second at most."
    )


def connections_words(link: LinkFigures) -> str:
    """Whether one connection is enough."""
    one, best = link.uploads[0], best_upload(link)
    text = f"One connection carries {rate_text(one.bytes_per_s)}"
    if NEARLY_ALL * best.bytes_per_s <= one.bytes_per_s:
        return (
            f"{text}, and more of them hardly carry more: a single large group can use all of it."
        )
    text += f", {best.connections} carry {rate_text(best.bytes_per_s)}"
    if best.bytes_per_s < _SCALES * one.bytes_per_s:
        return f"{text}: a single large group can use most of that."
    return f"{text}: several groups at once are needed to use all of it."


def buffer_words(link: LinkFigures) -> list[str]:
    """Where the send buffer, and not the line, bounds what one connection carries, or soon would.

    It holds all bytes that are on their way, so that it bounds them.
    """
    most, round_trip_s = link.most_in_flight, link.round_trip_s
    if most is None or most >= SEND_BUFFER:
        return []
    one, best = link.uploads[0], best_upload(link)
    if best.bytes_per_s * round_trip_s < _BUFFER_BOUND * most:
        return []
    if one.bytes_per_s * round_trip_s < _BUFFER_BOUND * most:
        size = size_text(best.bytes_per_s * round_trip_s)
        text = f"For {rate_text(best.bytes_per_s)}, one connection would have {size} on the way"
    else:
        size = size_text(one.bytes_per_s * round_trip_s)
        text = f"One connection had about {size} on the way"
    return [
        f"{text}; this system's send buffer (net.ipv4.tcp_wmem) ends at {size_text(most)}, which "
        f"is {rate_text(most / round_trip_s)} at most at such a round trip: for more, push several "
        f"groups at once, or as root, or set {_LARGER_BUFFER}."
    ]


def congestion_words(link: LinkFigures) -> list[str]:
    """That another congestion control may carry more, where the line is long and loses packets."""
    used = link.congestion_control
    if not used or used.startswith(_BEST_CONTROL) or link.round_trip_s < _LONG_S:
        return []
    return [
        f"TCP uses {used} here, which slows down at every lost packet: where this line loses any, "
        f"{_BEST_CONTROL} carries many times as much (modprobe tcp_bbr; then --congestion-control "
        f"{_BEST_CONTROL} as root, or for all: sysctl -w net.ipv4.tcp_congestion_control="
        f"{_BEST_CONTROL})."
    ]


def reads_words(store: StoreFigures) -> str:
    """What reads at once do for the disk, and whether it was the disk at all."""
    one, enough = store.cold[0], enough_reads(store.cold)
    warm = max(rate.bytes_per_s for rate in store.warm)
    text = (
        f"One read at a time gives {rate_text(one.bytes_per_s)} cold; from memory it is up to "
        f"{rate_text(warm)}"
    )
    if seeks(store.cold):
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


def options_words(parallel: int, auto_parallel: int, read_ahead: int) -> str:
    """Which options to take."""
    text = f"Take --parallel {parallel}"
    if parallel == auto_parallel:
        text += " (what auto chooses, given as many groups)"
    text += f" and --read-ahead {read_ahead}"
    return f"{text}{' (the default)' if read_ahead == DEFAULT_READ_AHEAD else ''}."


def missing_words(
    store: StoreFigures | None, link: LinkFigures | None, given: Collection[Limit]
) -> list[str]:
    """What was not measured, and whether that was not asked for, or failed."""
    failed = "that failed"
    hints = []
    if store is None:
        hint = failed if Limit.DISK in given else "give --datastore"
        hints.append(f"The disk was not measured: {hint}.")
    if link is None:
        hint = failed if Limit.LINK in given else "give --repository"
        hints.append(f"The link was not measured: {hint}.")
    return hints
