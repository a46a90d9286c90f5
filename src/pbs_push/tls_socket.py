"""The TLS socket that all sides use: one that a reset during its making does not leave open."""

from __future__ import annotations

import errno
import ssl

_NOT_CONNECTED = (errno.ENOTCONN, errno.EINVAL)


class TlsSocket(ssl.SSLSocket):
    """An `ssl.SSLSocket` that is closed where the other side reset the connection before it.

    ``SSLContext.wrap_socket`` takes the descriptor over, finds that no peer is there, and reads a
    byte; where that raises, CPython (3.11 to 3.14) leaves the new socket open, which nobody else
    knows. A context makes these by its attribute ``sslsocket_class``.
    """

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """As the base class. Raises OSError."""
        try:
            return super().recv(buflen, flags)
        except OSError as error:
            if self.version() is None and error.errno not in _NOT_CONNECTED:
                self.close()  # it never was a TLS connection
            raise
