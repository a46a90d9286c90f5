"""Every kind of damage is found, named, and told with all that it spoils; and nothing else is."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pbs_push import ChunkDamage, DamageFound, Verdict
from pbs_push.formats.blob import BlobKind, encode_blob
from pbs_push.formats.index import open_index
from pbs_push.formats.index_writer import dynamic_index_bytes, fixed_index_bytes
from pbs_push.formats.keys import CryptKey
from pbs_push.push.document import FORMAT_VERSION

from .conftest import ARCHIVES, Place

PIECE = 5000


def raw_blob(payload: bytes, kind: BlobKind = BlobKind.ZSTD) -> bytes:
    return kind.value + zlib.crc32(payload).to_bytes(4, "little") + payload


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def cut(path: Path, by: int = 1) -> None:
    path.write_bytes(path.read_bytes()[:-by])


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_link(path: Path) -> None:
    kept = path.with_suffix(".kept")
    path.rename(kept)
    path.symlink_to(kept.name)


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHUNK_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "missing"),
    "set aside": (lambda path: path.rename(f"{path}.0.bad"), "missing"),
    "empty": (lambda path: path.write_bytes(b""), "format"),
    "magic": (lambda path: flip(path, 3), "format"),
    "crc field": (lambda path: flip(path, 9), "crc"),
    "first byte": (lambda path: flip(path, 12), "crc"),
    "last byte": (lambda path: flip(path, -1), "crc"),
    "cut": (cut, "crc"),
    "cut within the header": (lambda path: path.write_bytes(path.read_bytes()[:11]), "length"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"!"), "crc"),
    "too long": (lambda path: os.truncate(path, 17 << 20), "format"),
    "a folder": (as_folder, "format"),
    "a link": (as_link, "format"),
    "a pipe": (as_pipe, "format"),
    "another content": (lambda path: path.write_bytes(encode_blob(bytes(PIECE))), "digest"),
    "a shorter content": (lambda path: path.write_bytes(encode_blob(b"x")), "digest"),
    "a bomb": (lambda path: path.write_bytes(encode_blob(bytes(100 << 20))), "length"),
    "no frame": (lambda path: path.write_bytes(raw_blob(b"no frame")), "content"),
    "half a frame": (
        lambda path: path.write_bytes(raw_blob(encode_blob(bytes(PIECE))[12:-3])),
        "content",
    ),
    "more than a frame": (
        lambda path: path.write_bytes(raw_blob(encode_blob(bytes(PIECE))[12:] + b"x")),
        "content",
    ),
    "encrypted": (
        lambda path: path.write_bytes(encode_blob(bytes(PIECE), key=CryptKey(bytes(32)))),
        "crypt-mode",
    ),
}


@pytest.mark.parametrize("damage", CHUNK_DAMAGES)
def test_a_damaged_chunk(place: Place, damage: str) -> None:
    place.source.add("vm/1", 0, 1, archives=ARCHIVES)
    place.source.add("vm/2", 0, archives={"root.pxar.didx": ("x", "y")})
    place.source.add("host/1", 0, ns="far", archives={"data.pxar.didx": ("q", "b")})
    do, fault = CHUNK_DAMAGES[damage]
    chunk = place.source.chunk_of("b")
    do(chunk)
    report = place.verify()
    (found,) = report.damaged_chunks
    assert found.fault == fault, found.reason
    assert (found.digest_hex, found.path, found.size) == (chunk.name, str(chunk), PIECE)
    assert [str(one) for one in found.places] == [
        "root.pxar.didx of vm/1/2026-05-28T20:26:40Z",
        "root.pxar.didx of vm/1/2026-05-29T20:26:40Z",
        "data.pxar.didx of host/1/2026-05-28T20:26:40Z in namespace far",
    ]
    assert report.verdicts == {Verdict.DAMAGED: 3, Verdict.OK: 1}
    assert report.damaged_files == []
    assert (report.chunks.ok, report.chunks.damaged) == (5, 1)
    assert report.exit_status == 3
    told = [event.damage for event in place.events if isinstance(event, DamageFound)]
    assert told == [found], "once, whoever needs it"


def manifest_without(place: Place, folder: Path, **changes: object) -> None:
    text = place.source.manifest(folder)
    text["files"][0] |= changes
    place.source.write_manifest(folder, text)


def put(place: Place, folder: Path, name: str, content: bytes) -> None:
    """Another file, which is what the manifest says of it."""
    (folder / name).write_bytes(content)
    text = place.source.manifest(folder)
    (entry,) = (file for file in text["files"] if file["filename"] == name)
    if name.endswith(".blob"):
        entry |= {"size": len(content), "csum": hashlib.sha256(content).hexdigest()}
    else:
        with open_index(folder / name) as index:
            entry |= {"size": index.size, "csum": index.csum().hex()}
    place.source.write_manifest(folder, text)


def on(name: str, do: Callable[[Path], object]) -> Callable[[Place, Path], object]:
    return lambda _place, folder: do(folder / name)


MANIFEST, INDEX, IMAGE, BLOB = (
    "index.json.blob",
    "root.pxar.didx",
    "disk.img.fidx",
    "some.conf.blob",
)
FILE_DAMAGES: dict[str, tuple[Callable[[Place, Path], object], str, str]] = {
    "manifest flipped": (on(MANIFEST, lambda path: flip(path, -1)), MANIFEST, "crc"),
    "manifest cut": (on(MANIFEST, cut), MANIFEST, "crc"),
    "manifest empty": (on(MANIFEST, lambda path: path.write_bytes(b"")), MANIFEST, "format"),
    "manifest no JSON": (
        on(MANIFEST, lambda path: path.write_bytes(encode_blob(b"{"))),
        MANIFEST,
        "format",
    ),
    "manifest a folder": (on(MANIFEST, as_folder), MANIFEST, "unreadable"),
    "manifest a link": (on(MANIFEST, as_link), MANIFEST, "unreadable"),
    "manifest a pipe": (on(MANIFEST, as_pipe), MANIFEST, "unreadable"),
    "manifest of another": (
        lambda place, folder: place.source.write_manifest(
            folder, {**place.source.manifest(folder), "backup-id": "7"}
        ),
        MANIFEST,
        "format",
    ),
    "index missing": (on(INDEX, Path.unlink), INDEX, "missing"),
    "index a link": (on(INDEX, as_link), INDEX, "missing"),
    "index magic": (on(INDEX, lambda path: flip(path, 0)), INDEX, "format"),
    "index header csum": (on(INDEX, lambda path: flip(path, 40)), INDEX, "crc"),
    "index entry": (on(INDEX, lambda path: flip(path, -1)), INDEX, "crc"),
    "index cut by an entry": (on(INDEX, lambda path: cut(path, 40)), INDEX, "crc"),
    "index cut": (on(INDEX, cut), INDEX, "format"),
    "index cut to its header": (
        on(INDEX, lambda path: os.truncate(path, 100)),
        INDEX,
        "format",
    ),
    "index of the other kind": (
        lambda place, folder: (folder / INDEX).write_bytes(
            fixed_index_bytes(bytes(32), 1, chunk_size=4096)
        ),
        INDEX,
        "format",
    ),
    "offsets that do not increase": (on(INDEX, lambda path: flip(path, 4103)), INDEX, "format"),
    "a chunk too large": (
        lambda place, folder: put(
            place,
            folder,
            INDEX,
            dynamic_index_bytes(np.array([5, 17 << 20], dtype=np.uint64), bytes(64)),
        ),
        INDEX,
        "format",
    ),
    "chunks of an image too large": (
        lambda place, folder: put(
            place, folder, IMAGE, fixed_index_bytes(bytes(32), 32 << 20, chunk_size=32 << 20)
        ),
        IMAGE,
        "format",
    ),
    "manifest's size": (
        lambda place, folder: manifest_without(place, folder, size=1),
        IMAGE,
        "length",
    ),
    "manifest's csum": (
        lambda place, folder: manifest_without(place, folder, csum="00" * 32),
        IMAGE,
        "crc",
    ),
    "blob missing": (on(BLOB, Path.unlink), BLOB, "missing"),
    "blob flipped": (on(BLOB, lambda path: flip(path, -1)), BLOB, "crc"),
    "another blob": (on(BLOB, lambda path: path.write_bytes(encode_blob(b"z"))), BLOB, "length"),
    "another blob as long": (
        on(BLOB, lambda path: path.write_bytes(raw_blob(path.read_bytes()[12:-1] + b"x"))),
        BLOB,
        "digest",
    ),
    "blob too long": (on(BLOB, lambda path: os.truncate(path, 129 << 20)), BLOB, "unreadable"),
    "blob that cannot be decoded": (
        lambda place, folder: put(place, folder, BLOB, raw_blob(b"none")),
        BLOB,
        "content",
    ),
    "log": (
        on("client.log.blob", lambda path: path.write_bytes(raw_blob(b"none"))),
        "client.log.blob",
        "content",
    ),
    "log flipped": (
        on("client.log.blob", lambda path: path.write_bytes(b"\0" * 30)),
        "client.log.blob",
        "format",
    ),
}


@pytest.mark.parametrize("damage", FILE_DAMAGES)
def test_a_damaged_file(place: Place, damage: str) -> None:
    folder = place.source.add("vm/1", 0, archives=ARCHIVES)
    place.source.add("vm/1", 1, archives=ARCHIVES)
    do, name, fault = FILE_DAMAGES[damage]
    do(place, folder)
    report = place.verify()
    (found,) = report.damaged_files
    assert (found.place.filename, found.fault) == (name, fault), found.reason
    assert str(found).startswith("vm/1/2026-05-28T20:26:40Z: ")
    assert "source snapshot" not in str(found)
    assert report.damaged_chunks == []
    assert report.verdicts == {Verdict.DAMAGED: 1, Verdict.OK: 1}
    assert [str(item.snapshot) for item in report.spoiled()] == ["vm/1/2026-05-28T20:26:40Z"]
    assert report.exit_status == 3


def entry(label: str, place: Place) -> bytes:
    return bytes.fromhex(place.source.chunk_of(label).name)


@pytest.mark.parametrize("first", [0, 1], ids=["after the right one", "before it"])
def test_an_index_that_says_another_length(place: Place, first: int) -> None:
    """One chunk, two lengths: the wrong entry is damage, the right one is not."""
    folders = [place.source.add("vm/1", number, archives=ARCHIVES) for number in (0, 1)]
    digests = entry("b", place) + entry("c", place)
    ends = np.array([PIECE - 1, 2 * PIECE], dtype=np.uint64)
    put(place, folders[first], INDEX, dynamic_index_bytes(ends, digests))
    report = place.verify()
    assert {one.size: one.fault for one in report.damaged_chunks} == {
        PIECE - 1: "length",
        PIECE + 1: "length",
    }
    (spoiled,) = report.spoiled()
    assert place.source.path / spoiled.disk_path == folders[first]


def test_several_damages_at_once(place: Place) -> None:
    place.source.add("vm/1", 0, archives=ARCHIVES)
    folder = place.source.add("vm/2", 0, archives={"root.pxar.didx": ("b", "x")})
    place.source.chunk_of("b").unlink()
    flip(place.source.chunk_of("c"), -1)
    flip(folder / BLOB, -1)
    report = place.verify()
    assert len(report.damaged_chunks) == 2
    assert len(report.damaged_files) == 1
    assert report.verdicts == {Verdict.DAMAGED: 2}
    document = report.to_dict()
    assert document["format-version"] == FORMAT_VERSION
    assert {tuple(one["archives"][0]) for one in document["damaged-chunks"]} == {
        ("ns", "group", "backup-time", "filename")
    }
    assert document["exit-status"] == 3


def test_a_damaged_chunk_of_one_archive_twice_in_it(place: Place) -> None:
    place.source.add("vm/1", 0, archives={"root.pxar.didx": ("b", "c", "b")})
    place.source.chunk_of("b").unlink()
    (found,) = place.verify().damaged_chunks
    assert isinstance(found, ChunkDamage)
    assert len(found.places) == 1


def test_what_is_odd_is_not_passed_over(place: Place) -> None:
    folder = place.source.add("vm/1", 0, archives=ARCHIVES)
    (folder.parent / "2026-13-01T00:00:00Z").mkdir()
    (folder.parent / "2026-12-01T00:00:00Z").symlink_to(folder)
    report = place.verify()
    assert [one.what for one in report.unlisted] == [
        "vm/1/2026-13-01T00:00:00Z",
        "vm/1/2026-12-01T00:00:00Z",
    ]
    assert report.exit_status == 3
    assert report.verdicts == {Verdict.OK: 1}
