"""``--verify-source``: what is about to be sent is compared with its digest before."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from pbs_push import ChunkError, Result
from pbs_push.demo.pieces import Piece
from pbs_push.errors import PbsPushError
from pbs_push.formats.blob import PLAIN_HEADER_SIZE, BlobKind, encode_blob
from pbs_push.formats.keys import CryptKey
from pbs_push.push import attempt
from pbs_push.push.outcome import Outcome

from .world import World, whole

ARCHIVES = {"disk.img.fidx": (whole("a"), whole("b")), "root.pxar.didx": ("c", "odd")}
OTHER_KEY = CryptKey(bytes(32))


def swap(path: Path, content: bytes, key: CryptKey | None = None) -> None:
    """Another content in a chunk's place: a blob that is whole."""
    path.write_bytes(encode_blob(content, key=key))


def error_of(outcomes: list[Outcome]) -> PbsPushError:
    (error,) = (one.error for one in outcomes if one.error is not None)
    return error


def sealed_chunk(world: World) -> Path:
    """One of the encrypted chunks."""
    return sorted(world.source.chunk_files())[0]


def crc_of(payload: bytes) -> bytes:
    import zlib

    return zlib.crc32(payload).to_bytes(4, "little")


@pytest.mark.parametrize("read_ahead", [1, 8])
def test_what_is_right_arrives(world: World, read_ahead: int) -> None:
    world.source.add("vm/1", 0, 1, archives=ARCHIVES)
    done = world.push(verify_source=True, read_ahead=read_ahead)
    assert done.report.exit_status == 0
    assert world.there.times("vm/1") == [0, 1]
    assert done.report.stats.unchecked_chunks == 0
    assert not [one for one in threading.enumerate() if one.name.startswith("check")]
    for chunk in world.source.chunk_files():
        there = world.there.path / chunk.relative_to(world.source.path)
        assert there.read_bytes() == chunk.read_bytes(), "as it lay on disk"


def test_another_content_is_damage_and_not_sent(world: World) -> None:
    world.source.add("vm/1", 0, archives=ARCHIVES)
    world.source.add("vm/1", 1)
    swap(world.source.chunk_of("odd"), bytes(5000))
    done = world.push(verify_source=True)
    error = error_of(done.report.outcomes)
    assert isinstance(error, ChunkError)
    assert (error.fault, error.archive, error.damage) == ("digest", "root.pxar.didx", True)
    assert str(world.source.chunk_of("odd")) == error.path
    assert world.there.times("vm/1") == []
    assert done.told("--skip-damaged would leave it behind for good") == 1
    assert not [one for one in threading.enumerate() if one.name.startswith("check")]


def test_with_skip_damaged_newer_ones_go(world: World) -> None:
    world.source.add("vm/1", 0, archives=ARCHIVES)
    world.source.add("vm/1", 1)
    swap(world.source.chunk_of("odd"), bytes(5000))
    done = world.push(verify_source=True, skip_damaged=True)
    assert world.there.times("vm/1") == [1]
    assert done.report.counts == {Result.PUSHED: 1, Result.FAILED: 1}
    assert done.report.exit_status == 3


def test_another_length_and_a_broken_frame(world: World) -> None:
    world.source.add("vm/1", 0, archives={"root.pxar.didx": ("short",)})
    swap(world.source.chunk_of("short"), bytes(17 << 20))
    world.source.add("vm/2", 0, archives={"root.pxar.didx": ("broken",)})
    broken = world.source.chunk_of("broken")
    payload = b"no frame at all"
    broken.write_bytes(BlobKind.ZSTD.value + crc_of(payload) + payload)
    done = world.push(verify_source=True)
    found = {str(one.group): one.error for one in done.report.outcomes}
    faults = {name: error.fault for name, error in found.items() if isinstance(error, ChunkError)}
    assert faults == {"vm/1": "length", "vm/2": "content"}


def test_what_is_sealed_is_sent_and_told(world: World) -> None:
    world.source.add("vm/1", 0, encrypted=True)
    done = world.push(verify_source=True)
    stats = done.report.stats
    assert done.report.exit_status == 0
    assert (stats.unchecked_chunks, stats.unchecked_blobs) == (3, 1)
    assert stats.to_dict()["unchecked-chunks"] == 3


def test_with_its_key_it_is_checked(world: World) -> None:
    world.source.add("vm/1", 0, encrypted=True)
    done = world.push(verify_source=True, encryption_key=world.source.key)
    assert done.report.exit_status == 0
    assert (done.report.stats.unchecked_chunks, done.report.stats.unchecked_blobs) == (0, 0)


def test_with_another_key_it_is_not(world: World) -> None:
    world.source.add("vm/1", 0, encrypted=True)
    done = world.push(verify_source=True, encryption_key=OTHER_KEY)
    assert done.report.stats.unchecked_chunks == 3


def test_another_content_under_the_key(world: World) -> None:
    world.source.add("vm/1", 0, encrypted=True)
    swap(sealed_chunk(world), bytes(5000), world.source.key)
    done = world.push(verify_source=True, encryption_key=world.source.key)
    error = error_of(done.report.outcomes)
    assert isinstance(error, ChunkError)
    assert error.fault == "digest"
    assert world.push(verify_source=True).report.exit_status == 0, "nobody can tell without"


def test_a_chunk_of_another_key(world: World) -> None:
    world.source.add("vm/1", 0, encrypted=True)
    swap(sealed_chunk(world), bytes(5000), OTHER_KEY)
    done = world.push(verify_source=True, encryption_key=world.source.key)
    error = error_of(done.report.outcomes)
    assert isinstance(error, ChunkError)
    assert error.fault == "content"


def spoil_content(world: World, folder: Path, name: str) -> None:
    """A blob whose frame is damaged, and of which the manifest says so."""
    payload = b"no frame at all"
    blob = BlobKind.ZSTD.value + crc_of(payload) + payload
    assert len(blob) > PLAIN_HEADER_SIZE
    (folder / name).write_bytes(blob)
    text = world.source.manifest(folder)
    for file in text["files"]:
        if file["filename"] == name:
            file |= {"size": len(blob), "csum": hashlib.sha256(blob).hexdigest()}
    world.source.write_manifest(folder, text)


def test_blobs_are_decoded(world: World) -> None:
    folder = world.source.add("vm/1", 0)
    spoil_content(world, folder, "some.conf.blob")
    done = world.push(verify_source=True)
    assert "some.conf.blob: the blob's compressed data is damaged" in done.errors[0]
    assert world.there.times("vm/1") == []
    assert world.push().report.exit_status == 0, "without the option it goes as it is"


def test_a_client_log_that_cannot_be_decoded_stays_behind(world: World) -> None:
    folder = world.source.add("vm/1", 0)
    spoil_content(world, folder, "client.log.blob")
    done = world.push(verify_source=True)
    assert any("client.log.blob: the blob's compressed" in text for text in done.errors)
    assert world.there.times("vm/1") == [0]
    assert done.report.exit_status == 3


def test_chunks_that_are_encrypted_on_the_way_are_checked_anyway(world: World) -> None:
    world.source.add("vm/1", 0, archives=ARCHIVES)
    swap(world.source.chunk_of("odd"), bytes(5000))
    done = world.push(verify_source=True, encryption_key=OTHER_KEY)
    error = error_of(done.report.outcomes)
    assert isinstance(error, ChunkError)
    assert error.fault == "digest"


def test_without_the_option_the_readers_do_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quick way is as it was: chunks go from C to C."""
    monkeypatch.setattr(attempt, "ContentChecks", None)
    world.source.add("vm/1", 0)
    assert world.push().report.exit_status == 0


@pytest.mark.parametrize("known", [True, False])
def test_parts_that_are_committed_before_are_checked_with_the_same_key(
    world: World, known: bool
) -> None:
    pieces = [Piece(f"part {number}", 60_000, 50_000) for number in range(8)]
    world.source.add("vm/1", 0, archives={"root.pxar.didx": pieces}, encrypted=True)
    key = world.source.key if known else OTHER_KEY
    done = world.push(verify_source=True, encryption_key=key, checkpoint="100000B")
    assert done.report.exit_status == 0
    assert done.report.stats.checkpoints > 0
    assert done.report.stats.unchecked_chunks == (0 if known else 8)
    assert world.there.times("vm/1") == [0]
