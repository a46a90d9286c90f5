"""Who we are to the target: an API token, or a user with a password and its tickets.

See protocol/rest.md, "API tokens", "Tickets".
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from pbs_push.errors import AuthError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbs_push.names import AuthId

TICKET_LIFETIME_S = 2 * 3600
"""Tickets live two hours; they are renewed at half that (protocol/rest.md, "Tickets")."""

PLAIN_COOKIE = "PBSAuthCookie"
HOST_COOKIE = "__Host-PBSAuthCookie"


class SecretStr(Protocol):
    """A text that is not shown by accident: a Secret, or pydantic's class of the same name."""

    def get_secret_value(self) -> str:
        """The text."""


class Secret:
    """A secret without pydantic, which takes longer to import than all else here together."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        """The text."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('**********')"


class Auth(Protocol):
    """Gives the headers that say who we are."""

    auth_id: AuthId

    def headers(self, *, writing: bool = True) -> dict[str, str]:
        """Headers for a request; ``writing`` is for all but GET. Raises AuthError, RemoteError."""

    def expired(self) -> bool:
        """The target did not accept the headers; whether new ones may be worth a try."""


class TokenAuth:
    """An API token: the same header on everything."""

    def __init__(self, auth_id: AuthId, secret: SecretStr) -> None:
        self.auth_id = auth_id
        self._secret = secret

    def headers(self, *, writing: bool = True) -> dict[str, str]:  # noqa: ARG002
        """The ``Authorization`` header. Raises AuthError for a name that cannot be sent in one."""
        if not str(self.auth_id).isascii():
            raise AuthError(f"{self.auth_id}: a token's user can only have a name in ASCII")
        secret = quote(self._secret.get_secret_value(), safe="")
        return {"Authorization": f"PBSAPIToken={self.auth_id}:{secret}"}

    def expired(self) -> bool:
        """A token does not change."""
        return False


class Ticket:
    """What a login gave: a ticket, and the token against forged requests.

    ``cookie`` is the name under which it is sent. A ticket from a login's body is raw, and is
    percent-encoded for the cookie; one that came as a cookie is sent as it came.
    """

    def __init__(self, cookie: str, value: str, csrf_token: str) -> None:
        self.cookie = cookie
        self.value = value
        self.csrf_token = csrf_token

    @property
    def cookie_value(self) -> str:
        """What stands behind ``NAME=`` in the Cookie header."""
        return quote(self.value, safe="") if self.cookie == PLAIN_COOKIE else self.value


class TicketAuth:
    """A user with a password: logs in when headers are first wanted, and renews its ticket.

    ``login`` is given a user name and a password (or a valid ticket) and returns a new ticket.
    Safe for threads.
    """

    def __init__(
        self,
        auth_id: AuthId,
        password: SecretStr,
        login: Callable[[str, str], Ticket],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.auth_id = auth_id
        self._password = password
        self._login = login
        self._clock = clock
        self._lock = threading.Lock()
        self._ticket: Ticket | None = None
        self._since = 0.0
        self._refused: str | None = None

    def headers(self, *, writing: bool = True) -> dict[str, str]:
        """The cookie, and on writing requests the CSRF token; logs in where that is due."""
        with self._lock:
            ticket = self._fresh_ticket()
        headers = {"Cookie": f"{ticket.cookie}={ticket.cookie_value}"}
        if writing:
            headers["CSRFPreventionToken"] = ticket.csrf_token
        return headers

    def expired(self) -> bool:
        """Forget a ticket that was refused, so that the next request logs in anew.

        Another thread may have done so already: a new try is worth it all the same.
        """
        with self._lock:
            self._ticket = None
        return True

    def _fresh_ticket(self) -> Ticket:
        age = self._clock() - self._since
        if self._ticket is None:
            self._ticket = self._login_by_password()
            self._since = self._clock()
        elif age > TICKET_LIFETIME_S / 2:
            self._ticket = self._renewed(self._ticket)
            self._since = self._clock()
        return self._ticket

    def _renewed(self, old: Ticket) -> Ticket:
        """The ticket itself works as the password; where it does not, the password still does."""
        if old.cookie == PLAIN_COOKIE:
            try:
                return self._login(str(self.auth_id), old.value)
            except AuthError:
                pass  # it is too old: a laptop that slept
        return self._login_by_password()

    def _login_by_password(self) -> Ticket:
        """A password that was refused is not tried again: servers count, and answer late."""
        if self._refused is not None:
            raise AuthError(self._refused)
        try:
            return self._login(str(self.auth_id), self._password.get_secret_value())
        except AuthError as error:
            self._refused = str(error)
            raise
