"""Where a push hears from its jobs, wherever they are, and tells them how fast to go and to stop.

One thread listens to all of them, so that events come one at a time. It does not matter which
executor carries the jobs: each connects by itself (``remote.job_link``), as soon as it runs.
"""

from __future__ import annotations

import os
import selectors
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, get_args

from pbs_push.errors import ConnectError, ProtocolError
from pbs_push.push.events import Event, SnapshotEnded
from pbs_push.push.job_words import message_of, text_of, unpacked
from pbs_push.push.rate_shares import RateShares
from pbs_push.remote.job_link import KEY_BYTES, Listening

if TYPE_CHECKING:
    from typing import Self

    from pbs_push.push.document import Json
    from pbs_push.push.outcome import Outcome
    from pbs_push.push.plan import GroupPlan
    from pbs_push.push.run import Run
    from pbs_push.remote.job_link import Incoming

MAX_STRANGERS: Final = 128
"""Connections at once that have not shown that they know the key."""
STRANGER_S: Final = 10.0
"""So long one may take to show it."""
LOOK_S: Final = 0.2
"""How often it is looked whether the push was cancelled, or its rate is another."""
_MORE_OUTCOMES: Final = 16
"""That a job may tell, beyond one for each snapshot."""
_EVENTS: Final = get_args(Event)


@dataclass(slots=True)
class JobState:
    """What is known of a job that was handed out; ``over`` is set when no more will be heard."""

    plan: GroupPlan
    host: str | None = None
    """Where it runs, None: it has not said anything yet."""
    said_goodbye: bool = False
    lost_at: float | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


class _Connection:
    """One connection; ``number`` is that of its job, None: of a stranger, or of a job refused."""

    def __init__(self, line: Incoming) -> None:
        self.line = line
        self.number: int | None = None
        self.begun = False
        self.told_to_stop = False
        self.dropped = False

    def say(self, message: Json) -> None:
        """Raises ConnectError."""
        self.line.say(text_of(message))


class JobChannel:
    """A context in which jobs of ``run`` may say something: ``expect`` each before handing it out.

    Workers connect to ``host`` (an address of this machine, ``""``: all) at ``port``, any free one
    if 0. ``error`` is what the listener of the push raised. Raises ConnectError.
    """

    def __init__(self, run: Run, host: str, port: int = 0) -> None:
        self.key: Final = os.urandom(KEY_BYTES)
        self.error: BaseException | None = None
        self._run = run
        self._limited = run.pacer is not None
        self._shares = RateShares(run.pacer.rate if run.pacer is not None else None)
        self._lock = threading.Lock()
        self._jobs: dict[int, JobState] = {}
        self._connections: dict[int, _Connection] = {}
        """Those of jobs, by number."""
        self._strangers: list[_Connection] = []
        self._unwanted: set[int] = set()
        self._stopping = False
        self._listening = Listening(host, port)
        self.port: Final = self._listening.port
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._selector.register(self._wake_fd, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._listen, name="jobs", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._wake()
        self._thread.join()
        self._selector.close()
        self._listening.close()
        os.close(self._wake_fd)

    def expect(self, number: int, plan: GroupPlan) -> JobState:
        """A job of this group will be handed out under this number."""
        state = JobState(plan)
        with self._lock:
            self._jobs[number] = state
        return state

    def dismiss(self, number: int) -> None:
        """Whatever still runs of a job has to stop, and is not heard any more."""
        with self._lock:
            self._jobs.pop(number, None)
            if number in self._connections:
                self._unwanted.add(number)
        self._wake()

    def _wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    # -- in the thread --

    def _listen(self) -> None:
        try:
            self._hear_all()
        except BaseException as error:  # noqa: BLE001  (raised where the jobs are waited for)
            self.error = self.error or error
            self._run.cancelled.set()
        finally:  # a job that nobody hears any more ends
            for connection in (*self._connections.values(), *self._strangers):
                connection.line.close()

    def _hear_all(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select(LOOK_S):
                if key.fileobj is self._listening:
                    self._accept()
                elif key.fd == self._wake_fd:
                    with suppress(BlockingIOError):
                        os.eventfd_read(self._wake_fd)
                else:
                    self._read(key.data)
            self._look()

    def _accept(self) -> None:
        while (line := self._listening.accept(self.key)) is not None:
            if not line.greets():
                line.close()
                continue
            if len(self._strangers) >= MAX_STRANGERS:  # a job says at once which one it is
                self._drop(self._strangers[0])
            self._strangers.append(_Connection(line))
            self._selector.register(line, selectors.EVENT_READ, self._strangers[-1])

    def _read(self, connection: _Connection) -> None:
        if connection.dropped:  # since the selector told of it
            return
        try:
            for text in connection.line.heard():
                self._take(connection, message_of(text))
        except ConnectError:
            self._drop(connection)
        except ProtocolError as error:
            if connection.number is not None:
                line = f"a worker's connection is closed: {error}"
                self._guarded(lambda: self._run.note("warning", line))
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        """A connection has ended, or is ended."""
        connection.dropped = True
        self._selector.unregister(connection.line)
        connection.line.close()
        number = connection.number
        if number is None:
            self._strangers.remove(connection)
            return
        self._shares.leave(number)
        with self._lock:
            del self._connections[number]
            self._unwanted.discard(number)
            state = self._jobs.get(number)
        if state is not None:
            if not state.said_goodbye:
                state.lost_at = time.monotonic()
            state.over.set()

    def _take(self, connection: _Connection, message: Json) -> None:
        """Raises ProtocolError, ConnectError for what ends the connection."""
        number = connection.number
        if number is None:
            self._greet(connection, message)
            return
        state = self._jobs.get(number)
        if state is None or state.said_goodbye:
            return
        if "event" in message:
            self._tell(unpacked(message["event"]), state)
        elif "once" in message:
            level, text = _pair(message["once"])
            self._guarded(lambda: self._run.note_once(level, text))
        elif isinstance(took := message.get("took"), int):
            self._shares.acknowledged(number, took)
        elif "checkpoint" in message:
            memory, plan = self._run.checkpoint_memory, state.plan
            tell = memory.keep if message["checkpoint"] else memory.drop
            tell(plan.target_namespace, plan.source.group)
        elif "bye" in message:
            state.said_goodbye = True
            self._shares.leave(number)
            state.over.set()
        else:
            raise ProtocolError(f"a job says something unknown: {', '.join(message)[:80]}")

    def _greet(self, connection: _Connection, message: Json) -> None:
        """Let a job begin, or say why not."""
        number, host = message.get("hello"), message.get("host")
        if not isinstance(number, int) or not isinstance(host, str):
            raise ProtocolError("a job does not say which one it is")
        with self._lock:
            state = self._jobs.get(number)
            fresh = state is not None and state.host is None
            if state is not None and fresh:
                state.host = host
                connection.number = number
                self._connections[number] = connection
        if not fresh:
            connection.say({"refused": "the push does not wait for this job any more"})
            return
        self._strangers.remove(connection)
        if self._limited:
            self._shares.join(number)
        else:
            self._begin(connection, rate=None, told=0)

    def _begin(self, connection: _Connection, rate: int | None, told: int) -> None:
        connection.begun = True
        terms = {"limited": self._limited, "rate": rate, "number": told, "left": self._run.left_s}
        connection.say({"begin": True, **terms})

    def _tell(self, event: Any, state: JobState) -> None:
        if not isinstance(event, _EVENTS):
            raise ProtocolError("a job tells of something that is no event")
        if isinstance(event, SnapshotEnded):
            state.outcomes.append(event.outcome)
            if len(state.outcomes) > len(state.plan.snapshots) + _MORE_OUTCOMES:
                raise ProtocolError("a job tells of more snapshots than it has")
        self._guarded(lambda: self._run.notify(event))

    def _guarded(self, tell: Any) -> None:
        """What a listener raises ends the push, not the thread."""
        try:
            tell()
        except BaseException as error:  # noqa: BLE001  (raised where the jobs are waited for)
            self.error = self.error or error
            self._run.cancelled.set()

    def _look(self) -> None:
        """What there is to say without having been asked."""
        if self._run.pacer is not None:
            self._shares.set_limit(self._run.pacer.rate)
        for share in self._shares.due():
            if (connection := self._connections.get(share.job)) is not None:
                self._try(connection, {"rate": share.rate, "number": share.number})
        stop_all = self._run.cancelled.is_set()
        for number, connection in list(self._connections.items()):
            if (stop_all or number in self._unwanted) and not connection.told_to_stop:
                connection.told_to_stop = True
                self._try(connection, {"cancel": True})
        late = time.monotonic() - STRANGER_S
        for connection in [one for one in self._strangers if one.line.since < late]:
            self._drop(connection)

    def _try(self, connection: _Connection, message: Json) -> None:
        try:
            if "rate" in message and not connection.begun:
                self._begin(connection, message["rate"], message["number"])
            else:
                connection.say(message)
        except ConnectError:
            self._drop(connection)


def _pair(value: Any) -> tuple[Any, str]:
    match value:
        case [("info" | "warning" | "error") as level, str(text)]:
            return level, text
    raise ProtocolError("a job tells a line that is none")
