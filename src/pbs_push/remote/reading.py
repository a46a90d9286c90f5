"""Answers of the REST API, from JSON to the values of ``remote/models.py``.

pydantic decides what is one: what it converts, and what it says of one that is not. But importing
it takes a third of the CPU of a push that has nothing to do, and a server that is what it should be
sends exactly what the models ask for. That is taken as it is, and all else is left to pydantic.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from types import UnionType
from typing import Annotated, Any, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from pbs_push.errors import ProtocolError
from pbs_push.remote.models import Answer, key_of

T = TypeVar("T")
A = TypeVar("A", bound=Answer)

_Take: TypeAlias = Callable[[Any], Any]


class _Odd(Exception):
    """Not exactly what a model asks for, which does not mean that it is not one."""


def read(kind: type[T], data: Any, asked: str) -> T:
    """A value of a model, or a ``list[model]``. Raises ProtocolError, saying what was ``asked``."""
    hint: Any = kind
    try:
        made: T = _taker(hint)(data)
    except _Odd:
        return _validated(kind, data, asked)
    return made


def read_items(kind: type[A], items: Iterable[Any], asked: str) -> Iterator[A]:
    """A value of a model for each of ``items``, as it comes. Raises ProtocolError as ``read``."""
    hint: Any = kind
    take = _taker(hint)
    for number, data in enumerate(items):
        try:
            made: A = take(data)
        except _Odd:
            made = _validated(kind, data, asked, f"{number}.")
        yield made


@functools.cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter  # noqa: PLC0415

    return TypeAdapter(kind)


def _validated(kind: type[T], data: Any, asked: str, where: str = "") -> T:
    from pydantic import ValidationError  # noqa: PLC0415

    try:
        hint: Any = kind
        made: T = _adapter(hint).validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ProtocolError(
            f"{asked}: the answer cannot be understood ({where}{place or 'data'}: {first['msg']})"
        ) from None
    return made


@functools.cache
def _taker(hint: Any) -> _Take:
    """What takes exactly that which an annotation says, and raises _Odd for all else."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        take: _Take = arguments[1].read
    elif origin is UnionType:  # with None
        take = functools.partial(_optional, _taker(arguments[0]))
    elif origin in (list, tuple):
        take = functools.partial(_all, origin, _taker(arguments[0]))
    elif hint is str:
        take = _text
    elif isinstance(hint, type) and issubclass(hint, Answer):
        take = functools.partial(_object, hint, _fields_of(hint))
    else:
        take = functools.partial(_exactly, hint)
    return take


def _fields_of(kind: type[Answer]) -> dict[str, tuple[str, _Take]]:
    """The name and the taker of each field, by its key."""
    hints = get_type_hints(kind, include_extras=True)
    return {key_of(one.name): (one.name, _taker(hints[one.name])) for one in fields(kind)}


def _object(kind: type[Answer], takers: dict[str, tuple[str, _Take]], data: Any) -> Answer:
    if type(data) is not dict:
        raise _Odd
    values = {}
    for key, value in data.items():
        if key in takers:
            name, take = takers[key]
            values[name] = take(value)
        elif key_of(key) in takers:
            raise _Odd  # it goes by the field's name
    try:
        return kind(**values)
    except TypeError:  # something is missing
        raise _Odd from None


def _all(kind: Callable[[Any], Any], take: _Take, data: Any) -> Any:
    if type(data) is not list:
        raise _Odd
    return kind(map(take, data))


def _optional(take: _Take, value: Any) -> Any:
    return None if value is None else take(value)


def _exactly(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise _Odd
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise _Odd
    try:
        value.encode()
    except UnicodeEncodeError:  # half surrogate pairs pass Python's JSON
        raise _Odd from None
    return value
