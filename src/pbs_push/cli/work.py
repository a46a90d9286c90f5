"""A push that is ready to begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbs_push.cli.worker_options import THREADS, AskedWorkers

if TYPE_CHECKING:
    from pbs_push.push.options import PushOptions
    from pbs_push.remote.target import Target
    from pbs_push.source.datastore import Datastore


@dataclass(frozen=True, slots=True)
class Work:
    """Both sides, opened, and what is asked: also who does it. Whoever takes it closes
    ``target``."""

    source: Datastore
    target: Target
    options: PushOptions
    workers: AskedWorkers = THREADS
