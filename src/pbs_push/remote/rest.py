"""REST requests to the target: httpx, our trust, our credentials, and errors with their context."""

from __future__ import annotations

import ssl
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import httpx

from pbs_push.closing import Closing
from pbs_push.errors import ConfigError, ConnectError, InvalidName, ProtocolError, os_reason
from pbs_push.remote.answers import parse_data, raise_for_status
from pbs_push.remote.auth import HOST_COOKIE, PLAIN_COOKIE, Ticket
from pbs_push.remote.items import NotAList, items_of
from pbs_push.remote.limits import Limits, Stall
from pbs_push.remote.lines import RestTransport
from pbs_push.remote.tls import explain_tls_error
from pbs_push.remote.words import Words, shown_reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from pbs_push.names import Repository
    from pbs_push.remote.auth import Auth
    from pbs_push.remote.pacing import Paced
    from pbs_push.remote.proxy import Proxy
    from pbs_push.remote.tls import TrustContext

MAX_ANSWER_BYTES: Final = 16 << 20
"""Of an answer's body, decoded, that is no list: it is read as a whole."""
MAX_LIST_BYTES: Final = 1 << 30
"""Of a list, of which one object is read at a time. A listing of a million groups takes about 200
MiB, one of 400,000 snapshots as much; more can only be a target that is broken, or hostile."""
MAX_RATIO: Final = 250
"""Of what a body is to what was sent of it. Lists of the longest names and one time have 100."""
_RATIO_FROM: Final = 1 << 20
"""Bytes of a body from which on that counts."""
_INFLATED_AT_ONCE: Final = 256 << 10

T = TypeVar("T")

Params = Mapping[str, str | int | bool | None]


class _Reply(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes
    cookies: httpx.Cookies
    location: str = ""
    collected: Any = None
    """What was made of a list that was to be collected."""


class _Stopwatch:
    """Times one request, from its first byte to the head of its answer, as httpcore's ``trace``.

    What httpx calls ``elapsed`` holds the opening of a connection too, which takes several times as
    long. ``seconds`` is infinite where no answer came.
    """

    def __init__(self) -> None:
        self.seconds = float("inf")
        self._began = 0.0

    def __call__(self, event: str, _info: object) -> None:
        if event == "http11.send_request_headers.started":
            self._began = time.monotonic()
        elif event == "http11.receive_response_headers.complete":
            self.seconds = time.monotonic() - self._began


def _base_url(repository: Repository) -> httpx.URL:
    """What the paths of requests follow. Raises InvalidName for a host that cannot be sent."""
    try:
        url = httpx.URL(f"https://{repository.netloc}/api2/json/")
        readable = url.host  # httpx wants it with each request, and not all of `xn--…` has one
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidName(f"'{repository.host}' is not a host name ({error})") from None
    if not readable:
        raise InvalidName(f"'{repository.host}' is not a host name")
    return url


def _encoded(params: Params | None) -> dict[str, str | int]:
    return {
        key: int(value) if isinstance(value, bool) else value
        for key, value in (params or {}).items()
        if value is not None
    }


def _decoded(encoding: str, pieces: Iterable[bytes], most: int) -> Iterator[bytes]:
    """A body that came in ``pieces``, of ``most`` bytes at most.

    Raises ValueError, saying what it is that cannot be taken, and zlib.error.
    """
    if encoding not in ("identity", "deflate"):
        shown = shown_reason(encoding, 40)
        raise ValueError(f"it is encoded as '{shown}', which was not asked for")
    sent = given = 0
    inflate = _Inflate() if encoding == "deflate" else None
    for piece in filter(None, pieces):
        sent += len(piece)
        for part in (piece,) if inflate is None else inflate.parts(piece):
            given += len(part)
            if given > most:
                raise ValueError(f"it is longer than {most >> 20} MiB")
            if given > _RATIO_FROM and given > sent * MAX_RATIO:
                raise ValueError(f"it is more than {MAX_RATIO} times as long as what was sent")
            yield part
    if inflate is not None and inflate.is_cut:
        raise ValueError("its encoded form is cut")


class _Inflate:
    """Inflates a body, some of it at a time."""

    def __init__(self) -> None:
        self._engine: Any = None

    def parts(self, piece: bytes) -> Iterator[bytes]:
        """What the next piece, not empty, stands for."""
        if self._engine is None:
            # With the header of zlib, as the standard has it, or without: servers send either.
            plain = piece[0] & 0xF != 8  # noqa: PLR2004
            self._engine = zlib.decompressobj(-zlib.MAX_WBITS if plain else zlib.MAX_WBITS)
        while piece and not self._engine.eof:
            yield self._engine.decompress(piece, _INFLATED_AT_ONCE)
            piece = self._engine.unconsumed_tail

    @property
    def is_cut(self) -> bool:
        """Whether there was something, and not its end."""
        return self._engine is not None and not self._engine.eof


def _is_end(error: httpx.HTTPError) -> bool:
    """Whether what was wrong with an answer is that it ended too early: the line broke.

    It has the same class as an answer that is no HTTP; tests hold these texts of httpcore and h11.
    """
    reason = str(error) if isinstance(error, httpx.RemoteProtocolError) else ""
    return "disconnected" in reason or "closed connection" in reason


def _sendable(text: object) -> str:
    """A part of a ticket, if a header can hold it. Raises ValueError, which does not show it."""
    if not isinstance(text, str) or not text.isascii() or not text.isprintable() or not text:
        raise ValueError("not printable ASCII")
    return text


class Rest(Closing):
    """REST requests to one server. Safe for threads; close it, or use it in ``with``.

    ``limits`` say how long an answer is waited for; ``words`` learns what is sent that is secret,
    and shows what comes back; ``proxy`` is what all connections go through, unless ``transport``
    makes them. Raises InvalidName for a host whose name cannot be sent.
    """

    def __init__(
        self,
        repository: Repository,
        context: TrustContext,
        limits: Limits | None = None,
        words: Words | None = None,
        proxy: Proxy | None = None,
        transport: RestTransport | None = None,
    ) -> None:
        self.repository = repository
        self.words: Final = Words() if words is None else words
        self._limits = Limits() if limits is None else limits
        self._netloc = repository.netloc
        self._way = "" if proxy is None else f" through proxy {proxy.label}"
        url = _base_url(repository)
        self.host: Final = url.raw_host.decode("ascii")
        """The host as it is written in requests: in ASCII."""
        self._transport = transport or RestTransport(context, self._limits.connect_s, proxy)
        self._client = httpx.Client(
            base_url=url,
            transport=self._transport,
            # Its limits are ours. Others may hold all connections for long, and have limits too.
            timeout=httpx.Timeout(None),
            headers={"Accept": "application/json", "Accept-Encoding": "deflate"},
            # None is kept: a ticket goes into a header of our own making.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            trust_env=False,  # the proxy is the one that all connections go through
        )
        self._auth: Auth | None = None
        self._lock = threading.Lock()
        self._round_trip_s = float("inf")

    def use(self, auth: Auth) -> None:
        """Send these credentials from now on."""
        self._auth = auth

    @property
    def round_trip_s(self) -> float:
        """The quickest answer so far in seconds: about a round trip; 0.0 before the first.

        Opening connections is not part of it.
        """
        return 0.0 if self._round_trip_s == float("inf") else self._round_trip_s

    def heard_of(self, round_trip_s: float) -> None:
        """Others have reached it, and this is what it took; 0.0: they have not."""
        if round_trip_s > 0:
            self._round_trip_s = min(self._round_trip_s, round_trip_s)

    def close(self) -> None:
        """Close the pool's connections."""
        self._client.close()

    def heeding(self, cancelled: threading.Event) -> AbstractContextManager[None]:
        """Requests of this thread within end with Cancelled soon after ``cancelled`` is set.

        What was asked for may be done all the same; connections are opened to their end.
        """
        return self._transport.heeding(cancelled)

    def check_open(self) -> None:
        """Raise ConfigError once it is closed."""
        if self._client.is_closed:
            raise ConfigError(f"the Target {self.repository} is closed; make a new one")

    def get(self, path: str, params: Params | None = None) -> Any:
        """The ``data`` of a GET. Raises RemoteError."""
        return self._data("GET", path, params)

    def items(self, path: str, params: Params | None, collect: Callable[[Iterator[Any]], T]) -> T:
        """What ``collect`` makes of the objects in the ``data`` of a GET, as they come.

        Raises RemoteError, and what ``collect`` raises.
        """
        found: T = self._data("GET", path, params, None, collect)
        return found

    def post(self, path: str, params: Params | None = None) -> Any:
        """The ``data`` of a POST with form parameters. Raises RemoteError."""
        return self._data("POST", path, params)

    def put(self, path: str, params: Params | None = None) -> Any:
        """The ``data`` of a PUT with form parameters. Raises RemoteError."""
        return self._data("PUT", path, params)

    def delete(self, path: str, params: Params | None = None) -> Any:
        """The ``data`` of a DELETE with query parameters. Raises RemoteError."""
        return self._data("DELETE", path, params)

    def upload(self, path: str, params: Params, content: Paced) -> Any:
        """POST raw data, with the parameters in the query. Raises RemoteError, Cancelled."""
        return self._data("POST", path, params, content)

    def login(self, username: str, password: str) -> Ticket:
        """Ask for a ticket (``POST access/ticket``). Raises AuthError, RemoteError."""
        request = f"logging in to {self._netloc} as {username}"
        self.words.learn(password)
        form = {"username": username, "password": password}
        reply = self._send(request, "POST", "access/ticket", {"data": form})
        raise_for_status(request, reply.status, reply.body, self.words, reply.location)
        try:
            data = parse_data(request, reply.body, self.words)
            csrf_token = _sendable(data["CSRFPreventionToken"])
            if host_ticket := reply.cookies.get(HOST_COOKIE):
                ticket = Ticket(HOST_COOKIE, _sendable(host_ticket), csrf_token)
            else:
                ticket = Ticket(PLAIN_COOKIE, _sendable(data["ticket"]), csrf_token)
        except (KeyError, TypeError, ValueError, httpx.CookieConflict, ProtocolError):
            # Nothing of it is shown: there may be half a ticket in it.
            raise ProtocolError(
                f"{request}: the answer holds no ticket; is it a Proxmox Backup Server?"
            ) from None
        self.words.learn(ticket.value, csrf_token)
        return ticket

    def _data(
        self,
        method: str,
        path: str,
        params: Params | None,
        content: Paced | None = None,
        collect: Callable[[Iterator[Any]], Any] | None = None,
    ) -> Any:
        request = f"{method} {path} at {self._netloc}"
        arguments: dict[str, Any] = {}
        if content is not None:
            arguments = {
                "params": _encoded(params),
                "content": content,
                "headers": {"Content-Length": str(len(content))},
            }
        elif method in ("GET", "DELETE"):
            arguments = {"params": _encoded(params)}
        else:
            arguments = {"data": _encoded(params)}
        reply = self._authenticated(request, method, path, arguments, collect)
        raise_for_status(request, reply.status, reply.body, self.words, reply.location)
        if collect is not None:
            return reply.collected
        return parse_data(request, reply.body, self.words)

    def _authenticated(
        self,
        request: str,
        method: str,
        path: str,
        arguments: dict[str, Any],
        collect: Callable[[Iterator[Any]], Any] | None = None,
    ) -> _Reply:
        auth = self._auth
        tried_again = False
        if auth is None:
            return self._send(request, method, path, arguments, collect)
        others = arguments.pop("headers", {})
        while True:
            headers = auth.headers(writing=method != "GET")
            sent = {**arguments, "headers": {**others, **headers}}
            reply = self._send(request, method, path, sent, collect)
            if reply.status != HTTPStatus.UNAUTHORIZED or tried_again or not auth.expired():
                return reply
            tried_again = True

    def _send(
        self,
        request: str,
        method: str,
        path: str,
        arguments: dict[str, Any],
        collect: Callable[[Iterator[Any]], Any] | None = None,
    ) -> _Reply:
        self.check_open()
        stopwatch = _Stopwatch()
        removing = method == "DELETE"
        stall = Stall(self._limits.removal_s if removing else self._limits.answer_s)
        try:
            with (
                self._transport.watching(stall),
                self._client.stream(
                    method, path, extensions={"trace": stopwatch}, **arguments
                ) as response,
            ):
                self._transport.head_has_come()
                stall.moved()
                encoding = response.headers.get("content-encoding", "identity").strip().lower()
                pieces = _counted(response.iter_raw(), stall)
                body, collected = b"", None
                if collect is not None and response.is_success:
                    collected = self._collected(
                        request, _decoded(encoding, pieces, MAX_LIST_BYTES), collect
                    )
                else:
                    body = b"".join(_decoded(encoding, pieces, MAX_ANSWER_BYTES))
        except (httpx.ReadTimeout, httpx.WriteTimeout):
            raise ConnectError(f"{request}: {stall.text(self._netloc)}") from None
        except httpx.ConnectTimeout:
            within = f"within {self._limits.connect_s:g} s"
            raise ConnectError(
                f"{request}: no connection to {self._netloc}{self._way} {within}"
            ) from None
        except (httpx.RemoteProtocolError, httpx.DecodingError) as error:
            # Not from the error: a traceback would show the target's text as it is.
            reason = self.words.shown(str(error)) or type(error).__name__
            if _is_end(error):
                raise ConnectError(
                    f"{request}: the target closed the connection: {reason}"
                ) from None
            raise ProtocolError(f"{request}: {reason}; is it a Proxmox Backup Server?") from None
        except httpx.HTTPError as error:
            raise self._explained(request, error) from error
        except (ValueError, zlib.error) as error:  # ours, or httpx's about a header of the answer
            raise ProtocolError(
                f"{request}: the answer is not usable: {self.words.shown(str(error))}; is it a "
                "Proxmox Backup Server?"
            ) from None
        with self._lock:
            self._round_trip_s = min(self._round_trip_s, stopwatch.seconds)
        location = response.headers.get("location", "")
        return _Reply(response.status_code, body, response.cookies, location, collected)

    def _collected(
        self, request: str, pieces: Iterator[bytes], collect: Callable[[Iterator[Any]], T]
    ) -> T:
        try:
            return collect(items_of(pieces))
        except NotAList as error:
            body = bytearray(error.begun)
        for piece in pieces:
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                raise ValueError(f"it is longer than {MAX_ANSWER_BYTES >> 20} MiB")
        data = parse_data(request, bytes(body), self.words)
        return collect(iter(data if isinstance(data, list) else [data]))

    def _explained(self, request: str, error: httpx.HTTPError) -> Exception:
        reason = self.words.shown(str(error)) or type(error).__name__
        cause: BaseException | None = error
        while cause is not None and isinstance(error, httpx.ConnectError):
            if isinstance(cause, ssl.SSLError):
                return explain_tls_error(cause, self._netloc + self._way)
            if isinstance(cause, OSError):
                reason = os_reason(cause)
            cause = cause.__cause__ or cause.__context__
        return ConnectError(f"{request}: {reason}")


def _counted(pieces: Iterable[bytes], stall: Stall) -> Iterator[bytes]:
    """``pieces`` of a body, which are progress."""
    for piece in pieces:
        stall.came(len(piece))
        yield piece
