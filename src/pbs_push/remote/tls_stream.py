"""One TLS connection over a non-blocking socket, through memory BIOs.

Encrypting some hundred KiB into memory and sending that at once costs less than writing to an
``SSLSocket``, which makes a system call for each record of 16 KiB (docs/performance.md). It also
leaves the waiting to one loop of ours. One thread at a time.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import ssl
import struct
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from pbs_push.errors import Cancelled, ConnectError, os_reason
from pbs_push.remote.congestion import set_congestion_control
from pbs_push.remote.limits import CONNECT_TIMEOUT_S
from pbs_push.remote.tls import explain_tls_error
from pbs_push.remote.tunnel import ANSWER_BYTES, Tunnel

if TYPE_CHECKING:
    import threading

    from typing_extensions import Buffer

    from pbs_push.remote.proxy import Proxy
    from pbs_push.remote.tls import TrustContext

RECEIVE_BYTES: Final = 256 << 10
CANCEL_POLL_S: Final = 0.2
"""How long a wait goes on at most before it looks whether it was cancelled."""

_SOCKET_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)
"""On an idle connection, a target that vanished without a word is noticed after 75 seconds."""

_SO_SNDBUFFORCE: Final = 32
"""Of Linux's ``asm-generic/socket.h``; Python does not know it."""
_SIOCOUTQ: Final = 0x5411
"""Of Linux's ``linux/sockios.h``: what a socket has to send, or has sent and may send again."""
_SYSTEM_BUFFERS: Final = Path("/proc/sys/net/ipv4/tcp_wmem")
"""Least, first and most bytes of a send buffer whose size the kernel chooses."""
SEND_BUFFER: Final = 64 << 20
"""Room for a server's window of 32 MiB in flight; the kernel's own overhead takes some of it."""
UNSENT_BYTES: Final = 2 << 20
"""What waits in the kernel beyond what is in flight: on a short link the buffer stays small."""

DEAD_AFTER_S: Final = 75.0
DEAD_AFTER_TRIES: Final = 3
"""A target is dead when its kernel has answered nothing for so long, and none of so many tries.

Keepalive says nothing while bytes wait to be sent, and the system's own limit for those is a
quarter of an hour. TCP_USER_TIMEOUT would shorten that, but also ends a connection whose peer
answers each probe with a window of zero: a server that does not read for a while, because its disk
or a garbage collection keeps it busy, is alive. So we look at what the system counts: tries
(retransmissions, or probes of a closed window) since the last acknowledgement. One that has been
stalled for minutes is probed every two minutes at most, so its death takes longer to be seen.
"""

_TCP_INFO: Final = struct.Struct("=2xBB52xI")
"""Of Linux's ``struct tcp_info``: retransmits, probes, and ms since the last acknowledgement."""


def _widen(connection: socket.socket) -> int | None:
    """Let a whole window be in flight, where we may (CAP_NET_ADMIN); else the kernel's limits hold.

    SO_SNDBUF alone would end at ``net.core.wmem_max``, and the kernel would no more choose by
    itself, which gets as far (docs/performance.md). Returns the bytes that fit, None if unknown.
    """
    try:
        connection.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_BUFFER)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    except OSError:
        with suppress(OSError, ValueError, IndexError):
            return int(_SYSTEM_BUFFERS.read_text(encoding="ascii").split()[2])
        return None
    return SEND_BUFFER


def unacknowledged(connection: socket.socket) -> int:
    """Bytes that the system has of us, and the peer's not yet; 0 where it does not tell."""
    waiting = bytearray(4)
    with suppress(OSError):
        fcntl.ioctl(connection, _SIOCOUTQ, waiting)
    return int.from_bytes(waiting, sys.byteorder)


class TlsStream:
    """A TLS connection to ``host`` and ``port``, open and trusted once constructed.

    ``cancelled`` ends every wait with Cancelled. ``session`` may be one of an earlier connection.
    ``connect_s``: all addresses and the handshake together get no more seconds, and so does the
    way through ``proxy``, if there is one.

    Raises ConnectError, TlsError, and with a proxy ProxyError, ProtocolError.
    """

    def __init__(
        self,
        host: str,
        port: int,
        context: TrustContext,
        cancelled: threading.Event,
        session: ssl.SSLSession | None = None,
        congestion_control: str | None = None,
        connect_s: float = CONNECT_TIMEOUT_S,
        proxy: Proxy | None = None,
    ) -> None:
        self.netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._way = "" if proxy is None else f" through proxy {proxy.label}"
        self._cancelled = cancelled
        self._connected_by = time.monotonic() + connect_s
        self._congestion_control = congestion_control
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._unsent = memoryview(b"")
        try:
            self._tls = context.wrap_bio(
                self._incoming, self._outgoing, server_hostname=host, session=session
            )
        except ValueError as error:  # a label of a name too long, say
            raise ConnectError(f"cannot connect to {self.netloc}: {error}") from error
        self._plain = bytearray(RECEIVE_BYTES)
        self.closed_by_target = False
        self.most_in_flight: int | None = None
        """Bytes that the system lets the connection have on the way at once, None if unknown."""
        self._poll = select.poll()
        if proxy is None:
            self._socket = self._connected(host, port)
        else:
            tunnel = Tunnel(proxy, host, port)
            try:
                self._socket = self._connected(proxy.host, proxy.port)
            except ConnectError as error:
                raise tunnel.unreachable(error) from error
        try:
            if proxy is not None:
                self._dig(tunnel, connect_s)
            self._handshake(context)
        except BaseException:
            self.close()
            raise

    def _connected(self, host: str, port: int) -> socket.socket:
        """A socket that is connected to one of the host's addresses: the target, or its proxy."""
        netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConnectError(f"cannot find {netloc}: {reason}") from error
        failure: OSError | None = None
        for number, (family, kind, protocol, _name, address) in enumerate(addresses):
            left_s = self._connected_by - time.monotonic()
            deadline = time.monotonic() + left_s / (len(addresses) - number)
            try:
                return self._connect(socket.socket(family, kind, protocol), address, deadline)
            except OSError as error:
                failure = error
        reason = os_reason(failure) if failure else "it has no address"
        raise ConnectError(f"cannot connect to {netloc}: {reason}") from failure

    def _connect(self, connection: socket.socket, address: Any, deadline: float) -> socket.socket:
        """Connect, ready to be cancelled all the while. Raises OSError, Cancelled."""
        with ExitStack() as undo:
            undo.enter_context(connection)
            connection.setblocking(False)
            for level, option, value in _SOCKET_OPTIONS:
                connection.setsockopt(level, option, value)
            if self._congestion_control is not None:
                set_congestion_control(connection, self._congestion_control)
            self.most_in_flight = _widen(connection)
            code = connection.connect_ex(address)
            poll = select.poll()
            poll.register(connection, select.POLLOUT)
            while code == errno.EINPROGRESS:
                self._check_cancelled()
                remaining_s = deadline - time.monotonic()
                if remaining_s <= 0:
                    code = errno.ETIMEDOUT
                elif poll.poll(min(remaining_s, CANCEL_POLL_S) * 1000):
                    code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            undo.pop_all()
        return connection

    def _dig(self, tunnel: Tunnel, connect_s: float) -> None:
        """Let the proxy, which is connected, lead on to the target."""
        deadline = self._connected_by
        self._unsent = memoryview(tunnel.request)
        is_open = False
        while not is_open:
            try:
                self.flush()
                came = self.wait(deadline - time.monotonic())
                data = self._socket.recv(ANSWER_BYTES) if came else None
            except BlockingIOError:
                continue
            except (ConnectError, OSError) as error:
                reason = os_reason(error) if isinstance(error, OSError) else error
                raise tunnel.failed(f"the connection to it broke: {reason}") from error
            if data is not None:
                is_open = tunnel.take(data)
            if not is_open and time.monotonic() > deadline:
                raise tunnel.late(connect_s)

    def _handshake(self, context: TrustContext) -> None:
        deadline = self._connected_by
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush_before(deadline)
                self._wait_readable(deadline)
            except ssl.SSLError as error:
                raise explain_tls_error(error, self.netloc + self._way) from error
        context.check_peer(self._tls)
        self._flush_before(deadline)

    def _flush_before(self, deadline: float) -> None:
        while not self.flush():
            self.wait(deadline - time.monotonic())
            self._check(deadline)

    def _wait_readable(self, deadline: float) -> None:
        while not self.wait(deadline - time.monotonic()):
            self._check(deadline)
        self._check(deadline)
        self.receive()  # where it ends, the handshake says so

    def _check(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise ConnectError(
                f"{self.netloc}{self._way} does not answer: no TLS connection in time"
            )

    @property
    def session(self) -> ssl.SSLSession | None:
        """What lets a later connection resume this one's keys."""
        return self._tls.session

    @property
    def session_reused(self) -> bool:
        """Whether the keys are those of an earlier connection."""
        return bool(self._tls.session_reused)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    @property
    def pending(self) -> int:
        """Encrypted bytes that wait in memory."""
        return len(self._unsent) + self._outgoing.pending

    @property
    def unacknowledged(self) -> int:
        """Bytes that were written, and of which the target's kernel has not said that it has them;
        0 where the system does not tell."""
        return self.pending + unacknowledged(self._socket)

    def write(self, data: Buffer) -> None:
        """Encrypt all of ``data`` into memory. Nothing is sent until ``flush``."""
        try:
            self._tls.write(data)  # all of it: a memory BIO takes any amount
        except ssl.SSLError as error:
            raise ConnectError(f"sending to {self.netloc}: {error.reason or error}") from error

    def flush(self) -> bool:
        """Send what is in memory as far as the socket takes it; True if that was all."""
        while True:
            if not self._unsent:
                if not self._outgoing.pending:
                    return True
                self._unsent = memoryview(self._outgoing.read())
            try:
                sent = self._socket.send(self._unsent)
            except BlockingIOError:
                return False
            except OSError as error:
                raise ConnectError(
                    f"connection to {self.netloc} broke: {os_reason(error)}"
                ) from error
            self._unsent = self._unsent[sent:]

    def wait(self, timeout_s: float, extra_fd: int = -1) -> bool:
        """Wait until there is something to receive; True if so.

        Ends early, with False, when unsent bytes can be sent or ``extra_fd`` is readable. Raises
        Cancelled, and ConnectError where the target is found to be dead.
        """
        self._check_cancelled()
        self._poll.register(self._socket, select.POLLIN | (select.POLLOUT if self.pending else 0))
        if extra_fd >= 0:
            self._poll.register(extra_fd, select.POLLIN)
        try:
            ready = self._poll.poll(max(0.0, min(timeout_s, CANCEL_POLL_S)) * 1000)
        finally:
            if extra_fd >= 0:
                self._poll.unregister(extra_fd)
        if not ready and timeout_s >= CANCEL_POLL_S:
            self._check_alive()
        own = self._socket.fileno()
        return any(fd == own and events & ~select.POLLOUT for fd, events in ready)

    def _check_alive(self) -> None:
        """Raise ConnectError if what we send is not acknowledged any more: see DEAD_AFTER_S."""
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        if len(info) < _TCP_INFO.size:
            return  # an emulator of Linux that does not tell: limits of time are left
        retransmits, probes, since_ms = _TCP_INFO.unpack(info)
        if max(retransmits, probes) >= DEAD_AFTER_TRIES and since_ms >= DEAD_AFTER_S * 1000:
            raise ConnectError(
                f"{self.netloc} is gone: nothing was acknowledged for {since_ms / 1000:.0f} s"
            )

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled("stopped as asked")

    def receive(self) -> None:
        """Take what the socket has; ``read`` gives it decrypted."""
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise ConnectError(f"connection to {self.netloc} broke: {os_reason(error)}") from error
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
            self.closed_by_target = True

    def read(self) -> memoryview | None:
        """Decrypted bytes of what has come, None if there are none (yet).

        The view is valid until the next call. Call it again until it gives None: only then are all
        records decrypted. ``closed_by_target`` tells whether more can come.
        """
        while True:
            try:
                # With a buffer given, what it returns is a number.
                size = cast("int", self._tls.read(RECEIVE_BYTES, self._plain))
            except ssl.SSLWantReadError:
                return None
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                self.closed_by_target = True
                return None
            except ssl.SSLError as error:
                raise ConnectError(
                    f"receiving from {self.netloc}: {error.reason or error}"
                ) from error
            if not size:
                self.closed_by_target = True
                return None
            return memoryview(self._plain)[:size]

    def end(self, last_words: bytes) -> None:
        """Say goodbye as far as that needs no waiting, and close: after what was written before
        come ``last_words`` and the end of TLS, without which a server may log a broken line."""
        with suppress(ConnectError, OSError):
            self.write(last_words)
            with suppress(ssl.SSLWantReadError):  # the target's own goodbye is not waited for
                self._tls.unwrap()
            self.flush()
            self.receive()  # closing with bytes unread would reset the line, and ours may be lost
        self.close()

    def close(self) -> None:
        """Close the socket at once: what is not sent is lost."""
        self._socket.close()
