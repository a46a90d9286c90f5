"""A whole benchmark: a target, a datastore and this machine, as far as they are given."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from pbs_push.bench.link import LinkBench
from pbs_push.bench.machine import MachineBench
from pbs_push.bench.report import BenchReport
from pbs_push.bench.store import StoreBench
from pbs_push.bench.verdict import judge
from pbs_push.errors import ConfigError, RemoteError
from pbs_push.names import Namespace
from pbs_push.push.schedule import MOST_PARALLEL, chosen_parallel

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbs_push.remote.target import Target
    from pbs_push.source.datastore import Datastore

DEFAULT_SECONDS: Final = 2.0
MOST_SECONDS: Final = 600.0


class Bench:
    """One benchmark: ``run`` it once.

    ``seconds`` is what each of the measurements takes, about; there are some ten for the machine
    and for a datastore each, and five for a target. ``notify`` is told what is measured next.
    ``cancel`` may be called from any thread, or a signal handler. ``report`` also has what was
    measured before an error. Raises ConfigError for ``seconds`` out of range.
    """

    def __init__(
        self,
        *,
        datastore: Datastore | None = None,
        target: Target | None = None,
        namespace: Namespace | None = None,
        seconds: float = DEFAULT_SECONDS,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        if not 0 < seconds <= MOST_SECONDS:
            raise ConfigError(f"seconds {seconds}: must be above 0 and at most {MOST_SECONDS:.0f}")
        self._datastore = datastore
        self._target = target
        self._namespace = namespace or Namespace()
        self._seconds = seconds
        self._notify = notify or _ignore
        self._cancelled = threading.Event()
        self.report = BenchReport(seconds)

    def cancel(self) -> None:
        """Stop as soon as possible; ``run`` then raises Cancelled."""
        self._cancelled.set()

    def run(self) -> BenchReport:
        """Measure and judge. Raises RemoteError, SourceError, Cancelled."""
        # The target first: it is the one that may refuse, and that should not take a minute.
        report = self.report
        if self._target is not None:
            self._measure_target(self._target)
        if self._datastore is not None:
            store = StoreBench(self._datastore, self._seconds, self._notify, self._cancelled)
            report.store = store.measure()
        machine = MachineBench(self._seconds, self._notify, self._cancelled).measure()
        report.machine = machine
        round_trip_s = 0.0 if report.link is None else report.link.round_trip_s
        auto_parallel = chosen_parallel(round_trip_s, MOST_PARALLEL)
        report.verdict = judge(machine, report.store, report.link, auto_parallel)
        return report

    def _measure_target(self, target: Target) -> None:
        link = LinkBench(target, self._namespace, self._seconds, self._notify, self._cancelled)
        self.report.link = link.measure()
        try:
            left = link.left_behind()
        except RemoteError as error:
            self.report.notes.append(
                f"cannot see whether the target has removed the benchmark's groups: {error}"
            )
            return
        self.report.notes += [
            f"the target still shows group {group}, which this benchmark made there"
            for group in left
        ]


def _ignore(_text: str) -> None:
    pass
