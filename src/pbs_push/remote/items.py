"""The objects of a long JSON list, one by one as its text comes (protocol/rest.md, "Group list").

A list of a million groups is some 200 MB of text, and would be 1.5 GB of dictionaries. So one
object is read after the other, and only what is made of it is kept.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_ITEMS: Final = 1_000_000
MAX_ITEM: Final = 1 << 20
"""Characters of one object: a snapshot of 10,000 files."""
_AT_ONCE: Final = 64 << 10
"""Characters that are waited for before it is looked for objects in them."""
_MAX_ENDING: Final = 4096
_LONGEST_BEGIN: Final = 64
_B = r"[ \t\r\n]*"
"""What JSON takes for blank (RFC 8259, 2): less than a regular expression does."""
_BEGIN = re.compile(rf'{_B}\{{{_B}"data"{_B}:{_B}\[{_B}')
_BLANK = re.compile(_B)


class NotAList(Exception):
    """The answer does not begin as ``{"data":[…]}``; ``begun`` is what was read of it."""

    def __init__(self, begun: bytes) -> None:
        super().__init__("not a list")
        self.begun = begun


def items_of(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The objects of ``{"data":[{…},{…}]}``. Raises NotAList before the first, and ValueError."""
    blocks = _Text(pieces)
    text = blocks.begun()
    at = _BEGIN.match(text).end()  # type: ignore[union-attr]  # begun has seen to it
    decode = json.JSONDecoder().raw_decode
    number = 0
    while True:
        at = _BLANK.match(text, at).end()  # type: ignore[union-attr]  # it may be empty
        if not number and text[at : at + 1] == "]":
            break
        if text[at : at + 1] not in ("{", ""):
            raise ValueError("the list holds something that is not an object")
        try:
            item, end = decode(text, at)
            if end - at > MAX_ITEM:
                raise _TooLong
            end = _BLANK.match(text, end).end()  # type: ignore[union-attr]
            following = text[end]
        except (ValueError, IndexError, RecursionError) as error:
            if isinstance(error, RecursionError | _TooLong) or len(text) - at > MAX_ITEM:
                raise ValueError("an object of the list is too large") from None
            text, at = blocks.more(text[at:]), 0  # its end has not come yet
            continue
        number += 1
        if number > MAX_ITEMS:
            raise ValueError(f"the list holds more than {MAX_ITEMS} objects")
        yield item
        at = end
        if following == "]":
            break
        if following != ",":
            raise ValueError("the list is not JSON")
        at += 1
    _check_ending(blocks.rest(text[at + 1 :]))


class _TooLong(ValueError):
    pass


class _Text:
    """UTF-8 text that comes in pieces, given out in blocks."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def begun(self) -> str:
        """The first block, from the begin on. Raises NotAList."""
        raw = b""
        for piece in self._pieces:
            raw += piece
            head = raw[:_LONGEST_BEGIN].decode("ascii", "replace")
            if _BEGIN.match(head):
                return self._decoder.decode(raw)
            if len(raw) >= _LONGEST_BEGIN:
                break
        raise NotAList(raw)

    def more(self, before: str) -> str:
        """``before``, with the next block behind it: twice as long, or by a block at least.

        Raises ValueError where nothing more comes.
        """
        parts, wanted = [before], max(_AT_ONCE, len(before))
        for piece in self._pieces:
            part = self._decoder.decode(piece)
            parts.append(part)
            wanted -= len(part)
            if wanted <= 0:
                break
        else:
            self._decoder.decode(b"", final=True)
            if len(parts) == 1:
                raise ValueError("the list has no end")
        return "".join(parts)

    def rest(self, before: str) -> str:
        """What is left, behind ``before``. Raises ValueError where that is too much."""
        for piece in self._pieces:
            before += self._decoder.decode(piece)
            if len(before) > _MAX_ENDING:
                break
        return before


def _check_ending(ending: str) -> None:
    """Raise ValueError unless this ends the object that began with the list."""
    problem = "what comes behind the list is not JSON"
    if len(ending) > _MAX_ENDING:
        raise ValueError(problem)
    try:
        json.loads('{"data":0' + ending)
    except (ValueError, RecursionError):
        raise ValueError(problem) from None
