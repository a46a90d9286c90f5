"""How much a JSON text may hold before it is parsed: values take far more memory than their text.

``{},`` is three bytes and becomes 72; compressed by hundreds, a short answer would fill a machine.
"""

from __future__ import annotations


def check_bounds(text: bytes, *, values: int, containers: int) -> None:
    """Raise ValueError where there are more values, or more objects and lists, than allowed.

    Counted are commas and brackets, in texts as well, so that a text may hold fewer.
    """
    opened = text.count(b"{") + text.count(b"[")
    if opened > containers:
        raise ValueError(f"more than {containers} objects and lists")
    if opened + text.count(b",") > values:
        raise ValueError(f"more than {values} values")
