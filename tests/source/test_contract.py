"""A datastore of other making: we find in it what PBS's API says, and what its files hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pbs_push.cli.listing_json import json_text
from pbs_push.cli.listing_text import text_lines
from pbs_push.names import Namespace
from pbs_push.source import Datastore

Json = dict[str, Any]


@pytest.fixture(scope="module")
def expected(reference_dir: Path) -> Json:
    content: Json = json.loads((reference_dir / "expected.json").read_text())
    return content


@pytest.fixture(scope="module")
def listed(reference_datastore: Path) -> Json:
    content: Json = json.loads("".join(json_text(Datastore(reference_datastore))))
    return content


def common(wanted: Json, found: Json, *without: str) -> tuple[Json, Json]:
    """The keys that both have and that are not compared elsewhere, as two objects."""
    names = (wanted.keys() & found.keys()) - {*without}
    return {name: wanted[name] for name in names}, {name: found[name] for name in names}


def groups(content: Json) -> list[tuple[str, Json]]:
    return [
        (namespace["ns"], group)
        for namespace in content["namespaces"]
        for group in namespace["groups"]
    ]


def snapshots(content: Json) -> list[tuple[str, Json]]:
    return [
        (f"{ns}:{group['group']}", snapshot)
        for ns, group in groups(content)
        for snapshot in group["snapshots"]
    ]


def test_namespaces_and_groups(expected: Json, listed: Json) -> None:
    assert listed["datastore"] == expected["datastore"]
    assert [item["ns"] for item in listed["namespaces"]] == [
        item["ns"] for item in expected["namespaces"]
    ]
    assert len(groups(listed)) == len(groups(expected))
    for (ns, wanted), (found_ns, found) in zip(groups(expected), groups(listed), strict=True):
        left, right = common(wanted, found, "snapshots")
        assert (ns, left) == (found_ns, right)
        assert left.keys() == wanted.keys() - {"snapshots", "notes-first-line"}


def test_snapshots(expected: Json, listed: Json) -> None:
    pairs = zip(snapshots(expected), snapshots(listed), strict=True)
    for (place, wanted), (found_place, found) in pairs:
        left, right = common(wanted, found, "files", "client-log")
        assert (place, left) == (found_place, right)
        assert left.keys() >= {"backup-time", "dir", "in-progress", "protected"}
        assert wanted["api-size"] == found.get("size")
        assert "error" not in found
        if not wanted["in-progress"]:
            assert left.keys() >= {"comment", "notes", "verification", "fingerprint"}
            assert wanted["manifest"]["signature"] == found["signature"]
            assert wanted.get("client-log", {}).get("size") == found.get("client-log", {}).get(
                "size"
            )


def test_files_and_indexes(expected: Json, listed: Json) -> None:
    indexes, finished = 0, 0
    pairs = zip(snapshots(expected), snapshots(listed), strict=True)
    for (place, wanted_snapshot), (_, found_snapshot) in pairs:
        if wanted_snapshot["in-progress"]:
            names = sorted(file["filename"] for file in wanted_snapshot["api-files"])
            assert [file["filename"] for file in found_snapshot["files"]] == names
            continue
        finished += 1
        files = zip(wanted_snapshot["files"], found_snapshot["files"], strict=True)
        for wanted, found in files:
            left, right = common(wanted, found, "index")
            assert (place, left) == (place, right)
            assert left.keys() == {"filename", "crypt-mode", "size", "csum"}
            assert ("index" in wanted) == ("index" in found)
            if "index" in wanted:
                left, right = common(wanted["index"], found["index"])
                assert (place, left) == (place, right)
                assert left.keys() >= {"kind", "size", "entries", "uuid", "ctime", "csum"}
                indexes += 1
    assert indexes > finished, "some have more than one"
    assert {"golden": 15, "fixsrc": 30}[expected["datastore"]] < indexes


def test_index_views(expected: Json, reference_datastore: Path) -> None:
    """Digests and offsets of each index, as an independent parser found them."""
    datastore = Datastore(reference_datastore)
    for ns, group in groups(expected):
        namespace = Namespace.parse(ns)
        (found,) = (
            item for item in datastore.groups(namespace) if str(item.group) == group["group"]
        )
        pairs = zip(group["snapshots"], datastore.snapshots(found).snapshots, strict=True)
        for wanted, item in pairs:
            if not item.finished:
                continue
            with datastore.open_snapshot(item) as opened:
                for file in wanted["files"]:
                    if "index" in file:
                        _compare_views(file["index"], opened.open_index(file["filename"]))


def _compare_views(wanted: Json, index: Any) -> None:
    with index:
        digests = [bytes(row).hex() for row in index.digests]
        assert (digests[0], digests[-1]) == (wanted["first-digest"], wanted["last-digest"])
        assert len(set(digests)) == wanted["distinct-digests"]
        assert index.end_offsets[-1] == wanted["size"]
        if "end-offsets" in wanted:
            assert index.end_offsets.tolist() == wanted["end-offsets"]
        assert index.header_csum.hex() == wanted["csum"]


def test_every_chunk_can_be_read(expected: Json, reference_datastore: Path) -> None:
    datastore = Datastore(reference_datastore)
    for digest_hex, about in expected["chunks"]["list"].items():
        assert len(datastore.read_chunk(bytes.fromhex(digest_hex))) == about["encoded-size"]


def test_the_lines_say_what_is_odd(expected: Json, reference_datastore: Path) -> None:
    lines = list(text_lines(Datastore(reference_datastore)))
    dead = [snapshot["dir"] for _, snapshot in snapshots(expected) if snapshot["in-progress"]]
    assert dead
    assert {f"    {time}  in progress or dead" for time in dead} <= set(lines)
    assert not any("UNREADABLE" in line or "DAMAGED" in line for line in lines)
