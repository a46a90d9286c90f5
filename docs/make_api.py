"""Writes docs/api.md from the docstrings of the public names: python docs/make_api.py.

A test compares the two, so that the page is always what ``help()`` tells.
"""

from __future__ import annotations

import enum
import inspect
import typing
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path

import pbs_push
from pbs_push import errors, testing

PAGE = Path(__file__).with_name("api.md")

_HEAD = """# API reference

All that `import pbs_push` offers, and `pbs_push.testing`, as `help()` tells it.
[library.md](library.md) shows how to use it. Whatever is not named here may change at any time.

This page is made from the docstrings by `python docs/make_api.py`.
"""

_OF_THE_PACKAGE = {
    f"Target.{name}"
    for name in ("connect", "begin_backup", "start_backup", "begin_reading", "transport")
}
"""What rooms of the package call of each other: not for users, and may change at any time."""


def page() -> str:
    """The whole page."""
    names = [name for name in pbs_push.__all__ if not name.startswith("__")]
    found = {name: getattr(pbs_push, name) for name in names}
    faults = {name: one for name, one in found.items() if _is_error(one)}
    functions = {name: one for name, one in found.items() if inspect.isroutine(one)}
    types = {name: one for name, one in found.items() if name not in {*faults, *functions}}
    parts = [_HEAD, "## Functions\n"]
    parts += [_function(name, one, "### ") for name, one in functions.items()]
    parts.append("## Classes\n")
    parts += [_class(name, one) for name, one in types.items()]
    parts.append("## For tests: pbs_push.testing\n")
    for name in testing.__all__:
        one = getattr(testing, name)
        parts.append(_class(name, one) if inspect.isclass(one) else _function(name, one, "### "))
    parts.append("## Exceptions\n\nEach is a kind of the one that it is indented under.\n")
    parts.append("\n".join(_error_tree(errors.PbsPushError)) + "\n")
    parts.append("\n`pbs_push.__version__` is the version, a text.\n")
    return "\n".join(parts)


def _is_error(one: object) -> bool:
    return inspect.isclass(one) and issubclass(one, Exception)


def _error_tree(cls: type[Exception], depth: int = 0) -> Iterator[str]:
    text = " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())
    yield f"{'  ' * depth}- `{cls.__name__}`: {text}"
    kinds = [kind for kind in cls.__subclasses__() if kind.__name__ in pbs_push.__all__]
    for kind in sorted(kinds, key=lambda one: one.__name__):
        yield from _error_tree(kind, depth + 1)


def _class(name: str, cls: object) -> str:
    if not inspect.isclass(cls):  # an alias of types
        members = ", ".join(
            f"`{one.__name__}`" for one in typing.get_args(cls) if inspect.isclass(one)
        )
        return f"### {name}\n\n{f'Any of {members}.' if members else f'`{cls}`'}\n"
    lines = [f"### {name}\n", _doc(cls)]
    if issubclass(cls, enum.Enum):
        lines += [f"- `{member.name}`: {member.value}" for member in cls]
        lines.append("")
    elif is_dataclass(cls):
        fields = ", ".join(f"`{one}`" for one in inspect.signature(cls).parameters)
        lines.append(f"Fields: {fields}.\n")
    for member, value in vars(cls).items():
        if f"{name}.{member}" in _OF_THE_PACKAGE:
            continue
        if member.startswith("_") or (issubclass(cls, enum.Enum) and member in cls.__members__):
            continue
        lines += _member(name, member, value)
    return "\n".join(lines)


def _member(owner: str, name: str, value: object) -> Iterator[str]:
    if isinstance(value, classmethod | staticmethod):
        value = value.__func__
    if inspect.isroutine(value):
        yield _function(f"{owner}.{name}", value, "#### ")
    elif isinstance(value, property) or inspect.isgetsetdescriptor(value):
        yield f"#### {owner}.{name}\n\n{_doc(value)}"


def _function(name: str, function: object, mark: str) -> str:
    return f"{mark}{name}{_signature(function)}\n\n{_doc(function)}"


def _signature(function: object) -> str:
    assert callable(function)
    parameters = [
        one.replace(annotation=inspect.Parameter.empty)
        for one in inspect.signature(function).parameters.values()
        if one.name not in ("self", "cls")
    ]
    return str(inspect.Signature(parameters))


def _doc(one: object) -> str:
    text = inspect.getdoc(one)
    assert text, f"{one} has no docstring"
    return text.replace("``", "`") + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
