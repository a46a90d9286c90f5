"""What the codes of ``csrc/pbs_error.h`` mean in Python: one place turns each into an exception."""

from __future__ import annotations

import enum
import os
from typing import TYPE_CHECKING, Final

from pbs_push.errors import (
    ConnectError,
    FormatError,
    PbsPushError,
    ProtocolError,
    SourceError,
    os_reason,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Status(enum.IntEnum):
    """The members of ``enum pbs_status`` but PBS_OK; a test compares the two."""

    NOMEM = -1
    INVALID = -2
    IO = -3
    NOT_FOUND = -4
    TRUNCATED = -5
    MAGIC = -6
    LENGTH = -7
    CRC = -8
    TOO_LARGE = -9
    EMPTY = -10
    ORDER = -11
    SHRUNK = -12
    NOT_REGULAR = -13
    CRYPT = -14
    PROTOCOL = -15
    FLOW = -16
    CLOSED = -17
    CHUNK_SIZE = -18
    FULL = -19


REASONS: Final[Mapping[Status, str]] = {
    Status.NOMEM: "out of memory",
    Status.INVALID: "an argument is invalid",
    Status.IO: "input/output error",
    Status.NOT_FOUND: "no such file",
    Status.TRUNCATED: "it is truncated: shorter than its header",
    Status.MAGIC: "it does not begin with a known magic number",
    Status.LENGTH: "its length is not what its header says",
    Status.CRC: "its CRC-32 does not match: bytes were damaged",
    Status.TOO_LARGE: "it is larger than the format allows",
    Status.EMPTY: "it is empty",
    Status.ORDER: "end offsets do not increase",
    Status.SHRUNK: "it shrank or became unreadable while it was read",
    Status.NOT_REGULAR: "it is not a regular file",
    Status.CRYPT: "it is encrypted where plain was expected, or the reverse",
    Status.PROTOCOL: "the peer broke the protocol",
    Status.FLOW: "flow control was broken",
    Status.CLOSED: "the connection is closed",
    Status.CHUNK_SIZE: "its chunk size is not a power of two",
    Status.FULL: "a table is full; close indexes that are no longer needed",
}

FIXED_CLASSES: Final[Mapping[Status, type[Exception]]] = {
    Status.NOMEM: MemoryError,
    Status.INVALID: ValueError,
    Status.PROTOCOL: ProtocolError,
    Status.FLOW: ProtocolError,
    Status.CLOSED: ConnectError,
    Status.FULL: PbsPushError,
}
"""Codes whose exception does not depend on what was read; the others say that bytes are damaged."""


_NO_SUCH_FILE: Final = (Status.NOT_FOUND, Status.NOT_REGULAR)


def native_error(
    code: int,
    doing: str,
    *,
    damaged: Callable[[str], Exception] = FormatError,
    pos: int | None = None,
    errno: int = 0,
) -> Exception:
    """The exception for a negative ``code`` of a C function.

    ``doing`` says what failed on what (``cannot open index 'x.fidx'``) and begins the message.
    ``damaged`` makes the exception for codes that mean damaged bytes. ``pos`` is the number of the
    failing entry, ``errno`` the system's reason where the code is ``IO``; 0 says it is unknown.
    Raises ValueError for a code that no C function returns.
    """
    status = Status(code)
    reason = REASONS[status]
    if status is Status.IO and errno:
        reason = os_reason(OSError(errno, os.strerror(errno)))
    place = "" if pos is None else f" at entry {pos}"
    message = f"{doing}: {reason}{place}"
    if status is Status.IO:
        return SourceError(message, errno=errno or None)
    if status in _NO_SUCH_FILE:
        return SourceError(message, damage=True)
    return FIXED_CLASSES.get(status, damaged)(message)
