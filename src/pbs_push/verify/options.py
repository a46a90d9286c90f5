"""What a verification of a source is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pbs_push.access.filters import GroupFilters
from pbs_push.errors import ConfigError
from pbs_push.formats.keys import CryptKey
from pbs_push.names import MAX_NAMESPACE_DEPTH, Namespace

MAX_PARALLEL: Final = 256


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """Parameters of the verification of a source. Raises ConfigError for values out of range.

    ``namespace`` and ``max_depth`` levels below it (0 to 7, None: all) are verified, of them the
    groups that ``group_filters`` take. ``key``: what is encrypted with it is checked like all else;
    of what is encrypted otherwise only CRC-32s and csums can be. ``parallel``: chunks that are
    checked at once (None: one for each core). ``state_file`` keeps what was checked already, should
    the verification end before its time: the next one with the same file goes on from there.
    ``save_every_s``: how often it is written, in seconds.
    """

    namespace: Namespace = field(default_factory=Namespace)
    max_depth: int | None = None
    group_filters: GroupFilters = field(default_factory=GroupFilters)
    key: CryptKey | None = None
    parallel: int | None = None
    state_file: Path | None = None
    save_every_s: float = 30.0

    def __post_init__(self) -> None:
        if self.parallel is not None and not 1 <= self.parallel <= MAX_PARALLEL:
            raise ConfigError(f"parallel is {self.parallel}; it may be 1 to {MAX_PARALLEL}")
        if self.max_depth is not None and not 0 <= self.max_depth <= MAX_NAMESPACE_DEPTH:
            raise ConfigError(f"max depth is {self.max_depth}; 0 to {MAX_NAMESPACE_DEPTH} is")
