"""An upgraded connection: the backup protocol's HTTP/2 over TLS, with all of its waiting.

One thread sends and receives (a TLS connection is not safe for two). Payload goes from the native
transport's memory into TLS; Python sees lengths.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import h11

from pbs_push._native.transport import Transport
from pbs_push.errors import ConnectError, ProtocolError
from pbs_push.remote.rest import raise_for_status
from pbs_push.remote.tls_stream import TlsStream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pbs_push._native.transport import Answer
    from pbs_push.remote.pacing import Pacer

PROTOCOL_NAME: Final = "proxmox-backup-protocol-v1"
UPGRADE_TIMEOUT_S: Final = 120.0
"""The server may wait for locks, and answers bad credentials some seconds late."""
SILENCE_TIMEOUT_S: Final = 900.0
"""`finish` may sync a file system before it answers; a dead peer is noticed by TCP long before."""
MAX_ERROR_BODY: Final = 64 << 10
SEND_AT_ONCE: Final = 256 << 10
"""Bytes encrypted into memory before they are sent."""


class Upgraded:
    """HTTP/2 on a TLS connection that was upgraded; made by ``upgrade``.

    ``calls in flight`` are known by their tags; who makes a call keeps its own table.
    """

    def __init__(self, stream: TlsStream, transport: Transport, pacer: Pacer | None) -> None:
        self._stream = stream
        self.transport = transport
        self._pacer = pacer

    def pump(self, done: Callable[[], bool], on_answer: Callable[[Answer], None]) -> None:
        """Send and receive until ``done``; ``on_answer`` is given each answer as it comes.

        ``done`` is asked after each step. Raises ConnectError, ProtocolError, Cancelled.
        """
        quiet_since = time.monotonic()
        while not done():
            received = self._step()
            if received:
                quiet_since = time.monotonic()
                for answer in self.transport.answers():
                    on_answer(answer)
            elif time.monotonic() - quiet_since > SILENCE_TIMEOUT_S:
                raise ConnectError(
                    f"{self._stream.netloc} has not answered for {SILENCE_TIMEOUT_S:.0f} s"
                )

    def _step(self) -> bool:
        """Send what may be sent, wait if nothing can be done, receive. True if bytes came."""
        blocked, pause_s = self._send()
        stream = self._stream
        timeout_s = pause_s if blocked else 0.0
        if not stream.wait(timeout_s, self.transport.event_fd if blocked else -1):
            return False
        stream.receive()
        came = False
        while (data := stream.read()) is not None:
            self.transport.receive(data)
            came = True
        if stream.closed_by_target:
            raise ConnectError(f"{stream.netloc} closed the connection")
        return came

    def _send(self) -> tuple[bool, float]:
        """Encrypt and send one batch. Returns whether there is no more to do, and for how long."""
        stream = self._stream
        if not stream.flush():
            return True, 60.0
        budget = SEND_AT_ONCE
        if self._pacer is not None:
            budget, pause_s = self._pacer.allowance(SEND_AT_ONCE)
            if budget == 0:
                return True, pause_s
        filled = 0
        while filled < budget:
            span = self.transport.send()
            if span is None:
                break
            stream.write(span)
            filled += len(span)
        if self._pacer is not None:
            self._pacer.sent(filled)
        if filled == 0:
            return True, 60.0
        return not stream.flush(), 60.0

    def close(self) -> None:
        """Drop the connection; the target removes what was not finished."""
        self._stream.close()


def upgrade(
    stream: TlsStream,
    path: str,
    headers: Mapping[str, str],
    what: str,
    *,
    transport: Transport,
    pacer: Pacer | None = None,
) -> Upgraded:
    """Ask for the backup protocol on a fresh connection (spec 03).

    ``path`` holds the query, ``what`` says for messages what is begun. Raises StatusError and its
    kin with the server's reason, ConnectError, ProtocolError.
    """
    http = h11.Connection(h11.CLIENT)
    request = h11.Request(
        method="GET",
        target=path,
        headers=[
            ("Host", stream.netloc),
            ("Connection", "Upgrade"),
            ("Upgrade", PROTOCOL_NAME),
            *headers.items(),
        ],
    )
    stream.write(http.send(request) or b"")
    stream.write(http.send(h11.EndOfMessage()) or b"")
    try:
        status, body = _answer(stream, http, what)
    except h11.RemoteProtocolError as error:
        raise ProtocolError(f"{what}: the answer is not HTTP ({error})") from None
    if status != HTTPStatus.SWITCHING_PROTOCOLS:
        raise_for_status(what, status, body)
        raise ProtocolError(
            f"{what}: the target answers with status {status} and does not change to the backup "
            "protocol; is it a Proxmox Backup Server?"
        )
    early, _closed = http.trailing_data
    if early:
        transport.receive(early)
    return Upgraded(stream, transport, pacer)


def _answer(stream: TlsStream, http: h11.Connection, what: str) -> tuple[int, bytes]:
    """Status and body of the answer to the upgrade request."""
    deadline = time.monotonic() + UPGRADE_TIMEOUT_S
    status = 0
    body = b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(_some_bytes(stream, deadline, what))
        elif isinstance(event, h11.InformationalResponse):
            if event.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
                return event.status_code, b""
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_ERROR_BODY:
                return status, body
        else:  # the end of the message, or of the connection
            return status, body


def _some_bytes(stream: TlsStream, deadline: float, what: str) -> bytes:
    """The next decrypted bytes; ``b""`` when the target has closed the connection."""
    while True:
        stream.flush()
        data = stream.read()
        if data is not None:
            return bytes(data)
        if stream.closed_by_target:
            return b""
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            raise ConnectError(f"{what}: {stream.netloc} does not answer")
        if stream.wait(remaining_s):
            stream.receive()
