"""JSON as PBS's own parser takes it, from bytes that nobody vouches for.

Python's parser is more generous than the one in PBS: it takes NaN, infinite and endless numbers,
half surrogate pairs and names that stand twice. A document that PBS refuses, or reads differently,
must not be passed on as if it were sound, so all of these are refused here.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterable
from typing import Final, NoReturn, TypeAlias

from pbs_push.formats.json_bounds import check_bounds

JsonValue: TypeAlias = bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"] | None

MAX_DEPTH: Final = 127
"""Levels of nesting that PBS's parser (serde_json) takes."""

_SURROGATE: Final = re.compile(rb"\\u[dD]")
"""Where half a surrogate pair may stand: as bytes it is not UTF-8."""
MAX_VALUES: Final = 500_000
MAX_CONTAINERS: Final = 100_000
"""Of a manifest: of 256 archives some 1,500 and 260, and notes may hold commas."""
_INT_RANGE: Final = range(-(1 << 63), 1 << 64)


def load_object(text: bytes) -> dict[str, JsonValue]:
    """Parse the JSON object in ``text`` (UTF-8).

    Raises ValueError, and nothing else, with the reason in words; the caller knows what the text
    was to be and makes its own error of it.
    """
    check_bounds(text, values=MAX_VALUES, containers=MAX_CONTAINERS)
    try:
        if text.startswith(codecs.BOM_UTF8):
            raise ValueError("not JSON: it begins with a BOM")
        value = _DECODER.decode(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the one type promised to callers
    # Most documents are seen at a glance to be too short of brackets, and to escape nothing odd.
    if text.count(b"{") + text.count(b"[") > MAX_DEPTH or _SURROGATE.search(text):
        _check_depth(value)
    return value


def _object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number is out of range")
    return value


def _int(digits: str) -> int:
    if len(digits) > len(str(-(1 << 64))) or (value := int(digits)) not in _INT_RANGE:
        raise ValueError("an integer does not fit 64 bits")
    return value


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a text holds half a surrogate pair") from None


def _check_depth(value: JsonValue) -> None:
    """Count the levels of objects and lists, and look at every text, without recursion."""
    level: list[JsonValue] = [[value]]
    for _ in range(MAX_DEPTH + 1):
        below: list[JsonValue] = []
        for container in level:
            for item in _items(container):
                if isinstance(item, dict | list):
                    below.append(item)
                    for name in item if isinstance(item, dict) else ():
                        _check_text(name)
                elif isinstance(item, str):
                    _check_text(item)
        if not below:
            return
        level = below
    raise ValueError(f"nested more than {MAX_DEPTH} levels deep")


def _items(container: JsonValue) -> Iterable[JsonValue]:
    if isinstance(container, dict):
        return container.values()
    return container if isinstance(container, list) else ()


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_constant=_refuse_constant,
    parse_float=_float,
    parse_int=_int,
)
