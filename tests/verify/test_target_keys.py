"""A target proved through keys: encrypted before, and encrypted on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.push.world import World

from pbs_push.formats.keys import CryptKey
from pbs_push.formats.manifest import Manifest
from pbs_push.names import CLIENT_LOG_NAME, MANIFEST_NAME
from pbs_push.verify.target_report import CopyVerdict

from .target_world import ALL, DIDX, FIDX, VM, counts, flip, index_of, only_result, verify

V = CopyVerdict
KEY = CryptKey(bytes(range(1, 33)))
OTHER = CryptKey(bytes(32))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """What was encrypted on the way."""
    with World(tmp_path) as made:
        made.source.add(VM, 1)
        made.source.add(VM, 2, archives={FIDX: ("d",), DIDX: ("b", "e")})
        made.push(encryption_key=KEY)
        yield made


def test_what_was_encrypted_before_needs_its_key(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.source.add("vm/5", 1, encrypted=True)
        world.push()
        with_key = verify(world, sample=ALL, key=world.source.key)
        assert (with_key.chunks.ok, with_key.chunks.not_checked) == (3, 0)
        without = verify(world, sample=ALL)
        found = without.chunks
        assert (found.ok, found.same, found.not_checked) == (0, 3, 0)
        assert counts(without) == {"equal": 1}
        assert without.exit_status == 0
        for path in world.source.chunk_files():
            path.unlink()
        for key in (None, OTHER):
            found = verify(world, sample=ALL, key=key).chunks
            assert (found.ok, found.same, found.not_checked) == (0, 0, 3)
        flip(next(world.there.chunk_files()), -1)
        (bad,) = verify(world, sample=ALL).bad_chunks
        assert bad.fault == "crc"


def test_what_was_encrypted_on_the_way_is_compared_through_the_key(world: World) -> None:
    report = verify(world, key=KEY, sample=ALL)
    assert counts(report) == {"equal": 2}
    assert report.chunks.ok == report.chunks.known == 5
    assert report.exit_status == 0


@pytest.mark.parametrize("key", [None, OTHER])
def test_without_the_key_it_is_not_called_equal(world: World, key: CryptKey | None) -> None:
    report = verify(world, key=key, sample=ALL)
    assert counts(report) == {"not-checked": 2}
    assert "encrypted on the way" in str(report.results[0].differences[0])
    assert report.chunks.known == 0


def test_a_chunk_that_is_right_in_the_place_of_another_is_found(world: World) -> None:
    chunks = sorted(world.there.chunk_files())
    chunks[0].write_bytes(chunks[1].read_bytes())
    report = verify(world, key=KEY, sample=ALL)
    (bad,) = report.bad_chunks
    assert bad.fault == "digest"
    assert bad.source_digest != bad.digest
    assert bad.spoils


def resign(world: World, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a copy's manifest, and sign it anew: whoever has the key can."""
    folder = world.there.folder(VM, 1)
    text = world.there.manifest(folder)
    change(text)
    world.there.write_manifest(folder, text)
    manifest = Manifest.decode((folder / MANIFEST_NAME).read_bytes())
    text["signature"] = manifest.sign(KEY)
    world.there.write_manifest(folder, text)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sync-source-signature": "aa"}, "another snapshot"),
        ({"pbs-push-copy-proof": "aa"}, "the proof that it was made from this is wrong"),
    ],
)
def test_a_copy_of_something_else_is_found(
    world: World, changed: dict[str, str], words: str
) -> None:
    resign(world, lambda text: text["unprotected"].update(changed))
    only_result(verify(world, key=KEY), V.DIFFERENT, words)


def test_a_copy_that_pbs_made_is_proved_by_its_chunks_alone(world: World) -> None:
    resign(world, lambda text: text["unprotected"].pop("pbs-push-copy-proof"))
    report = verify(world, key=KEY)
    assert counts(report) == {"equal": 1, "not-checked": 1}
    assert report.exit_status == 0
    assert counts(verify(world, key=KEY, sample=ALL)) == {"equal": 2}
    next(world.there.chunk_files()).unlink()
    assert counts(verify(world, key=KEY, sample=ALL)).get("equal", 0) < 2


def test_each_pair_of_digests_is_proved(world: World) -> None:
    """A signed index with two right chunks in each other's place: only what they hold tells."""
    path = world.there.folder(VM, 1) / DIDX
    csum = index_of(path, reverse=True)

    def change(text: dict[str, Any]) -> None:
        next(file for file in text["files"] if file["filename"] == DIDX)["csum"] = csum
        del text["unprotected"]["pbs-push-copy-proof"]

    resign(world, change)
    assert counts(verify(world, key=KEY))["not-checked"] == 1
    report = verify(world, key=KEY, sample=ALL)
    assert report.exit_status == 3
    assert {one.fault for one in report.bad_chunks} == {"digest"}
    assert "another chunk than the source's" in report.bad_chunks[0].reason


def test_a_manifest_that_was_changed_is_found(world: World) -> None:
    folder = world.there.folder(VM, 1)
    text = world.there.manifest(folder)
    next(file for file in text["files"] if file["filename"] == FIDX)["size"] += 1
    world.there.write_manifest(folder, text)
    only_result(verify(world, key=KEY), V.DIFFERENT, "signature", "bytes here")


def test_entries_stand_for_each_other(world: World) -> None:
    """Two chunks that differ at the source, and are one at the target."""
    csum = index_of(world.there.folder(VM, 1) / DIDX, repeat=True)

    def change(text: dict[str, Any]) -> None:
        next(file for file in text["files"] if file["filename"] == DIDX)["csum"] = csum

    resign(world, change)
    words = "chunks that are the same here are not there"
    only_result(verify(world, key=KEY), V.DIFFERENT, words)


def test_blobs_and_logs_are_compared_through_the_key(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        folder = world.source.add(VM, 1)
        log = (folder / "some.conf.blob").read_bytes()
        (folder / CLIENT_LOG_NAME).write_bytes(log)
        world.push(encryption_key=KEY)
        assert counts(verify(world, key=KEY)) == {"equal": 1}
        other = world.source.add("vm/2", 1, blobs={"some.conf.blob": b"other"})
        (folder / CLIENT_LOG_NAME).write_bytes((other / "some.conf.blob").read_bytes())
        only = ("group:vm/100",)
        report = verify(world, key=KEY, group_filters=only)
        only_result(report, V.DIFFERENT, "client.log.blob: its content is not the source's")
        flip(world.there.folder(VM, 1) / CLIENT_LOG_NAME, -1)
        only_result(verify(world, key=KEY, group_filters=only), V.DIFFERENT, "CRC")
