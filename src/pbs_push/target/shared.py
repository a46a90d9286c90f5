"""What all connections of one target share."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from pbs_push.target.counters import Counters
from pbs_push.target.habits import Habits
from pbs_push.target.identities import Identities
from pbs_push.target.login import Gate
from pbs_push.target.options import Faults, TargetOptions
from pbs_push.target.stores import Stores
from pbs_push.target.tasks import Tasks


@dataclass(frozen=True, slots=True)
class Shared:
    """The parts of a running target.

    ``pause`` waits that many seconds, less if it is stopped; ``checkers`` check chunks.
    """

    stores: Stores
    identities: Identities
    gate: Gate
    options: TargetOptions
    habits: Habits
    faults: Faults
    counters: Counters
    pause: Callable[[float], object]
    checkers: Executor
    tasks: Tasks
