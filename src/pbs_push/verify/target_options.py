"""What a verification of a target is asked to do."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Final, Self

from pbs_push.access.filters import GroupFilters
from pbs_push.errors import ConfigError
from pbs_push.formats.keys import CryptKey
from pbs_push.names import MAX_NAMESPACE_DEPTH, Namespace
from pbs_push.push.options import DEFAULT_RETRIES, DEFAULT_RETRY_FOR_S

DEFAULT_PARALLEL: Final = 8
MAX_PARALLEL: Final = 48
DEFAULT_SERVER_WAIT_S: Final = 86_400.0
_SEEDS: Final = 1 << 64
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%")


@dataclass(frozen=True, slots=True)
class Sample:
    """Which part of the chunks is downloaded and decoded: more than 0, and 1 at most."""

    part: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.part) and 0 < self.part <= 1):
            raise ConfigError(f"a sample of {self.part:.0%} is not between 0 % and 100 %")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``all``, or a part such as ``5%``. Raises ConfigError."""
        if text == "all":
            return cls(1.0)
        found = _PERCENT.fullmatch(text)
        if found is None:
            raise ConfigError(f"'{text}' is not a sample: expected 'all', or a part like '5%'")
        return cls(float(found[1]) / 100)

    def __str__(self) -> str:
        return "all" if self.part == 1 else f"{self.part * 100:g}%"


@dataclass(frozen=True, slots=True)
class TargetVerifyOptions:
    """Parameters of the verification of a target. Raises ConfigError for values out of range.

    Namespaces are mapped as a push maps them: ``source_namespace`` to ``target_namespace``, and
    ``max_depth`` levels below (0 to 7, None: all), of them the groups that ``group_filters`` take.
    ``key``: what was encrypted with it, on the way or before, is decrypted. ``sample``: the part of
    the chunks that is downloaded and decoded, chosen at random by ``seed`` (below 2**64; None: a
    new one, which the report tells); None: none. ``parallel``: groups at once.

    ``remote_verify`` has the server verify the groups concerned by itself, and waits for that
    ``server_wait_s`` seconds at most. ``heal`` sends again what is missing there, or was marked bad
    by the server. ``retries`` and ``retry_for_s`` are those of a push.
    """

    source_namespace: Namespace = field(default_factory=Namespace)
    target_namespace: Namespace = field(default_factory=Namespace)
    max_depth: int | None = None
    group_filters: GroupFilters = field(default_factory=GroupFilters)
    key: CryptKey | None = None
    sample: Sample | None = None
    seed: int | None = None
    parallel: int = DEFAULT_PARALLEL
    remote_verify: bool = False
    server_wait_s: float = DEFAULT_SERVER_WAIT_S
    heal: bool = False
    retries: int = DEFAULT_RETRIES
    retry_for_s: float = DEFAULT_RETRY_FOR_S

    def __post_init__(self) -> None:
        if not 1 <= self.parallel <= MAX_PARALLEL:
            raise ConfigError(f"parallel is {self.parallel}; it may be 1 to {MAX_PARALLEL}")
        if self.max_depth is not None and not 0 <= self.max_depth <= MAX_NAMESPACE_DEPTH:
            raise ConfigError(f"max depth is {self.max_depth}; 0 to {MAX_NAMESPACE_DEPTH} is")
        if self.seed is not None and not 0 <= self.seed < _SEEDS:
            raise ConfigError(f"seed {self.seed} is not between 0 and 2**64")
        if self.seed is not None and self.sample is None:
            raise ConfigError("seed has no effect without sample")
        if not self.server_wait_s >= 0:
            raise ConfigError(f"server-wait of {self.server_wait_s} seconds makes no sense")
