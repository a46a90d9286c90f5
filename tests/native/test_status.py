"""Every code of the C enum is known in Python, under the same number."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pbs_push import errors
from pbs_push._native.status import REASONS, Status, native_error

HEADER = Path(__file__).resolve().parents[2] / "csrc" / "pbs_error.h"


def c_enum() -> dict[str, int]:
    found = re.findall(r"^\s*PBS_E_([A-Z0-9_]+)\s*=\s*(-\d+)\s*,", HEADER.read_text(), re.MULTILINE)
    return {name: int(number) for name, number in found}


def test_enums_are_equal() -> None:
    assert len(c_enum()) == HEADER.read_text().count("PBS_E_") - 1, "one is not parsed here"
    assert {status.name: status.value for status in Status} == c_enum()


def test_every_code_has_a_reason_of_its_own() -> None:
    assert set(REASONS) == set(Status)
    assert len(set(REASONS.values())) == len(Status)


@pytest.mark.parametrize("status", Status)
def test_every_code_becomes_an_exception_that_says_where(status: Status) -> None:
    error = native_error(status, "cannot do it to 'x'", damaged=errors.IndexFormatError, pos=7)
    assert isinstance(error, (errors.PbsPushError, MemoryError, ValueError))
    assert str(error) == f"cannot do it to 'x': {REASONS[status]} at entry 7"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (Status.NOMEM, MemoryError),
        (Status.INVALID, ValueError),
        (Status.NOT_FOUND, errors.SourceError),
        (Status.MAGIC, errors.BlobFormatError),
        (Status.CRC, errors.BlobFormatError),
        (Status.SHRUNK, errors.BlobFormatError),
        (Status.PROTOCOL, errors.ProtocolError),
        (Status.CLOSED, errors.ConnectError),
    ],
)
def test_the_class_tells_whose_fault_it_is(status: Status, kind: type[Exception]) -> None:
    assert type(native_error(status, "reading", damaged=errors.BlobFormatError)) is kind


def test_the_systems_reason_is_passed_on() -> None:
    assert str(native_error(Status.IO, "reading", errno=5)) == "reading: Input/output error"
    assert str(native_error(Status.IO, "reading")) == "reading: input/output error"


def test_unknown_codes_are_a_mistake_of_ours() -> None:
    for code in (0, 1, -1000):
        with pytest.raises(ValueError, match="not a valid Status"):
            native_error(code, "reading")
