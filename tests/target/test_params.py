"""The rules for parameters, as texts and as JSON."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.target.answers import Refusal
from pbs_push.target.params import (
    BOOLEAN,
    NAMESPACE,
    SAFE_ID,
    Array,
    Integer,
    Params,
    Schema,
    optional,
    read_parameters,
    read_query,
    required,
)

SCHEMA: Schema = {
    "id": required(SAFE_ID),
    "ns": optional(NAMESPACE),
    "n": optional(Integer(1, 9)),
    "flag": optional(BOOLEAN),
    "list": optional(Array(Integer(minimum=0))),
}
JSON = "application/json"


def read(text: str, content_type: str | None = JSON, query: str = "") -> Params:
    return read_parameters(SCHEMA, query, content_type, text.encode(), body_limit=1000)


def test_values() -> None:
    params = read_query(SCHEMA, "id=a&ns=&n=3&flag=ON&_dc=1")
    assert (params.text("id"), params.text("ns", "x"), params.integer("n")) == ("a", "", 3)
    assert params.boolean("flag")
    params = read('{"id": "a", "list": [1, 2], "flag": false}')
    assert params.integers("list") == [1, 2]
    assert "ns" not in params
    assert not params.boolean("flag", default=True)


def test_form_and_query_are_joined_and_json_stands_alone() -> None:
    assert read("n=2", None, "id=a").integer("n") == 2
    assert read('{"id": "b"}', "application/json;charset=UTF-8", "id=a&x=y").text("id") == "b"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "missing"),
        ("id=a&x=1", "additional"),
        ("id=a&id=a", "duplicate"),
        ("id=", "regex"),
        ("id=a%0A", "regex"),
        ("id=a&ns=/a", "regex"),
        ("id=a&ns=a/", "regex"),
        ("id=a&ns=" + "/".join("abcdefgh"), "regex"),
        ("id=a&ns=" + "a" * 257, "256 characters"),
        ("id=a&n=0", "minimum value of 1 (got 0)"),
        ("id=a&n=10", "maximum value of 9 (got 10)"),
        ("id=a&n=1.0", "invalid digit"),
        ("id=a&n=" + "9" * 5000, "too large"),
        ("id=a&flag=maybe", "boolean"),
        ("id=%ff", "decode"),
    ],
)
def test_wrong_texts(query: str, reason: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_query(SCHEMA, query)
    assert refused.value.status == 400
    assert reason in refused.value.text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "JSON"),
        ("[]", "Expected object"),
        ('{"id": 1}', "Expected string"),
        ('{"id": "a", "n": "1"}', "Expected integer"),
        ('{"id": "a", "n": true}', "Expected integer"),
        ('{"id": "a", "n": 1e0}', "Expected integer"),
        ('{"id": "a", "flag": 1}', "Expected boolean"),
        ('{"id": "a", "list": {}}', "Expected array"),
        ('{"id": "a", "list": [0, -1]}', "'list/[1]': value must have a minimum"),
        ('{"id": "a", "id": "b"}', "duplicate"),
        ('{"id": "a", "x": 1}', "additional"),
        ('{"id": "a", "n": NaN}', "NaN"),
        ('{"id": "a"}'.ljust(1000), "too large"),
        ("[" * 900, "JSON"),
    ],
)
def test_wrong_json(text: str, reason: str) -> None:
    with pytest.raises(Refusal) as refused:
        read(text)
    assert reason in refused.value.text


def test_all_that_is_wrong_is_told() -> None:
    with pytest.raises(Refusal) as refused:
        read_query(SCHEMA, "n=0&x=1")
    assert refused.value.text.startswith("parameter verification failed:\n- ")
    assert refused.value.text.count("\n- ") == 3


@given(st.text(), st.sampled_from([JSON, None, "text/plain", "application/x-www-form-urlencoded"]))
def test_any_body_gives_parameters_or_a_refusal(text: str, content_type: str | None) -> None:
    with contextlib.suppress(Refusal):
        params = read_parameters(SCHEMA, "", content_type, text.encode(), body_limit=1 << 20)
        assert "id" in params
