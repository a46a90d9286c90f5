"""Snapshots written and read by hand, over real TLS against the embedded target."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.push.world import ME, SECRET, STORE, STRANGER, World, only, whole

import pbs_push
from pbs_push import (
    BlobFormatError,
    ConfigError,
    CryptKey,
    CryptMode,
    IndexFormatError,
    ManifestError,
    Target,
)
from pbs_push.demo.verify import verify_target
from pbs_push.errors import AuthError, BusyError, DeniedError, StatusError
from pbs_push.formats.index import HEADER_SIZE
from pbs_push.remote import snapshot_reader, snapshot_writer
from pbs_push.target import Faults, Identities, TargetOptions
from pbs_push.target.answers import Answer

FIRST = "host/app/2026-01-01T00:00:00Z"
SECOND = "host/app/2026-01-02T00:00:00Z"
IMAGE = os.urandom(4 << 20) + bytes(4 << 20) + b"the end"
PARTS = [b"a part " * 100, os.urandom(70_000), b"x"]
KEY = CryptKey(bytes(range(32)))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        made.there.make_namespace("apps")
        yield made


@pytest.fixture
def target(world: World) -> Iterator[Target]:
    with world.target() as made:
        yield made


def write(target: Target, snapshot: str = FIRST, key: CryptKey | None = None) -> int:
    """A snapshot with one file of each kind; how many chunks were sent."""
    with target.create_snapshot(snapshot, "apps", key=key) as writer:
        writer.add_blob("app.conf.blob", b"name = value\n")
        writer.add_image("disk.img.fidx", io.BytesIO(IMAGE), len(IMAGE))
        writer.add_archive("parts.didx", iter(PARTS))
        writer.finish(notes="by hand")
        return writer.sent_chunks


@pytest.mark.parametrize("key", [None, KEY])
def test_what_was_written_is_read_back(world: World, target: Target, key: CryptKey | None) -> None:
    assert write(target, key=key) == 6
    with target.open_snapshot(FIRST, "apps", key=key) as reader:
        assert str(reader) == f"<SnapshotReader {FIRST}>"
        assert reader.read_blob("app.conf.blob") == b"name = value\n"
        assert b"".join(reader.read_archive("disk.img.fidx")) == IMAGE
        assert list(reader.read_archive("parts.didx")) == PARTS
        assert reader.manifest.notes == "by hand"
        modes = {file.crypt_mode for file in reader.manifest.files}
        assert modes == {CryptMode.NONE if key is None else CryptMode.ENCRYPT}
        assert reader.manifest.verify_signature(KEY) is (key is not None)
    (listed,) = target.snapshots("host/app", "apps")
    assert listed.finished
    assert listed.comment == "by hand"
    # A snapshot written so is one that a push takes: the store is read by the source's code.
    found = pbs_push.verify_source(
        pbs_push.Datastore(world.there.path), pbs_push.VerifyOptions(key=key)
    )
    assert (found.damaged, found.verdicts[pbs_push.Verdict.OK]) == (False, 1)


@pytest.mark.parametrize("key", [None, KEY])
def test_chunks_of_the_previous_snapshot_are_not_sent_again(
    target: Target, key: CryptKey | None
) -> None:
    write(target, key=key)
    with target.create_snapshot(SECOND, "apps", key=key) as writer:
        assert str(writer) == f"<SnapshotWriter {SECOND}>"
        changed = IMAGE[: 4 << 20] + b"new" + IMAGE[(4 << 20) + 3 :]
        writer.add_image("disk.img.fidx", io.BytesIO(changed), len(changed))
        writer.add_archive("other.didx", PARTS[:1])  # not in this archive before
        writer.finish()
        assert writer.sent_chunks == 2
    with target.open_snapshot(SECOND, "apps", key=key) as reader:
        assert b"".join(reader.read_archive("disk.img.fidx")) == changed


def test_another_key_does_not_rely_on_what_is_there(target: Target) -> None:
    write(target)
    assert write(target, SECOND, KEY) == 6


def test_a_previous_snapshot_that_cannot_be_used_costs_only_that(
    world: World, target: Target
) -> None:
    write(target)
    folder = world.there.path / "ns/apps" / FIRST
    (folder / "disk.img.fidx").write_bytes(b"no index")
    (folder / "parts.didx").unlink()
    assert write(target, SECOND) == 6


@pytest.mark.parametrize("longer_than", [0, HEADER_SIZE], ids=["manifest too", "index"])
def test_a_server_whose_previous_files_are_none(world: World, longer_than: int) -> None:
    def spoilt(kind: str, answer: Answer) -> Answer:
        is_file = kind == "previous" and answer.status == 200 and len(answer.body) > longer_than
        return replace(answer, body=b"junk") if is_file else answer

    world.serve(faults=Faults(on_answer=spoilt))
    with world.target() as target:
        write(target)
        assert write(target, SECOND) == 6


def test_what_is_not_finished_is_gone(world: World) -> None:
    with world.target() as target, target.create_snapshot(FIRST, "apps") as writer:
        writer.add_blob("app.conf.blob", b"")
        with pytest.raises(BusyError):
            target.create_snapshot(SECOND, "apps")
    world.settle()
    assert world.there.snapshots() == set()
    with (
        world.target() as target,
        pytest.raises(RuntimeError),
        target.create_snapshot(FIRST, "apps") as writer,
    ):
        writer.add_archive("parts.didx", _breaking())
    world.settle()
    assert world.there.snapshots() == set()


def _breaking() -> Iterator[bytes]:
    yield b"a chunk"
    raise RuntimeError("the caller's own")


def test_many_chunks_with_few_under_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_writer, "UNDER_WAY_BYTES", 2000)
    monkeypatch.setattr(snapshot_reader, "UNDER_WAY_BYTES", 2000)
    world.serve(TargetOptions(version=("3.3", "2")))  # lists of some 800 entries
    chunks = [f"chunk {number} ".encode() * 9 for number in range(1200)]
    with world.target() as target:
        with target.create_snapshot(FIRST) as writer:
            writer.add_archive("parts.didx", chunks)
            writer.finish()
        with target.open_snapshot(FIRST) as reader:
            assert list(reader.read_archive("parts.didx")) == chunks
            some = reader.read_archive("parts.didx")
            assert next(some) == chunks[0]
            with reader.open_index("parts.didx") as index:  # while others are under way
                assert (index.kind, len(index)) == ("dynamic", 1200)
    assert world.server.counters.snapshot().requests["PUT dynamic_index"] == 2


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("app.conf", "must end in .blob"),
        (".blob", "must end in .blob"),
        ("a/b.blob", "must end in .blob"),
        ("index.json.blob", "keeps for itself"),
        ("client.log.blob", "keeps for itself"),
        ("there.blob", "already"),
    ],
)
def test_names_that_cannot_be(target: Target, name: str, why: str) -> None:
    with target.create_snapshot(FIRST) as writer:
        writer.add_blob("there.blob", b"")
        with pytest.raises(ConfigError, match=why):
            writer.add_blob(name, b"")


def test_contents_that_cannot_be(target: Target) -> None:
    with target.create_snapshot(FIRST) as writer:
        with pytest.raises(ConfigError, match="at least one file"):
            writer.finish()
        with pytest.raises(ConfigError, match="at least one byte"):
            writer.add_image("a.fidx", io.BytesIO(), 0)
        with pytest.raises(ConfigError, match="ends 2 bytes before 5"):
            writer.add_image("b.fidx", io.BytesIO(b"abc"), 5)
        with pytest.raises(ConfigError, match="at least one chunk"):
            writer.add_archive("c.didx", [])
        with pytest.raises(ConfigError, match="1 to 16777216 bytes"):
            writer.add_archive("d.didx", [b""])
        with pytest.raises(ConfigError, match="more than a target takes"):
            writer.add_blob("e.blob", os.urandom((16 << 20) + 49))
        with pytest.raises(ConfigError, match=r"e\.blob: a blob of"):
            writer.add_blob("e.blob", os.urandom((128 << 20) + 1))
    with target.create_snapshot(FIRST) as writer:
        writer.add_blob("a.blob", b"")
        writer.finish()
        with pytest.raises(ConfigError, match="finished already"):
            writer.finish()
        with pytest.raises(ConfigError, match="nothing can be added"):
            writer.add_blob("b.blob", b"")


def test_refusals_are_told(world: World, target: Target) -> None:
    world.there.add("host/other", 1, owner=STRANGER)
    with pytest.raises(pbs_push.NotOwnerError):
        target.create_snapshot("host/other/2030-01-01T00:00:00Z")
    with pytest.raises(StatusError):
        target.create_snapshot(FIRST, "none")
    with pytest.raises(StatusError):
        target.open_snapshot(FIRST)
    write(target)
    with pytest.raises(StatusError, match="older"):
        target.create_snapshot(FIRST, "apps")


def test_only_the_first_login_may_have_run_out(world: World) -> None:
    clock = [0.0]
    identities = Identities.simple({"me@pbs": SECRET})
    options = TargetOptions(
        ticket_lifetime_s=100, clock=lambda: 1e9 + clock[0], bad_login_delay_s=0
    )
    world.serve(options, identities=identities)
    with world.target("me@pbs") as target:
        target.namespaces()
        clock[0] = 200.0
        with target.create_snapshot(FIRST) as writer:
            writer.add_blob("a.blob", b"")
            writer.finish()
    repository = world.server.repository(STORE, "me@pbs")
    with (
        Target(repository, "wrong", world.server.fingerprint) as target,
        pytest.raises(AuthError),
    ):
        target.open_snapshot(FIRST)


# -- what is read is checked --


def test_damage_there_is_told(world: World, target: Target) -> None:
    write(target)
    folder = world.there.path / "ns/apps" / FIRST
    chunk = max(world.there.chunk_files(), key=lambda path: path.stat().st_size)
    other = min(world.there.chunk_files(), key=lambda path: path.stat().st_size)
    chunk.write_bytes(other.read_bytes())
    (folder / "parts.didx").write_bytes((folder / "disk.img.fidx").read_bytes())
    blob = folder / "app.conf.blob"
    blob.write_bytes(blob.read_bytes()[::-1])
    with target.open_snapshot(FIRST, "apps") as reader:
        with pytest.raises(BlobFormatError, match="its content is another"):
            list(reader.read_archive("disk.img.fidx"))
        with pytest.raises(IndexFormatError, match="not the index that the manifest names"):
            reader.open_index("parts.didx")
        with pytest.raises(BlobFormatError, match="not the file that the manifest names"):
            reader.read_blob("app.conf.blob")
        with pytest.raises(ConfigError, match=r"no \.blob file 'parts\.didx'"):
            reader.read_blob("parts.didx")
        with pytest.raises(ConfigError, match=r"no \.fidx or \.didx file 'none\.fidx'"):
            reader.open_index("none.fidx")
        with pytest.raises(StatusError):
            reader.read_blob("client.log.blob")


def test_a_server_that_sends_no_index(world: World) -> None:
    def spoilt(kind: str, answer: Answer) -> Answer:
        is_index = kind == "GET download" and len(answer.body) > HEADER_SIZE
        return replace(answer, body=b"no index") if is_index else answer

    world.serve(faults=Faults(on_answer=spoilt))
    with world.target() as target:
        write(target)
        with (
            target.open_snapshot(FIRST, "apps") as reader,
            pytest.raises(IndexFormatError, match=f"parts.didx of {FIRST} at the target: "),
        ):
            reader.open_index("parts.didx")


def test_the_log_of_a_client(world: World, target: Target) -> None:
    world.there.add("vm/1", 1, client_log=b"finished\n")
    (item,) = target.snapshots()
    with target.open_snapshot(item.snapshot) as reader:
        assert reader.read_blob("client.log.blob") == b"finished\n"


def test_another_key_or_none_reads_nothing(target: Target) -> None:
    write(target, key=KEY)
    with pytest.raises(ManifestError, match="signature is not that of this key"):
        target.open_snapshot(FIRST, "apps", key=CryptKey(bytes(32)))
    with (
        target.open_snapshot(FIRST, "apps") as reader,
        pytest.raises(BlobFormatError, match="no key was given"),
    ):
        reader.read_blob("app.conf.blob")


def test_a_manifest_of_another_snapshot(world: World, target: Target) -> None:
    write(target)
    folder = world.there.path / "ns/apps"
    (folder / FIRST).rename(folder / SECOND)
    with pytest.raises(ManifestError, match=f"{SECOND} at the target: the manifest is that of"):
        target.open_snapshot(SECOND, "apps")


# -- lists, and the rest of the API --


def test_lists(target: Target) -> None:
    write(target)
    assert [str(one) for one in target.namespaces()] == ["", "apps"]
    assert [str(one) for one in target.namespaces("apps")] == ["apps"]
    (group,) = target.groups("apps")
    assert (str(group.group), group.backup_count, str(group.owner)) == ("host/app", 1, ME)
    assert [str(one.snapshot) for one in target.snapshots(namespace="apps")] == [FIRST]
    assert target.groups() == target.snapshots() == []


def test_any_call(world: World, target: Target) -> None:
    write(target)
    path = f"/admin/datastore/{STORE}/notes"
    where = {
        "ns": "apps",
        "backup-type": "host",
        "backup-id": "app",
        "backup-time": 1_767_225_600,
    }
    assert target.request("GET", path, where) == "by hand"
    target.request("PUT", path, {**where, "notes": "changed"})
    assert target.request("GET", path, where) == "changed"
    target.request("DELETE", f"admin/datastore/{STORE}/groups", where | {"backup-time": None})
    assert target.groups("apps") == []
    assert target.request("POST", f"admin/datastore/{STORE}/namespace", {"name": "b"}) == "b"
    with pytest.raises(ConfigError, match="'PATCH' is none of GET, POST, PUT, DELETE"):
        target.request("PATCH", path)
    with contextlib.ExitStack() as stack:
        other = World(world.folder / "other")
        stack.enter_context(other)
        other.serve(identities=only("Audit"))
        reader = stack.enter_context(other.target())
        with pytest.raises(DeniedError):
            reader.request("POST", f"admin/datastore/{STORE}/namespace", {"name": "b"})


def test_a_push_goes_on_from_a_snapshot_by_hand(world: World) -> None:
    """What was written by hand is the previous snapshot of one that is pushed."""
    with (
        world.target() as target,
        target.create_snapshot("vm/100/2026-01-01T00:00:00Z") as writer,
    ):
        content = world.source.writer._source.content(whole("a"))
        writer.add_image("disk.img.fidx", io.BytesIO(content), len(content))
        writer.finish()
    world.source.add("vm/100", 1, archives={"disk.img.fidx": (whole("a"), whole("b"))})
    pushed = world.push()
    assert pushed.report.stats.sent_chunks == 1
    found = verify_target(world.source.path, world.there.path, all_snapshots=False)
    assert found.problems == ()
