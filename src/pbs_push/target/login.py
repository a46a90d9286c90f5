"""Who sends a request: API tokens, ticket cookies, and logins (protocol/rest.md, "Tickets")."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import quote, unquote

from pbs_push.errors import InvalidName
from pbs_push.names import AuthId
from pbs_push.target.answers import Answer, Refusal, bad_request
from pbs_push.target.identities import Identities
from pbs_push.target.options import TargetOptions
from pbs_push.target.params import BOOLEAN, USER_ID, Params, Schema, Text, optional, required
from pbs_push.target.tickets import TicketIssuer

LOGIN_PARAMETERS: Final[Schema] = {
    "username": required(USER_ID),
    "password": optional(Text()),
    "http-only": optional(BOOLEAN),
}

_COOKIE_NAMES: Final = ("__Host-PBSAuthCookie", "PBSAuthCookie")
_TOKEN_SCHEME: Final = "PBSAPIToken"  # noqa: S105


class Gate:
    """Decides who a request comes from."""

    def __init__(self, identities: Identities, options: TargetOptions) -> None:
        self._identities = identities
        self._clock = options.clock
        self._tickets = TicketIssuer(options.ticket_lifetime_s, options.clock)

    def authenticate(self, headers: Mapping[str, str], *, csrf_needed: bool) -> AuthId:
        """The identity behind a request's headers (names in lower case). Raises Refusal (401)."""
        authorization = headers.get("authorization", "")
        if authorization.startswith(_TOKEN_SCHEME):
            identity = self._token_owner(authorization.removeprefix(_TOKEN_SCHEME))
        else:
            identity = self._ticket_owner(headers.get("cookie", ""))
            if identity is not None and csrf_needed:
                token = headers.get("csrfpreventiontoken", "")
                identity = identity if self._tickets.csrf_fits(token, identity) else None
        if identity is None:
            raise Refusal(HTTPStatus.UNAUTHORIZED, "authentication failed", content_type=None)
        return identity

    def log_in(self, params: Params) -> Answer:
        """Answer a login with a ticket. Raises Refusal."""
        if "password" not in params:
            raise bad_request("no password provided")
        user = AuthId.parse(params.text("username"))
        if not self._password_fits(user, params.text("password")):
            raise Refusal(HTTPStatus.UNAUTHORIZED, "permission check failed.")
        ticket = self._tickets.issue(user)
        data = {"username": str(user), "CSRFPreventionToken": self._tickets.csrf_token(user)}
        if not params.boolean("http-only"):
            return _login_answer(data | {"ticket": ticket})
        cookie = f"{_COOKIE_NAMES[0]}={quote(ticket, safe='')}; Path=/; Secure; HttpOnly"
        data["ticket-info"] = f"{self._tickets.info(user)}::ticketinfo"
        return _login_answer(data, ("set-cookie", cookie))

    def _password_fits(self, user: AuthId, password: str) -> bool:
        """Whether it is the user's password, or a ticket of an active user."""
        now = self._clock()
        if self._tickets.owner(password) == user:
            return self._identities.active_user(user, now)
        return self._identities.password_fits(user, password, now)

    def _token_owner(self, credentials: str) -> AuthId | None:
        """The token in ``=ID:SECRET`` or `` ID:SECRET``; the secret may be percent-encoded."""
        if credentials[:1] not in ("=", " "):
            return None
        name, colon, secret = credentials[1:].strip().partition(":")
        try:
            token = AuthId.parse(name)
        except InvalidName:
            return None
        if not colon or not token.is_token:
            return None
        fits = self._identities.token_fits(token, unquote(secret), self._clock())
        return token if fits else None

    def _ticket_owner(self, header: str) -> AuthId | None:
        """The active user whose ticket is in a cookie of either name, percent-encoded or not."""
        try:
            cookies = SimpleCookie(header)
        except CookieError:
            return None
        for name in _COOKIE_NAMES:
            if name in cookies:
                user = self._tickets.owner(unquote(cookies[name].value))
                if user is not None and self._identities.active_user(user, self._clock()):
                    return user
        return None


def _login_answer(data: dict[str, str], *headers: tuple[str, str]) -> Answer:
    body = json.dumps({"data": data, "status": 200, "success": True})
    return Answer(body=body.encode(), content_type="application/json", headers=headers)
