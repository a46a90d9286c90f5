"""The certificate of a target: a fresh self-signed one, or one that is given."""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pbs_push.errors import ConfigError
from pbs_push.tls_socket import TlsSocket

_VALIDITY = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files: a certificate (and its chain), and the private key that belongs to it."""

    certificate: Path
    key: Path


def server_context(files: CertificateFiles | None) -> tuple[ssl.SSLContext, bytes]:
    """A TLS context for a server, and the SHA-256 of its certificate's DER form (32 bytes).

    Without ``files`` it gets a new self-signed certificate for this machine's loopback names. No
    ALPN, as a real server. Raises ConfigError if the files cannot be used.
    """
    if files is None:
        with tempfile.TemporaryDirectory(prefix="pbs-push-target-") as directory:
            return _context(self_signed(Path(directory)))
    try:
        return _context(files)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"certificate {files.certificate} with key {files.key}: {error}"
        ) from error


def _context(files: CertificateFiles) -> tuple[ssl.SSLContext, bytes]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = TlsSocket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key)
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    der = certificate.public_bytes(serialization.Encoding.DER)
    return context, hashlib.sha256(der).digest()


def self_signed(directory: Path) -> CertificateFiles:
    """Make a key and a certificate, as files in ``directory``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pbs-push target")])
    now = datetime.now(UTC)
    addresses = [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
    names = [x509.DNSName("localhost"), *(x509.IPAddress(address) for address in addresses)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = CertificateFiles(directory / "certificate.pem", directory / "key.pem")
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.touch(mode=0o600)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files
