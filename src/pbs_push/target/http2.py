"""The backup and the reader protocol over HTTP/2, built on the `h2` library.

See protocol/backup.md, protocol/reader.md.

Requests are handled one after the other, in the order in which they are complete. What only a
server that handles them side by side would refuse is refused because of `order`.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Generic

import h2.events as ev
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from pbs_push.formats.blob import MAX_PROTOCOL_BLOB
from pbs_push.target.answers import (
    Answer,
    Refusal,
    StreamKilled,
    not_found,
    os_refusal,
    refusal_answer,
)
from pbs_push.target.blobs import check_uploaded_chunk
from pbs_push.target.calls import BodyUse, Call, S, SessionCall
from pbs_push.target.early_checks import EarlyCheck
from pbs_push.target.options import SMALLEST_CONNECTION_WINDOW, SessionSettings
from pbs_push.target.order import AnswerOrder
from pbs_push.target.params import Params, read_parameters, read_query
from pbs_push.target.session import ChunkCheck, Turn
from pbs_push.target.shared import Shared
from pbs_push.target.wire import Line

_log = logging.getLogger(__name__)

_LARGEST_HEADER_LIST: Final = 64 << 10
"""Beyond this a header list ends the connection; below, it is a 431 if it is too large."""
_HEADER_OVERHEAD: Final = 32  # what HPACK counts for each header beside its bytes
_SEND_AT_ONCE: Final = 256 << 10
_ENOUGH_IN_LINE: Final = 1 << 20

_GATHERED: Final = (ev.RequestReceived, ev.DataReceived, ev.StreamEnded, ev.WindowUpdated)
"""Events that do not change what an earlier request's end leads to."""


class _Connection(H2Connection):
    """h2 would end the connection where a client opens too many streams; we reset the stream."""

    @property
    def open_inbound_streams(self) -> int:
        """None that count; asking h2 makes it forget closed ones."""
        _ = super().open_inbound_streams
        return 0


@dataclass(slots=True)
class _Exchange(Generic[S]):
    """A request on its way in. ``too_large`` is set by a header list beyond the limit."""

    stream_id: int
    method: str
    path: str
    query: str
    content_type: str | None
    call: Call[S] | None
    seen: int
    too_large: bool = False
    body: bytearray = field(default_factory=bytearray)
    check: ChunkCheck = check_uploaded_chunk


@dataclass(slots=True)
class _Outgoing:
    """The part of an answer's body that still has to be sent."""

    body: memoryview


class SessionConnection(Generic[S]):
    """Serves one session on a connection that has been upgraded: ``calls`` are its requests."""

    def __init__(
        self,
        wire: Line,
        shared: Shared,
        session: S,
        calls: Mapping[tuple[str, str], Call[S]],
    ) -> None:
        self._wire = wire
        self._shared = shared
        self._session = session
        self._calls = calls
        self._options = shared.options
        self._limits = self._announced = shared.options.session_settings
        self._window = self._limits.connection_window
        self._http = _Connection(H2Configuration(client_side=False))
        self._order = AnswerOrder(self._http.ping, strict=self._options.strict_order)
        self._exchanges: dict[int, _Exchange[S]] = {}
        self._outgoing: dict[int, _Outgoing] = {}
        self._held: list[tuple[int, Answer]] = []
        self._ended: list[int] = []
        self._open: dict[int, float] = {}
        self._unreturned = 0
        self._received = 0
        self._kinds: Counter[str] = Counter()
        self._answered = 0
        self._chunks = 0
        self._line_was_full = False
        self._over = False

    def serve(self, early: bytes) -> None:
        """Answer requests until the connection ends; ``early`` came along with the upgrade.

        Raises OSError.
        """
        self.begin(early)
        received: bytes | None = early
        while received is not None and self.take(received):
            received = self._receive()

    def begin(self, early: bytes) -> None:
        """Announce the settings; ``early`` is then the first that `take` is to be given."""
        if self._options.hold_answers_s and not early:
            self._shared.counters.add(flights=1)  # the client waits for the answer to its upgrade
        self._start()

    def take(self, received: bytes) -> bool:
        """Handle what has come, and send the answers; False once the connection is over.

        Raises OSError.
        """
        try:
            self._take_in(received)
        except ProtocolError as error:
            # What the client sent is wrong (then h2 has put a GOAWAY in line), or it has
            # ended the connection before its requests were answered.
            _log.debug("session ended: %s", error)
            self._over = True
        self._wire.send(self._shared.faults.frames(self._http.data_to_send()))
        self._order.sent()
        self._close_seen_streams()
        if self._over:
            self._wire.flush()
        return not self._over

    @property
    def has_more(self) -> bool:
        """Whether there is more to send, once what was sent is out of the way."""
        return self._line_was_full

    def _receive(self) -> bytes | None:
        if self._held and self._wire.is_silent(self._options.hold_answers_s):
            self._release()
            return b""
        return self._wire.exchange(more=self._line_was_full)

    def _release(self) -> None:
        """Send the answers that were held."""
        self._shared.counters.add(flights=1)
        held, self._held = self._held, []
        for stream_id, answer in held:
            self._send_answer(stream_id, answer)

    def _take_in(self, received: bytes) -> None:
        """Handle what has come, and put in line what can be sent."""
        for event in self._http.receive_data(received) if received else ():
            if not isinstance(event, _GATHERED):
                self._complete_all()
            self._handle(event)
        self._complete_all()
        if not self._over:
            self._send_bodies()

    def _start(self) -> None:
        """Announce the settings, in one frame; they hold once the client has acknowledged them."""
        self._http.initiate_connection()
        self._http.data_to_send()  # h2 would announce its defaults first
        self._http.update_settings(_settings(self._limits))
        self._allow_frames(self._limits)
        self._http.decoder.max_header_list_size = _LARGEST_HEADER_LIST
        more = self._window - SMALLEST_CONNECTION_WINDOW
        if more > 0:
            self._http.increment_flow_control_window(more)

    def _handle(self, event: ev.Event) -> None:
        match event:
            case ev.RequestReceived():
                self._begin(event)
            case ev.DataReceived():
                self._take_data(event)
            case ev.StreamEnded():
                self._end(event.stream_id)
            case ev.StreamReset():
                self._forget(event.stream_id)
            case ev.PingAckReceived():
                self._order.acknowledged(event.ping_data)
                self._close_seen_streams()
            case ev.SettingsAcknowledged():
                self._limits = self._announced
                self._http.decoder.max_header_list_size = _LARGEST_HEADER_LIST
            case ev.ConnectionTerminated():
                self._shared.counters.add(goodbyes=int(event.error_code == ErrorCodes.NO_ERROR))
                self._over = True
            case _:
                pass

    def _begin(self, event: ev.RequestReceived) -> None:
        stream_id = event.stream_id
        if len(self._open) >= self._limits.max_concurrent_streams:
            self._http.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        self._open[stream_id] = math.inf
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        path, _, query = headers.get(":path", "").partition("?")
        method = headers.get(":method", "")
        length = sum(len(name) + len(value) + _HEADER_OVERHEAD for name, value in event.headers)
        self._exchanges[stream_id] = _Exchange(
            stream_id,
            method,
            path,
            query,
            headers.get("content-type"),
            self._calls.get((method, path)),
            self._order.seen,
            too_large=length > self._limits.max_header_list_size,
        )
        self._received += 1
        self._change_settings()
        if self._received == self._shared.faults.ping_after_requests:
            self._http.ping(b"faulttst")

    def _change_settings(self) -> None:
        changed = self._options.settings_changes.get(self._received)
        if changed is not None:
            self._announced = changed
            self._http.update_settings(_settings(changed))
            self._allow_frames(changed)

    def _allow_frames(self, limits: SessionSettings) -> None:
        """Take large frames from now on.

        h2 looks at frames by the size that held before the bytes they came with: a large frame
        right behind the acknowledgement would be refused.
        """
        larger = max(self._http.max_inbound_frame_size, limits.max_frame_size)
        self._http.max_inbound_frame_size = larger

    def _take_data(self, event: ev.DataReceived) -> None:
        """Keep what the request can use, and give the windows back."""
        exchange = self._exchanges.get(event.stream_id)
        if exchange is not None and len(exchange.body) <= self._body_limit(exchange):
            exchange.body += event.data
        size = event.flow_controlled_length
        if size == 0:
            return
        if event.stream_ended is None:
            with suppress(ProtocolError):  # the stream may have been reset in the meantime
                self._http.increment_flow_control_window(size, event.stream_id)
        self._unreturned += size
        if self._unreturned * 4 >= self._window:
            self._http.increment_flow_control_window(self._unreturned)
            self._unreturned = 0

    def _body_limit(self, exchange: _Exchange[S]) -> int:
        if exchange.call is None or exchange.call.body is BodyUse.DROPPED:
            return -1
        if exchange.call.body is BodyUse.DATA:
            return MAX_PROTOCOL_BLOB
        return self._shared.habits.body_limit

    def _end(self, stream_id: int) -> None:
        """A request is complete: it is handled with those that came together with it, in order."""
        exchange = self._exchanges.get(stream_id)
        if exchange is not None and exchange.call is not None and exchange.call.takes_chunk:
            exchange.check = EarlyCheck(self._shared.checkers, exchange.query, exchange.body)
        self._ended.append(stream_id)

    def _complete_all(self) -> None:
        ended, self._ended = self._ended, []
        for stream_id in ended:
            self._complete(stream_id)

    def _complete(self, stream_id: int) -> None:
        exchange = self._exchanges.pop(stream_id, None)
        if exchange is None or self._over:
            return
        kind = "other" if exchange.call is None else exchange.call.kind
        self._shared.counters.request(kind)
        self._kinds[kind] += 1
        self._shared.pause(self._shared.faults.delays_s.get(kind, 0))
        try:
            answer = self._handled(kind, exchange)
        except StreamKilled as killed:
            self._kill(stream_id, killed.code)
            return
        self._respond(stream_id, answer)
        self._make_faults(exchange, answer)

    def _handled(self, kind: str, exchange: _Exchange[S]) -> Answer:
        """The answer to a request, unless a fault strikes it. Raises StreamKilled."""
        faults = self._shared.faults
        faults.at_boundary(kind, handled=False)
        if faults.reset_streams.get(kind) == self._kinds[kind]:
            raise StreamKilled("on purpose")
        return faults.answered(kind, faults.refused(kind) or self._answer(exchange))

    def _answer(self, exchange: _Exchange[S]) -> Answer:
        """What a request is answered, refusals included. Raises StreamKilled."""
        try:
            return self._run(exchange)
        except Refusal as refusal:
            return refusal_answer(refusal)
        except OSError as error:
            return refusal_answer(os_refusal(error))

    def _run(self, exchange: _Exchange[S]) -> Answer:
        if exchange.too_large:
            return Answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, content_type=None)
        if exchange.call is None:
            raise not_found(f"Path '{exchange.path}' not found.")
        turn = Turn(exchange.seen, self._order.batch)
        params = self._parameters(exchange, exchange.call)
        call = SessionCall(
            self._session, params, exchange.body, turn, self._shared.counters, exchange.check
        )
        return exchange.call.run(call)

    def _parameters(self, exchange: _Exchange[S], call: Call[S]) -> Params:
        if exchange.method == "GET" or call.body is not BodyUse.PARAMETERS:
            return read_query(call.parameters, exchange.query)
        return read_parameters(
            call.known_to(self._shared.habits),
            exchange.query,
            exchange.content_type,
            exchange.body,
            body_limit=self._shared.habits.body_limit,
        )

    def _respond(self, stream_id: int, answer: Answer) -> None:
        if self._options.hold_answers_s:
            self._held.append((stream_id, answer))
        else:
            self._send_answer(stream_id, answer)

    def _send_answer(self, stream_id: int, answer: Answer) -> None:
        headers = [(":status", str(int(answer.status)))]
        if answer.content_type is not None:
            headers.append(("content-type", answer.content_type))
        if answer.sized:
            headers.append(("content-length", str(len(answer.body))))
        self._order.begin()
        try:
            self._http.send_headers(stream_id, headers, end_stream=not answer.body)
        except ProtocolError:
            return  # the client has reset the stream in the meantime
        if answer.body:
            self._outgoing[stream_id] = _Outgoing(memoryview(answer.body))
        else:
            self._open[stream_id] = self._order.batch

    def _send_bodies(self) -> None:
        """Send of the waiting bodies what the windows and the line allow."""
        in_line = self._wire.outgoing
        self._line_was_full = False
        for stream_id, outgoing in list(self._outgoing.items()):
            while in_line < _ENOUGH_IN_LINE and (sent := self._send_part(stream_id, outgoing)):
                in_line += sent
            if not outgoing.body:
                del self._outgoing[stream_id]
                self._open[stream_id] = self._order.batch
            elif in_line >= _ENOUGH_IN_LINE:
                self._line_was_full = True

    def _send_part(self, stream_id: int, outgoing: _Outgoing) -> int:
        window = self._http.local_flow_control_window(stream_id)
        room = min(window, self._http.max_outbound_frame_size, _SEND_AT_ONCE)
        part = outgoing.body[: max(room, 0)]
        if not part:
            return 0
        self._order.begin()
        outgoing.body = outgoing.body[len(part) :]
        self._http.send_data(stream_id, bytes(part), end_stream=not outgoing.body)
        return len(part)

    def _forget(self, stream_id: int) -> None:
        """The client has reset the stream; a request that was complete has been handled."""
        self._exchanges.pop(stream_id, None)
        self._outgoing.pop(stream_id, None)
        self._open.pop(stream_id, None)

    def _kill(self, stream_id: int, code: int = ErrorCodes.INTERNAL_ERROR) -> None:
        self._http.reset_stream(stream_id, code)
        self._open.pop(stream_id, None)

    def _close_seen_streams(self) -> None:
        """Streams whose end the client can have seen are open no more."""
        seen = self._order.seen
        for stream_id in [one for one, batch in self._open.items() if batch <= seen]:
            del self._open[stream_id]

    def _make_faults(self, exchange: _Exchange[S], answer: Answer) -> None:
        faults = self._shared.faults
        self._answered += 1
        if answer.status == HTTPStatus.OK and exchange.path.endswith("_chunk"):
            self._chunks += 1
        if self._chunks and self._chunks == faults.close_after_chunks:
            self._wire.cut()
            self._over = True
        if self._answered == faults.goaway_after_requests:
            self._send_bodies()
            self._http.close_connection()
            self._over = True


def _settings(limits: SessionSettings) -> dict[SettingCodes | int, int]:
    """The settings to announce."""
    return {
        SettingCodes.MAX_CONCURRENT_STREAMS: limits.max_concurrent_streams,
        SettingCodes.INITIAL_WINDOW_SIZE: limits.initial_window,
        SettingCodes.MAX_FRAME_SIZE: limits.max_frame_size,
        SettingCodes.MAX_HEADER_LIST_SIZE: limits.max_header_list_size,
    }
