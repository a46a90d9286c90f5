"""The way through an HTTP proxy: CONNECT, and what the proxy may say to it (RFC 9110, 9.3.6).

Whoever has a connection to the proxy sends ``Tunnel.request`` and hands over what comes, until the
tunnel is open; from then on the connection is the target's, and begins with TLS.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import h11

from pbs_push.errors import ConnectError, ProtocolError, ProxyError, RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbs_push.remote.proxy import Proxy

ANSWER_BYTES: Final = 4096
"""Read at once of the proxy's answer."""
_MOST: Final = 64 << 10
"""Bytes of an answer, interim ones included."""
_PASSING: Final = frozenset((408, 425, 429, 502, 503, 504))
"""The proxy is busy, or does not reach the target at the moment."""


class Tunnel:
    """One CONNECT to ``host`` and ``port`` at ``proxy``, without any waiting of its own.

    Texts of the proxy are not shown: they could repeat the login.
    """

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
        self._proxy = proxy
        self._netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._http = h11.Connection(h11.CLIENT)
        self._taken = 0
        headers = [("Host", self._netloc)]
        if proxy.authorization is not None:
            headers.append(("Proxy-Authorization", proxy.authorization))
        connect = h11.Request(method="CONNECT", target=self._netloc, headers=headers)
        self.request: Final = (self._http.send(connect) or b"") + (
            self._http.send(h11.EndOfMessage()) or b""
        )

    def take(self, data: bytes) -> bool:
        """Some bytes of the proxy, ``b""`` where it has closed; True once the tunnel is open.

        Raises ConnectError for what may pass, ProxyError where the proxy refuses, ProtocolError
        for what is no answer.
        """
        if not data:
            raise self.failed("it closed the connection without an answer; is it an HTTP proxy?")
        self._taken += len(data)
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
            while isinstance(event, h11.InformationalResponse):
                event = self._http.next_event()
        except h11.RemoteProtocolError:
            raise self._not_http() from None
        if event is h11.NEED_DATA and self._taken <= _MOST:
            return False
        if not isinstance(event, h11.Response):
            raise self._not_http()
        if not HTTPStatus.OK <= event.status_code < HTTPStatus.MULTIPLE_CHOICES:
            raise self._refusal(event)
        behind, closed = self._http.trailing_data
        if behind or closed:  # a TLS server speaks second
            raise self._error(ProtocolError, "it says yes and something behind it; is it a proxy?")
        return True

    def failed(self, reason: str) -> ConnectError:
        """The error to raise where the proxy cannot be reached, or says nothing."""
        return ConnectError(self._text(reason))

    def late(self, limit_s: float) -> ConnectError:
        """The error to raise where it was waited for long enough."""
        return self.failed(f"it has not answered within {limit_s:g} s (--timeout)")

    def unreachable(self, reason: object) -> ConnectError:
        """The error to raise where there is no connection to the proxy."""
        return self.failed(f"the proxy cannot be reached: {reason}; is its address right?")

    def _text(self, reason: str) -> str:
        return f"connecting to {self._netloc} through proxy {self._proxy.label}: {reason}"

    def _error(self, kind: type[RemoteError], reason: str) -> RemoteError:
        return kind(self._text(reason))

    def _not_http(self) -> RemoteError:
        return self._error(ProtocolError, "its answer is not HTTP; is it an HTTP proxy?")

    def _refusal(self, answer: h11.Response) -> RemoteError:
        status = answer.status_code
        said = f"(status {status})"
        if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            return self._error(ProxyError, f"{self._login_reason(answer)} {said}")
        if status in (HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED):
            port = self._netloc.rpartition(":")[2]
            return self._error(
                ProxyError,
                f"it does not let us through {said}; allow CONNECT to this host and port {port} "
                "there, or go without it (--proxy none, NO_PROXY)",
            )
        if status in _PASSING:
            return self.failed(
                f"the proxy does not reach the target {said}; does that run, is its address right?"
            )
        return self._error(
            ProtocolError, f"it does not do CONNECT {said}; is it an HTTP proxy, for any port?"
        )

    def _login_reason(self, answer: h11.Response) -> str:
        offers = [value for name, value in answer.headers if name == b"proxy-authenticate"]
        if offers and not any(b"basic" in value.lower() for value in offers):
            return "it wants a login in a way that is not supported: only Basic is"
        if self._proxy.login is None:
            return "it wants a login: write its URL as http://USER:PASSWORD@HOST:PORT"
        return "it refuses the user or password of its URL"


def pass_through(
    tunnel: Tunnel, write: Callable[[bytes], object], read: Callable[[], bytes]
) -> None:
    """Open a tunnel over a connection that waits by itself. Raises what ``Tunnel.take`` does, and
    what ``write`` and ``read`` do."""
    write(tunnel.request)
    while not tunnel.take(read()):
        pass
