"""Trust: which certificate of a target is accepted, checked before a byte of credentials is sent.

With a fingerprint, exactly that certificate is trusted, whatever its name or chain; without one,
the system's CAs and the host name decide (protocol/rest.md, "TLS").
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from pbs_push.errors import ConnectError, RemoteError, TlsError
from pbs_push.names import format_fingerprint
from pbs_push.remote.tunnel import ANSWER_BYTES, Tunnel, pass_through
from pbs_push.tls_socket import TlsSocket

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from pbs_push.remote.proxy import Proxy


VOUCH_TIMEOUT_S: Final = 10.0


class TrustContext(ssl.SSLContext):
    """An SSL context that knows a target's fingerprint, or verifies by CA where there is none.

    Sockets that it wraps are checked right after the handshake, so that httpx sends nothing on a
    connection that is not trusted. Who wraps a memory BIO calls ``check_peer`` itself.
    """

    fingerprint: bytes | None
    address: tuple[str, int] | None
    vouch_s: float
    proxy: Proxy | None

    def __new__(
        cls,
        fingerprint: bytes | None = None,
        address: tuple[str, int] | None = None,
        vouch_s: float = VOUCH_TIMEOUT_S,
        proxy: Proxy | None = None,
    ) -> Self:
        """Make a client context; ``fingerprint`` is the SHA-256 of the DER certificate.

        ``address`` is the host and port that it is for, so that an error can tell more, for which
        the server is asked ``vouch_s`` seconds at most, through ``proxy`` if there is one.
        """
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        context.sslsocket_class = TlsSocket
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # A handshake in mid-connection would make a write wait for reads.
        context.options |= ssl.OP_NO_RENEGOTIATION
        # A real server names no protocol; one that offers HTTP/2 would then fail the upgrade.
        super(TrustContext, context).set_alpn_protocols(["http/1.1"])
        if fingerprint is None:
            context.load_default_certs()
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.fingerprint = fingerprint
        context.address = address
        context.vouch_s = vouch_s
        context.proxy = proxy
        return context

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Keep to HTTP/1.1, whatever is asked for.

        httpcore sets it before each connection. OpenSSL frees the old list then, while another
        thread, without the GIL, may be copying it for a connection of the same context: its
        handshake failed with a decode error, or worse.
        """

    def check_peer(self, peer: ssl.SSLSocket | ssl.SSLObject) -> None:
        """Compare the certificate with the fingerprint, if there is one. Raises TlsError."""
        if self.fingerprint is None:
            return  # the handshake has verified it
        certificate = peer.getpeercert(binary_form=True)
        if not certificate:
            raise TlsError("the target showed no certificate")
        seen = hashlib.sha256(certificate).digest()
        if seen != self.fingerprint:
            asked = "" if self.address is None else self._vouched(*self.address)
            raise TlsError(
                f"the target's certificate has fingerprint {format_fingerprint(seen)}, "
                f"not {format_fingerprint(self.fingerprint)}; no credentials were sent. If it was "
                "renewed, 'proxmox-backup-manager cert info' on the server shows the new one"
                + asked
            )

    def _vouched(self, host: str, port: int) -> str:
        return vouched_for(host, port, self.vouch_s, self.proxy)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """As the base class, and check the peer; the socket is closed where that fails."""
        wrapped = super().wrap_socket(*args, **kwargs)
        try:
            self.check_peer(wrapped)
        except BaseException:  # also an OSError, where the connection was reset meanwhile
            wrapped.close()
            raise
        return wrapped


def vouched_for(
    host: str, port: int, timeout_s: float = VOUCH_TIMEOUT_S, proxy: Proxy | None = None
) -> str:
    """Whether a CA of this system vouches for a server, as the end of a sentence about it.

    It is asked over a connection of its own, on which nothing is sent.
    """
    context = ssl.create_default_context()
    context.sslsocket_class = TlsSocket
    try:
        with (
            _connection(host, port, timeout_s, proxy) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            pass
    except ssl.SSLCertVerificationError as error:
        return f"; no CA of this system vouches for it ({error.verify_message})"
    except (OSError, ValueError, RemoteError):
        return ""
    return "; a CA of this system vouches for it: without a fingerprint it would be trusted"


def _connection(host: str, port: int, timeout_s: float, proxy: Proxy | None) -> socket.socket:
    if proxy is None:
        return socket.create_connection((host, port), timeout=timeout_s)
    until = time.monotonic() + timeout_s
    connection = socket.create_connection((proxy.host, proxy.port), timeout=timeout_s)
    with ExitStack() as undo:
        undo.enter_context(connection)

        def read() -> bytes:
            connection.settimeout(max(0.001, until - time.monotonic()))
            return connection.recv(ANSWER_BYTES)

        pass_through(Tunnel(proxy, host, port), connection.sendall, read)
        undo.pop_all()
    return connection


def explain_tls_error(error: ssl.SSLError, netloc: str) -> RemoteError:
    """The error to raise for a failed handshake with ``netloc``."""
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return ConnectError(
            f"{netloc} closed the connection during the TLS handshake; "
            "is it a Proxmox Backup Server?"
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsError(
            f"the certificate of {netloc} is not trusted ({error.verify_message}); if it is "
            "self-signed, give its fingerprint (--fingerprint or PBS_FINGERPRINT; for a remote of "
            "this host, in remote.cfg)"
        )
    reason = error.reason or str(error) or type(error).__name__
    failed = TlsError(f"no TLS connection to {netloc}: {reason}; is it a Proxmox Backup Server?")
    failed.may_pass = True
    return failed
