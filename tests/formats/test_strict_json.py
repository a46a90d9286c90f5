"""JSON from nobody knows where: a value that PBS would read alike, or a ValueError."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.formats.strict_json import MAX_DEPTH, load_object


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for text in (data, b'{"a":' + data + b"}"):
        try:
            assert isinstance(load_object(text), dict)
        except ValueError:
            continue


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON_VALUES))
def test_round_trip(value: dict[str, object]) -> None:
    assert load_object(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[]", "not a JSON object"),
        (b"", "Expecting value"),
        (b'{"a": 1} x', "Extra data"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1e999}', "out of range"),
        (b'{"a": 18446744073709551616}', "64 bits"),
        (b'{"a": -9223372036854775809}', "64 bits"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "64 bits"),
        (b'{"a": 1, "a": 1}', "twice"),
        (b'{"b": [{"a": 1, "a": 1}]}', "twice"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'{"a": ["\\udc00\\ud800"]}', "surrogate"),
        (b'{"a": "\xff"}', "UTF-8 at byte 7"),
        (b"\xef\xbb\xbf{}", "BOM"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b'{"a": "\n"}', "control character"),
        (b'{"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", "levels deep"),
        (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "levels deep"),
    ],
)
def test_refused(text: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load_object(text)


def nested(levels: int) -> bytes:
    """``levels`` objects and lists around a number, the outermost an object."""
    return b'{"a":' + b"[" * (levels - 1) + b"1" + b"]" * (levels - 1) + b"}"


def test_depth_limit_is_that_of_pbs() -> None:
    assert load_object(nested(MAX_DEPTH))
    with pytest.raises(ValueError, match="levels deep"):
        load_object(nested(MAX_DEPTH + 1))
