"""What a push is asked to do (spec 05, "Parameters")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from pbs_push.access.filters import GroupFilters
from pbs_push.access.rights import Access
from pbs_push.errors import ConfigError
from pbs_push.formats.keys import CryptKey
from pbs_push.names import Namespace
from pbs_push.push.checks import (
    Check,
    an,
    filters,
    flag,
    namespace,
    number,
    one_of,
    optional,
    text,
    whole,
)

DEFAULT_READ_AHEAD: Final = 8
DEFAULT_LOCK_WAIT_S: Final = 60.0
ChunkOrder = Literal["index", "inode"]
MAX_PARALLEL: Final = 64


_CHECKS: Final[Mapping[str, Check]] = {
    "source_namespace": namespace,
    "target_namespace": namespace,
    "max_depth": optional(whole(0, 7)),
    "group_filters": filters,
    "transfer_last": optional(whole(1)),
    "encrypted_only": flag,
    "verified_only": flag,
    "parallel": optional(whole(1, MAX_PARALLEL)),
    "remove_vanished": flag,
    "allow_empty_source": flag,
    "max_removals": optional(whole(0)),
    "max_removals_percent": optional(number(0, 100)),
    "sync_metadata": flag,
    "sync_protected": flag,
    "skip_damaged": flag,
    "rate_out": optional(whole(1)),
    "burst_out": optional(whole(1)),
    "read_ahead": whole(1, 256),
    "buffer_bytes": optional(whole(1)),
    "chunk_order": one_of("index", "inode"),
    "lock_wait_s": number(0),
    "encryption_key": optional(an(CryptKey, "a CryptKey")),
    "access": an(Access, "an Access"),
    "source_name": optional(text),
    "remote_name": optional(text),
}
"""What each option may be; a test holds them together."""


@dataclass(frozen=True, slots=True)
class PushOptions:
    """Parameters of one push.

    Raises ConfigError on construction for values of a wrong type or out of range; texts are taken
    for namespaces and group filters.

    ``source_namespace`` is mapped to ``target_namespace``; ``max_depth`` levels below go along (0
    to 7, None: all). ``transfer_last``: only the newest N snapshots of a group. ``parallel``: how
    many groups are pushed at once (None: chosen by machine and link). ``read_ahead``: chunk files
    read at once, for each of them; ``buffer_bytes``: what these may hold in memory (None: a share
    of 128 MiB); ``chunk_order``: read chunks as the index has them, or by inode, which suits
    spinning disks and some network file systems.

    ``remove_vanished`` forgets at the target what the source no longer has; not where the source is
    empty, unless ``allow_empty_source``, and not more than ``max_removals`` snapshots, or that
    percentage of those at the target. ``sync_metadata`` also brings notes, ``sync_protected`` the
    protected flag, of snapshots that were pushed before. ``rate_out`` limits all connections
    together, in bytes a second, with bursts of up to ``burst_out`` bytes.

    ``lock_wait_s``: for so many seconds a lock is waited for: of a group at the target, and the one
    that keeps the same push from running twice at once. ``skip_damaged``: a snapshot that is
    damaged at the source, or that the protocol cannot carry, is left behind for good, and newer
    ones of its group are pushed; without it the group stops there.

    ``encryption_key``: snapshots without an encrypted file are encrypted with it on the way; those
    that are all encrypted go as they are, those that are partly are left out.
    """

    source_namespace: Namespace = field(default_factory=Namespace)
    target_namespace: Namespace = field(default_factory=Namespace)
    max_depth: int | None = None
    group_filters: GroupFilters = field(default_factory=GroupFilters)
    transfer_last: int | None = None
    encrypted_only: bool = False
    verified_only: bool = False
    parallel: int | None = None
    remove_vanished: bool = False
    allow_empty_source: bool = False
    max_removals: int | None = None
    max_removals_percent: float | None = None
    sync_metadata: bool = False
    sync_protected: bool = False
    skip_damaged: bool = False
    rate_out: int | None = None
    burst_out: int | None = None
    read_ahead: int = DEFAULT_READ_AHEAD
    buffer_bytes: int | None = None
    chunk_order: ChunkOrder = "index"
    lock_wait_s: float = DEFAULT_LOCK_WAIT_S
    encryption_key: CryptKey | None = None
    access: Access = field(default_factory=Access)
    source_name: str | None = None
    """The source datastore's name in the access control list; None for a directory."""
    remote_name: str | None = None
    """The remote's name in ``remote.cfg``; None for one given directly."""

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))
        if self.burst_out is not None and self.rate_out is None:
            raise ConfigError("burst-out has no effect without rate-out")
