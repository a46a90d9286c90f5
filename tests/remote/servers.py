"""TLS servers on loopback that do what a test tells them, and note what they are sent."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, parse_qsl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pbs_push.tls_socket import TlsSocket

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Identity:
    """A certificate of its own making, and the context of a server that shows it."""

    context: ssl.SSLContext
    fingerprint: bytes


def new_identity() -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test target")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = TlsSocket
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "identity.pem"
        path.write_bytes(pem)
        context.load_cert_chain(path)
    der = certificate.public_bytes(serialization.Encoding.DER)
    return Identity(context, hashlib.sha256(der).digest())


class Line:
    """A server's side of one connection."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, received: bytearray) -> None:
        raw.settimeout(PATIENCE_S)
        # What is said last must be on its way when the line is closed.
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._raw = raw
        self._context = context
        self._socket: socket.socket = raw
        self._received = received

    def start_tls(self) -> None:
        self._socket = self._context.wrap_socket(self._raw, server_side=True)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self) -> bytes:
        """Some bytes, which are noted; ``b""`` at the end."""
        data = self._socket.recv(65536)
        self._received += data
        return data

    def read_to_the_end(self) -> None:
        """Until the client goes away: a server that never answers."""
        with contextlib.suppress(OSError):
            while self.read():
                pass

    def reset(self) -> None:
        """End the TCP connection with an RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def spoil(self) -> None:
        """Send bytes that TLS cannot decrypt."""
        socket.socket.send(self._socket, b"\x17\x03\x03\x00\x20" + bytes(32))

    def say_goodbye(self) -> None:
        """End TLS in order."""
        with contextlib.suppress(OSError):
            self._socket.unwrap()  # type: ignore[attr-defined]

    def ends_in_order(self) -> bool:
        """Whether the client's last word was the end of TLS; to be asked at the end."""
        try:
            self._socket.unwrap()  # type: ignore[attr-defined]
        except OSError:
            return False
        return True

    def close(self) -> None:
        self._socket.close()
        self._raw.close()


Script = Callable[[Line], None]


class Server:
    """Runs a script for each connection, one at a time. ``received`` is what came inside of TLS."""

    def __init__(self, identity: Identity, script: Script, *, tls: bool = True) -> None:
        self.identity = identity
        self.script = script
        self.received = bytearray()
        self.connections = 0
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._stopping = False

    @property
    def repository(self) -> str:
        return f"root@pam!push@127.0.0.1:{self.port}:store1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):  # to wake it up
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while True:
            raw, _address = self._listener.accept()
            if self._stopping:
                raw.close()
                return
            self.connections += 1
            line = Line(raw, self.identity.context, self.received)
            try:
                with contextlib.suppress(OSError):
                    if self._tls:
                        line.start_tls()
                    self.script(line)
            finally:
                line.close()


@dataclass
class Asked:
    """An HTTP/1.1 request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        pairs = parse_qs(self.body.decode(), keep_blank_values=True, strict_parsing=bool(self.body))
        return {key: value for key, (value,) in pairs.items()}


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_request(line: Line) -> Asked | None:
    """The next request; None at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = line.read()
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += line.read()
    method, target, _version = first.split(" ")
    return Asked(method, target, headers, body)


def http(handler: Callable[[Asked], bytes], asked: list[Asked]) -> Script:
    """A script that answers requests, with keep-alive, by what a function says to each."""

    def script(line: Line) -> None:
        while (request := read_request(line)) is not None:
            asked.append(request)
            line.send(handler(request))

    return script
