"""One source pushed to several targets in one run; each chunk is read once for all that lack it.

Each target has a push of its own, with a plan, tries, locks and a report; it fails by itself.
What they share is in push/sharing.py: chunks that were read, the order of groups, the rate limit.
"""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from pbs_push._native.shared import MOST_MEMBERS, SharedChunks
from pbs_push.errors import Cancelled, ConfigError, PbsPushError, drop_frames
from pbs_push.push.checks import an
from pbs_push.push.crew import Crew
from pbs_push.push.document import Span
from pbs_push.push.engine import Push
from pbs_push.push.events import FromTarget
from pbs_push.push.fan_out_report import FanOutReport
from pbs_push.push.options import PushOptions
from pbs_push.push.plan import Plan
from pbs_push.push.sharing import CommonLimits, Meeting, Sharing
from pbs_push.remote.target import Target
from pbs_push.source.datastore import Datastore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pbs_push.names import Repository
    from pbs_push.push.events import Event, FanOutListener, Level

    Destination = Target | tuple[Target, PushOptions]

DEFAULT_ROOM: Final = 256 << 20
_OF_ALL: Final = ("rate_out", "burst_out", "bwlimit", "rate_file")
_TARGET: Final = an(Target, "a Target")
_OPTIONS: Final = an(PushOptions, "PushOptions")


class FanOut:
    """Pushes of ``source`` to several ``targets``: ``run`` them once, or only ``plan`` them.

    A target may come with options of its own, as ``(target, options)``; ``options`` are those of
    the others. Rate limits are of all targets together. ``room_bytes`` bounds what is in memory of
    chunks that were read for one target and may be needed by another; a target that is ahead by
    more than that does not wait, and then chunks are read again. ``listener`` is given events
    ``FromTarget``, one at a time, from several threads. ``cancel`` may be called from any thread.

    Raises ConfigError for arguments of a wrong type, for no target, two that are the same
    datastore, or rate limits that differ.
    """

    def __init__(
        self,
        source: Datastore,
        targets: Sequence[Destination],
        options: PushOptions | None = None,
        listener: FanOutListener | None = None,
        *,
        room_bytes: int = DEFAULT_ROOM,
    ) -> None:
        common = PushOptions() if options is None else _OPTIONS("options", options)
        pairs = [_pair(one, common) for one in targets]
        _check(pairs, common)
        self._listener = listener
        self._listener_lock = threading.Lock()
        self._cancelled = threading.Event()
        self._began = time.monotonic()
        self._limits = CommonLimits(common, self._tell_limit)
        chunks = SharedChunks(room_bytes, len(pairs))
        meeting = Meeting(len(pairs))
        self._sharing = [
            Sharing(number, chunks, meeting, self._limits) for number in range(len(pairs))
        ]
        self.pushes: Final = tuple(
            Push(source, target, its, self._heard(sharing.member, target), sharing=sharing)
            for (target, its), sharing in zip(pairs, self._sharing, strict=True)
        )
        """One for each target, in their order."""
        self.report: Final = FanOutReport([push.report for push in self.pushes], chunks, room_bytes)
        """What became of it so far."""

    def cancel(self) -> None:
        """Stop all as soon as possible; ``run`` then raises Cancelled."""
        self._cancelled.set()
        for push in self.pushes:
            push.cancel()

    def plan(self) -> list[Plan]:
        """Look at all sides and decide; nothing is changed. One plan for each target.

        What keeps a plan from being made is its ``error``. Raises Cancelled.
        """
        plans: list[Plan] = [Plan((), sides=push.report.sides) for push in self.pushes]

        def plan_one(number: int) -> None:
            began = time.time()
            try:
                plans[number] = self.pushes[number].plan()
            except PbsPushError as error:
                drop_frames(error)
                sides, span = self.pushes[number].report.sides, Span(began, time.time())
                plans[number] = Plan((), sides=sides, error=error, span=span)

        self._each(plan_one)
        return plans

    def run(self, plans: Sequence[Plan] | None = None) -> FanOutReport:
        """Push to all, by these plans or such as are made now, and report.

        Raises Cancelled; what ends the push to one target is the ``error`` of its report.
        """
        try:
            with self._limits.for_all():
                self._each(partial(self._run_one, plans))
        finally:
            self.report.seconds = time.monotonic() - self._began
        return self.report

    def _run_one(self, plans: Sequence[Plan] | None, number: int) -> None:
        try:
            self.pushes[number].run(None if plans is None else plans[number])
        except PbsPushError as error:
            drop_frames(error)  # it is in the report
        finally:
            self._sharing[number].leave()

    def _each(self, work: Callable[[int], None]) -> None:
        """Do it for all targets at once. Raises Cancelled."""
        self._began = time.monotonic()
        Crew(range(len(self.pushes)), work, len(self.pushes)).run(stop=self.cancel)
        if self._cancelled.is_set():
            raise Cancelled("stopped as asked")

    def _heard(self, number: int, target: Target) -> Callable[[Event], None] | None:
        if self._listener is None:
            return None
        return partial(self._tell, number, target.repository)

    def _tell(self, number: int, target: Repository, event: Event) -> None:
        if self._listener is not None:
            with self._listener_lock:
                self._listener(FromTarget(number, target, event))

    def _tell_limit(self, level: Level, text: str) -> None:
        self.pushes[0].note(level, f"{text} (of all targets together)")


def push_to_all(
    source: Datastore | str | os.PathLike[str],
    targets: Sequence[Destination],
    options: PushOptions | None = None,
    listener: FanOutListener | None = None,
) -> FanOutReport:
    """Push a datastore to several targets, and report what became of it at each; see FanOut."""
    if isinstance(source, str | os.PathLike):
        source = Datastore(source)
    return FanOut(source, targets, options, listener).run()


def _pair(destination: Destination, common: PushOptions) -> tuple[Target, PushOptions]:
    if isinstance(destination, tuple):
        target, options = destination
        return _TARGET("target", target), _OPTIONS("options", options)
    return _TARGET("target", destination), common


def _check(pairs: Sequence[tuple[Target, PushOptions]], common: PushOptions) -> None:
    if not 1 <= len(pairs) <= MOST_MEMBERS:
        raise ConfigError(f"there are {len(pairs)} targets: it must be 1 to {MOST_MEMBERS}")
    check_different([target.repository for target, _ in pairs])
    for target, options in pairs:
        for name in _OF_ALL:
            if getattr(options, name) != getattr(common, name):
                raise ConfigError(
                    f"{name} of {target.repository}: it must be as for the others, since limits "
                    "are of all targets together"
                )


def check_different(repositories: Sequence[Repository]) -> None:
    """Raise ConfigError where two are the same datastore."""
    known: set[tuple[str, int, str]] = set()
    for one in repositories:
        key = (one.host.lower(), one.port, one.datastore)
        if key in known:
            raise ConfigError(
                f"the datastore {one.datastore} of {one.netloc} is given twice: each target must "
                "be another one"
            )
        known.add(key)
