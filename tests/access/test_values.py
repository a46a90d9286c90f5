"""Booleans, numbers, sizes and property strings."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.access.values import parse_flag, parse_number, parse_property_string, parse_size
from pbs_push.errors import ConfigError


@pytest.mark.parametrize("text", ["1", "on", "yes", "true", "TRUE", "On"])
def test_true(text: str) -> None:
    assert parse_flag(text) is True


@pytest.mark.parametrize("text", ["0", "off", "no", "false", "False", "NO"])
def test_false(text: str) -> None:
    assert parse_flag(text) is False


@pytest.mark.parametrize("text", ["", "2", "y", "true ", "enabled"])
def test_no_flag(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"'{text}'")):
        parse_flag(text)


def test_numbers() -> None:
    assert parse_number("0") == 0
    assert parse_number("007") == 7
    assert parse_number(str(2**64 - 1)) == 2**64 - 1


@pytest.mark.parametrize("text", ["", "-1", "+1", "1_0", "1.0", " 1", "٣", str(2**64), "9" * 9999])
def test_no_number(text: str) -> None:
    with pytest.raises(ConfigError, match="not a whole number"):
        parse_number(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("4096 B", 4096),
        ("10MiB", 10 << 20),
        ("10 MiB", 10 << 20),
        ("20 Mi", 20 << 20),
        ("20m", 20_000_000),
        ("1.5 GB", 1_500_000_000),
        ("1.5 MB", 1_500_000),
        ("1.5KiB", 1536),
        ("3 tb", 3 * 10**12),
        ("2 PIB", 2 << 50),
        (".5K", 500),
        ("1.K", 1000),
        ("0.3", 0),
        ("1.0000000001 KB", 1000),
        ("0", 0),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "B", "-1", "1 iB", "1e6", "1 EB", "1,5 MB", "10 M B", "KB", ".", "16777216 TiB"]
)
def test_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"'{text}'")):
        parse_size(text)


@given(
    st.integers(0, 2**40), st.sampled_from("kKmMgG"), st.booleans(), st.booleans(), st.booleans()
)
def test_size_of_a_whole_number(
    number: int, unit: str, binary: bool, byte: bool, blank: bool
) -> None:
    text = f"{number}{' ' if blank else ''}{unit}{'i' if binary else ''}{'B' if byte else ''}"
    exponent = "kmg".index(unit.lower()) + 1
    expected = number * (1024 if binary else 1000) ** exponent
    if expected < 2**64:
        assert parse_size(text) == expected


@pytest.mark.parametrize(
    ("text", "default_key", "properties"),
    [
        ("type=s3,bucket=b", None, {"type": "s3", "bucket": "b"}),
        ("offline", "type", {"type": "offline"}),
        ("offline,message=gone fishing", "type", {"type": "offline", "message": "gone fishing"}),
        ("type=offline", "type", {"type": "offline"}),
        ('offline,message="a, b \\"c\\" \\\\ \\n=d"', "type",
         {"type": "offline", "message": 'a, b "c" \\ \n=d'}),
        ('"off,line",k=v', "type", {"type": "off,line", "k": "v"}),
        ("a=b=c", None, {"a": "b=c"}),
        ("a=", None, {"a": ""}),
        ('a=x"y', None, {"a": 'x"y'}),
    ],
)  # fmt: skip
def test_property_strings(text: str, default_key: str | None, properties: dict[str, str]) -> None:
    assert parse_property_string(text, default_key) == properties


@pytest.mark.parametrize(
    "text",
    [
        "",
        "offline",
        "a=b,c",
        "a=b,",
        'a="b",',
        ",a=b",
        "=b",
        "a=1,a=2",
        'a="b',
        'a="b"c',
        'a="b\\x"',
        'a="\\"',
    ],
)
def test_no_property_string(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_property_string(text)


def test_only_the_first_value_may_lack_its_key() -> None:
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        parse_property_string("k=v,offline", "type")


@given(st.text(), st.sampled_from([None, "type"]))
def test_any_text_is_read_or_a_config_error(text: str, default_key: str | None) -> None:
    for parse in (parse_flag, parse_number, parse_size):
        with contextlib.suppress(ConfigError):
            parse(text)
    with contextlib.suppress(ConfigError):
        parse_property_string(text, default_key)


def _rendered(value: str) -> str:
    if "," not in value and not value.startswith('"'):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


@given(st.dictionaries(st.from_regex(r"[a-z-]+", fullmatch=True), st.text(), min_size=1))
def test_property_strings_round_trip(properties: dict[str, str]) -> None:
    text = ",".join(f"{key}={_rendered(value)}" for key, value in properties.items())
    assert parse_property_string(text) == properties
    assert parse_property_string(text, "type") == properties
