"""Text of a target made fit to be shown: the one place where it becomes ours.

A target may send back what it was sent, wherever text can stand: a status line, a header, an error,
the name of a namespace, the last words of a connection. Whoever shows such a text asks ``Words`` of
that target, which knows what was ever sent to it.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus, unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SHOWN: Final = 500
"""Characters of a target's text that are shown."""
_LOOKED_AT: Final = 8192
"""Bytes of it that are looked at."""
LEAST_SECRET: Final = 5
"""Characters of a secret, at least; shorter ones are not looked for, since much would match."""
PART: Final = 12
"""So many characters of a secret in a row are not shown either: a text may be cut anywhere."""
_MADE: Final = 32
_HIDDEN: Final = "***"


def shown_reason(text: bytes | str, most: int = MAX_SHOWN) -> str:
    """A text of others for people: one line, no control characters, of limited length."""
    if isinstance(text, bytes):
        text = text[: 4 * _LOOKED_AT].decode("utf-8", "replace")
    text = text[:_LOOKED_AT].strip()
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= most else line[:most] + "…"


class Words:
    """Shows what a target says, without the secrets that it was sent. Safe for threads."""

    def __init__(self, *secrets: str) -> None:
        self._forms: frozenset[str] = frozenset()
        self._parts: frozenset[str] = frozenset()
        self._made: frozenset[str] = frozenset()
        self.learn(*secrets)

    def __repr__(self) -> str:
        return "<Words>"

    def learn(self, *secrets: str) -> None:
        """From now on, these are not shown: in the forms in which they are sent, or come back."""
        forms = {form.lower() for secret in secrets for form in _forms(secret)}
        forms = {form for form in forms if len(form) >= LEAST_SECRET} - self._forms
        if forms:
            parts = {one[at : at + PART] for one in forms for at in range(len(one) - PART + 1)}
            self._forms, self._parts = self._forms | forms, self._parts | parts
            self._made = frozenset(form for form in self._forms if len(form) >= _MADE)

    def betrayed_by(self, name: str) -> bool:
        """Whether a name that a target gives something holds a token's secret, or a ticket.

        These are long, and made by a machine: nobody's group is called so.
        """
        low = name.lower()
        return len(low) >= _MADE and any(form in low for form in self._made)

    def hidden(self, text: str) -> str:
        """``text`` without these secrets, as a whole or in part."""
        if not self._forms:
            return text
        low = text.lower()
        if len(low) != len(text):  # a few letters have a longer small form
            text = low
        marked = bytearray(len(low))
        for at in range(len(low) - PART + 1):
            if low[at : at + PART] in self._parts:
                marked[at : at + PART] = b"\1" * PART
        for form in self._forms:
            at = low.find(form) if len(form) < PART else -1
            while at >= 0:
                marked[at : at + len(form)] = b"\1" * len(form)
                at = low.find(form, at + 1)
        return _without(text, marked)

    def shown(self, text: bytes | str, most: int = MAX_SHOWN) -> str:
        """``text`` as one line, of at most ``most`` characters, without these secrets."""
        return shown_reason(self.hidden(shown_reason(text, _LOOKED_AT)), most)


def _forms(secret: str) -> Iterator[str]:
    """How a secret may stand in a text."""
    for plain in {secret, unquote(secret)}:
        yield from (plain, quote(plain), quote(plain, safe=""), quote_plus(plain))
        yield json.dumps(plain)[1:-1]
        raw = plain.encode("utf-8", "surrogatepass")
        yield raw.hex()
        for before in range(3):  # in the middle of something else, too
            coded = base64.b64encode(bytes(before) + raw).decode("ascii")
            whole = coded[(0, 2, 3)[before] : len(coded) // 4 * 4 - 4 or None]
            yield from (whole, whole.replace("+", "-").replace("/", "_"))


def _without(text: str, marked: bytearray) -> str:
    """``text`` with each run of marked characters hidden."""
    shown, at = [], 0
    while (begin := marked.find(1, at)) >= 0:
        end = marked.find(0, begin)
        shown += [text[at:begin], _HIDDEN]
        at = len(text) if end < 0 else end
    return "".join([*shown, text[at:]])
