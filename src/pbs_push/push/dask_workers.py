"""A Dask cluster that carries the groups of a push (the extra ``dask``): nothing else imports it.

Dask's own documentation says what its executor is: https://distributed.dask.org/en/stable/asynchronous.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from distributed import Client
from distributed.utils import get_ip

from pbs_push.errors import ConfigError, WorkerLost
from pbs_push.push.workers import LOOPBACK, Workers

if TYPE_CHECKING:
    from concurrent.futures import Executor

CONNECT_S: Final = "20s"
"""How long a scheduler is waited for."""


_IN_THE_CLEAR: Final = (
    "the target's secret goes to the Dask cluster at {} unencrypted: set it up with TLS (tls://)"
)
_CLIENT: Final[Any] = Client
"""Dask's classes have few types."""


def connect(address: str) -> Any:
    """A client of the scheduler at ``address`` (``tcp://HOST:PORT``, ``tls://HOST:PORT``).

    What Dask's configuration says of certificates counts. Raises ConfigError, WorkerLost.
    """
    try:
        return _CLIENT(address, timeout=CONNECT_S, set_as_default=False)
    except ValueError as error:
        raise ConfigError(f"Dask scheduler '{address}': {error}") from None
    except (OSError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WorkerLost(f"cannot reach the Dask scheduler at {address}: {reason}") from None


def dask_workers(client: Any, *, host: str | None = None, port: int = 0) -> Workers:
    """The workers of a cluster: one group at once for each of their threads.

    They connect to ``host`` and ``port`` of this machine (None: the address that faces the
    scheduler; 0: any free port). Raises WorkerLost for a cluster without workers.
    """
    return _workers(client.get_executor(pure=False), client, host, port)


def workers_of(executor: Executor) -> Workers:
    """The same, of what ``client.get_executor()`` returned. Raises WorkerLost."""
    client: Any = getattr(executor, "_client", None)
    return _workers(executor, client, None, 0)


def _workers(executor: Executor, client: Any, host: str | None, port: int) -> Workers:
    scheduler = str(client.scheduler.address)
    threads = sum(client.nthreads().values())
    if not threads:
        raise WorkerLost(f"the Dask cluster at {scheduler} has no workers")
    facing = _address_facing(scheduler)
    warning = None
    if not scheduler.startswith(("tls:", "wss:", "inproc:")) and facing != LOOPBACK:
        warning = _IN_THE_CLEAR.format(scheduler)
    if host is not None:
        return Workers(executor, threads, host, port, listen="", warning=warning)
    return Workers(executor, threads, facing, port, warning=warning)


def _address_facing(scheduler: str) -> str:
    """This machine's address on the way to the scheduler; that of the workers is the same one, or
    has to be given."""
    place = urlsplit(scheduler).hostname
    if not place or scheduler.startswith("inproc"):
        return LOOPBACK
    find: Any = get_ip
    return str(find(place))
