"""A source that is damaged or odd: nothing is half done (protocol/push.md, "Odd sources")."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pbs_push import Result
from pbs_push.demo.pieces import Piece
from pbs_push.formats.blob import MAX_CHUNK_SIZE, PLAIN_HEADER_SIZE, encode_blob
from pbs_push.formats.index import open_index
from pbs_push.formats.index_writer import dynamic_index_bytes, fixed_index_bytes

from .world import World, time


def damage_missing(chunk: Path) -> None:
    chunk.unlink()


def damage_bad(chunk: Path) -> None:
    chunk.rename(chunk.with_name(f"{chunk.name}.0.bad"))


def damage_empty(chunk: Path) -> None:
    chunk.write_bytes(b"")


def damage_cut(chunk: Path) -> None:
    chunk.write_bytes(chunk.read_bytes()[:-1])


def damage_bit(chunk: Path) -> None:
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)


def damage_magic(chunk: Path) -> None:
    chunk.write_bytes(b"?" + chunk.read_bytes()[1:])


def damage_longer(chunk: Path) -> None:
    chunk.write_bytes(chunk.read_bytes() + b"!")


def damage_folder(chunk: Path) -> None:
    chunk.unlink()
    chunk.mkdir()


DAMAGES = (
    damage_missing,
    damage_bad,
    damage_empty,
    damage_cut,
    damage_bit,
    damage_magic,
    damage_longer,
    damage_folder,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_chunk_leaves_nothing_at_the_target(
    world: World, damage: Callable[[Path], None]
) -> None:
    archives = {"a.pxar.didx": [*(f"good {number}" for number in range(40)), "spoilt", "last"]}
    world.source.add("host/new", 0, archives=archives)
    world.source.add("host/old", 0)
    world.source.add("host/old", 1, archives=archives)
    chunk = world.source.chunk_of("spoilt")
    damage(chunk)
    done = world.push()
    assert world.there.snapshots() == {"host/old/2026-05-28T20:26:40Z"}
    assert not world.there.has("host/new"), "nor a group"
    assert done.report.counts == {Result.PUSHED: 1, Result.FAILED: 2}
    assert done.report.exit_status == 3
    assert all(chunk.name in text for text in done.errors), "the digest is named"


def test_an_encrypted_chunk_in_an_archive_that_is_not(world: World) -> None:
    world.source.add("host/a", 0, archives={"a.pxar.didx": ("plain",)})
    chunk = world.source.chunk_of("plain")
    chunk.write_bytes(encode_blob(b"text", key=world.source.key))
    done = world.push()
    assert world.there.snapshots() == set()
    assert any("encrypted" in text for text in done.errors)


def spoil_index_file(world: World, folder: Path) -> None:
    path = folder / "root.pxar.didx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def spoil_by_cutting(world: World, folder: Path) -> None:
    path = folder / "root.pxar.didx"
    path.write_bytes(path.read_bytes()[:-7])


def spoil_by_removing(world: World, folder: Path) -> None:
    (folder / "disk.img.fidx").unlink()


def spoil_by_another_blob(world: World, folder: Path) -> None:
    (folder / "some.conf.blob").write_bytes(encode_blob(b"another"))


def spoil_size(world: World, folder: Path) -> None:
    text = world.source.manifest(folder)
    text["files"][0]["size"] += 1
    world.source.write_manifest(folder, text)


def spoil_time(world: World, folder: Path) -> None:
    world.source.write_manifest(
        folder, {**world.source.manifest(folder), "backup-time": time(0) + 1}
    )


def spoil_name(world: World, folder: Path) -> None:
    text = world.source.manifest(folder)
    text["files"][0]["filename"] = "../../owner.fidx"
    world.source.write_manifest(folder, text)


def spoil_extension(world: World, folder: Path) -> None:
    text = world.source.manifest(folder)
    text["files"][0]["filename"] = "disk.img"
    world.source.write_manifest(folder, text)


def spoil_twice(world: World, folder: Path) -> None:
    text = world.source.manifest(folder)
    text["files"].append(text["files"][0])
    world.source.write_manifest(folder, text)


def spoil_large_blob(world: World, folder: Path) -> None:
    (folder / "some.conf.blob").write_bytes(encode_blob(bytes(17 << 20), compress=False))


def spoil_by_another_blob_of_its_length(world: World, folder: Path) -> None:
    path = folder / "some.conf.blob"
    length = len(path.read_bytes())
    path.write_bytes(encode_blob(bytes(length - PLAIN_HEADER_SIZE), compress=False))
    assert len(path.read_bytes()) == length


def spoil_size_of_blob(world: World, folder: Path) -> None:
    text = world.source.manifest(folder)
    (entry,) = (file for file in text["files"] if file["filename"] == "some.conf.blob")
    entry["size"] += 1
    world.source.write_manifest(folder, text)


def put_index(world: World, folder: Path, name: str, content: bytes) -> None:
    """Another index, which is what the manifest says of it."""
    (folder / name).write_bytes(content)
    text = world.source.manifest(folder)
    (entry,) = (file for file in text["files"] if file["filename"] == name)
    with open_index(folder / name) as index:
        entry |= {"size": index.size, "csum": index.csum().hex()}
    world.source.write_manifest(folder, text)


def spoil_chunk_size(world: World, folder: Path) -> None:
    content = fixed_index_bytes(bytes(32), 8 << 20, chunk_size=8 << 20)
    put_index(world, folder, "disk.img.fidx", content)


def spoil_small_chunk_size(world: World, folder: Path) -> None:
    content = fixed_index_bytes(bytes(32), 1 << 20, chunk_size=1 << 20)
    put_index(world, folder, "disk.img.fidx", content)


def spoil_large_chunk(world: World, folder: Path) -> None:
    ends = np.array([5, 5 + (17 << 20)], dtype=np.uint64)
    put_index(world, folder, "root.pxar.didx", dynamic_index_bytes(ends, bytes(64)))


def spoil_large_first_chunk(world: World, folder: Path) -> None:
    ends = np.array([17 << 20], dtype=np.uint64)
    put_index(world, folder, "root.pxar.didx", dynamic_index_bytes(ends, bytes(32)))


def spoil_all_entries(world: World, folder: Path) -> None:
    ends = np.array([], dtype=np.uint64)
    put_index(world, folder, "root.pxar.didx", dynamic_index_bytes(ends, b""))


def spoil_all_fixed_entries(world: World, folder: Path) -> None:
    (folder / "disk.img.fidx").write_bytes(fixed_index_bytes(b"", 0))


SPOILT: dict[str, Callable[[World, Path], None]] = {
    "root.pxar.didx": spoil_index_file,
    "root.pxar.didx: cut": spoil_by_cutting,
    "disk.img.fidx": spoil_by_removing,
    "some.conf.blob": spoil_by_another_blob,
    "disk.img.fidx: size": spoil_size,
    "manifest": spoil_time,
    "../../owner.fidx": spoil_name,
    "disk.img": spoil_extension,
    "named twice": spoil_twice,
    "some.conf.blob: too large": spoil_large_blob,
    "some.conf.blob: as long": spoil_by_another_blob_of_its_length,
    "some.conf.blob: size": spoil_size_of_blob,
    "disk.img.fidx: its chunk size is 8388608": spoil_chunk_size,
    "disk.img.fidx: its chunk size is 1048576": spoil_small_chunk_size,
    "root.pxar.didx: it has a chunk of 17825792": spoil_large_chunk,
    "root.pxar.didx: it has a chunk of 17825792, the first": spoil_large_first_chunk,
    "root.pxar.didx: an index without entries": spoil_all_entries,
    "disk.img.fidx: empty": spoil_all_fixed_entries,
}


@pytest.mark.parametrize("case", SPOILT)
def test_an_odd_source_fails_before_anything_is_sent(world: World, case: str) -> None:
    folder = world.source.add("vm/1", 0)
    SPOILT[case](world, folder)
    done = world.push()
    assert done.report.exit_status == 1
    assert done.report.counts == {Result.FAILED: 1}
    assert "upgrade" not in done.counted.requests
    assert world.there.snapshots() == set()
    (text,) = done.errors
    assert case.partition(":")[0] in text
    assert "\n" not in text


def test_a_chunk_of_16_mib_can_be_carried(world: World) -> None:
    largest = Piece("largest", MAX_CHUNK_SIZE, 200)
    world.source.add("host/a", 0, archives={"root.pxar.didx": (largest,)})
    done = world.push()
    assert done.errors == []
    assert world.there.times("host/a") == [0]
