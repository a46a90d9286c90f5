"""Whole pushes over TLS into an embedded target, whose files are then verified independently."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pbs_push import Result, Skip
from pbs_push.demo.pieces import Piece
from pbs_push.demo.sample import add_snapshot, sample_enc_key, write_sample
from pbs_push.demo.verify import verify_target
from pbs_push.formats.blob import encode_blob

from .world import Pushed, World, verify, whole


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample datastore of about 2 MiB: copy it before changing anything."""
    folder = tmp_path_factory.mktemp("sample") / "source"
    write_sample(folder, total_bytes=2 << 20)
    return folder


@pytest.fixture
def sample_world(sample: Path, tmp_path: Path) -> Iterator[World]:
    shutil.copytree(sample, tmp_path / "source")
    with World(tmp_path) as made:
        yield made


# -- a whole datastore --


def test_a_whole_datastore_then_nothing_then_the_changes(sample_world: World) -> None:
    world = sample_world
    first = world.push()
    assert first.report.exit_status == 0
    assert first.report.counts == {Result.PUSHED: verify(world, enc_key=sample_enc_key())}
    assert first.report.stats.fallbacks == 0

    second = world.push()
    assert second.report.exit_status == 0
    assert second.counted.chunks == second.counted.sessions == 0
    namespaces = 6
    assert second.counted.requests == {
        "GET version": 1,
        "GET namespace": 1,
        "GET groups": namespaces,
    }, "no request for each group"

    change = add_snapshot(world.source.path)
    third = world.push()
    assert third.report.counts[Result.PUSHED] == len(change.snapshots)
    assert third.counted.chunks == third.counted.new_chunks == len(change.new_digests)
    assert third.counted.chunk_bytes == change.new_chunk_bytes
    assert third.report.stats.sent_chunks == len(change.new_digests)
    assert third.report.stats.sent_bytes == change.new_chunk_bytes
    verify(world, enc_key=sample_enc_key())


def test_each_chunk_crosses_once_in_a_snapshot(world: World) -> None:
    twice = ("same", "same", "other", "same")
    world.source.add("vm/1", 0, archives={"a.pxar.didx": twice, "b.pxar.didx": ("other", "same")})
    done = world.push()
    assert done.counted.chunks == 2
    assert (done.report.stats.sent_chunks, done.report.stats.reused_entries) == (2, 4)
    assert verify(world) == 1


def test_a_part_of_a_datastore_into_a_namespace(sample_world: World) -> None:
    done = sample_world.push(source_namespace="prod", target_namespace="x/y", parallel=1)
    assert done.report.exit_status == 0
    report = verify_target(
        sample_world.source.path, sample_world.there.path, source_ns="prod", target_ns="x/y"
    )
    assert report.problems == ()
    assert report.snapshots == done.report.counts[Result.PUSHED] == 8
    assert [str(ns) for ns in done.report.created_namespaces] == ["x", "x/y", "x/y/eu"]


def test_a_datastore_of_other_making(
    reference_datastore: Path, reference_dir: Path, tmp_path: Path
) -> None:
    expected = json.loads((reference_dir / "expected.json").read_text())
    listed = [
        snapshot
        for namespace in expected["namespaces"]
        for group in namespace["groups"]
        for snapshot in group["snapshots"]
    ]
    dead = [snapshot["dir"] for snapshot in listed if snapshot["in-progress"]]
    assert dead
    with World(tmp_path, source=reference_datastore) as world:
        done = world.push()
        assert done.report.exit_status == 0
        assert done.report.skips == {Skip.IN_PROGRESS: len(dead)}
        skipped = [o.label for o in done.report.outcomes if o.skip is not None]
        assert len(skipped) == len(dead)
        assert all(any(time in label for label in skipped) for time in dead)
        finished = sum(
            (world.source.path / path / "index.json.blob").is_file()
            for path in world.source.snapshots()
        )
        assert finished == len(listed) - len(dead)
        assert done.report.counts[Result.PUSHED] == finished == verify(world)
        again = world.push()
        assert (again.counted.sessions, again.report.exit_status) == (0, 0)


# -- what the target has already --


def images(world: World, number: int, *labels: str, tail: Piece | None = None) -> None:
    pieces = [whole(label) for label in labels]
    archives = {"disk.img.fidx": [*pieces, *([tail] if tail else [])]}
    world.source.add("vm/1", number, archives=archives)


TAIL, LONGER_TAIL = Piece("tail", 3000, 30), Piece("longer", 9000, 30)

IMAGES: dict[str, tuple[tuple[str, ...], Piece | None, int, int]] = {
    "unchanged": (("a", "b", "c"), TAIL, 0, 0),
    "a chunk changed": (("a", "x", "c"), TAIL, 1, 1),
    "chunks that are old elsewhere": (("b", "a", "c"), TAIL, 0, 1),
    "an old one and a new one": (("a", "a", "new"), TAIL, 1, 1),
    "the last chunk grew": (("a", "b", "c"), LONGER_TAIL, 1, 1),
    "a chunk more": (("a", "b", "c", "d"), TAIL, 1, 1),
    "cut to whole chunks": (("a", "b", "c"), None, 0, 1),
    "cut to less": (("a",), None, 0, 1),
    "the tail filled": (("a", "b", "c", "full"), None, 1, 1),
    "all is new": (("1", "2", "3"), LONGER_TAIL, 4, 1),
}


@pytest.mark.parametrize("change", IMAGES)
def test_an_image_some_time_later(world: World, change: str) -> None:
    labels, tail, chunks, lists = IMAGES[change]
    images(world, 0, "a", "b", "c", tail=TAIL)
    world.push()
    images(world, 1, *labels, tail=tail)
    done = world.push()
    assert done.report.exit_status == 0
    assert done.counted.chunks == chunks
    assert done.counted.requests.get("PUT fixed_index", 0) == lists
    assert done.report.stats.fallbacks == 0
    assert verify(world) == 2


@pytest.mark.parametrize("change", IMAGES)
def test_an_image_whose_previous_is_pruned_here(world: World, change: str) -> None:
    """The target's newest is not at the source any more, so its index is downloaded."""
    labels, tail, chunks, _ = IMAGES[change]
    images(world, 0, "a", "b", "c", tail=TAIL)
    world.push()
    shutil.rmtree(world.source.folder("vm/1", 0))
    images(world, 1, *labels, tail=tail)
    done = world.push()
    assert done.report.exit_status == 0
    assert done.counted.chunks == chunks
    assert done.counted.requests["previous"] == 2, "manifest and index"
    shutil.rmtree(world.there.folder("vm/1", 0))
    assert verify(world) == 1


def test_a_stream_whose_previous_is_pruned_here(world: World) -> None:
    world.source.add("host/a", 0, archives={"root.pxar.didx": ("a", "b", "c")})
    world.push()
    shutil.rmtree(world.source.folder("host/a", 0))
    world.source.add("host/a", 1, archives={"root.pxar.didx": ("a", "x", "b", "c")})
    assert world.push().counted.chunks == 1


def test_the_targets_previous_is_not_the_one_here(world: World) -> None:
    """Same time, other content: only the target's word counts."""
    world.source.add("vm/1", 0)
    world.there.add("vm/1", 0, archives={"disk.img.fidx": ("z",), "root.pxar.didx": ("y", "c")})
    world.source.add("vm/1", 1)
    done = world.push()
    assert done.report.exit_status == 3, "and that is told"
    assert done.counted.chunks == 2, "one chunk the target's previous had"
    shutil.rmtree(world.source.folder("vm/1", 0))
    shutil.rmtree(world.there.folder("vm/1", 0))
    verify(world)


def test_a_previous_manifest_that_is_broken_at_the_target(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    (world.there.add("vm/1", 0) / "index.json.blob").write_bytes(b"damaged by a disk")
    done = world.push()
    assert done.report.exit_status == 3, "a real server refuses to begin"
    assert any("vm/1/2026-05-29" in text for text in done.errors)


def test_archives_come_and_go(world: World) -> None:
    world.source.add("vm/1", 0, archives={"a.img.fidx": ("a",), "b.img.fidx": ("b",)})
    world.source.add("vm/1", 1, archives={"b.img.fidx": ("b",), "c.pxar.didx": ("a", "b")})
    world.source.add("vm/1", 2, archives={}, blobs={"only.conf.blob": b"text"})
    world.source.add("vm/1", 3, archives={"a.img.fidx": ("a",)})
    done = world.push()
    assert done.report.exit_status == 0
    assert verify(world) == 4
    assert done.counted.new_chunks == 2


# -- large indexes --


@pytest.mark.parametrize(("entries", "lists"), [(6_000, 1), (20_000, 3)])
def test_entry_lists_of_a_stream_come_in_order(world: World, entries: int, lists: int) -> None:
    labels = [Piece(f"piece {number % 97}", 200, 20) for number in range(entries)]
    world.source.add("host/a", 0, archives={"root.pxar.didx": labels})
    done = world.push()
    assert done.report.exit_status == 0
    assert done.counted.requests["PUT dynamic_index"] == lists
    assert done.report.stats.entry_lists == lists
    assert done.counted.chunks == 97
    assert verify(world) == 1


def test_entry_lists_of_an_image(world: World) -> None:
    labels = [whole(f"piece {number % 5}") for number in range(14_000)]
    world.source.add("vm/1", 0, archives={"disk.img.fidx": labels})
    done = world.push()
    assert done.report.exit_status == 0
    assert done.counted.requests["PUT fixed_index"] == 3
    assert verify(world) == 1


# -- encrypted and signed --


def test_encrypted_and_signed_snapshots_go_as_they_are(world: World) -> None:
    world.source.add("vm/1", 0, 1, encrypted=True, client_log=b"a secret log")
    signed = world.source.add("vm/2", 0)
    text = world.source.manifest(signed)
    for file in text["files"]:
        file["crypt-mode"] = "sign-only"
    world.source.write_manifest(signed, text)
    done = world.push()
    assert done.report.exit_status == 0
    assert verify(world, enc_key=bytes(range(32))) == 3
    blobs = {path.name: path.read_bytes() for path in world.source.chunk_files()}
    for path in world.there.chunk_files():
        assert path.read_bytes()[12:] == blobs[path.name][12:], "never encoded anew"


# -- client logs --


def test_a_client_log_goes_along(world: World) -> None:
    folder = world.source.add("vm/1", 0, client_log=b"all went well")
    done = world.push()
    log = (world.there.folder("vm/1", 0) / "client.log.blob").read_bytes()
    assert log == (folder / "client.log.blob").read_bytes(), "as it lies on disk"
    assert "POST upload-backup-log" not in done.counted.requests
    assert world.push().report.logs_added == 0


def test_a_client_log_that_comes_late(world: World) -> None:
    old, new = world.source.add("vm/1", 0), world.source.add("vm/1", 1)
    world.push()
    for folder in (old, new):
        (folder / "client.log.blob").write_bytes(encode_blob(b"late"))
    done = world.push()
    assert done.report.logs_added == done.counted.requests["POST upload-backup-log"] == 1
    assert (world.there.folder("vm/1", 1) / "client.log.blob").is_file()
    assert not (world.there.folder("vm/1", 0) / "client.log.blob").exists(), "only the newest's"
    assert done.report.exit_status == 0
    assert world.push().report.logs_added == 0


def test_a_client_log_that_came_to_the_target_meanwhile(world: World) -> None:
    folder = world.source.add("vm/1", 0)
    world.push()
    (folder / "client.log.blob").write_bytes(encode_blob(b"late"))
    plan, _ = world.plan()
    (world.there.folder("vm/1", 0) / "client.log.blob").write_bytes(encode_blob(b"late"))
    done = world.push(plan=plan)
    assert (done.report.exit_status, done.report.logs_added) == (0, 0)


def test_a_client_log_too_large_for_the_protocol(world: World) -> None:
    folder = world.source.add("vm/1", 0)
    log = encode_blob(bytes(17 << 20), compress=False)
    (folder / "client.log.blob").write_bytes(log)
    done = world.push()
    assert done.report.exit_status == 0
    assert done.counted.requests["POST upload-backup-log"] == 1
    assert (world.there.folder("vm/1", 0) / "client.log.blob").read_bytes() == log


# -- what changes meanwhile --


def test_a_snapshot_that_vanishes_between_plan_and_push(world: World) -> None:
    world.source.add("vm/1", 0, 1, 2)
    world.source.add("vm/2", 0)
    plan, _ = world.plan()
    shutil.rmtree(world.source.folder("vm/1", 1))
    shutil.rmtree(world.source.path / "vm/2")
    done = world.push(plan=plan)
    assert world.there.times("vm/1") == [0, 2]
    assert done.report.skips == {Skip.VANISHED: 2}
    assert done.report.exit_status == 0


# -- several at once --


def test_two_pushes_at_once_in_one_process(tmp_path: Path, sample: Path) -> None:
    done: dict[str, Pushed] = {}

    def run(name: str) -> None:
        with World(tmp_path / name, source=sample) as world:
            done[name] = world.push(parallel=2)
            verify(world, enc_key=sample_enc_key())

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(done) == {"one", "two"}
    assert {pushed.report.exit_status for pushed in done.values()} == {0}
