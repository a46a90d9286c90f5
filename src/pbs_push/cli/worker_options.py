"""``--processes`` and ``--dask``: who pushes the groups, if not threads of the command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pbs_push.access.values import parse_number
from pbs_push.cli.values import Value
from pbs_push.errors import ConfigError
from pbs_push.names import ADDRESS, is_host
from pbs_push.push import checks

if TYPE_CHECKING:
    from pbs_push.push.workers import Workers

F = TypeVar("F", bound=Callable[..., Any])

MAX_PROCESSES: Final = 64
_LAST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class AskedWorkers:
    """What the command line says: a number of processes, or the address of a Dask scheduler, and
    where the workers of that reach this host."""

    processes: int | None = None
    dask: str | None = None
    listen: tuple[str, int] | None = None

    @contextmanager
    def opened(self) -> Iterator[Workers | None]:
        """Within, they are there; None: threads do it. Raises ConfigError, WorkerLost."""
        if self.processes is not None:
            from pbs_push.cli.processes import process_workers  # noqa: PLC0415  (as below)

            with process_workers(self.processes) as workers:
                yield workers
        elif self.dask is not None:
            from pbs_push.cli.dask_cluster import cluster_workers  # noqa: PLC0415  (as asked for)

            with cluster_workers(self.dask, self.listen) as workers:
                yield workers
        else:
            yield None


THREADS: Final = AskedWorkers()
"""Nothing was asked for."""


def _processes(text: str) -> int:
    number: int = checks.whole(1, MAX_PROCESSES)("processes", parse_number(text))
    return number


def _scheduler(text: str) -> str:
    if not text or any(letter.isspace() or not letter.isprintable() for letter in text):
        raise ConfigError(
            "the address of a scheduler is written tcp://HOST:PORT or tls://HOST:PORT"
        )
    return text


def _listen(text: str) -> tuple[str, int]:
    matched = ADDRESS.fullmatch(text)
    host = (matched[1] or matched[2]) if matched else ""
    port = int(matched[3] or 0) if matched else 0
    if not is_host(host) or port > _LAST_PORT:
        raise ConfigError(f"'{text}' is not HOST[:PORT]")
    return host, port


def worker_options(command: F) -> F:
    """``--processes``, ``--dask`` and ``--listen``; ``take_workers`` takes them."""
    for option in (
        click.option(
            "--listen",
            type=Value("address", _listen),
            metavar="HOST[:PORT]",
            help="With --dask: where its workers reach this host.  [default: the address that "
            "faces the scheduler, any free port]",
        ),
        click.option(
            "--dask",
            type=Value("address", _scheduler),
            metavar="ADDRESS",
            help="Let the workers of the Dask cluster with this scheduler push the groups: "
            "tls://HOST:8786. All of them have to see SOURCE at the same path.",
        ),
        click.option(
            "--processes",
            type=Value("number", _processes),
            metavar="N",
            help="Push by so many processes, each a group at a time, instead of threads.",
        ),
    ):
        command = option(command)
    return command


def take_workers(values: dict[str, Any]) -> AskedWorkers:
    """Take what belongs to ``worker_options`` out of a command's ``values``. Raises UsageError."""
    asked = AskedWorkers(*(values.pop(name, None) for name in ("processes", "dask", "listen")))
    if asked.processes is not None and asked.dask is not None:
        raise click.UsageError("give either --processes or --dask, not both")
    if asked.listen is not None and asked.dask is None:
        raise click.UsageError("--listen has no effect without --dask")
    if asked != THREADS and values.get("dry_run"):
        name = "--dask" if asked.processes is None else "--processes"
        raise click.UsageError(f"{name} has no effect with --dry-run")
    return asked
