"""What the answers of a target mean: which errors they are (protocol/rest.md, "Statuses").

Statuses decide where they can. Nearly all that a server refuses is a 400, though: what tells a
reason to wait, or to leave a group alone, is its text alone. A text that is not known is an
ordinary refusal.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any, Final

from pbs_push.errors import (
    AuthError,
    BusyError,
    DeniedError,
    NoSpaceError,
    NotOwnerError,
    ProtocolError,
    StatusError,
)
from pbs_push.formats.json_bounds import check_bounds
from pbs_push.remote.words import Words

NO_SECRETS: Final = Words()

_REFUSALS: Final[tuple[tuple[re.Pattern[str], type[StatusError]], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        ("unable to acquire .*lock", BusyError),
        ("while destroying group '[^']*'$", BusyError),  # it says no more of the group's lock
        ("owner check failed", NotOwnerError),
        ("^no permissions on /", DeniedError),  # of the reader protocol
        ("no space left on device|enospc", NoSpaceError),
    )
)
"""What the text of a 400 holds, and the error that this is."""


MAX_VALUES: Final = 1_000_000
MAX_CONTAINERS: Final = 200_000
"""Of an answer that is read as a whole; lists are not (``remote.items``)."""


def raise_for_status(
    request: str, status: int, body: bytes, words: Words = NO_SECRETS, location: str = ""
) -> None:
    """Raise the error for an HTTP status that is not a success; ``request`` says what was asked.

    ``words`` shows what the target says. ``location`` is where a redirect leads to.
    """
    if 200 <= status < 300:  # noqa: PLR2004  (of each answer: members of an enum cost)
        return
    reason = words.shown(body)
    if status == HTTPStatus.UNAUTHORIZED:
        raise AuthError(f"{request}: the target refuses the credentials ({reason or status})")
    if status == HTTPStatus.FORBIDDEN:
        raise DeniedError(request, status, reason)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST and location:
        place = words.shown(location)
        raise StatusError(
            request, status, f"it redirects to {place}, which is not followed; give that address"
        )
    raise _refusal(status, reason)(request, status, reason)


def _refusal(status: int, reason: str) -> type[StatusError]:
    for pattern, kind in _REFUSALS if status == HTTPStatus.BAD_REQUEST else ():
        if pattern.search(reason):
            return kind
    return StatusError


def parse_data(request: str, body: bytes, words: Words = NO_SECRETS) -> Any:
    """The ``data`` of a JSON answer. Raises ProtocolError where it is not one."""
    try:
        check_bounds(body, values=MAX_VALUES, containers=MAX_CONTAINERS)
        answer = json.loads(body)
        return answer["data"]
    except (ValueError, KeyError, TypeError, RecursionError):
        shown = words.shown(body, 200) or "an empty answer"
        raise ProtocolError(
            f"{request}: the answer is not that of a Proxmox Backup Server: {shown}"
        ) from None
