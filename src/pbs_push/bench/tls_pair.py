"""Two ends of a TLS connection in memory: how fast a push's bytes are encrypted."""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pbs_push.errors import PbsPushError
from pbs_push.remote.connection import SEND_AT_ONCE
from pbs_push.remote.tls import TrustContext
from pbs_push.tls_socket import TlsSocket

if TYPE_CHECKING:
    from typing_extensions import Buffer

_NO_FINGERPRINT: Final = bytes(32)
"""There is no peer to trust: both ends are here, and the certificate is not looked at."""
_MOST_FLIGHTS: Final = 10


class TlsSender:
    """The client's end, after a handshake with a server's end that is then forgotten.

    It works on memory as ``remote.tls_stream`` does: so many bytes are encrypted, and the records
    then taken out at once; here they are dropped.
    """

    def __init__(self) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = TrustContext(_NO_FINGERPRINT)
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        server = _server_context().wrap_bio(self._outgoing, self._incoming, server_side=True)
        _shake_hands(self._tls, server)
        self._outgoing.read()

    @property
    def cipher(self) -> str:
        """Protocol and cipher, such as ``TLSv1.3 TLS_AES_256_GCM_SHA384``."""
        chosen = self._tls.cipher()
        return f"{self._tls.version()} {chosen[0] if chosen else ''}".strip()

    def send(self, data: Buffer) -> None:
        """Encrypt all of ``data``."""
        view = memoryview(data)
        for start in range(0, len(view), SEND_AT_ONCE):
            self._tls.write(view[start : start + SEND_AT_ONCE])
            self._outgoing.read()


def _shake_hands(*ends: ssl.SSLObject) -> None:
    """Let both ends answer each other until both are satisfied."""
    waiting = list(ends)
    for _ in range(_MOST_FLIGHTS):
        waiting = [end for end in waiting if not _satisfied(end)]
        if not waiting:
            return
    raise PbsPushError("measuring TLS: the two ends in memory found no common way")


def _satisfied(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _server_context() -> ssl.SSLContext:
    """A server's context with a certificate made for this; its files are gone at once."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key_text = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = TlsSocket
    with tempfile.TemporaryDirectory(prefix="pbs-push-bench-") as directory:
        path = Path(directory) / "server.pem"
        path.write_bytes(key_text + certificate.public_bytes(pem))
        context.load_cert_chain(path)
    return context
