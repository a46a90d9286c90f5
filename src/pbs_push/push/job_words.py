"""Events as texts of JSON and back: what a job tells its push, without pickle on the wire.

Values of a closed list of classes can be told, and nothing else: reading a text makes such values,
whoever wrote it.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from typing import Any, Final, get_args

from pbs_push import errors
from pbs_push.errors import PbsPushError, ProtocolError
from pbs_push.names import Group, Namespace, Snapshot
from pbs_push.push.document import Json
from pbs_push.push.events import Event
from pbs_push.push.outcome import Outcome, Result, Skip, TransferStats
from pbs_push.source.items import SourceSnapshot

MAX_VALUES: Final = 2000
"""Of one text; that of an outcome with an error has some fifty."""

_VALUES: Final[dict[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (Group, Namespace, Outcome, Snapshot, SourceSnapshot, TransferStats)
} | {kind.__name__: kind for kind in get_args(Event)}
_ENUMS: Final[dict[str, type[enum.Enum]]] = {kind.__name__: kind for kind in (Result, Skip)}
_ERRORS: Final[dict[str, type[PbsPushError]]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, PbsPushError)
}
_PLAIN: Final = (str, int, float, bool, type(None))


def text_of(message: Json) -> bytes:
    """A message, whose values are plain ones or ``packed``, as a text."""
    return json.dumps(message, separators=(",", ":")).encode("ascii")


def message_of(text: bytes) -> Json:
    """A message. Raises ProtocolError for what is none."""
    if text.count(b",") + text.count(b"[") + text.count(b"{") > MAX_VALUES:
        raise ProtocolError(f"a message of a job has more than {MAX_VALUES} values")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a message of a job cannot be read: {error}") from None
    if not isinstance(message, dict):
        raise ProtocolError("a message of a job is no JSON object")
    return message


def packed(value: Any) -> Any:
    """A value of the list as plain ones. Raises TypeError for any other."""
    if isinstance(value, enum.Enum):
        return ["enum", type(value).__name__, value.name]
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, tuple):
        return ["tuple", *map(packed, value)]
    if isinstance(value, PbsPushError):
        return _packed_error(value)
    name = type(value).__name__
    if _VALUES.get(name) is not type(value):
        raise TypeError(f"a job cannot tell a value of type {name}")
    return [name, *(packed(getattr(value, one.name)) for one in dataclasses.fields(value))]


def _packed_error(error: PbsPushError) -> Any:
    """Of a kind that only its module knows, the one that it is a kind of."""
    name = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _ERRORS)
    facts = {key: packed(fact) for key, fact in vars(error).items() if _can_be_told(fact)}
    return ["error", name, str(error), facts]


def _can_be_told(fact: object) -> bool:
    return isinstance(fact, (*_PLAIN, tuple)) and not isinstance(fact, enum.Enum)


def unpacked(value: Any) -> Any:
    """What was packed. Raises ProtocolError for what was not."""
    try:
        return _unpacked(value)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ProtocolError(f"a job tells what cannot be: {error}") from None


def _unpacked(value: Any) -> Any:
    if not isinstance(value, list):
        if not isinstance(value, _PLAIN):
            raise TypeError("an object stands where a value should be")
        return value
    kind, *rest = value
    if kind == "tuple":
        return tuple(map(_unpacked, rest))
    if kind == "enum":
        name, member = rest
        return _ENUMS[name][member]
    if kind == "error":
        name, text, facts = rest
        return _error(_ERRORS[name], str(text), facts)
    return _VALUES[kind](*map(_unpacked, rest))


def _error(kind: type[PbsPushError], text: str, facts: dict[str, Any]) -> PbsPushError:
    """An error with the text that it had; what it says of itself besides are facts, no methods."""
    error = kind.__new__(kind, text)
    for name, fact in facts.items():
        if not callable(getattr(kind, name, None)) and not name.startswith("_"):
            setattr(error, name, _unpacked(fact))
    return error
