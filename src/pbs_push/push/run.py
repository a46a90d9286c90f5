"""One push while it runs: its two sides, and what its parts share and have learned."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from pbs_push.errors import Cancelled, PbsPushError, drop_frames
from pbs_push.push.checkpoint_memory import CheckpointMemory
from pbs_push.push.checkpoint_rights import CheckpointRights
from pbs_push.push.document import Sides
from pbs_push.push.encryption import Sealers
from pbs_push.push.events import Note, Retrying, SnapshotEnded
from pbs_push.push.outcome import Problem
from pbs_push.push.rate_limits import RateLimits
from pbs_push.push.report import Report
from pbs_push.push.retries import PatientRest, Retries, is_passing
from pbs_push.push.room import Room
from pbs_push.push.run_lock import only_one
from pbs_push.push.schedule import BUFFERS_TOGETHER, buffer_share, largest_first
from pbs_push.remote.api import TargetApi
from pbs_push.remote.supply import ConnectionSupply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from pbs_push.push.events import Event, Level, Listener
    from pbs_push.push.options import PushOptions
    from pbs_push.push.outcome import Alert, HeldBack, Outcome
    from pbs_push.push.plan import GroupPlan
    from pbs_push.push.sharing import Sharing
    from pbs_push.remote.pacing import Pacer
    from pbs_push.remote.target import Target
    from pbs_push.source.datastore import Datastore, SourceIdentity


T = TypeVar("T")


class Run:
    """One push of ``source`` to ``target``. Safe for threads; nothing outlives it but ``report``.

    ``cancelled`` ends it at the next wait. ``listener`` is given events, one at a time. ``pacer``
    and ``checkpoint_memory`` take the place of those that it would have. ``sharing`` is
    what it shares with pushes to other targets.
    """

    def __init__(
        self,
        source: Datastore,
        target: Target,
        options: PushOptions,
        listener: Listener | None = None,
        pacer: Pacer | None = None,
        checkpoint_memory: CheckpointMemory | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self.source: Final = source
        self.sharing: Final = sharing
        self.target: Final = target
        self.options: Final = options
        self.report: Final = Report(
            Sides(
                str(source.path),
                options.source_namespace,
                target.repository,
                options.target_namespace,
            )
        )
        self.cancelled: Final = threading.Event()
        self.supply: Final = ConnectionSupply(target, self.cancelled, options.congestion_control)
        self.buffer_bytes = options.buffer_bytes or buffer_share(1)
        """What each group may hold in memory."""
        self.room: Final = Room(BUFFERS_TOGETHER if options.buffer_bytes is None else sys.maxsize)
        """What all of them may."""
        self.api: Final = TargetApi(
            PatientRest(target.rest, self.trying), target.api.datastore, target.words
        )
        """The target's, with the patience of this run."""
        self.checkpoint_rights: Final = CheckpointRights(self.api, options)
        self.checkpoint_memory: Final = checkpoint_memory or CheckpointMemory(target.repository)
        self.sealers: Final = Sealers(len(os.sched_getaffinity(0)))
        """What computes under a key: one for each core, whatever the number of groups."""
        self._began = time.monotonic()
        self._listener = listener
        self._listener_lock = threading.Lock()
        self._once_lock = threading.Lock()
        self._said: set[str] = set()
        self._identity: SourceIdentity | None = None
        self.rate_limits: Final = (
            RateLimits(options, self.note) if sharing is None else sharing.limits
        )
        self.pacer: Final = pacer or self.rate_limits.pacer

    # -- groups --

    def in_order(self, groups: Sequence[GroupPlan]) -> list[GroupPlan]:
        """The groups as they are to be pushed, one after another. Raises Cancelled."""
        if self.sharing is None:
            return largest_first(groups, self.source)
        round_trip_s = self.target.rest.round_trip_s
        return self.sharing.in_order(groups, self.source, round_trip_s, self.check_cancelled)

    @property
    def round_trip_s(self) -> float:
        """Of the target, or of the farthest of several, at which the same groups are pushed."""
        own = self.target.rest.round_trip_s
        return own if self.sharing is None else max(own, self.sharing.meeting.round_trip_s)

    # -- the source stays what it was --

    def look(self) -> SourceIdentity:
        """Take what is at the source's path now for the source of this run. Raises SourceError."""
        identity = self.source.identity()
        self._identity = identity
        return identity

    @property
    def identity(self) -> SourceIdentity | None:
        """What was looked at; None: nothing was."""
        return self._identity

    def recognise(self, identity: SourceIdentity | None) -> None:
        """The source of this run is what was looked at before, for the plan that it carries out."""
        self._identity = identity

    def check_source(self) -> None:
        """Raise SourceError if the source is another than what was looked at: unmounted, say."""
        if self._identity is not None:
            self.source.check_is(self._identity)

    @contextmanager
    def source_staying(self) -> Iterator[None]:
        """For what is listed within: raises SourceError at the end as ``check_source`` does."""
        try:
            yield
        finally:
            self.check_source()

    def only_one(self) -> AbstractContextManager[None]:
        """Keep the same push from running twice at once on this host. Raises AlreadyRunning."""
        source, options, there = self.source.path.resolve(), self.options, self.target.repository
        filters = ",".join(sorted(str(one) for one in options.group_filters.filters))
        which = f"{options.source_namespace}|{options.max_depth}|{filters}"
        key = f"{source}|{which}|{there.netloc}|{there.datastore}|{options.target_namespace}"
        what = f"pushing {source} to {there}"
        wait_s = options.lock_wait_s
        return only_one(what, key, wait_s, self.pause, lambda text: self.note("info", text))

    # -- trying again --

    def retries(self) -> Retries:
        """Tries of one thing, as the options have it."""
        return Retries(self.options.retries, self.options.retry_for_s, time.monotonic())

    def trying(self, what: str, call: Callable[[], T]) -> T:
        """What ``call`` returns, which is made again where it fails for the moment.

        Raises what it raises, and Cancelled.
        """
        retries = self.retries()
        while True:
            try:
                with self.target.rest.heeding(self.cancelled):
                    return call()
            except PbsPushError as error:
                self.wait_after(error, what, retries)

    def wait_after(
        self, error: PbsPushError, what: str, retries: Retries, *, worked: bool = False
    ) -> None:
        """Wait before ``what`` is tried again. Raises ``error`` if it is not to be, Cancelled.

        A target that was never reached is not waited for: its address may be wrong.
        """
        reached = self.target.rest.round_trip_s > 0
        if not reached or not is_passing(error):
            raise error
        pause_s = retries.pause(time.monotonic(), worked=worked)
        if pause_s is None:
            raise error
        drop_frames(error)
        self.report.count_retry()
        self.notify(Retrying(what, error, retries.number, pause_s))
        self.pause(pause_s)

    # -- stopping --

    @property
    def is_over(self) -> bool:
        """Whether it has gone on for as long as it may."""
        left_s = self.left_s
        return left_s is not None and left_s < 0

    @property
    def left_s(self) -> float | None:
        """Seconds for which it may go on, less than 0 when it is over; None: there is no limit."""
        limit = self.options.max_duration_s
        return None if limit is None else self._began + limit - time.monotonic()

    def check_cancelled(self) -> None:
        """Raise Cancelled if the caller asked to stop."""
        if self.cancelled.is_set():
            raise Cancelled("stopped as asked")

    def pause(self, seconds: float) -> None:
        """Wait. Raises Cancelled as soon as the caller asks to stop."""
        self.cancelled.wait(seconds)
        self.check_cancelled()

    # -- telling --

    def ended(self, outcome: Outcome) -> None:
        """Count an outcome, and tell it."""
        self.report.add(outcome)
        self.notify(SnapshotEnded(outcome))

    def problem(self, what: str, error: PbsPushError) -> None:
        """Report what failed and is not one snapshot; the rest goes on. Raises Cancelled alone."""
        if isinstance(error, Cancelled):
            raise error
        self.report.add_problem(Problem(what, error))
        self.note("error", f"{what}: {error}")

    def alert(self, alert: Alert) -> None:
        """Report what cannot be normal; the push goes on."""
        self.report.add_alert(alert)
        self.note("warning", alert.text)

    def hold_back(self, held: HeldBack) -> None:
        """Report removals that do not happen."""
        self.report.hold_back(held)
        self.note("warning", f"not removed: {held}")

    def note(self, level: Level, text: str) -> None:
        """Tell a line for people."""
        self.notify(Note(level, text))

    def note_once(self, level: Level, text: str) -> None:
        """Tell a line for people, the first time that it is said in this run."""
        with self._once_lock:
            if text in self._said:
                return
            self._said.add(text)
        self.note(level, text)

    def notify(self, event: Event) -> None:
        """Tell the listener, if there is one."""
        if self._listener is not None:
            with self._listener_lock:
                self._listener(event)
