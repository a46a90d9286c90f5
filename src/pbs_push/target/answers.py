"""What the target says: answers, and the refusals that become error answers.

Sources: protocol/rest.md, "Requests", and the recordings: `{"data": …}` with status 200, an error
status with the reason as plain text although its content-type says JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

JSON_TYPE: Final = "application/json;charset=UTF-8"
RAW_TYPE: Final = "application/octet-stream"

DELETE_COOKIE: Final = (
    "set-cookie",
    "__Host-PBSAuthCookie=; Path=/; Secure; HttpOnly; expires=Thu, 01 Jan 1970 00:00:00 GMT",
)
"""Every 401 tells the browser to forget its ticket."""


class Refusal(Exception):  # it never leaves this package: each becomes an answer
    """A request that is answered with an error status; ``text`` is the body."""

    def __init__(self, status: int, text: str, content_type: str | None = JSON_TYPE) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.content_type = content_type


class StreamKilled(Exception):  # never leaves this package, and comes into it from faults only
    """The request dies without an answer, as on a real server whose handler crashed.

    ``code`` is HTTP/2's, of the reset; INTERNAL_ERROR as a rule.
    """

    def __init__(self, why: str, code: int = 2) -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: status, body, content-type (None: the header is absent) and further headers.

    ``sized`` tells whether a content-length goes along.
    """

    status: int = HTTPStatus.OK
    body: bytes = b""
    content_type: str | None = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = ()
    sized: bool = True


def data_answer(data: object) -> Answer:
    """Status 200 with ``{"data": data}``."""
    text = json.dumps({"data": data}, ensure_ascii=False, separators=(",", ":"))
    return Answer(body=text.encode())


def refusal_answer(refusal: Refusal) -> Answer:
    """The error answer that a refusal becomes."""
    headers = (DELETE_COOKIE,) if refusal.status == HTTPStatus.UNAUTHORIZED else ()
    return Answer(refusal.status, refusal.text.encode(), refusal.content_type, headers)


def bad_request(text: str) -> Refusal:
    """Status 400, which is what a PBS answers to nearly everything that is wrong."""
    return Refusal(HTTPStatus.BAD_REQUEST, text)


def not_found(text: str) -> Refusal:
    """Status 404."""
    return Refusal(HTTPStatus.NOT_FOUND, text)


def os_refusal(error: OSError, context: str = "") -> Refusal:
    """Status 400 with the operating system's reason, written as a real server writes it."""
    reason = f"{error.strerror or error} (os error {error.errno})"
    return bad_request(f"{context} - {reason}" if context else reason)
