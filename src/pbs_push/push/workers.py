"""An executor that carries the groups of a push, and how its workers reach the push."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from pbs_push.errors import ConfigError
from pbs_push.push.checks import an

LOOPBACK: Final = "127.0.0.1"
_LAST_PORT: Final = 65535
_EXECUTOR: Final = an(Executor, "an Executor of concurrent.futures")


@dataclass(frozen=True, slots=True)
class Workers:
    """An executor of ``concurrent.futures``, which the caller shuts down.

    ``at_once``: how many groups it is given at once unless ``parallel`` says otherwise (None: as
    many as a pool of Python's has workers, else as without an executor). Workers connect to
    ``host`` and ``port`` of this machine (0: any free one): the loopback address does for threads
    and processes, those on other machines need another one. ``listen`` is the address that the push
    listens at, where that is not ``host``: ``""`` is all of them. Raises ConfigError.
    """

    executor: Executor
    at_once: int | None = None
    host: str = LOOPBACK
    port: int = 0
    listen: str | None = None
    warning: str | None = None
    """What somebody should know who pushes by them."""

    def __post_init__(self) -> None:
        _EXECUTOR("executor", self.executor)
        if not 0 <= self.port <= _LAST_PORT:
            raise ConfigError(f"port {self.port}: must be between 0 and {_LAST_PORT}")
