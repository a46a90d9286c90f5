"""Tokens and tickets, with a clock of the test's own."""

from __future__ import annotations

import threading

import pytest
from pydantic import SecretStr

from pbs_push.errors import AuthError, ConnectError
from pbs_push.names import AuthId
from pbs_push.remote.auth import (
    HOST_COOKIE,
    PLAIN_COOKIE,
    TICKET_LIFETIME_S,
    Secret,
    Ticket,
    TicketAuth,
    TokenAuth,
)

PASSWORD = "correct horse"
ME = AuthId.parse("me@pbs")


class Logins:
    """Gives tickets; refuses the passwords it is told to."""

    def __init__(self, cookie: str = PLAIN_COOKIE) -> None:
        self.cookie = cookie
        self.asked: list[tuple[str, str]] = []
        self.refused: set[str] = set()
        self.now = 1000.0

    def login(self, username: str, password: str) -> Ticket:
        self.asked.append((username, password))
        if password in self.refused:
            raise AuthError("no")
        return Ticket(self.cookie, f"PBS:{len(self.asked)}", f"csrf{len(self.asked)}")

    def auth(self) -> TicketAuth:
        return TicketAuth(ME, SecretStr(PASSWORD), self.login, lambda: self.now)


@pytest.mark.parametrize("kind", [Secret, SecretStr])
def test_a_token_is_one_header(kind: type[Secret]) -> None:
    """Its secret may be in pydantic's class, too."""
    auth = TokenAuth(AuthId.parse("me@pbs!push"), kind("s/ec ret:%"))
    expected = {"Authorization": "PBSAPIToken=me@pbs!push:s%2Fec%20ret%3A%25"}
    assert auth.headers() == auth.headers(writing=False) == expected
    assert not auth.expired()
    assert "ec ret" not in repr(auth) + str(vars(auth))


def test_a_token_of_a_user_that_no_header_can_name() -> None:
    with pytest.raises(AuthError, match=r"mé@pbs!push: .*ASCII"):
        TokenAuth(AuthId.parse("mé@pbs!push"), SecretStr("s")).headers()


def test_tickets_are_encoded_as_they_came() -> None:
    assert Ticket(PLAIN_COOKIE, "PBS:a/b+c==", "").cookie_value == "PBS%3Aa%2Fb%2Bc%3D%3D"
    assert Ticket(HOST_COOKIE, "PBS%3Aa", "").cookie_value == "PBS%3Aa"


def test_a_ticket_is_kept_for_half_its_life() -> None:
    logins = Logins()
    auth = logins.auth()
    assert auth.headers(writing=False) == {"Cookie": "PBSAuthCookie=PBS%3A1"}
    assert auth.headers() == {"Cookie": "PBSAuthCookie=PBS%3A1", "CSRFPreventionToken": "csrf1"}
    logins.now += TICKET_LIFETIME_S / 2
    auth.headers()
    assert logins.asked == [("me@pbs", PASSWORD)]
    logins.now += 1
    assert auth.headers()["CSRFPreventionToken"] == "csrf2"
    assert logins.asked[1] == ("me@pbs", "PBS:1")  # the ticket is the password
    logins.now += TICKET_LIFETIME_S / 2
    auth.headers()
    assert len(logins.asked) == 2


def test_a_ticket_too_old_to_renew_itself() -> None:
    logins = Logins()
    auth = logins.auth()
    auth.headers()
    logins.now += 10 * TICKET_LIFETIME_S
    logins.refused = {"PBS:1"}
    auth.headers()
    assert [password for _, password in logins.asked] == [PASSWORD, "PBS:1", PASSWORD]
    logins.now += 10 * TICKET_LIFETIME_S
    logins.refused = {"PBS:3", PASSWORD}
    with pytest.raises(AuthError):
        auth.headers()


def test_a_ticket_that_is_a_cookie_is_renewed_with_the_password() -> None:
    logins = Logins(HOST_COOKIE)
    auth = logins.auth()
    assert auth.headers(writing=False) == {"Cookie": "__Host-PBSAuthCookie=PBS:1"}
    logins.now += TICKET_LIFETIME_S
    auth.headers()
    assert [password for _, password in logins.asked] == [PASSWORD, PASSWORD]


def test_a_refused_ticket_is_forgotten() -> None:
    logins = Logins()
    auth = logins.auth()
    assert auth.expired()  # another thread forgot it: a new try is worth it
    auth.headers()
    assert auth.expired()
    auth.headers()
    assert [password for _, password in logins.asked] == [PASSWORD, PASSWORD]


def test_other_errors_of_a_renewal_are_told() -> None:
    logins = Logins()
    auth = logins.auth()
    auth.headers()
    logins.now += TICKET_LIFETIME_S

    def broken(_username: str, _password: str) -> Ticket:
        raise ConnectError("broken line")

    auth._login = broken
    with pytest.raises(ConnectError):
        auth.headers()


def test_threads_log_in_once() -> None:
    logins = Logins()
    auth = logins.auth()
    threads = [threading.Thread(target=auth.headers) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(logins.asked) == 1


def test_nothing_shows_the_password() -> None:
    auth = Logins().auth()
    auth.headers()
    assert PASSWORD not in repr(auth) + str(vars(auth))


def test_a_refused_password_is_not_tried_again() -> None:
    """A plan asks several things at once, and a server answers each wrong login seconds late."""
    logins = Logins()
    logins.refused = {PASSWORD}
    auth = logins.auth()
    for _ in range(3):
        with pytest.raises(AuthError, match="no"):
            auth.headers()
    assert len(logins.asked) == 1
