"""The values that stand behind a key in a file of PBS: booleans, numbers, sizes, property strings.

Each function takes the text and raises ConfigError, without file and line: the caller knows them.
"""

from __future__ import annotations

import re
from datetime import datetime
from fractions import Fraction
from typing import Final

from pbs_push.errors import ConfigError

MAX_WORKER_THREADS: Final = 64
"""Groups that are pushed at once at most; PBS takes 32."""

_FLAGS: Final = {
    **dict.fromkeys(("1", "on", "yes", "true"), True),
    **dict.fromkeys(("0", "off", "no", "false"), False),
}
_NUMBER = re.compile(r"\d{1,20}", re.ASCII)
_SIZE = re.compile(
    r"(?P<number>\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})[ \t]*(?:(?P<unit>[kmgtp])(?P<binary>i)?)?b?",
    re.ASCII | re.IGNORECASE,
)
_UNITS: Final = "kmgtp"
_DURATION = re.compile(r"(?P<number>\d{1,9}(?:\.\d{1,6})?)[ \t]*(?P<unit>[smhd])?", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LIMIT: Final = 1 << 64
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\n])*)"(?=,|\Z)')
_ESCAPED = re.compile(r'\\(["\\n])')


def parse_flag(text: str) -> bool:
    """A boolean: 1, on, yes, true or 0, off, no, false, in any case."""
    flag = _FLAGS.get(text.lower())
    if flag is None:
        raise ConfigError(f"'{text}' is neither true (1, on, yes) nor false (0, off, no)")
    return flag


def parse_number(text: str) -> int:
    """A decimal number of digits alone, below 2^64."""
    if _NUMBER.fullmatch(text) is None or int(text) >= _LIMIT:
        raise ConfigError(f"'{text}' is not a whole number")
    return int(text)


def parse_size(text: str) -> int:
    """Bytes of a size such as ``10MiB``, ``1.5 GB``, ``20 Mi`` or ``4096``, rounded down.

    K, M, G, T, P are powers of 1000, with an ``i`` of 1024; ``B`` may be left out
    (protocol/access.md, "Sizes").
    """
    matched = _SIZE.fullmatch(text.strip(" \t"))
    if matched is None:
        raise ConfigError(
            f"'{text}' is not a size: write bytes, or a number with a unit as in 10MiB"
        )
    base = 1024 if matched["binary"] else 1000
    exponent = _UNITS.index(matched["unit"].lower()) + 1 if matched["unit"] else 0
    size = int(Fraction(matched["number"]) * base**exponent)
    if size >= _LIMIT:
        raise ConfigError(f"size '{text}' is too large: it must be below 2^64 bytes")
    return size


def parse_duration(text: str) -> float:
    """Seconds of a time span such as ``90``, ``90s``, ``5m``, ``1.5h`` or ``2d``."""
    matched = _DURATION.fullmatch(text.strip(" \t"))
    if matched is None:
        raise ConfigError(
            f"'{text}' is not a time span: write seconds, or a number with s, m, h or d"
        )
    return float(matched["number"]) * _SECONDS[matched["unit"] or "s"]


def parse_moment(text: str) -> int:
    """Epoch seconds of a day or a moment: ``2026-11-01``, ``2026-11-01T08:00``, with ``Z`` or an
    offset or else in this host's time zone. Raises ConfigError."""
    try:
        moment = datetime.fromisoformat(text)
        return int(moment.astimezone().timestamp())
    except (ValueError, OverflowError, OSError):
        raise ConfigError(
            f"'{text}' is no day and no moment: write 2026-11-01, or 2026-11-01T08:00:00Z"
        ) from None


def parse_property_string(text: str, default_key: str | None = None) -> dict[str, str]:
    r"""A property string ``key=value,…`` as a dictionary in the text's order.

    See protocol/access.md, "Property strings".

    ``default_key`` is the key that the first value may leave out. A value in double quotes may
    hold commas, and ``\"``, ``\\``, ``\n`` for a quote, a backslash, a newline.
    """
    properties: dict[str, str] = {}
    rest: str | None = text
    while rest is not None:
        key, value, rest = _take_property(rest, default_key if not properties else None)
        if key in properties:
            raise ConfigError(f"property '{key}' stands twice in '{text}'")
        properties[key] = value
    return properties


def _take_property(text: str, default_key: str | None) -> tuple[str, str, str | None]:
    """Key and value of the first property, and what follows its comma (None: nothing)."""
    key, equals, behind = text.partition("=")
    if not equals or "," in key or '"' in key:
        if default_key is None:
            raise ConfigError(f"'{text}': expected KEY=VALUE, separated by commas")
        key, behind = default_key, text
    if not key:
        raise ConfigError(f"'{text}': a property without a key")
    if not behind.startswith('"'):
        value, comma, rest = behind.partition(",")
        return key, value, rest if comma else None
    quoted = _QUOTED.match(behind)
    if quoted is None:
        raise ConfigError(f"property '{key}': the quoted value does not end, or not at a comma")
    rest = behind[quoted.end() :]
    return key, _unescape(quoted[1]), rest[1:] if rest else None


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], text)
