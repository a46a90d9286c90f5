"""A plain client for the tests of the target: `ssl`, bytes of HTTP/1.1, and the `h2` library.

It shares nothing with `pbs_push.remote`, and does only what it is told: also what is wrong.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import h2.events as ev
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

from pbs_push.tls_socket import TlsSocket

BIG = (1 << 31) - 2
UPGRADE = {"Upgrade": "proxmox-backup-protocol-v1", "Connection": "Upgrade"}


@dataclass
class Reply:
    """An answer, or what came instead: ``status`` None, and why."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str = ""
    ended: bool = False

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def data(self) -> Any:
        return json.loads(self.body)["data"]


def connect(address: tuple[str, int], session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = TlsSocket
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    raw = socket.create_connection(address, timeout=30)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(raw, session=session)


def token(auth_id: str, secret: str = "secret") -> dict[str, str]:  # noqa: S107
    return {"Authorization": f"PBSAPIToken={auth_id}:{secret}"}


class Rest:
    """One HTTP/1.1 connection."""

    def __init__(self, address: tuple[str, int], auth: Mapping[str, str] | None = None) -> None:
        self.socket = connect(address)
        self.auth = dict(auth or {})
        self._received = b""

    def call(
        self,
        method: str,
        path: str,
        params: Mapping[str, object] | None = None,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Parameters go where they belong: into the query, or as a form or JSON into the body."""
        if params is not None and method in {"GET", "DELETE"}:
            path += "?" + urlencode(params)
        elif params is not None and body is None:
            content_type = content_type or "application/x-www-form-urlencoded"
            as_json = content_type.startswith("application/json")
            body = json.dumps(params).encode() if as_json else urlencode(params).encode()
        self.send(method, path, body=body, content_type=content_type, headers=headers)
        return self.receive()

    def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        lines = {"Host": "target", **self.auth, **(headers or {})}
        if content_type is not None:
            lines["Content-Type"] = content_type
        if body is not None or method in {"POST", "PUT"}:
            lines["Content-Length"] = str(len(body or b""))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (body or b""))

    def receive(self) -> Reply:
        while b"\r\n\r\n" not in self._received:
            self._more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        reply = Reply(int(status_line.split()[1]), headers)
        if reply.status != 101:
            length = int(headers.get("content-length", 0))
            while len(self._received) < length:
                self._more()
            reply.body, self._received = self._received[:length], self._received[length:]
        return reply

    def _more(self) -> None:
        part = self.socket.recv(1 << 16)
        if not part:
            raise ConnectionError("the target closed the connection")
        self._received += part

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Rest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Session:
    """One backup session; made by `open_session`. Calls may be sent without waiting.

    With a ``window`` of 0 bytes the answer to GET /previous stalls, the others do not.
    """

    def __init__(self, rest: Rest, *, window: int = BIG) -> None:
        self.socket = rest.socket
        self.http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.http.local_settings = _client_settings(window)
        self.http.max_inbound_frame_size = 4 << 20
        self._stalls_previous = window == 0
        self.http.initiate_connection()
        self.http.increment_flow_control_window(BIG - 65535)
        self.replies: dict[int, Reply] = {}
        self.events: list[ev.Event] = []
        self.gone = False
        self._flush()
        while SettingCodes.MAX_CONCURRENT_STREAMS not in self.http.remote_settings:
            self._read()

    def call(self, method: str, path: str, *args: Any, **more: Any) -> Reply:
        """Send a request and wait for its answer."""
        return self.wait(self.start(method, path, *args, **more))

    def start(
        self,
        method: str,
        path: str,
        params: Mapping[str, object] | None = None,
        body: bytes | None = None,
        *,
        json_body: object = None,
        content_type: str | None = None,
        chunk: int | None = None,
        flush: bool = True,
    ) -> int:
        """Send a request without waiting for the answer; returns its stream."""
        if json_body is not None:
            body = json.dumps(json_body, separators=(",", ":")).encode()
            content_type = content_type or "application/json"
        query = "?" + urlencode(params) if params else ""
        headers = [
            (":method", method),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", path + query),
        ]
        if content_type is not None:
            headers.append(("content-type", content_type))
        stream_id = self.http.get_next_available_stream_id()
        self.replies[stream_id] = Reply()
        self.http.send_headers(stream_id, headers, end_stream=body is None)
        if body is not None:
            self._send_body(stream_id, memoryview(body), chunk)
        if self._stalls_previous and path != "/previous":
            self.http.increment_flow_control_window(1 << 20, stream_id)
        if flush:
            self._flush()
        return stream_id

    def put(
        self, kind: str, wid: int, digests: list[str], offsets: list[int], **more: Any
    ) -> Reply:
        return self.call("PUT", f"/{kind}_index", json_body=entries(wid, digests, offsets), **more)

    def wait(self, stream_id: int) -> Reply:
        """The answer of a stream, when it has ended."""
        reply = self.replies[stream_id]
        self._flush()
        while not reply.ended and not self.gone:
            self._read()
        return reply

    def wait_headers(self, stream_id: int) -> Reply:
        reply = self.replies[stream_id]
        while reply.status is None and not reply.ended and not self.gone:
            self._read()
        return reply

    def send_body(self, stream_id: int, body: bytes) -> None:
        """Send (the rest of) a request's body and end it."""
        self._send_body(stream_id, memoryview(body), None)
        self._flush()

    def reset(self, stream_id: int) -> None:
        self.http.reset_stream(stream_id, 8)
        self._flush()

    def flush(self) -> None:
        self._flush()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send_body(self, stream_id: int, body: memoryview, chunk: int | None) -> None:
        while True:
            window = self.http.local_flow_control_window(stream_id)
            room = min(window, self.http.max_outbound_frame_size, chunk or 1 << 30)
            if room <= 0 and len(body):
                self._flush()
                self._read()
                if self.gone or self.replies[stream_id].ended:
                    return
                continue
            part, body = body[:room], body[room:]
            self.http.send_data(stream_id, bytes(part), end_stream=not body)
            if not body:
                return

    def _flush(self) -> None:
        self.socket.sendall(self.http.data_to_send())

    def _read(self) -> None:
        try:
            received = self.socket.recv(1 << 18)
        except ConnectionError:
            received = b""
        if not received:
            self.gone = True
            return
        for event in self.http.receive_data(received):
            self._take(event)
        self._flush()

    def _take(self, event: ev.Event) -> None:
        self.events.append(event)
        match event:
            case ev.ResponseReceived():
                headers = dict(event.headers)
                reply = self.replies[event.stream_id]
                reply.status, reply.headers = int(headers.pop(":status")), headers
            case ev.DataReceived():
                self.replies[event.stream_id].body += event.data
            case ev.StreamEnded():
                self.replies[event.stream_id].ended = True
            case ev.StreamReset():
                reply = self.replies[event.stream_id]
                reply.error, reply.ended = f"reset {event.error_code}", True
            case ev.ConnectionTerminated():
                self.gone = True
            case _:
                pass


def entries(wid: int, digests: list[str], offsets: list[int]) -> dict[str, object]:
    return {"digest-list": digests, "offset-list": offsets, "wid": wid}


def upgrade(
    address: tuple[str, int],
    params: Mapping[str, object],
    auth: Mapping[str, str],
    headers: Mapping[str, str] = UPGRADE,
    method: str = "GET",
    path: str = "/api2/json/backup",
) -> tuple[Rest, Reply]:
    """Ask for a session; the connection is the caller's to close."""
    rest = Rest(address, auth)
    rest.send(method, f"{path}?" + urlencode(params), headers=headers)
    return rest, rest.receive()


@contextlib.contextmanager
def open_session(
    address: tuple[str, int], params: Mapping[str, object], auth: Mapping[str, str], **more: Any
) -> Iterator[Session]:
    """A session that must come about."""
    rest, reply = upgrade(address, params, auth)
    with rest:
        assert reply.status == 101, reply
        yield Session(rest, **more)


def _client_settings(window: int) -> Settings:
    return Settings(
        client=True,
        initial_values={
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.INITIAL_WINDOW_SIZE: window,
            SettingCodes.MAX_FRAME_SIZE: 4 << 20,
        },
    )
