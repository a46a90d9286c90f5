"""What a push is asked to do (protocol/push.md, "Parameters"): each option declared once.

The command line, jobs of ``sync.cfg`` and callers of the library go by this one table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from pbs_push.access.filters import GroupFilter, GroupFilters
from pbs_push.access.rights import Access
from pbs_push.access.values import (
    MAX_WORKER_THREADS,
    parse_duration,
    parse_moment,
    parse_number,
    parse_size,
)
from pbs_push.errors import ConfigError
from pbs_push.formats.keys import CryptKey
from pbs_push.names import MAX_NAMESPACE_DEPTH, Namespace
from pbs_push.push import checks
from pbs_push.push.checkpoint_rule import AUTO, CheckpointRule
from pbs_push.push.checks import Check
from pbs_push.push.removal_limit import MaxRemovals
from pbs_push.push.timetable import Timetable

MAX_PARALLEL: Final = MAX_WORKER_THREADS
DEFAULT_READ_AHEAD: Final = 8
DEFAULT_LOCK_WAIT_S: Final = 60.0
DEFAULT_RETRIES: Final = 25
DEFAULT_RETRY_FOR_S: Final = 1800.0
ChunkOrder = Literal["index", "inode"]
_ORDERS: Final = ("index", "inode")


@dataclass(frozen=True, slots=True)
class Option:
    """One option, wherever it is given.

    ``check`` says which values it may have. On the command line it is ``flag``, with ``help``, a
    value that is shown as ``metavar`` and ``read`` from text (None: a switch); ``choices`` are all
    values there are, ``many``: it may be repeated. ``job`` is its name in ``sync.cfg``, None if
    that has no such setting. ``needs`` is another option without which it has no effect.
    """

    check: Check
    flag: str | None = None
    help: str = ""
    metavar: str = ""
    read: Callable[[str], Any] | None = None
    choices: tuple[str, ...] = ()
    many: bool = False
    job: str | None = None
    needs: str | None = None


def _parallel(text: str) -> int | None:
    return None if text == "auto" else parse_number(text)


OPTIONS: Final[Mapping[str, Option]] = MappingProxyType(
    {
        "source_namespace": Option(
            checks.namespace,
            "--ns",
            "Namespace to push.  [default: root]",
            "NAMESPACE",
            Namespace.parse,
            job="ns",
        ),
        "target_namespace": Option(
            checks.namespace,
            "--remote-ns",
            "Namespace there.  [default: root]",
            "NAMESPACE",
            Namespace.parse,
            job="remote-ns",
        ),
        "max_depth": Option(
            checks.optional(checks.whole(0, MAX_NAMESPACE_DEPTH)),
            "--max-depth",
            "Levels of namespaces below, 0 to 7.  [default: all]",
            "N",
            parse_number,
            job="max-depth",
        ),
        "group_filters": Option(
            checks.filters,
            "--group-filter",
            "[include:|exclude:]type:T, group:TYPE/ID or regex:RE; may be repeated.",
            "FILTER",
            GroupFilter.parse,
            many=True,
            job="group-filter",
        ),
        "transfer_last": Option(
            checks.optional(checks.whole(1)),
            "--transfer-last",
            "Only a group's newest N snapshots.",
            "N",
            parse_number,
            job="transfer-last",
        ),
        "keep_last": Option(
            checks.optional(checks.whole(1)),
            "--keep-last",
            "Send only what prune rules would keep: the newest N.",
            "N",
            parse_number,
        ),
        "keep_hourly": Option(
            checks.optional(checks.whole(1)),
            "--keep-hourly",
            "The newest of each of the last N hours that have one.",
            "N",
            parse_number,
        ),
        "keep_daily": Option(
            checks.optional(checks.whole(1)),
            "--keep-daily",
            "Likewise of days.",
            "N",
            parse_number,
        ),
        "keep_weekly": Option(
            checks.optional(checks.whole(1)),
            "--keep-weekly",
            "Likewise of weeks.",
            "N",
            parse_number,
        ),
        "keep_monthly": Option(
            checks.optional(checks.whole(1)),
            "--keep-monthly",
            "Likewise of months.",
            "N",
            parse_number,
        ),
        "keep_yearly": Option(
            checks.optional(checks.whole(1)),
            "--keep-yearly",
            "Likewise of years.",
            "N",
            parse_number,
        ),
        "since": Option(
            checks.optional(checks.number(0)),
            "--since",
            "Only snapshots of this day or moment, or later: 2026-11-01.",
            "TIME",
            parse_moment,
        ),
        "newer_than_s": Option(
            checks.optional(checks.number(0)),
            "--newer-than",
            "Only snapshots that are at most so old: 30d.",
            "TIME",
            parse_duration,
        ),
        "encrypted_only": Option(
            checks.flag,
            "--encrypted-only",
            "Only snapshots that are all encrypted.",
            job="encrypted-only",
        ),
        "verified_only": Option(
            checks.flag,
            "--verified-only",
            "Only snapshots whose verification was ok.",
            job="verified-only",
        ),
        "remove_vanished": Option(
            checks.flag,
            "--remove-vanished",
            "Remove there what is no longer here.",
            job="remove-vanished",
        ),
        "allow_empty_source": Option(
            checks.flag,
            "--allow-empty-source",
            "Remove even if nothing is left at the source.",
            needs="remove_vanished",
        ),
        "max_removals": Option(
            checks.optional(checks.removals),
            "--max-removals",
            "Remove nothing if it would be more snapshots.",
            "N|P%",
            MaxRemovals.parse,
            needs="remove_vanished",
        ),
        "sync_metadata": Option(
            checks.flag, "--sync-metadata", "Update notes of what was pushed earlier."
        ),
        "sync_protected": Option(checks.flag, "--sync-protected", "Bring the protected flag too."),
        "protect_source": Option(
            checks.flag,
            "--protect-source",
            "Keep what is to be copied from the source's prune until it is.",
        ),
        "skip_damaged": Option(
            checks.flag,
            "--skip-damaged",
            "Leave behind for good what is damaged here, and go on with newer snapshots.",
        ),
        "verify_source": Option(
            checks.flag,
            "--verify-source",
            "Decode what is to be sent, and check its digest before.",
        ),
        "lock_wait_s": Option(
            checks.number(0),
            "--lock-wait",
            "How long to wait for a lock that is held: 90, 5m.  [default: 1m]",
            "TIME",
            parse_duration,
        ),
        "retries": Option(
            checks.whole(0),
            "--retries",
            "How often what failed for the moment is tried again; 0: never."
            f"  [default: {DEFAULT_RETRIES}]",
            "N",
            parse_number,
        ),
        "retry_for_s": Option(
            checks.number(0),
            "--retry-for",
            "Give up when nothing has worked for so long.  [default: 30m]",
            "TIME",
            parse_duration,
        ),
        "max_duration_s": Option(
            checks.optional(checks.number(0)),
            "--max-duration",
            "Begin no snapshot after so long: 6h.",
            "TIME",
            parse_duration,
        ),
        "checkpoint": Option(
            checks.checkpoint,
            "--checkpoint",
            "Commit long snapshots in parts of so much, or as much as goes in such a time, from "
            "which a later push goes on.  [default: auto, from 16 GiB on]",
            "auto|off|SIZE|TIME",
            CheckpointRule.parse,
        ),
        "rate_out": Option(
            checks.optional(checks.whole(1)),
            "--rate-out",
            "Limit of all connections, per second: 10MiB.",
            "SIZE",
            parse_size,
            job="rate-out",
        ),
        "burst_out": Option(
            checks.optional(checks.whole(1)),
            "--burst-out",
            "With --rate-out: size of bursts.",
            "SIZE",
            parse_size,
            job="burst-out",
            needs="rate_out",
        ),
        "bwlimit": Option(
            checks.optional(checks.timetable),
            "--bwlimit",
            "Limits by the time of the day, per second: '08:00-18:00 10MiB; else off', also with "
            "weekdays (Mon-Fri).",
            "SIZE|TIMETABLE",
            Timetable.parse,
        ),
        "rate_file": Option(
            checks.optional(checks.path),
            "--rate-file",
            "A limit that may change: a size or 'off' in FILE, looked at every second.",
            "FILE",
            Path,
        ),
        "congestion_control": Option(
            checks.optional(checks.congestion_control),
            "--congestion-control",
            "TCP's, such as bbr, for the connections that carry backups.  [default: the system's]",
            "NAME",
            str,
        ),
        "parallel": Option(
            checks.optional(checks.whole(1, MAX_PARALLEL)),
            "--parallel",
            "Groups at once.  [default: auto]",
            "N|auto",
            _parallel,
            job="worker-threads",
        ),
        "read_ahead": Option(
            checks.whole(1, 256),
            "--read-ahead",
            f"Chunks read at once, for each group.  [default: {DEFAULT_READ_AHEAD}]",
            "N",
            parse_number,
        ),
        "chunk_order": Option(
            checks.one_of(*_ORDERS),
            "--chunk-order",
            "Order of reading; inode suits spinning disks.  [default: index]",
            choices=_ORDERS,
        ),
        "estimate": Option(checks.flag),
        "buffer_bytes": Option(checks.optional(checks.whole(1))),
        "encryption_key": Option(checks.optional(checks.an(CryptKey, "a CryptKey"))),
        "access": Option(checks.an(Access, "an Access")),
        "source_name": Option(checks.optional(checks.text)),
        "remote_name": Option(checks.optional(checks.text)),
    }
)
"""All options by the names of PushOptions; a test holds them together."""


@dataclass(frozen=True, slots=True)
class PushOptions:
    """Parameters of one push.

    Raises ConfigError on construction for values of a wrong type or out of range, and for an option
    that has no effect without another; texts are taken for namespaces, group filters and
    ``max_removals``.

    ``source_namespace`` is mapped to ``target_namespace``; ``max_depth`` levels below go along (0
    to 7, None: all). ``transfer_last``: only the newest N snapshots of a group. With any of
    ``keep_last``, ``keep_hourly`` … ``keep_yearly`` only those go that prune rules of these would
    keep at the source now; ``since`` (epoch seconds) and ``newer_than_s`` leave out what is older.
    ``parallel``: how
    many groups are pushed at once (None: chosen by machine and link). ``read_ahead``: chunk files
    read at once, for each of them; ``buffer_bytes``: what these may hold in memory (None: all
    groups together 64 MiB); ``chunk_order``: read chunks as the index has them, or by inode, which
    suits spinning disks and some network file systems.

    ``remove_vanished`` forgets at the target what the source no longer has; not where the source is
    empty, unless ``allow_empty_source``, and nothing at all where it would be more than
    ``max_removals``: a number of snapshots, or ``"10%"`` of those at the target. ``sync_metadata``
    also brings notes, ``sync_protected`` the protected flag, of snapshots that were pushed before.
    ``rate_out`` limits all connections together, in bytes a second, with bursts of up to
    ``burst_out`` bytes; ``bwlimit`` by a timetable in local time: a ``Timetable`` or its text, such
    as ``"Mon-Fri 08:00-18:00 10MiB; else off"``; ``rate_file`` is a file with such a text, or just
    a size or ``off``, which is looked at every second. Of several limits the smallest counts.
    ``congestion_control`` is the name of a TCP congestion control of this
    system for the connections that carry backups (None: as the system has it).

    ``lock_wait_s``: for so many seconds a lock is waited for: of a group at the target, and the one
    that keeps the same push from running twice at once. ``retries``: how often a snapshot or a
    request is tried again after an error that may pass, such as a broken connection, unless nothing
    has worked for ``retry_for_s`` seconds. No snapshot is begun after ``max_duration_s`` seconds.
    ``checkpoint`` says when a long snapshot is committed in
    parts, from which a later push goes on: a ``CheckpointRule`` or its text, such as ``"4GiB"``.
    ``protect_source``: what is to be pushed is marked as protected at the source, which is
    otherwise only read, until it is at the target; later pushes to there take away marks that are
    left.
    ``skip_damaged``: a snapshot that is
    damaged at the source, or that the protocol cannot carry, is left behind for good, and newer
    ones of its group are pushed; without it the group stops there. ``verify_source``: what is about
    to be sent is decoded, and its digest checked, before; what is wrong is damage. Of what is
    encrypted with another key than ``encryption_key`` that cannot be told, which is counted.

    ``estimate``: while it runs, tell how much there is to send (events ``Estimated``); a short push
    has none. ``encryption_key``: snapshots without an encrypted file are encrypted with it on the
    way; those that are all encrypted go as they are, those that are partly are left out.
    ``access``: whose rights on this host count; ``source_name`` is the source datastore's name in
    its access control list (None: a directory), ``remote_name`` the remote's in ``remote.cfg``
    (None: given directly).
    """

    source_namespace: Namespace = field(default_factory=Namespace)
    target_namespace: Namespace = field(default_factory=Namespace)
    max_depth: int | None = None
    group_filters: GroupFilters = field(default_factory=GroupFilters)
    transfer_last: int | None = None
    keep_last: int | None = None
    keep_hourly: int | None = None
    keep_daily: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None
    keep_yearly: int | None = None
    since: float | None = None
    newer_than_s: float | None = None
    encrypted_only: bool = False
    verified_only: bool = False
    remove_vanished: bool = False
    allow_empty_source: bool = False
    max_removals: MaxRemovals | None = None
    sync_metadata: bool = False
    sync_protected: bool = False
    protect_source: bool = False
    skip_damaged: bool = False
    verify_source: bool = False
    lock_wait_s: float = DEFAULT_LOCK_WAIT_S
    retries: int = DEFAULT_RETRIES
    retry_for_s: float = DEFAULT_RETRY_FOR_S
    max_duration_s: float | None = None
    checkpoint: CheckpointRule = AUTO
    rate_out: int | None = None
    burst_out: int | None = None
    bwlimit: Timetable | None = None
    rate_file: Path | None = None
    congestion_control: str | None = None
    parallel: int | None = None
    read_ahead: int = DEFAULT_READ_AHEAD
    chunk_order: ChunkOrder = "index"
    buffer_bytes: int | None = None
    estimate: bool = False
    encryption_key: CryptKey | None = None
    access: Access = field(default_factory=Access)
    source_name: str | None = None
    remote_name: str | None = None

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            object.__setattr__(self, name, option.check(name, getattr(self, name)))
        for name, option in OPTIONS.items():
            if option.needs is not None and getattr(self, name) and not getattr(self, option.needs):
                needed = checks.spoken(option.needs)
                raise ConfigError(f"{checks.spoken(name)} has no effect without {needed}")
