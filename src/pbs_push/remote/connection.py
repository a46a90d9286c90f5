"""The connection of a backup: the protocol's HTTP/2 over TLS, with all of its waiting.

One thread sends and receives (a TLS connection is not safe for two). Payload goes from the native
transport's memory into TLS; Python sees lengths.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

import h11

from pbs_push.errors import ConnectError, ProtocolError, RemoteError, drop_frames
from pbs_push.remote.answers import raise_for_status
from pbs_push.remote.gathering import Gathering
from pbs_push.remote.limits import Limits, SessionWatch, Stall
from pbs_push.remote.pacing import LONGEST_PAUSE_S, encrypted_size
from pbs_push.remote.words import Words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pbs_push._native.transport import Answer, Transport
    from pbs_push.remote.pacing import Pacer
    from pbs_push.remote.stream import Stream

PROTOCOL_NAME: Final = "proxmox-backup-protocol-v1"
LONG_WAIT_S: Final = 60.0
"""A wait that something else ends."""
MAX_ERROR_BODY: Final = 64 << 10
"""Bytes of an error's text that are looked at."""
SEND_AT_ONCE: Final = 1 << 20
"""Bytes sent before it is looked whether something has come."""
EARLY_BYTES: Final = 16 << 10
"""Bytes of bodies that go along with the upgrade request at most: until the target's SETTINGS have
come, it may give no more than 65,535 a connection (RFC 9113, 6.9.2)."""
EARLY_LOST_AFTER_S: Final = 3.0
"""A server acknowledges our SETTINGS as soon as it has read them."""
ENCRYPT_AT_ONCE: Final = 192 << 10
"""Bytes encrypted into memory before they are sent; a full frame is more (docs/performance.md)."""

GOAWAY: Final = bytes.fromhex("000008 07 00 00000000 00000000 00000000")
"""The frame that says that no more requests come (RFC 9113, 6.8): no error, no stream of theirs."""


class _Wait(NamedTuple):
    """How long to wait for the target at most, and for a chunk that is ready (-1: not for that).

    Chunks are waited for only where one could be sent, or a ready one would end each wait at once.
    """

    timeout_s: float
    event_fd: int = -1


class Connection:
    """HTTP/2 on a TLS connection, which ``upgrade`` makes of it.

    Calls may be made before; those in flight are known by their tags, and who makes a call keeps
    its own table. ``round_trip_s`` is that of the line, as far as it is known; ``limits`` say how
    long the target is waited for, ``words`` shows what it says.
    """

    def __init__(
        self,
        stream: Stream,
        transport: Transport,
        pacer: Pacer | None = None,
        round_trip_s: float = 0.0,
        limits: Limits | None = None,
        words: Words | None = None,
    ) -> None:
        self.words: Final = Words() if words is None else words
        self._limits = Limits() if limits is None else limits
        self._watch = SessionWatch(self._limits.session_s)
        self._stream = stream
        self.transport = transport
        self._lane = None if pacer is None else pacer.lane()
        self._gathering = Gathering(round_trip_s)
        self._lost_at: float | None = None
        """When what was sent early is taken for lost, unless it was acknowledged."""

    def upgrade(
        self,
        path: str,
        headers: Mapping[str, str],
        what: str,
        *,
        early: bool = False,
        protocol: str = PROTOCOL_NAME,
    ) -> None:
        """Ask for the backup protocol on a fresh connection (protocol/backup.md, "Upgrade").

        Or for another ``protocol``. ``path`` holds the query, ``what`` says for messages what is
        begun. ``early`` sends what there is of HTTP/2 along, as far as it is small. Raises
        StatusError and its kin with the server's reason, ConnectError, ProtocolError.
        """
        http = h11.Connection(h11.CLIENT)
        request = h11.Request(
            method="GET",
            target=path,
            headers=[
                ("Host", self._stream.netloc),
                ("Connection", "Upgrade"),
                ("Upgrade", protocol),
                *headers.items(),
            ],
        )
        asked = (http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b"")
        self._stream.write(asked)
        if early:
            self._encrypt(EARLY_BYTES)
        try:
            answer = _answer(self._stream, http, what, self._limits.upgrade_s)
        except h11.RemoteProtocolError as error:
            if self._stream.closed_by_target:
                raise ConnectError(
                    f"{what}: {self._stream.netloc} closed the connection within its answer"
                ) from None
            reason = self.words.shown(str(error))
            raise ProtocolError(f"{what}: the answer is not HTTP ({reason})") from None
        if answer.status != HTTPStatus.SWITCHING_PROTOCOLS:
            raise_for_status(what, answer.status, answer.body, self.words, answer.location)
            raise ProtocolError(
                f"{what}: the target answers with status {answer.status} and does not change to "
                f"{protocol}; is it a Proxmox Backup Server?"
            )
        if early:
            self._lost_at = time.monotonic() + EARLY_LOST_AFTER_S
        behind, _closed = http.trailing_data
        try:
            if behind:
                self.transport.receive(behind)
            self._take_in()  # what stood in the same segment ends no wait
        except (ConnectError, ProtocolError) as error:
            raise self._told(what, error) from None

    def pump(
        self,
        done: Callable[[], bool],
        on_answer: Callable[[Answer], None],
        *,
        wake_fd: int = -1,
    ) -> None:
        """Send and receive until ``done``; ``on_answer`` is given each answer as it comes.

        ``done`` is asked after each step, and before it is an error that the connection broke or
        was closed: what came last may be the answer that was waited for. Where there is nothing to
        send, a readable ``wake_fd`` ends a step. Raises ConnectError, ProtocolError, Cancelled.
        """
        progress = self.transport.progress()
        while not done():
            if self._stream.closed_by_target:
                raise ConnectError(f"{self._stream.netloc} closed the connection")
            if self._lost_at is not None:
                self._check_early(self._lost_at)
            broken: RemoteError | None = None
            began = time.monotonic()
            try:
                self._step(wake_fd)
            except (ConnectError, ProtocolError) as error:
                drop_frames(error)  # it is kept in one of them: they would outlive this
                broken = error
            for answer in self.transport.answers():
                on_answer(answer)
            if broken is not None and not done():
                raise broken
            now = time.monotonic()
            before, progress = progress, self.transport.progress()
            if progress is not None and progress != before:
                self._gathering.note(progress[0], progress[1], now)
            if not self._watch.look(progress, now - began, self._stream):
                raise ConnectError(self._watch.stall.text(self._stream.netloc))

    def _check_early(self, lost_at: float) -> None:
        """Raise ConnectError if what was sent with the upgrade request seems to be lost."""
        if self.transport.state().settings_acked:
            self._lost_at = None
        elif time.monotonic() > lost_at:
            raise ConnectError(f"{self._stream.netloc} has not taken up HTTP/2")

    def _step(self, wake_fd: int) -> None:
        """Send what may be sent, wait if nothing can be done, receive."""
        try:
            wait = self._send(wake_fd)
        except ConnectError:
            if not self._receive():  # what came before it broke may tell why
                raise
            return
        if self._stream.wait(wait.timeout_s, wait.event_fd):
            if self._gathering.pause_s and wait.timeout_s:
                time.sleep(self._gathering.pause_s)
            self._receive()

    def _send(self, wake_fd: int) -> _Wait:
        """Encrypt and send one batch. Returns what to wait for then."""
        stream = self._stream
        if not stream.flush():
            return _Wait(LONG_WAIT_S)
        budget = SEND_AT_ONCE
        if self._lane is not None:
            budget, pause_s = self._lane.allowance(SEND_AT_ONCE)
            if budget == 0:
                return _Wait(min(pause_s, LONGEST_PAUSE_S))  # the rate may change
        if self._encrypt(budget, bounded=self._lane is not None) == 0:
            return _Wait(LONG_WAIT_S, wake_fd if wake_fd >= 0 else self.transport.event_fd)
        flushed = stream.pending < ENCRYPT_AT_ONCE and stream.flush()
        return _Wait(0.0 if flushed else LONG_WAIT_S)

    def _encrypt(self, budget: int, *, bounded: bool = True) -> int:
        """Encrypt what may be sent, ``budget`` bytes of it, and send most of that.

        ``bounded``: no body goes beyond the budget. Returns how many bytes there were.
        """
        stream, filled, flushed = self._stream, 0, True
        while flushed and filled < budget:
            span = self._next_span(budget - filled if bounded else None)
            if span is None:
                break
            with span:
                stream.write(span)
                filled += len(span)
            if stream.pending >= ENCRYPT_AT_ONCE:
                flushed = stream.flush()
        if self._lane is not None:
            self._lane.sent(encrypted_size(filled))
        return filled

    def _next_span(self, most: int | None) -> memoryview | None:
        try:
            return self.transport.send(most)
        except (ConnectError, ProtocolError) as error:
            raise self._told(self._stream.netloc, error) from None

    def _receive(self) -> bool:
        """Take all that has come; True if there was something."""
        self._stream.receive()
        return self._take_in()

    def _take_in(self) -> bool:
        """Take what has come and is not decrypted yet; True if there was something."""
        stream, came = self._stream, False
        try:
            while (data := stream.read()) is not None:
                self.transport.receive(data)
                came = True
        except (ConnectError, ProtocolError) as error:
            raise self._told(stream.netloc, error) from None
        return came

    def _told(self, what: str, error: RemoteError) -> RemoteError:
        """An error, which may hold the target's own words, as it is shown."""
        return type(error)(f"{what}: {self.words.shown(str(error))}")

    def close(self) -> None:
        """End the connection, and stop reading chunks; the target removes what was not finished.

        Where all requests were answered it ends in order, as far as that needs no waiting. May be
        called again.
        """
        state = self.transport.state()
        if state.requests and not state.open_streams:
            self._stream.end(GOAWAY)
        else:
            self._stream.close()
        self.transport.close()


class _Answered(NamedTuple):
    """The answer to an upgrade request; just its status, if that is what was asked for."""

    status: int
    body: bytes = b""
    location: str = ""


def _answer(stream: Stream, http: h11.Connection, what: str, limit_s: float) -> _Answered:
    """The answer to the upgrade request, which was written but not sent.

    It is small: that some of it has come, or an interim answer, is no progress, and reading a flood
    of these is waiting.
    """
    answer, deadline = _Answered(0), time.monotonic() + limit_s
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = _some_bytes(stream, deadline)
            if data is None:
                late = Stall(limit_s).text(stream.netloc)
                raise ConnectError(f"{what}: {late}")
            if not data and not answer.status:
                raise ConnectError(
                    f"{what}: {stream.netloc} closed the connection without an answer"
                )
            http.receive_data(data)
        elif isinstance(event, h11.InformationalResponse):
            if event.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
                return _Answered(event.status_code)
        elif isinstance(event, h11.Response):
            location = dict(event.headers).get(b"location", b"").decode("utf-8", "replace")
            answer = _Answered(event.status_code, location=location)
        elif isinstance(event, h11.Data):
            answer = answer._replace(body=answer.body + event.data)
            if len(answer.body) > MAX_ERROR_BODY:
                return answer
        else:  # the end of the message, or of the connection
            return answer


def _some_bytes(stream: Stream, deadline: float) -> bytes | None:
    """The next decrypted bytes; ``b""`` when the target has closed the connection, None late."""
    while (left_s := deadline - time.monotonic()) > 0:
        stream.flush()
        if (data := stream.read()) is not None:
            return bytes(data)
        if stream.closed_by_target:
            return b""
        if stream.wait(left_s):
            stream.receive()
    return None
