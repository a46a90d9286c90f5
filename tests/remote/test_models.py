"""Answers of a server, recorded or golden, as values; and answers that are none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pbs_push.errors import ProtocolError
from pbs_push.names import AuthId
from pbs_push.remote.features import Features, Version
from pbs_push.remote.models import (
    DeleteStatistics,
    GroupItem,
    NamespaceItem,
    SnapshotItem,
    VersionAnswer,
)
from pbs_push.remote.reading import read

GROUP: dict[str, Any] = {"backup-type": "vm", "backup-id": "100"}


def recorded(reference_dir: Path, prefix: str) -> Iterator[tuple[str, Any]]:
    """The recorded answers to GETs of this kind that were a success."""
    for path in sorted((reference_dir / "rest").glob(f"{prefix}*.json")):
        record = json.loads(path.read_text())
        if record["status"] == 200 and record["request"]["method"] == "GET":
            yield path.name, record["body"]["data"]


def test_recorded_groups(reference_dir: Path) -> None:
    total = 0
    for name, data in recorded(reference_dir, "groups-"):
        for item, raw in zip(read(list[GroupItem], data, "groups"), data, strict=True):
            total += 1
            assert (item.group.backup_type, item.group.backup_id) == (
                raw["backup-type"],
                raw["backup-id"],
            ), name
            assert item.last_backup == raw["last-backup"]
            assert item.backup_count == raw["backup-count"]
            assert item.owner == AuthId.parse(raw["owner"])
            assert item.comment == raw.get("comment")
            finished = "index.json.blob" in raw["files"]
            assert item.newest_finished == (raw["last-backup"] if finished else None)
    assert total > 10


def test_recorded_snapshots(reference_dir: Path) -> None:
    sizes = set()
    for _name, data in recorded(reference_dir, "snapshots-"):
        for item, raw in zip(read(list[SnapshotItem], data, "snapshots"), data, strict=True):
            sizes.add(item.size is None)
            assert item.snapshot.backup_time == raw["backup-time"]
            assert item.protected == raw["protected"]
            assert item.has_file("index.json.blob") == (
                "index.json.blob" in [file["filename"] for file in raw["files"]]
            )
            assert not item.has_file("other")
            state = raw.get("verification", {}).get("state")
            assert (item.verification and item.verification.state) == state
            assert item.fingerprint == raw.get("fingerprint")
    assert sizes == {True, False}  # an unfinished one is among them


def test_recorded_namespaces_and_version(reference_dir: Path) -> None:
    for _name, data in recorded(reference_dir, "ns-list-"):
        assert [item.ns for item in read(list[NamespaceItem], data, "namespaces")] == [
            raw["ns"] for raw in data
        ]
    ((_, data),) = [
        pair for pair in recorded(reference_dir, "version") if pair[0] == "version.json"
    ]
    answer = read(VersionAnswer, data, "version")
    features = Features.of(Version.parse(answer.version, answer.release))
    assert features.version == Version(4, 2, 3)


def test_a_group_with_just_an_unfinished_snapshot_has_none() -> None:
    item = read(GroupItem, {**GROUP, "last-backup": 5, "files": ["a.fidx"]}, "groups")
    assert item.newest_finished is None
    item = read(GroupItem, {**GROUP, "last-backup": 5, "files": ["index.json.blob"]}, "groups")
    assert item.newest_finished == 5
    assert read(GroupItem, GROUP, "groups").newest_finished is None


@pytest.mark.parametrize("owner", [None, "", "nobody", "@", "a b@pam", 7])
def test_an_owner_that_is_no_auth_id_owns_nothing(owner: object) -> None:
    assert read(GroupItem, {**GROUP, "owner": owner}, "groups").owner is None


@pytest.mark.parametrize(
    "change",
    [
        {"backup-type": None},
        {"backup-id": 7},
        {"last-backup": "soon"},
        {"last-backup": None},
        {"files": "index.json.blob"},
        {"files": [1]},
        {"comment": {}},
    ],
)
def test_odd_groups_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match=r"^groups: the answer cannot be understood \("):
        read(GroupItem, {**GROUP, **change}, "groups")


def test_delete_statistics_count_from_nothing() -> None:
    assert read(DeleteStatistics, {}, "deleting") == DeleteStatistics()
    data = {"removed-groups": 1, "protected-snapshots": 2}
    counted = read(DeleteStatistics, data, "deleting")
    assert (counted.removed_groups, counted.protected_snapshots) == (1, 2)
