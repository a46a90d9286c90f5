"""Frames of HTTP/2 that a target sends and should not, or not so (RFC 9113)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

DATA: Final = 0
HEADERS: Final = 1
SETTINGS: Final = 4
PING: Final = 6
GOAWAY: Final = 7

_HEAD: Final = 9
_ACK: Final = 1
_END_STREAM: Final = 1
_HEADER_TABLE_SIZE: Final = 1
_MAX_STREAMS: Final = 3
_WINDOW: Final = 4
_LARGEST_FRAME: Final = 5


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    head = struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream)
    return head + payload


def settings(**values: int) -> bytes:
    names = {
        "table": _HEADER_TABLE_SIZE,
        "streams": _MAX_STREAMS,
        "window": _WINDOW,
        "frame_size": _LARGEST_FRAME,
    }
    return frame(
        SETTINGS, 0, 0, b"".join(struct.pack(">HI", names[name], n) for name, n in values.items())
    )


def goaway(last_stream: int, code: int, text: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", last_stream, code) + text)


def _frames(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and the whole frame."""
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 3], "big")
        kind, flags = data[at + 3], data[at + 4]
        stream = int.from_bytes(data[at + 5 : at + _HEAD], "big") & 0x7FFFFFFF
        yield kind, flags, stream, data[at : at + _HEAD + length]
        at += _HEAD + length


Change = Callable[[bytes], bytes]
"""What leaves instead of some frames."""


@dataclass
class Once:
    """Changes what leaves once it is ``armed``, a single time; ``then`` holds later changes."""

    change: Change
    later: list[Change] = field(default_factory=list)
    armed: bool = False
    struck: bool = False

    def __call__(self, data: bytes) -> bytes:
        if self.struck and self.later:
            return self.later.pop(0)(data)
        if not self.armed or self.struck or not data:
            return data
        changed = self.change(data)
        self.struck = changed != data
        return changed


def twice(data: bytes) -> bytes:
    """The first answer's frames come again."""
    answer = b""
    hit: int | None = None
    for kind, _flags, stream, whole in _frames(data):
        if hit is None and kind == HEADERS:
            hit = stream
        if stream == hit:
            answer += whole
    return data + answer


def flipped(data: bytes) -> bytes:
    """The length of the first frame is another."""
    return bytes((data[0] ^ 0x40,)) + data[1:]


def cut_short(data: bytes) -> bytes:
    """The last frame lacks its last byte, and the next one stands in its place."""
    return data[:-1] + frame(PING, 0, 0, bytes(8))


def end_missing(data: bytes) -> bytes:
    """The first answer ends before its body does."""
    out = b""
    for kind, flags, stream, whole in _frames(data):
        if kind == DATA and len(whole) > _HEAD + 1:
            out += frame(DATA, flags | _END_STREAM, stream, whole[_HEAD:-1])
        else:
            out += whole
    return out


def window_shut(data: bytes) -> bytes:
    """No stream may send a byte, until the window opens again."""
    return data + settings(window=0)


def window_opened(data: bytes) -> bytes:
    return data + settings(window=32 << 20)
