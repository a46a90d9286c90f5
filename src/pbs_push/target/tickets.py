"""Tickets and CSRF tokens of one server's run.

The form is a real server's (recordings): ``PBS:USER:<8 hex digits time>::<86 base64 digits>`` and
``<8 hex digits time>:<43 base64 digits>``; the signature is an HMAC under a key of this run.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable

from pbs_push.errors import InvalidName
from pbs_push.names import AuthId


class TicketIssuer:
    """Issues and checks tickets; ``clock`` gives epoch seconds."""

    def __init__(self, lifetime_s: float, clock: Callable[[], float]) -> None:
        self._key = secrets.token_bytes(32)
        self._lifetime_s = lifetime_s
        self._clock = clock

    def issue(self, user: AuthId) -> str:
        """A ticket for ``user`` that is valid from now on."""
        plain = self.info(user)
        return f"{plain}::{self._sign(plain)}"

    def info(self, user: AuthId) -> str:
        """A ticket's readable part, as a login tells it that sets the ticket as a cookie."""
        return f"PBS:{user}:{self._now()}"

    def owner(self, ticket: str) -> AuthId | None:
        """Whose ticket this is; None if it is not one of ours or too old."""
        plain, _, signature = ticket.partition("::")
        if not hmac.compare_digest(self._sign(plain).encode(), signature.encode()):
            return None
        _, _, named = plain.partition(":")
        user, _, issued = named.rpartition(":")
        if self._clock() - int(issued, 16) > self._lifetime_s:
            return None
        try:
            return AuthId.parse(user)
        except InvalidName:
            return None

    def csrf_token(self, user: AuthId) -> str:
        """The token that a cookie's owner sends along with everything but GET."""
        now = self._now()
        return f"{now}:{self._csrf_signature(now, user)}"

    def csrf_fits(self, token: str, user: AuthId) -> bool:
        """Whether ``token`` is a CSRF token of ``user``."""
        issued, _, signature = token.partition(":")
        expected = self._csrf_signature(issued, user)
        return hmac.compare_digest(expected.encode(), signature.encode())

    def _now(self) -> str:
        return f"{int(self._clock()):08X}"

    def _sign(self, text: str) -> str:
        return _base64(hmac.digest(self._key, text.encode(), hashlib.sha512))

    def _csrf_signature(self, issued: str, user: AuthId) -> str:
        return _base64(hmac.digest(self._key, f"{issued}:{user}".encode(), hashlib.sha256))


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode().rstrip("=")
