"""A whole benchmark: a target, a datastore and this machine, as far as they are given."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Final

from pbs_push.bench.link import LinkBench
from pbs_push.bench.machine import MachineBench
from pbs_push.bench.report import BenchReport
from pbs_push.bench.store import StoreBench
from pbs_push.bench.verdict import Limit, judge
from pbs_push.errors import Cancelled, ConfigError, PbsPushError, RemoteError
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
    ``cancel`` may be called from any thread, or a signal handler. ``report`` also has what could be
    measured where something failed. Raises ConfigError for ``seconds`` out of range.
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
        self._failure: PbsPushError | None = None

    def cancel(self) -> None:
        """Stop as soon as possible; ``run`` then raises Cancelled."""
        self._cancelled.set()

    def run(self) -> BenchReport:
        """Measure and judge.

        Raises Cancelled; and RemoteError, SourceError of the first part that could not be measured,
        but only when the others were.
        """
        report = self.report
        given = set()
        if self._target is not None:
            given.add(Limit.LINK)
            self._try("target", partial(self._measure_target, self._target))
        if self._datastore is not None:
            given.add(Limit.DISK)
            self._try("datastore", partial(self._measure_store, self._datastore))
        machine = MachineBench(self._seconds, self._notify, self._cancelled).measure()
        report.machine = machine
        round_trip_s = 0.0 if report.link is None else report.link.round_trip_s
        auto_parallel = chosen_parallel(round_trip_s, MOST_PARALLEL)
        report.verdict = judge(machine, report.store, report.link, auto_parallel, given)
        if self._failure is not None:
            raise self._failure
        return report

    def _try(self, part: str, measure: Callable[[], None]) -> None:
        """Measure a part; a failure is noted, and the other parts are worth measuring all the same.

        Raises Cancelled.
        """
        try:
            measure()
        except Cancelled:
            raise
        except PbsPushError as error:
            self._failure = self._failure or error
            self.report.notes.append(f"the {part} could not be measured: {error}")

    def _measure_store(self, datastore: Datastore) -> None:
        store = StoreBench(datastore, self._seconds, self._notify, self._cancelled)
        self.report.store = store.measure()

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
