"""The listing, as JSON and as lines."""

from __future__ import annotations

import json
import os
import re
import tracemalloc
from pathlib import Path
from typing import Any

from pbs_push.cli.listing_json import json_text
from pbs_push.cli.listing_text import text_lines
from pbs_push.names import Namespace
from pbs_push.source import Datastore
from pbs_push.source.listing import ListingOptions

from .small_store import SECOND, SmallStore


def listed(datastore: Datastore, options: ListingOptions | None = None) -> dict[str, Any]:
    content: dict[str, Any] = json.loads("".join(json_text(datastore, options or ListingOptions())))
    return content


def test_json(store: SmallStore) -> None:
    (store.path / "ns" / "empty").mkdir(parents=True)
    content = listed(store.open())
    assert content["datastore"] == "store1"
    root, empty = content["namespaces"]
    assert empty == {"ns": "empty", "groups": []}
    (group,) = root["groups"]
    first, second = group.pop("snapshots")
    assert group == {
        "group": "vm/100",
        "owner": "root@pam",
        "backup-count": 2,
        "last-backup": SECOND.backup_time,
        "comment": "notes ä\n",
        "notes": "notes ä\nmore",
    }
    assert first["protected"]
    assert "client-log" not in first
    assert second["client-log"]["size"] == 16
    assert second["files"][0]["index"]["csum"] == second["files"][0]["csum"]
    assert second["files"][0]["index"]["chunk-size"] == 4 << 20
    assert "chunk-size" not in second["files"][1]["index"]
    assert "index" not in second["files"][2]


def test_indexes_need_not_be_read(store: SmallStore) -> None:
    content = listed(store.open(), ListingOptions(read_indexes=False))
    assert "index" not in content["namespaces"][0]["groups"][0]["snapshots"][0]["files"][0]


def test_anchor_and_depth(store: SmallStore) -> None:
    store.write("a/b", "ct/1")
    content = listed(store.open(), ListingOptions(Namespace.parse("a"), 0))
    assert [namespace["ns"] for namespace in content["namespaces"]] == ["a"]


def test_odd_things_are_told(store: SmallStore) -> None:
    group = store.path / "vm" / "100"
    (group / "2026-13-01T00:00:00Z").mkdir()
    (group / "owner").unlink()
    os.truncate(store.folder / "disk.img.fidx", 10)
    (group / SECOND.time_text / "index.json.blob").write_bytes(b"junk")
    (group / "2026-06-01T00:00:00Z").mkdir()
    (group / "2026-06-01T00:00:00Z" / "disk.img.fidx").touch()
    (found,) = listed(store.open())["namespaces"][0]["groups"]
    assert found["owner"] is None
    assert found["odd"][0]["dir"] == "2026-13-01T00:00:00Z"
    first, second, third = found["snapshots"]
    assert "disk.img.fidx" in first["files"][0]["error"]
    assert "manifest" in second["error"]
    assert second["files"] == []
    assert third["in-progress"]
    assert third["files"] == [{"filename": "disk.img.fidx"}]
    lines = "\n".join(text_lines(store.open()))
    for words in (
        "vm/100  NO READABLE OWNER",
        "2026-13-01T00:00:00Z  NOT USABLE",
        "disk.img.fidx  4.9 KiB  UNREADABLE",
        "2026-05-29T20:00:00Z  UNREADABLE",
        "2026-06-01T00:00:00Z  in progress or dead",
    ):
        assert words in lines


def test_lines(store: SmallStore) -> None:
    (store.path / "vm" / "100" / "notes").write_text("bell \a and escape \x1b[31m, \u2028 no\nx")
    store.write("a", "ct/1", "ops@pbs!tok")
    lines = [re.sub(r"[0-9.]+ (B|KiB)", "SIZE", line) for line in text_lines(store.open())]
    assert lines == [
        "root namespace",
        '  vm/100  root@pam  "bell  and escape [31m,  no"',
        "    2026-05-28T20:00:00Z  SIZE, protected",
        "      disk.img.fidx  SIZE  1 chunk",
        "      root.pxar.didx  SIZE  2 chunks",
        "      some.conf.blob  SIZE",
        "    2026-05-29T20:00:00Z  SIZE, client log",
        "      disk.img.fidx  SIZE  1 chunk",
        "      root.pxar.didx  SIZE  2 chunks",
        "      some.conf.blob  SIZE",
        "namespace a",
        "  ct/1  ops@pbs!tok",
        "    2026-05-28T20:00:00Z  SIZE",
        "      disk.img.fidx  SIZE  1 chunk",
        "      root.pxar.didx  SIZE  2 chunks",
        "      some.conf.blob  SIZE",
    ]


def test_notes_that_are_not_utf_8_are_shown_as_far_as_they_are(store: SmallStore) -> None:
    (store.path / "vm" / "100" / "notes").write_bytes(b"caf\xe9 au lait\n")
    (group,) = listed(store.open())["namespaces"][0]["groups"]
    assert group["notes"] == "caf\ufffd au lait\n"
    assert "error" not in group
    assert len(group["snapshots"]) == 2
    assert any(line.endswith('root@pam  "caf\ufffd au lait"') for line in text_lines(store.open()))


def test_notes_that_cannot_be_read_do_not_end_the_list(store: SmallStore) -> None:
    os.truncate(store.path / "vm" / "100" / "notes", 2 << 20)
    store.write("", "vm/101")
    first, second = listed(store.open())["namespaces"][0]["groups"]
    assert "vm/100" in first["error"]
    assert (first["comment"], len(first["snapshots"])) == (None, 2)
    assert "error" not in second
    lines = list(text_lines(store.open()))
    assert lines[2].startswith("    NOTES UNREADABLE: read source group vm/100: 2097152 bytes")
    assert any("vm/101" in line for line in lines)


def test_a_csum_that_differs_shows(store: SmallStore) -> None:
    path = store.folder / "disk.img.fidx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert any("DAMAGED" in line for line in text_lines(store.open()))


def test_memory_does_not_grow_with_what_the_groups_hold(tmp_path: Path) -> None:
    """Neither text is ever held as a whole: just the names of one namespace's groups."""
    (tmp_path / ".chunks").mkdir()
    for number in range(400):
        group = tmp_path / "vm" / str(number)
        group.mkdir(parents=True)
        (group / "owner").write_text("root@pam\n")
        (group / "notes").write_text("n" * 20_000)
    datastore = Datastore(tmp_path)
    tracemalloc.start()
    total = sum(len(piece) for piece in json_text(datastore))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total > 16_000_000
    assert peak < 1_500_000


def test_what_could_steer_a_terminal_is_escaped(store: SmallStore) -> None:
    """C1 controls, DEL, and what turns the direction of a line; a program reads the same text."""
    odd = "a\x1b\x7f\x9b\u202e\u2066z"
    (store.folder.parent / "notes").write_text(odd, encoding="utf-8")
    text = "".join(json_text(store.open()))
    assert all(0x20 <= ord(letter) < 0x7F or letter == "\n" for letter in text)
    assert json.loads(text)["namespaces"][0]["groups"][0]["notes"] == odd
