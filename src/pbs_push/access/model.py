"""The base of the models that give a section its meaning, and the types of their fields.

A model lists the keys that matter here; other keys are kept in ``unknown``, for files of PBS may
hold keys of newer versions (protocol/access.md, "Section config"). A field named
``remote_store`` is the key ``remote-store``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError
from pydantic_core import CoreSchema, core_schema

from pbs_push.access.sections import Section
from pbs_push.access.values import parse_flag, parse_number, parse_size
from pbs_push.errors import ConfigError
from pbs_push.names import AuthId, Namespace, format_fingerprint, is_safe_id, parse_fingerprint

_T = TypeVar("_T")


def from_text(parse: Callable[[str], _T]) -> Callable[[Any], Any]:
    """A validator that reads texts with ``parse`` and leaves all else to the field's type.

    pydantic collects ValueErrors only, so a ConfigError of ``parse`` becomes one.
    """

    def validate(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return parse(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    return validate


@dataclass(frozen=True, slots=True)
class FromText(Generic[_T]):
    """Marks a field of our own type ``kind``: read with ``parse``, dumped with ``render``."""

    kind: type[_T]
    parse: Callable[[str], _T]
    render: Callable[[_T], str] = str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(self.render),
        )

    def _validate(self, value: Any) -> _T:
        made = from_text(self.parse)(value)
        if not isinstance(made, self.kind):
            raise ValueError(f"expected {self.kind.__name__} or text")  # noqa: TRY004
        return made


def _safe_id(text: str) -> str:
    if not is_safe_id(text):
        raise ConfigError(f"'{text}' is not a valid name: A-Z a-z 0-9 . _ - only, no . or - first")
    return text


Flag = Annotated[bool, BeforeValidator(from_text(parse_flag))]
Number = Annotated[int, BeforeValidator(from_text(parse_number))]
Size = Annotated[int, BeforeValidator(from_text(parse_size))]
"""In bytes."""

SafeId = Annotated[str, BeforeValidator(from_text(_safe_id))]
NamespaceField = Annotated[Namespace, FromText(Namespace, Namespace.parse)]
AuthIdField = Annotated[AuthId, FromText(AuthId, AuthId.parse)]
FingerprintField = Annotated[bytes, FromText(bytes, parse_fingerprint, format_fingerprint)]


class ConfigModel(BaseModel):
    """A section with its values read: frozen, made by ``from_section`` or with keywords."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    LISTS: ClassVar[frozenset[str]] = frozenset()
    """The fields whose key may stand several times."""

    name: str
    """The section's id."""

    unknown: tuple[tuple[str, str], ...] = Field(default=(), repr=False)
    """Key and value of the lines with other keys, in order. Maybe secret: not in the repr."""

    _section: Section | None = PrivateAttr(default=None)

    def place(self, key: str | None = None) -> str:
        """``file:line: `` of the section, or of a key of it; for messages, where it is from one."""
        if self._section is None:
            return ""
        line = self._section.line if key is None else self._section.line_of(key)
        return f"{self._section.origin}:{line}: "

    @classmethod
    def from_section(cls, section: Section) -> Self:
        """Read a section's values.

        Raises ConfigError, naming file and line, for a value that is not what its key asks for, a
        missing key, and a known key that repeats without being a list.
        """
        fields = {field.replace("_", "-"): field for field in cls.model_fields}
        del fields["name"], fields["unknown"]
        data: dict[str, Any] = {"name": section.id}
        for key, field in fields.items():
            value = section.values(key) if field in cls.LISTS else section.single(key)
            if value is not None:
                data[field] = value
        data["unknown"] = tuple(
            (entry.key, entry.value) for entry in section.entries if entry.key not in fields
        )
        try:
            made = cls(**data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
        else:
            made._section = section
            return made
        # Raised out here: pydantic's error holds the values, which may be secrets.
        key = str(first["loc"][0]).replace("_", "-") if first["loc"] else ""
        if first["type"] == "missing":
            raise section.error(f"key '{key}' is missing")
        reason = str(first.get("ctx", {}).get("error", first["msg"]))
        raise section.error(f"key '{key}': {reason}" if key else reason, line=section.line_of(key))
