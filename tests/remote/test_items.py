"""Long lists are read object by object, whatever the pieces that their text comes in."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbs_push.errors import InvalidName, ProtocolError
from pbs_push.names import MANIFEST_NAME, AuthId, Group
from pbs_push.remote import groups as groups_module
from pbs_push.remote import items as items_module
from pbs_push.remote import rest as rest_module
from pbs_push.remote.groups import GroupTable
from pbs_push.remote.items import NotAList, items_of
from pbs_push.remote.models import GroupItem
from pbs_push.remote.reading import read_items

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=4), max_size=8)


def cut(text: bytes, size: int) -> list[bytes]:
    return [text[at : at + size] for at in range(0, len(text), size)]


@settings(max_examples=40)
@given(OBJECTS, st.integers(1, 50), st.booleans(), st.sampled_from([None, 2]))
def test_what_is_read_is_what_json_reads(
    objects: list[dict[str, Any]], size: int, ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps({"data": objects, "total": 3}, ensure_ascii=ascii_only, indent=indent)
    assert list(items_of(cut(text.encode(), size))) == objects


@pytest.mark.parametrize("blank", ["\x0b", "\x0c", "\u00a0", "\u2003"])
@pytest.mark.parametrize("at", range(5))
def test_what_is_blank_elsewhere_is_not_in_json(blank: str, at: int) -> None:
    parts = ["", "{", '"data"', ":", "[", "{}]}"]
    text = "".join((*parts[: at + 1], blank, *parts[at + 1 :])).encode()
    with pytest.raises((ValueError, NotAList)):
        list(items_of([text]))


@settings(max_examples=60)
@given(OBJECTS, st.data())
def test_whatever_is_cut_or_changed_gives_a_value_or_a_value_error(
    objects: list[dict[str, Any]], data: st.DataObject
) -> None:
    text = bytearray(json.dumps({"data": objects}).encode())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        found = list(items_of(cut(bytes(text), data.draw(st.integers(1, 9)))))
    except (ValueError, NotAList):
        return
    assert found == json.loads(text)["data"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"data":[{}', "has no end"),
        (b'{"data":[{},', "has no end"),
        (b'{"data":[{} {}]}', "not JSON"),
        (b'{"data":[{},]}', "not an object"),
        (b'{"data":[7]}', "not an object"),
        (b'{"data":[{}]', "behind the list"),
        (b'{"data":[{}]}x', "behind the list"),
        (b'{"data":[{}]' + b" " * 9000 + b"}", "behind the list"),
        (b'{"data":[{"a":\xff}]}', "utf-8"),
        (b'{"data":[' + b'{"a":' * 100_000, "too large|has no end"),
        (b'{"data":[{"a":"' + b"x" * (3 << 20) + b'"}]}', "too large"),
        (b'{"data":[' + b"{}," * 30 + b"{}]}", "more than 20 objects"),
    ],
)
def test_what_is_no_list(text: bytes, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(items_module, "MAX_ITEMS", 20)
    with pytest.raises(ValueError, match=message):
        list(items_of(cut(text, 65_536)))


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"data":null}', b'{"total":1,"data":[]}', b"<html>"]
)
def test_what_does_not_begin_as_one_is_given_back(text: bytes) -> None:
    pieces = iter(cut(text + b" " * 1000, 7))
    with pytest.raises(NotAList) as caught:
        list(items_of(pieces))
    assert caught.value.begun + b"".join(pieces) == text + b" " * 1000


def test_small_pieces_do_not_make_it_read_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    class Decoder(json.JSONDecoder):
        def raw_decode(self, s: str, idx: int = 0) -> Any:
            nonlocal looks
            looks += 1
            return super().raw_decode(s, idx)

    monkeypatch.setattr(items_module.json, "JSONDecoder", Decoder)
    text = b'{"data":[{"a":"' + b"x" * 500_000 + b'"}]}'
    assert len(list(items_of(cut(text, 1)))) == 1
    assert looks < 10


def listing(number: int) -> Iterator[bytes]:
    """A server's answer of so many groups, in pieces."""
    yield b'{"data":['
    for at in range(number):
        item = {
            "backup-count": 12,
            "backup-id": str(100 + at),
            "backup-type": "vm",
            "files": ["qemu-server.conf.blob", "drive-scsi0.img.fidx", MANIFEST_NAME],
            "last-backup": 1_795_000_000 + at,
            "owner": "push@pbs!job",
        }
        yield (b"," if at else b"") + json.dumps(item).encode()
    yield b"]}"


def test_a_group_at_the_target_takes_less_than_200_bytes() -> None:
    """So that a million of them, the most there may be, leave room within 300 MiB."""
    number = 10_000
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        table = GroupTable.of(read_items(GroupItem, items_of(listing(number)), "groups"))
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table) == number
    assert (now - before) / number < 220
    assert (peak - before) / number < 240, "nor while they are read"


def test_a_table_of_groups_is_what_was_put_in() -> None:
    owner = AuthId.parse("a@pbs")
    items = [
        GroupItem("vm", "1", 5, 2, (MANIFEST_NAME,), owner, "notes"),
        GroupItem("ct", "1", 1 << 70, -(1 << 70), (), None),
        GroupItem("tape", "1"),
        GroupItem("vm", "1", 7, 3, (), owner),
    ]
    table = GroupTable.of(items)
    assert set(table) == {Group("vm", "1"), Group("ct", "1")}
    assert len(table) == 2
    assert table[Group("vm", "1")] == items[3]
    assert table[Group("ct", "1")].last_backup == (1 << 63) - 1
    assert Group("host", "1") not in table
    with pytest.raises(KeyError):
        table[Group("vm", "2")]
    with pytest.raises(InvalidName):
        GroupTable().add(items[2])


def test_texts_of_groups_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups_module, "MAX_TEXT", 1000)
    many = (GroupItem("vm", str(at), comment="x" * 90) for at in range(100))
    with pytest.raises(ProtocolError, match="more text than can be kept"):
        GroupTable.of(many)
    same = (GroupItem("vm", str(at), files=("a" * 90,)) for at in range(100))
    assert len(GroupTable.of(same)) == 100


def test_the_ratio_of_compression_is_bounded() -> None:
    bomb = zlib.compress(bytes(8 << 20))
    with pytest.raises(ValueError, match="more than 250 times as long"):
        list(rest_module._decoded("deflate", [bomb], 1 << 30))
    honest = b"".join(listing(12_000))
    packed = cut(zlib.compress(honest), 65_536)
    assert b"".join(rest_module._decoded("deflate", packed, 1 << 30)) == honest
