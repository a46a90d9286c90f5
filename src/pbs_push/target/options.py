"""What can be set about a target: its limits, its maintenance modes, and faults made on purpose."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from pbs_push.errors import ConfigError
from pbs_push.target.answers import Answer
from pbs_push.target.habits import Habits

KIB: Final = 1 << 10
MIB: Final = 1 << 20
SMALLEST_CONNECTION_WINDOW: Final = 65_535
"""HTTP/2 starts there and has no way to make it smaller (RFC 9113, 6.9.2)."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """HTTP/2 settings; the defaults are a real server's (protocol/backup.md, "HTTP/2 settings").

    Sizes in bytes. ``connection_window`` is not a setting: WINDOW_UPDATE grants it at the start.
    """

    max_concurrent_streams: int = 200
    initial_window: int = 32 * MIB
    connection_window: int = 32 * MIB
    max_frame_size: int = 4 * MIB
    max_header_list_size: int = 16 * KIB

    def __post_init__(self) -> None:
        if self.connection_window < SMALLEST_CONNECTION_WINDOW:
            raise ConfigError(
                f"connection window of {self.connection_window} bytes: HTTP/2 cannot go below "
                f"{SMALLEST_CONNECTION_WINDOW}"
            )


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """How a target behaves.

    ``settings_changes``: at that many requests of a session, these settings are announced; their
    ``connection_window`` has no effect.
    ``version``: (version, release) as `GET version` tells; what servers of that version do
    otherwise than newer ones (`habits`), it does too. ``bad_login_delay_s``: how late a 401 comes.
    ``compares_manifest``: `finish` asks that each file of the manifest was uploaded in this
    session, with the csum that it says: 4.2.5 and 3.4.9 do, 4.2.3 does not
    (protocol/backup.md, "Finish").
    ``lock_linger_s``: how long the group's lock is kept after the answer to `finish`, as servers
    before 4.0.16 do.
    ``hold_answers_s``: all answers of a session wait until nothing has come from the client for so
    long: it waits for them then. `CounterValues.flights` counts how often that happened, the
    answer to an upgrade included unless requests came along with it.
    ``loses_early_bytes``: what comes along with an upgrade request is lost, as with servers that
    begin to read HTTP/2 when they have answered.
    ``ticket_lifetime_s`` and ``clock`` (epoch seconds): for tickets and expiry.
    ``strict_order``: refuse what relies on an answer that the client cannot have seen when it sent
    the request (`order` tells how this is known); a real server fails such requests by chance.
    """

    session_settings: SessionSettings = SessionSettings()
    settings_changes: Mapping[int, SessionSettings] = field(default_factory=dict)
    version: tuple[str, str] = ("4.2", "3")
    bad_login_delay_s: float = 3.0
    compares_manifest: bool = True
    lock_linger_s: float = 0.0
    hold_answers_s: float = 0.0
    loses_early_bytes: bool = False
    ticket_lifetime_s: float = 7200.0
    clock: Callable[[], float] = time.time
    strict_order: bool = True

    @property
    def habits(self) -> Habits:
        """What follows from the version."""
        return Habits.of(*self.version)


@dataclass(frozen=True, slots=True)
class Maintenance:
    """A datastore's maintenance mode: ``read-only`` refuses writes, ``offline`` all.

    See protocol/rest.md, "Maintenance".
    """

    mode: Literal["read-only", "offline"]
    message: str = ""


@dataclass(slots=True)
class Faults:
    """Faults that a target makes on purpose; all off. Fields may be changed while it runs.

    ``garbage``: bytes sent right after the TLS handshake instead of HTTP, then the line is cut.
    ``chunk_error``: called with each chunk's digest (hex) before it is stored, may raise OSError.
    ``on_request``: called at each request's boundaries: with its kind and False before it is
    handled, with True when it has been, and its answer is not sent yet.
    ``refuse``: called with each request's kind; where it gives an answer, that is sent, and the
    request is not handled.
    ``on_answer``: called with each request's kind and the answer to it, gives the one that is sent
    instead. May raise OSError, as ``on_request`` may: then the line is cut; and, of a session's
    request, `answers.StreamKilled`: then it is reset.
    ``on_frames``: what leaves of a session, HTTP/2 inside TLS, is what it makes of it; called after
    each that came, also where nothing is to leave.
    ``delays_s``: by kind of request, how late the answer is.
    The other fields count within one session: after ``close_after_chunks`` accepted chunk uploads
    the line is cut; after ``goaway_after_requests`` answers GOAWAY is sent and the line closed;
    after ``ping_after_requests`` requests a PING is sent; ``reset_streams`` maps a request's kind
    to which of them, counted from 1, is reset instead of answered.
    """

    garbage: bytes | None = None
    chunk_error: Callable[[str], None] | None = None
    on_request: Callable[[str, bool], None] | None = None
    refuse: Callable[[str], Answer | None] | None = None
    on_answer: Callable[[str, Answer], Answer] | None = None
    on_frames: Callable[[bytes], bytes] | None = None
    close_after_chunks: int | None = None
    goaway_after_requests: int | None = None
    ping_after_requests: int | None = None
    reset_streams: Mapping[str, int] = field(default_factory=dict)
    delays_s: Mapping[str, float] = field(default_factory=dict)

    def at_boundary(self, kind: str, *, handled: bool) -> None:
        """A request of this kind is about to be handled, or has been."""
        if self.on_request is not None:
            self.on_request(kind, handled)

    def refused(self, kind: str) -> Answer | None:
        """What a request of this kind is answered instead of being handled, None if it is."""
        return None if self.refuse is None else self.refuse(kind)

    def answered(self, kind: str, answer: Answer) -> Answer:
        """A request of this kind has been handled; what is answered."""
        self.at_boundary(kind, handled=True)
        return answer if self.on_answer is None else self.on_answer(kind, answer)

    def frames(self, data: bytes) -> bytes:
        """What leaves of a session instead of ``data``."""
        return data if self.on_frames is None else self.on_frames(data)
