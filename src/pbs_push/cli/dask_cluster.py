"""A Dask cluster for the command: ``--dask``, where the extra is installed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from pbs_push.errors import ConfigError

if TYPE_CHECKING:
    from pbs_push.push.workers import Workers

_MISSING: Final = (
    "--dask needs Dask's 'distributed', which is not installed: pip install 'pbs-push[dask]'"
)


@contextmanager
def cluster_workers(address: str, listen: tuple[str, int] | None) -> Iterator[Workers]:
    """The workers of the cluster with a scheduler at ``address``, which reach this host at
    ``listen``. Raises ConfigError, WorkerLost."""
    # What matters is in our errors; the rest would mix with our lines.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        from pbs_push.push.dask_workers import connect, dask_workers  # noqa: PLC0415  (see below)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("dask", "distributed"):
            raise
        raise ConfigError(_MISSING) from None
    host, port = (None, 0) if listen is None else listen
    with connect(address) as client:
        yield dask_workers(client, host=host, port=port)
