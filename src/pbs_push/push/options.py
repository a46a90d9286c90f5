"""What a push is asked to do (spec 05, "Parameters")."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from pbs_push.access.filters import GroupFilters
from pbs_push.access.rights import Access
from pbs_push.errors import ConfigError
from pbs_push.formats.keys import CryptKey
from pbs_push.names import Namespace

DEFAULT_READ_AHEAD: Final = 8
ChunkOrder = Literal["index", "inode"]
MAX_PARALLEL: Final = 64


@dataclass(frozen=True, slots=True)
class PushOptions:
    """Parameters of one push. Raises ConfigError on construction for values out of range.

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
    rate_out: int | None = None
    burst_out: int | None = None
    read_ahead: int = DEFAULT_READ_AHEAD
    buffer_bytes: int | None = None
    chunk_order: ChunkOrder = "index"
    encryption_key: CryptKey | None = None
    access: Access = field(default_factory=Access)
    source_name: str | None = None
    """The source datastore's name in the access control list; None for a directory."""
    remote_name: str | None = None
    """The remote's name in ``remote.cfg``; None for one given directly."""

    def __post_init__(self) -> None:
        _in_range("transfer-last", self.transfer_last, 1, None)
        _in_range("max-removals", self.max_removals, 0, None)
        _in_range("rate-out", self.rate_out, 1, None)
        _in_range("burst-out", self.burst_out, 1, None)
        _in_range("max-removals percentage", self.max_removals_percent, 0, 100)
        if self.burst_out is not None and self.rate_out is None:
            raise ConfigError("burst-out has no effect without rate-out")
        _in_range("parallel", self.parallel, 1, MAX_PARALLEL)
        _in_range("read-ahead", self.read_ahead, 1, 256)
        _in_range("buffer-bytes", self.buffer_bytes, 1, None)


def _in_range(name: str, value: float | None, least: int, most: int | None) -> None:
    if value is None or (value >= least and (most is None or value <= most)):
        return
    limits = f"at least {least}" if most is None else f"between {least} and {most}"
    raise ConfigError(f"{name} {value}: must be {limits}")
