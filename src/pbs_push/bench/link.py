"""The way to a target: how long a round trip takes, and how much it carries.

Uploads go through ``POST /speedtest`` of backup sessions, over the same transport as pushes
(protocol/backup.md, "Requests"). No session is finished, so the target removes what it made for
them: the group
``host/benchmark`` for one connection, and groups of other names for several at once, since a group
has one writer and the protocol's benchmark flag is for that group alone.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING, Final

from pbs_push.bench.figures import LinkFigures, UploadRate
from pbs_push.bench.timing import check_cancelled
from pbs_push.bench.upload import Meter, Upload
from pbs_push.errors import InvalidName, StatusError
from pbs_push.names import Group, Namespace, Snapshot
from pbs_push.remote.congestion import used_congestion_control

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbs_push.remote.models import GroupItem
    from pbs_push.remote.session import BackupSession
    from pbs_push.remote.stream import Stream
    from pbs_push.remote.target import Target

CONNECTIONS: Final = (1, 2, 4, 8)
BENCHMARK_GROUP: Final = Group("host", "benchmark")
"""The only group that the protocol's benchmark flag is allowed for."""
TEMPORARY_ID: Final = "pbs-push-bench-"

REQUEST_BYTES: Final = 256 << 10
"""One frame of a push. Small, so that a slow line answers often enough to be measured."""
CONNECTION_BYTES: Final = 40 << 20
"""On their way over one connection, at most: more than a real server's window of 32 MiB."""
ALL_BYTES: Final = 64 << 20
"""On their way over all connections: what the measurement takes of memory."""
_LEAST_ROUND_TRIPS: Final = 5
_MOST_ROUND_TRIPS: Final = 100
_WARM_UP: Final = 2
_RELEASE_LIMIT_S: Final = 10.0
_RELEASE_POLL_S: Final = 0.1


class LinkBench:
    """Measures one target in ``namespace``, each measurement for about ``seconds``.

    ``notify`` is told what comes next. Raises Cancelled soon after ``cancelled`` is set; the target
    then removes what was under way, as always when a connection is dropped.
    """

    def __init__(
        self,
        target: Target,
        namespace: Namespace,
        seconds: float,
        notify: Callable[[str], None],
        cancelled: threading.Event,
    ) -> None:
        self._target = target
        self._namespace = namespace
        self._seconds = seconds
        self._notify = notify
        self._cancelled = cancelled
        self._numbers = count(1)
        self._begun: set[Group] = set()
        self._body = os.urandom(REQUEST_BYTES)  # a line that compresses shall not shine

    def log_in(self) -> None:
        """Find out that the target can be measured in. Raises RemoteError.

        Some versions tell what they are without a login (protocol/rest.md, "Calls"), so its
        groups are asked for.
        """
        self._notify(f"target {self._target.repository.netloc}: login")
        self._target.features  # noqa: B018  (asked for here)
        self._target.api.groups(self._namespace)

    def measure(self) -> LinkFigures:
        """Round trip, and upload rates for each number of ``CONNECTIONS``. Raises RemoteError."""
        self._notify(f"target {self._target.repository.netloc}: round trips")
        version = str(self._target.features.version)
        began = time.perf_counter()
        stream = self._target.connect(self._cancelled)
        connected = time.perf_counter()
        with closing(self._begin(BENCHMARK_GROUP, stream)) as session:
            session.wait([session.speedtest(b"")])
            ready = time.perf_counter()
            spans = self._round_trips(session)
            round_trip_s = statistics.median(spans)
            uploads = [self._upload_over([session], round_trip_s)]
        uploads += [self._upload(connections, round_trip_s) for connections in CONNECTIONS[1:]]
        return LinkFigures(
            repository=str(self._target.repository),
            version=version,
            connect_s=connected - began,
            begin_s=ready - connected,
            round_trip_s=round_trip_s,
            round_trips=len(spans),
            most_in_flight=stream.most_in_flight,
            congestion_control=used_congestion_control(),
            uploads=tuple(uploads),
        )

    def rate(self, connections: int) -> float:
        """Bytes a second that so many connections carry together. Raises RemoteError.

        Where the namespace is not there yet, they go into the nearest one above it.
        """
        while True:
            try:
                return self._upload(connections, self._target.rest.round_trip_s).bytes_per_s
            except StatusError as error:
                if error.status != HTTPStatus.NOT_FOUND or self._namespace.is_root:
                    raise
                self._namespace = self._namespace.parent

    def left_behind(self) -> list[Group]:
        """Groups of ours that the target still shows, after it had time to remove them.

        Empty where all is as it was. Raises RemoteError.
        """
        if not self._begun:
            return []
        deadline = time.monotonic() + _RELEASE_LIMIT_S
        while True:
            check_cancelled(self._cancelled)
            shown = self._target.api.groups(self._namespace)
            left = sorted(self._begun.intersection(filter(None, map(_group_of, shown))))
            if not left or time.monotonic() > deadline:
                return left
            self._cancelled.wait(_RELEASE_POLL_S)

    def _begin(self, group: Group, stream: Stream) -> BackupSession:
        """A session for a snapshot of ``group`` that will never be finished."""
        session = self._target.begin_backup(
            stream,
            self._namespace,
            Snapshot(group, int(time.time())),
            chunks_path="",
            transport=self._target.transport(),
            benchmark=group == BENCHMARK_GROUP,
        )
        self._begun.add(group)
        return session

    def _round_trips(self, session: BackupSession) -> list[float]:
        """Seconds that requests without a body took, one after the other."""
        spans: list[float] = []
        deadline = time.perf_counter() + self._seconds
        while len(spans) < _MOST_ROUND_TRIPS + _WARM_UP:
            began = time.perf_counter()
            if began > deadline and len(spans) >= _LEAST_ROUND_TRIPS + _WARM_UP:
                break
            call = session.speedtest(b"")
            session.wait([call])
            call.body()
            spans.append(time.perf_counter() - began)
        return spans[_WARM_UP:]

    def _upload(self, connections: int, round_trip_s: float) -> UploadRate:
        """The rate of so many new sessions at once."""
        with ExitStack() as stack:
            sessions = []
            for _ in range(connections):
                # A number is not used twice: the lock of a dropped session may linger.
                group = Group("host", f"{TEMPORARY_ID}{next(self._numbers)}")
                stream = self._target.connect(self._cancelled)
                sessions.append(stack.enter_context(closing(self._begin(group, stream))))
            return self._upload_over(sessions, round_trip_s)

    def _upload_over(self, sessions: list[BackupSession], round_trip_s: float) -> UploadRate:
        """The rate of these sessions together."""
        self._notify(f"target: uploads, {len(sessions)} at once")
        meter = Meter(self._seconds)
        failed = threading.Event()
        uploads = [
            Upload(
                session,
                self._body,
                meter,
                most_ahead=min(CONNECTION_BYTES, ALL_BYTES // len(sessions)) // REQUEST_BYTES,
                round_trip_s=round_trip_s,
                failed=failed,
            )
            for session in sessions
        ]
        with ThreadPoolExecutor(len(sessions), thread_name_prefix="bench-upload") as pool:
            working = [pool.submit(upload.run) for upload in uploads]
            for future in working:
                future.result()
        return UploadRate(len(sessions), meter.answers_per_s * len(self._body))


def _group_of(item: GroupItem) -> Group | None:
    """A listed group; None for one whose name we would not write."""
    try:
        return item.group
    except InvalidName:
        return None
