"""REST requests to the target: httpx, our trust, our credentials, and errors with their context."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final

import httpx

from pbs_push.errors import (
    AuthError,
    ConnectError,
    DeniedError,
    InvalidName,
    ProtocolError,
    StatusError,
    TlsError,
)
from pbs_push.remote.auth import HOST_COOKIE, PLAIN_COOKIE, Ticket
from pbs_push.remote.tls import explain_tls_error

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from pbs_push.names import Repository
    from pbs_push.remote.auth import Auth
    from pbs_push.remote.tls import TrustContext

CONNECT_TIMEOUT_S: Final = 30.0
ANSWER_TIMEOUT_S: Final = 300.0
"""Removing a large group or namespace may take the server minutes."""

MAX_REASON: Final = 500
"""Characters of a server's error text that are shown."""

Params = Mapping[str, str | int | bool | None]


def shown_reason(body: bytes) -> str:
    """A server's error text for people: one line, no control characters, of limited length."""
    text = body.decode("utf-8", "replace").strip()
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MAX_REASON else line[:MAX_REASON] + "…"


def raise_for_status(request: str, status: int, body: bytes) -> None:
    """Raise the error for an HTTP status that is no success; ``request`` says what was asked."""
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    reason = shown_reason(body)
    if status == HTTPStatus.UNAUTHORIZED:
        raise AuthError(f"{request}: the target refuses the credentials ({reason or status})")
    if status == HTTPStatus.FORBIDDEN:
        raise DeniedError(request, status, reason)
    raise StatusError(request, status, reason)


def parse_data(request: str, body: bytes) -> Any:
    """The ``data`` of a JSON answer. Raises ProtocolError where it is not one."""
    try:
        answer = json.loads(body)
        return answer["data"]
    except (ValueError, KeyError, TypeError, RecursionError):
        shown = shown_reason(body[:200]) or "an empty answer"
        raise ProtocolError(
            f"{request}: the answer is not that of a Proxmox Backup Server: {shown}"
        ) from None


def _encoded(params: Params | None) -> dict[str, str | int]:
    return {
        key: int(value) if isinstance(value, bool) else value
        for key, value in (params or {}).items()
        if value is not None
    }


def _sendable(text: object) -> str:
    """A part of a ticket, if a header can hold it. Raises ValueError, which does not show it."""
    if not isinstance(text, str) or not text.isascii() or not text.isprintable() or not text:
        raise ValueError("not printable ASCII")
    return text


class Rest:
    """REST requests to one server. Safe for threads; close it, or use it in ``with``.

    Raises InvalidName for a host whose name cannot be sent.
    """

    def __init__(self, repository: Repository, context: TrustContext) -> None:
        self.repository = repository
        self._netloc = repository.netloc
        try:
            self._client = httpx.Client(
                base_url=f"https://{repository.netloc}/api2/json/",
                verify=context,
                timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
                limits=httpx.Limits(max_connections=8, max_keepalive_connections=8),
                headers={"Accept": "application/json"},
                # None is kept: a ticket goes into a header of our own making.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                trust_env=False,  # the backup protocol's connections use no proxy either
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise InvalidName(f"'{repository.host}' is no host name ({error})") from None
        self.host: Final = self._client.base_url.raw_host.decode("ascii")
        """The host as it is written in requests: in ASCII."""
        self._auth: Auth | None = None
        self._round_trip_s = float("inf")

    def use(self, auth: Auth) -> None:
        """Send these credentials from now on."""
        self._auth = auth

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def round_trip_s(self) -> float:
        """The quickest answer so far in seconds: about a round trip; 0.0 before the first."""
        return 0.0 if self._round_trip_s == float("inf") else self._round_trip_s

    def close(self) -> None:
        """Close the pool's connections."""
        self._client.close()

    def get(self, path: str, params: Params | None = None) -> Any:
        """The ``data`` of a GET. Raises RemoteError."""
        return self._data("GET", path, params)

    def post(self, path: str, params: Params | None = None) -> Any:
        """The ``data`` of a POST with form parameters. Raises RemoteError."""
        return self._data("POST", path, params)

    def put(self, path: str, params: Params | None = None) -> Any:
        """The ``data`` of a PUT with form parameters. Raises RemoteError."""
        return self._data("PUT", path, params)

    def delete(self, path: str, params: Params | None = None) -> Any:
        """The ``data`` of a DELETE with query parameters. Raises RemoteError."""
        return self._data("DELETE", path, params)

    def upload(self, path: str, params: Params, content: bytes) -> Any:
        """POST raw data, with the parameters in the query. Raises RemoteError."""
        return self._data("POST", path, params, content)

    def login(self, username: str, password: str) -> Ticket:
        """Ask for a ticket (``POST access/ticket``). Raises AuthError, RemoteError."""
        request = f"logging in to {self._netloc} as {username}"
        form = {"username": username, "password": password}
        response = self._send(request, "POST", "access/ticket", {"data": form})
        raise_for_status(request, response.status_code, response.content)
        data = parse_data(request, response.content)
        try:
            csrf_token = _sendable(data["CSRFPreventionToken"])
            if host_ticket := response.cookies.get(HOST_COOKIE):
                return Ticket(HOST_COOKIE, _sendable(host_ticket), csrf_token)
            return Ticket(PLAIN_COOKIE, _sendable(data["ticket"]), csrf_token)
        except (KeyError, TypeError, ValueError, httpx.CookieConflict):
            raise ProtocolError(f"{request}: the answer holds no ticket") from None

    def _data(
        self, method: str, path: str, params: Params | None, content: bytes | None = None
    ) -> Any:
        request = f"{method} {path} at {self._netloc}"
        arguments: dict[str, Any] = {}
        if content is not None:
            arguments = {
                "params": _encoded(params),
                "content": content,
            }
        elif method in ("GET", "DELETE"):
            arguments = {"params": _encoded(params)}
        else:
            arguments = {"data": _encoded(params)}
        response = self._authenticated(request, method, path, arguments)
        raise_for_status(request, response.status_code, response.content)
        return parse_data(request, response.content)

    def _authenticated(
        self, request: str, method: str, path: str, arguments: dict[str, Any]
    ) -> httpx.Response:
        auth = self._auth
        if auth is None:
            return self._send(request, method, path, arguments)
        writing = method != "GET"
        headers = auth.headers(writing=writing)
        response = self._send(request, method, path, {**arguments, "headers": headers})
        if response.status_code == HTTPStatus.UNAUTHORIZED and auth.expired():
            headers = auth.headers(writing=writing)
            response = self._send(request, method, path, {**arguments, "headers": headers})
        return response

    def _send(
        self, request: str, method: str, path: str, arguments: dict[str, Any]
    ) -> httpx.Response:
        try:
            response = self._client.request(method, path, **arguments)
        except TlsError:
            raise
        except httpx.HTTPError as error:
            raise self._explained(request, error) from error
        self._round_trip_s = min(self._round_trip_s, response.elapsed.total_seconds())
        return response

    def _explained(self, request: str, error: httpx.HTTPError) -> Exception:
        cause: BaseException | None = error
        while cause is not None and isinstance(error, httpx.ConnectError):
            if isinstance(cause, ssl.SSLError):
                return explain_tls_error(cause, self._netloc)
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, (httpx.RemoteProtocolError, httpx.DecodingError)):
            return ProtocolError(f"{request}: {error}; is it a Proxmox Backup Server?")
        return ConnectError(f"{request}: {error or type(error).__name__}")
