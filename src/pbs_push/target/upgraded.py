"""A connection after its upgrade: the session, its requests, and its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pbs_push.target.calls import CALLS
from pbs_push.target.http2 import SessionConnection
from pbs_push.target.reader import ReaderSession, ReadPlace
from pbs_push.target.reader_calls import READER_CALLS
from pbs_push.target.session import BackupSession, Place
from pbs_push.target.shared import Shared
from pbs_push.target.wire import Line


class Upgraded(NamedTuple):
    """A session to be served; ``end`` it when the connection is over, however that came."""

    connection: SessionConnection[Any]
    end: Callable[[], None]


def session_on(
    wire: Line, shared: Shared, place: Place | ReadPlace, release: Callable[[Place], None]
) -> Upgraded:
    """The session that writes or reads ``place``; ``release`` gives a finished one's locks back."""
    if isinstance(place, ReadPlace):
        shared.counters.add(readers=1)
        reader = ReaderSession(place)
        return Upgraded(SessionConnection(wire, shared, reader, READER_CALLS), reader.end)
    shared.counters.add(sessions=1)
    session = BackupSession(
        place,
        shared.faults.chunk_error,
        compares_manifest=shared.options.compares_manifest,
        on_finished=release,
    )
    return Upgraded(SessionConnection(wire, shared, session, CALLS), session.end)
