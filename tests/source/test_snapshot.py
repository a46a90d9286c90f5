"""One snapshot, opened: its manifest against its folder, its archives, what may be wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pbs_push.errors import (
    BlobFormatError,
    IndexFormatError,
    ManifestError,
    SnapshotVanished,
    SourceError,
)
from pbs_push.formats.blob import MAX_PROTOCOL_BLOB, decode_blob, encode_blob
from pbs_push.formats.manifest import Manifest

from .small_store import FIRST, ROOT, SECOND, SmallStore, open_files

LABEL = "source snapshot vm/100/2026-05-28T20:00:00Z"


def rewrite_manifest(store: SmallStore, change: Callable[[dict[str, Any]], Any]) -> None:
    path = store.folder / "index.json.blob"
    fields = json.loads(decode_blob(path.read_bytes()))
    change(fields)
    path.write_bytes(encode_blob(json.dumps(fields).encode()))


def test_a_sound_snapshot(store: SmallStore) -> None:
    with store.open().open_snapshot(store.first()) as opened:
        manifest = opened.manifest
        assert manifest.snapshot == FIRST
        assert os.path.samestat(os.fstat(opened.directory_fd), store.folder.stat())
        for name in ("disk.img.fidx", "root.pxar.didx"):
            with opened.open_index(name) as index:
                file = manifest.file(name)
                assert file is not None
                assert (index.csum(), index.size) == (file.csum, file.size)
        blob = opened.read_blob("some.conf.blob")
        assert blob == (store.folder / "some.conf.blob").read_bytes()
        assert opened.size_of("some.conf.blob") == len(blob)
        assert opened.client_log() is None
        assert not opened.has("client.log.blob")
        assert opened.has("disk.img.fidx")


def test_the_client_log(store: SmallStore) -> None:
    second = store.open().snapshots(store.group()).snapshots[1]
    with store.open().open_snapshot(second) as opened:
        log = opened.client_log()
    assert log is not None
    assert decode_blob(log) == b"done"


def test_an_index_outlives_its_snapshot(store: SmallStore) -> None:
    with store.open().open_snapshot(store.first()) as opened:
        index = opened.open_index("disk.img.fidx")
    with index:
        assert len(index) == 1


def test_closing_releases_the_folder_once(store: SmallStore) -> None:
    opened = store.open().open_snapshot(store.first())
    opened.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened.directory_fd)
    opened.close()


def test_nothing_stays_open_after_an_error(store: SmallStore) -> None:
    item = store.first()
    (store.folder / "index.json.blob").write_bytes(b"")
    before = open_files()
    for _ in range(3):
        with pytest.raises(ManifestError):
            store.open().open_snapshot(item)
    assert open_files() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda top: top.update({"backup-type": "ct"}), "that of ct/100"),
        (lambda top: top.update({"backup-id": "101"}), "that of vm/101"),
        (lambda top: top.update({"backup-time": 1}), "1970-01-01T00:00:01Z"),
        (lambda top: top.update({"unprotected": [1]}), "neither an object nor null"),
        (lambda top: top["files"].append(dict(top["files"][0])), "named twice"),
        *(
            (lambda top, name=name: top["files"][0].update(filename=name), reason)
            for name, reason in (
                ("../../etc/passwd.blob", "not a valid file name"),
                ("/etc/passwd.blob", "not a valid file name"),
                ("..", "not a valid file name"),
                (".hidden.blob", "not a valid file name"),
                ("a\nb.blob", "not a valid file name"),
                ("a\x00.blob", "not a valid file name"),
                ("", "not a valid file name"),
                ("disk.img", "ends in none of"),
                ("disk.fidx.tmp", "ends in none of"),
                ("index.json.blob", "never listed"),
                ("client.log.blob", "never listed"),
            )
        ),
    ],
)
def test_manifests_that_do_not_fit_their_folder(
    store: SmallStore, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    item = store.first()
    rewrite_manifest(store, change)
    with pytest.raises(ManifestError, match=message) as caught:
        store.open().open_snapshot(item)
    assert str(caught.value).startswith(LABEL)
    assert "\n" not in str(caught.value)


def test_unprotected_may_be_null(store: SmallStore) -> None:
    rewrite_manifest(store, lambda top: top.update(unprotected=None))
    with store.open().open_snapshot(store.first()) as opened:
        assert opened.manifest.unprotected == {}


@pytest.mark.parametrize("data", [b"", b"x" * 100, encode_blob(b"{}"), encode_blob(b"[" * 9999)])
def test_manifests_that_are_none(store: SmallStore, data: bytes) -> None:
    (store.folder / "index.json.blob").write_bytes(data)
    with pytest.raises(ManifestError, match=LABEL):
        store.open().open_snapshot(store.first())


def test_a_manifest_longer_than_any(store: SmallStore) -> None:
    os.truncate(store.folder / "index.json.blob", MAX_PROTOCOL_BLOB + 1)
    with pytest.raises(SourceError, match=r"read index\.json\.blob: 16777261 bytes"):
        store.open().open_snapshot(store.first())


def test_without_a_manifest(store: SmallStore) -> None:
    path = store.folder / "index.json.blob"
    path.rename(store.folder / "other")
    with pytest.raises(SourceError, match="its backup is running, or died"):
        store.open().open_snapshot(store.first())


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder"])
def test_a_manifest_that_is_no_file_is_damage(store: SmallStore, kind: str) -> None:
    path = store.folder / "index.json.blob"
    path.rename(store.folder / "other")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("other" if kind == "link" else "nowhere")
    assert store.first().finished, "and not in progress"
    with pytest.raises(SourceError, match=r"read index\.json\.blob: ") as caught:
        store.open().open_snapshot(store.first())
    assert caught.value.damage


def test_a_snapshot_gone_since_it_was_listed(store: SmallStore) -> None:
    item = store.first()
    store.folder.rename(store.path / "elsewhere")
    with pytest.raises(SnapshotVanished, match=f"{LABEL} is gone"):
        store.open().open_snapshot(item)
    store.folder.symlink_to(store.path / "elsewhere")
    with pytest.raises(SnapshotVanished):
        store.open().open_snapshot(item)


@pytest.mark.parametrize(
    "name", ["gone.blob", "link.blob", "folder.blob", "../x.blob", "", "a/b.blob"]
)
def test_files_that_cannot_be_read(store: SmallStore, name: str) -> None:
    (store.folder / "link.blob").symlink_to("some.conf.blob")
    (store.folder / "folder.blob").mkdir()
    with store.open().open_snapshot(store.first()) as opened:
        with pytest.raises(SourceError, match=LABEL):
            opened.read_blob(name)
        with pytest.raises(SourceError, match=LABEL):
            opened.open_index(name)


def test_a_file_of_the_manifest_that_is_missing_is_named(store: SmallStore) -> None:
    (store.folder / "disk.img.fidx").unlink()
    with (
        store.open().open_snapshot(store.first()) as opened,
        pytest.raises(SourceError, match=r"file disk\.img\.fidx is missing"),
    ):
        opened.open_index("disk.img.fidx")


def spoil_byte(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_damaged_archives(store: SmallStore) -> None:
    spoil_byte(store.folder / "some.conf.blob", 20)
    os.truncate(store.folder / "disk.img.fidx", 4100)
    spoil_byte(store.folder / "root.pxar.didx", 0)
    with store.open().open_snapshot(store.first()) as opened:
        with pytest.raises(BlobFormatError, match=rf"{LABEL}: some\.conf\.blob: wrong CRC"):
            opened.read_blob("some.conf.blob")
        for name in ("disk.img.fidx", "root.pxar.didx"):
            with pytest.raises(IndexFormatError, match=f"{LABEL}.*{name}"):
                opened.open_index(name)


def test_an_index_of_the_other_kind(store: SmallStore) -> None:
    (store.folder / "root.pxar.didx").rename(store.folder / "disk.img.fidx")
    with (
        store.open().open_snapshot(store.first()) as opened,
        pytest.raises(IndexFormatError, match=r"disk\.img\.fidx holds a dynamic index"),
    ):
        opened.open_index("disk.img.fidx")


def test_a_blob_longer_than_asked_for(store: SmallStore) -> None:
    with (
        store.open().open_snapshot(store.first()) as opened,
        pytest.raises(SourceError, match="at most 10 are possible"),
    ):
        opened.read_blob("some.conf.blob", limit_bytes=10)


def test_a_manifest_moved_to_another_time(store: SmallStore) -> None:
    manifest = Manifest.decode((store.folder / "index.json.blob").read_bytes())
    moved = replace(manifest, snapshot=SECOND)
    (store.folder / "index.json.blob").write_bytes(moved.encode())
    with pytest.raises(ManifestError, match=f"is that of {SECOND}, it lies in {FIRST}"):
        store.open().open_snapshot(store.first())


def test_too_many_open_files_are_told(
    store: SmallStore, no_free_descriptor: Callable[[], AbstractContextManager[None]]
) -> None:
    first, source = store.first(), store.open()
    what_to_do = r"Too many open files: raise the limit \(ulimit -n\), or lower --parallel"
    with source.open_snapshot(first) as opened, no_free_descriptor():
        with pytest.raises(SourceError, match=what_to_do):
            source.open_snapshot(first)
        with pytest.raises(SourceError, match=what_to_do):
            opened.open_index("disk.img.fidx")
        with pytest.raises(SourceError, match=what_to_do):
            opened.read_blob("some.conf.blob")
        with pytest.raises(SourceError, match=what_to_do):
            source.groups(ROOT)
