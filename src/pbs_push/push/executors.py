"""An executor alone, as the workers that it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbs_push.push.workers import Workers

if TYPE_CHECKING:
    from concurrent.futures import Executor


def workers_for(executor: Executor | Workers) -> Workers:
    """What it is, and how many it has as far as it tells.

    Raises ConfigError for what is no executor, WorkerLost for a Dask cluster without workers.
    """
    if isinstance(executor, Workers):
        return executor
    if type(executor).__module__.partition(".")[0] == "distributed":
        from pbs_push.push.dask_workers import workers_of  # noqa: PLC0415  (where there is Dask)

        return workers_of(executor)
    size = getattr(executor, "_max_workers", None)
    return Workers(executor, size if isinstance(size, int) else None)
