"""A push that is ready to begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbs_push.cli.worker_options import THREADS, AskedWorkers
from pbs_push.push.document import Sides

if TYPE_CHECKING:
    from pbs_push.cli.unmounting import Unmounting
    from pbs_push.push.options import PushOptions
    from pbs_push.remote.target import Target
    from pbs_push.source.datastore import Datastore


@dataclass(frozen=True, slots=True)
class Work:
    """Both sides, opened, and what is asked: also who does it. Whoever takes it closes ``target``,
    and ``others``.

    ``unmounting`` is to be done when the push has ended, and nothing of the source is open.
    ``others`` are further targets, each with what is asked there.
    """

    source: Datastore
    target: Target
    options: PushOptions
    workers: AskedWorkers = THREADS
    unmounting: Unmounting | None = None
    others: tuple[tuple[Target, PushOptions], ...] = ()

    @property
    def sides(self) -> Sides:
        """What is pushed where, now that both sides are known."""
        here, there = self.options.source_namespace, self.options.target_namespace
        return Sides(str(self.source.path), here, self.target.repository, there)
