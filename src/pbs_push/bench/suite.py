"""A whole benchmark: a target, a datastore and this machine, as far as they are given."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pbs_push.bench.limits import Limit
from pbs_push.bench.link import LinkBench
from pbs_push.bench.machine import MachineBench
from pbs_push.bench.report import BenchReport
from pbs_push.bench.store import StoreBench
from pbs_push.bench.timing import DEFAULT_SECONDS, MOST_SECONDS
from pbs_push.bench.verdict import judge
from pbs_push.errors import Cancelled, ConfigError, PbsPushError, RemoteError, os_reason
from pbs_push.names import Namespace
from pbs_push.push.schedule import MOST_PARALLEL, chosen_parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pbs_push.remote.target import Target
    from pbs_push.source.datastore import Datastore


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
        self._notify = notify or _ignore
        self._cancelled = threading.Event()
        self._how = (seconds, self._notify, self._cancelled)
        self.report = BenchReport(seconds)
        self._failure: PbsPushError | None = None

    def cancel(self) -> None:
        """Stop as soon as possible; ``run`` then raises Cancelled."""
        self._cancelled.set()

    def run(self) -> BenchReport:
        """Measure and judge.

        The target is logged in to first; where that fails, nothing is measured. A part that cannot
        be measured later is told of at once and in the report's notes, and the others are measured
        all the same; then the first error is raised. Raises Cancelled at once.
        """
        report, given = self.report, set()
        if self._target is not None:
            given.add(Limit.LINK)
            link = LinkBench(self._target, self._namespace, *self._how)
            link.log_in()
            with self._part("target"):
                report.link = link.measure()
            self._look_for_traces(link)
        if self._datastore is not None:
            given.add(Limit.DISK)
            with self._part("datastore"):
                report.store = StoreBench(self._datastore, *self._how).measure()
        with self._part("machine"):
            report.machine = MachineBench(*self._how).measure()
        if report.machine is not None:
            round_trip_s = 0.0 if report.link is None else report.link.round_trip_s
            auto_parallel = chosen_parallel(round_trip_s, MOST_PARALLEL)
            report.verdict = judge(report.machine, report.store, report.link, auto_parallel, given)
        if self._failure is not None:
            raise self._failure
        return report

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        """What fails within is noted, and no reason not to measure the rest. Raises Cancelled."""
        try:
            yield
        except Cancelled:
            raise
        except (PbsPushError, OSError) as error:
            failure = _as_ours(error, name)
            self._failure = self._failure or failure
            self.report.notes.append(f"the {name} could not be measured: {failure}")
            self._notify(f"the {name} failed: {failure}")

    def _look_for_traces(self, link: LinkBench) -> None:
        """Note what the benchmark left at the target, also where it failed."""
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


def _as_ours(error: PbsPushError | OSError, part: str) -> PbsPushError:
    """An error of the system, such as of a full disk for temporary files, says what was done."""
    if isinstance(error, PbsPushError):
        return error
    where = f" {error.filename}:" if error.filename else ""
    return PbsPushError(f"measuring the {part}:{where} {os_reason(error)}")


def _ignore(_text: str) -> None:
    pass
