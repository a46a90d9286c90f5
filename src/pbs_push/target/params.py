"""Strict checking of request parameters, for REST and for the backup protocol alike.

A table of rules for each call, and the two ways in which values arrive: as texts (query string,
form) and as JSON. Every breach is a 400 "parameter verification failed …"
(protocol/rest.md, "Parameters"; texts as in the
recordings).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import parse_qsl

from pbs_push.names import BACKUP_TYPES, MAX_NAMESPACE_DEPTH, MAX_NAMESPACE_LENGTH
from pbs_push.target.answers import Refusal, bad_request

_INT64: Final = 1 << 63
_INTEGER = re.compile(r"[+-]?[0-9]+")
_IGNORED: Final = "_dc"  # a browser's cache breaker, allowed everywhere
_TRUE: Final = frozenset({"1", "on", "yes", "true"})
_FALSE: Final = frozenset({"0", "off", "no", "false"})


class _Wrong(Exception):  # never leaves this module
    """Why a single value is wrong; ``where`` is the place within it, written ``/[0]``."""

    def __init__(self, reason: str, where: str = "") -> None:
        super().__init__(reason)
        self.where = where


@dataclass(frozen=True, slots=True)
class Text:
    """A text: pattern (whole match), length in bytes, or one of some words."""

    pattern: str | None = None
    min_length: int = 0
    max_length: int | None = None
    choices: tuple[str, ...] = ()

    def from_text(self, text: str) -> str:
        """Check ``text``."""
        try:
            length = len(text.encode())
        except UnicodeEncodeError:
            raise _Wrong("value is no valid unicode text") from None
        if length < self.min_length:
            raise _Wrong(f"value must be at least {self.min_length} characters long")
        if self.max_length is not None and length > self.max_length:
            raise _Wrong(f"value may only be {self.max_length} characters long")
        if self.choices and text not in self.choices:
            raise _Wrong(f"value '{text}' is not defined in the enumeration.")
        if self.pattern is not None and re.fullmatch(self.pattern, text, re.ASCII) is None:
            raise _Wrong("value does not match the regex pattern")
        return text

    def from_json(self, value: object) -> str:
        """Check a JSON value."""
        if not isinstance(value, str):
            raise _Wrong("Expected string value.")
        return self.from_text(value)


@dataclass(frozen=True, slots=True)
class Integer:
    """A signed 64-bit integer within bounds."""

    minimum: int = -_INT64
    maximum: int = _INT64 - 1

    def from_text(self, text: str) -> int:
        """Read and check ``text``."""
        if _INTEGER.fullmatch(text) is None:
            raise _Wrong("invalid digit found in string")
        if len(text) > len(str(_INT64)) or not -_INT64 <= int(text) < _INT64:
            raise _Wrong("number too large to fit in target type")
        return self._bounded(int(text))

    def from_json(self, value: object) -> int:
        """Check a JSON value."""
        if not isinstance(value, int) or isinstance(value, bool) or not -_INT64 <= value < _INT64:
            raise _Wrong("Expected integer value.")
        return self._bounded(value)

    def _bounded(self, value: int) -> int:
        if value < self.minimum:
            raise _Wrong(f"value must have a minimum value of {self.minimum} (got {value})")
        if value > self.maximum:
            raise _Wrong(f"value must have a maximum value of {self.maximum} (got {value})")
        return value


@dataclass(frozen=True, slots=True)
class Boolean:
    """A boolean: 1/on/yes/true, 0/off/no/false in texts, true and false in JSON."""

    def from_text(self, text: str) -> bool:
        """Read ``text``."""
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise _Wrong("Unable to parse boolean option.")

    def from_json(self, value: object) -> bool:
        """Check a JSON value."""
        if not isinstance(value, bool):
            raise _Wrong("Expected boolean value.")
        return value


@dataclass(frozen=True, slots=True)
class Array:
    """A list of texts or integers; as a text parameter it has exactly one element."""

    item: Text | Integer

    def from_text(self, text: str) -> list[str | int]:
        """Read the only element."""
        return [self.item.from_text(text)]

    def from_json(self, value: object) -> list[str | int]:
        """Check a JSON value; the position of a wrong element is in the message."""
        if type(value) is not list:  # an object is read into a kind of list, see _json_object
            raise _Wrong("Expected array value.")
        elements: list[str | int] = []
        for position, element in enumerate(value):
            try:
                elements.append(self.item.from_json(element))
            except _Wrong as wrong:
                raise _Wrong(str(wrong), f"/[{position}]") from None
        return elements


Rule = Text | Integer | Boolean | Array


@dataclass(frozen=True, slots=True)
class Parameter:
    """One entry of a call's table."""

    rule: Rule
    optional: bool = False


Schema = Mapping[str, Parameter]


def optional(rule: Rule) -> Parameter:
    """A parameter that may be left out."""
    return Parameter(rule, optional=True)


def required(rule: Rule) -> Parameter:
    """A parameter that must be given."""
    return Parameter(rule)


def without(schema: Schema, *names: str) -> Schema:
    """The same without some parameters: those that older servers do not know."""
    return {name: parameter for name, parameter in schema.items() if name not in names}


class Params:
    """The checked parameters of a request; each accessor knows its type."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, default: str = "") -> str:
        """A text, or ``default`` if it was left out."""
        return str(self._values.get(name, default))

    def integer(self, name: str, default: int = 0) -> int:
        """An integer, or ``default`` if it was left out."""
        value = self._values.get(name, default)
        return value if isinstance(value, int) else default

    def boolean(self, name: str, *, default: bool = False) -> bool:
        """A boolean, or ``default`` if it was left out."""
        return bool(self._values.get(name, default))

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        value = self._values[name]
        return value if isinstance(value, list) else []

    def integers(self, name: str) -> list[int]:
        """A list of integers."""
        value = self._values[name]
        return value if isinstance(value, list) else []


def read_query(schema: Schema, query: str) -> Params:
    """Parameters of a call whose body, if any, is data: only the query counts."""
    return _check_texts(schema, _pairs(query))


def read_parameters(
    schema: Schema,
    query: str,
    content_type: str | None,
    body: bytes | bytearray,
    *,
    body_limit: int,
) -> Params:
    """Parameters of a POST or PUT: by its content-type from a JSON body, or query and form.

    ``body`` may have been cut at ``body_limit`` bytes. Raises Refusal.
    """
    essence = (content_type or "").partition(";")[0].strip().lower()
    if essence not in {"", "application/json", "application/x-www-form-urlencoded"}:
        raise bad_request(f'unsupported content type Ok("{content_type}")')
    if len(body) >= body_limit:
        raise bad_request("Request body too large")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise bad_request(
            f"Request body not uft8: invalid utf-8 sequence of 1 bytes from index {error.start}"
        ) from None
    if essence == "application/json":
        return _check_json(schema, _json_object(text))
    return _check_texts(schema, _pairs(query) + _pairs(text))


def check_value(name: str, rule: Text, value: str) -> None:
    """Check a parameter that is part of the path. Raises Refusal."""
    try:
        rule.from_text(value)
    except _Wrong as error:
        raise _verification_failed({name: str(error)}) from None


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise bad_request(f"unable to decode parameters - {error}") from None


def _json_object(text: str) -> list[tuple[str, object]]:
    """The members of the JSON object in ``text``; a list, so that a name given twice shows."""

    class Members(list[tuple[str, object]]):
        """What an object is read into."""

    try:
        value = json.loads(text, object_pairs_hook=Members, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"unable to parse JSON - {error}") from None
    if not isinstance(value, Members):
        raise bad_request("parameter verification failed - Expected object")
    return value


def _no_constant(name: str) -> object:
    raise ValueError(f"'{name}' is not JSON")


def _check_texts(schema: Schema, pairs: list[tuple[str, str]]) -> Params:
    return _check(
        schema,
        [(name, partial(_from_text, text)) for name, text in pairs],
        unknown="schema does not allow additional properties.",
        missing="parameter is missing and it is not optional.",
    )


def _check_json(schema: Schema, members: list[tuple[str, object]]) -> Params:
    return _check(
        schema,
        [(name, partial(_from_json, value)) for name, value in members],
        unknown="schema does not allow additional properties",
        missing="property is missing and it is not optional",
    )


def _from_text(text: str, rule: Rule) -> object:
    return rule.from_text(text)


def _from_json(value: object, rule: Rule) -> object:
    return rule.from_json(value)


def _check(
    schema: Schema, given: list[tuple[str, Callable[[Rule], object]]], unknown: str, missing: str
) -> Params:
    """Check what was given, name by name, then that nothing is missing."""
    values: dict[str, object] = {}
    wrong: dict[str, str] = {}
    for name, read in given:
        parameter = schema.get(name)
        if parameter is None:
            if name != _IGNORED:
                wrong[name] = unknown
        elif name in values:
            wrong[name] = "duplicate parameter."
        else:
            try:
                values[name] = read(parameter.rule)
            except _Wrong as error:
                values[name] = None
                wrong[name + error.where] = str(error)
    for name, parameter in schema.items():
        if not parameter.optional and name not in values:
            wrong[name] = missing
    if wrong:
        raise _verification_failed(wrong)
    return Params(values)


def _verification_failed(wrong: Mapping[str, str]) -> Refusal:
    lines = [f"'{name}': {reason}" for name, reason in wrong.items()]
    if len(lines) == 1:
        return bad_request(f"parameter verification failed - {lines[0]}")
    return bad_request("parameter verification failed:\n- " + "\n- ".join(lines))


# The rules that more than one call has.

_SAFE: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
SAFE_ID: Final = Text(_SAFE)
STORE: Final = Text(_SAFE, min_length=3, max_length=32)
BACKUP_TYPE: Final = Text(choices=BACKUP_TYPES)
BACKUP_TIME: Final = Integer(minimum=1)
NAMESPACE: Final = Text(
    rf"(?:{_SAFE}(?:/{_SAFE}){{0,{MAX_NAMESPACE_DEPTH - 1}}})?", max_length=MAX_NAMESPACE_LENGTH
)
NAMESPACE_NAME: Final = Text(_SAFE, max_length=32)
DEPTH: Final = Integer(minimum=0, maximum=MAX_NAMESPACE_DEPTH)
DIGEST: Final = Text(r"[0-9a-f]{64}")
NOTES: Final = Text()
BOOLEAN: Final = Boolean()
USER_ID: Final = Text(r"[^\s:/\x00-\x1f\x7f@!]+(?:@[^\s:/\x00-\x1f\x7f@!]+)*@" + _SAFE)
WRITER_ID: Final = Integer(minimum=1, maximum=256)

GROUP_KEYS: Final[Schema] = {
    "ns": optional(NAMESPACE),
    "backup-type": required(BACKUP_TYPE),
    "backup-id": required(SAFE_ID),
}
SNAPSHOT_KEYS: Final[Schema] = {**GROUP_KEYS, "backup-time": required(BACKUP_TIME)}
