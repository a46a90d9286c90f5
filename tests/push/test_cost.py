"""What a push costs, counted by the target and by the session: cost follows change."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pbs_push.demo.pieces import ZEROS, Piece
from pbs_push.formats.index import HEADER_SIZE
from pbs_push.formats.keys import CryptKey
from pbs_push.names import Group, Namespace
from pbs_push.push import negotiation
from pbs_push.push.attempt import _by_inode
from pbs_push.push.outcome import Result
from pbs_push.push.plan import GroupPlan
from pbs_push.push.schedule import (
    BUFFERS_TOGETHER,
    LEAST_BUFFER,
    LEAST_PARALLEL,
    MOST_PARALLEL,
    buffer_share,
    chosen_parallel,
    largest_first,
)
from pbs_push.remote.session import BackupSession, Call
from pbs_push.source.datastore import Datastore
from pbs_push.source.items import SourceGroup
from pbs_push.target.session import BackupSession as TargetSession
from pbs_push.target.session import KnownChunk, Turn

from .world import World, whole

IMAGE = "disk.img.fidx"


def _image(*changed: int, length: int = 300) -> dict[str, tuple[Piece, ...]]:
    pieces = [whole(f"piece {i % 7}") for i in range(length)]
    for number in changed:
        pieces[number] = whole(f"changed {number} {changed}")
    return {IMAGE: tuple(pieces)}


def test_nothing_new_is_one_request_a_namespace(world: World) -> None:
    for ns in ("", "a", "a/b"):
        for number in range(8):
            world.source.add(f"vm/{number}", 1, 2, ns=ns)
    world.push()
    again = world.push()
    assert again.counted.requests == {"GET version": 1, "GET namespace": 1, "GET groups": 3}


def test_remove_vanished_adds_one_request_a_namespace(world: World) -> None:
    for ns in ("", "a"):
        for number in range(8):
            world.source.add(f"vm/{number}", 1, ns=ns)
    world.push()
    again = world.push(remove_vanished=True)
    assert again.counted.requests == {
        "GET version": 1,
        "GET namespace": 1,
        "GET groups": 2,
        "GET snapshots": 2,
    }


def test_an_unchanged_image_needs_no_entry_list_and_no_old_index(world: World) -> None:
    world.source.add("vm/1", 1, 2, archives=_image())
    world.push()
    world.source.add("vm/1", 3, archives=_image())
    pushed = world.push()
    requests = pushed.counted.requests
    assert "PUT fixed_index" not in requests
    assert "POST fixed_chunk" not in requests
    assert requests["previous"] == 1  # the manifest


def test_few_changes_are_one_entry_list(world: World) -> None:
    world.source.add("vm/1", 1, archives=_image())
    world.push()
    world.source.add("vm/1", 2, archives=_image(3, 100, 299))
    pushed = world.push()
    assert pushed.counted.requests["POST fixed_chunk"] == 3
    assert pushed.counted.requests["PUT fixed_index"] == 1
    assert pushed.counted.requests["previous"] == 1
    assert pushed.report.stats.fallbacks == 0


def test_a_refused_copy_costs_no_chunk_that_is_known(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All entries are to be sent then, and so all chunks of the previous index count."""
    world.source.add("vm/1", 1, archives=_image())
    world.push()
    world.source.add("vm/1", 2, archives=_image(3))

    create = BackupSession.create_fixed

    def wrong(self: BackupSession, name: str, size: int, csum: bytes | None = None) -> Call:
        return create(self, name, size, None if csum is None else bytes(32))

    monkeypatch.setattr(BackupSession, "create_fixed", wrong)
    pushed = world.push()
    assert (pushed.report.exit_status, pushed.report.stats.fallbacks) == (0, 1)
    assert pushed.counted.requests["POST fixed_chunk"] == 1


def test_a_damaged_copy_of_the_previous_index_costs_no_known_chunk(world: World) -> None:
    """The target's own is downloaded then, although the source has that snapshot too."""
    folder = world.source.add("vm/1", 1, archives=_image())
    world.push()
    index = folder / IMAGE
    damaged = bytearray(index.read_bytes())
    damaged[5000] ^= 1
    index.write_bytes(damaged)
    world.source.add("vm/1", 2, archives=_image(3))
    pushed = world.push()
    assert pushed.report.exit_status == 0
    assert pushed.counted.requests["POST fixed_chunk"] == 1


def test_another_previous_index_at_the_target_costs_no_known_chunk(world: World) -> None:
    """The copy is refused, and what the target has instead is downloaded."""
    folder = world.source.add("vm/1", 1, archives=_image())
    world.push()
    shutil.rmtree(folder)
    world.source.add("vm/1", 1, 2, archives=_image(3))
    pushed = world.push()
    assert (pushed.report.exit_status, pushed.report.stats.fallbacks) == (3, 1), "it is told"
    assert pushed.counted.requests["POST fixed_chunk"] == 1


@pytest.mark.parametrize("left", [True, False], ids=["kept", "pruned"])
def test_a_renamed_archive_costs_no_known_chunk(world: World, left: bool) -> None:
    """Also where the source has pruned the previous snapshot: then all of it is asked for."""
    folder = world.source.add("vm/1", 1, archives=_image() | {"root.pxar.didx": "ab"})
    world.push()
    if not left:
        shutil.rmtree(folder)
    renamed = {"new.img.fidx": _image()[IMAGE], "root.pxar.didx": "acd"}
    world.source.add("vm/1", 2, archives=renamed)
    pushed = world.push()
    assert pushed.counted.chunks == 2, "c and d"
    assert pushed.counted.requests["previous"] == (3 if left else 4)


def test_no_more_renamed_archives_are_asked_for_than_a_session_can_write(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(negotiation, "MAX_INDEXES", 2)
    shutil.rmtree(world.source.add("vm/1", 1, archives={f"{n}.pxar.didx": "ab" for n in range(5)}))
    world.there.add("vm/1", 1, archives={f"{n}.pxar.didx": "ab" for n in range(5)})
    world.source.add("vm/1", 2, archives={"new.pxar.didx": "abc"})
    pushed = world.push()
    assert pushed.report.exit_status == 0
    assert pushed.counted.requests["previous"] == 2 + 2, "manifest, the one of our name, two more"


def test_what_a_damaged_previous_snapshot_refuses_is_counted(world: World) -> None:
    """The target found it damaged, so it registers nothing of it: all chunks go again."""
    archives = {"root.pxar.didx": ("a", "b")}
    world.source.add("vm/1", 1, archives=archives)
    world.push()
    there = world.there.folder("vm/1", 1)
    world.there.rewrite_manifest(there, verify_state={"state": "failed", "upid": "U"})
    world.source.add("vm/1", 2, archives=archives)
    pushed = world.push()
    assert (pushed.report.exit_status, pushed.report.stats.fallbacks) == (0, 1)
    assert pushed.counted.requests["POST dynamic_chunk"] == 2


KEY = CryptKey(bytes(range(100, 132)))


def _damage_end_offset(index: Path) -> None:
    """The server then takes the first two chunks to be longer or shorter than they are."""
    content = bytearray(index.read_bytes())
    content[HEADER_SIZE] ^= 1
    index.write_bytes(content)


def _first_size_stays(session: TargetSession, digest: bytes, size: int, turn: Turn) -> None:
    session._known.setdefault(digest, KnownChunk(size, turn.answer))


@pytest.mark.parametrize("key", [None, KEY], ids=["as it is", "with a key"])
@pytest.mark.parametrize("left", [True, False], ids=["kept", "pruned"])
@pytest.mark.parametrize("strict", [False, True], ids=["as PBS", "first size stays"])
def test_damage_in_the_targets_previous_index_stops_no_push(
    world: World, key: CryptKey | None, left: bool, strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a server that believes the damaged index, only doing without it altogether helps."""
    if strict:
        monkeypatch.setattr(TargetSession, "_know", _first_size_stays)
    folder = world.source.add("vm/1", 1, archives={"root.pxar.didx": "abc"})
    world.push(encryption_key=key)
    _damage_end_offset(world.there.folder("vm/1", 1) / "root.pxar.didx")
    world.source.add("vm/1", 2, archives={"root.pxar.didx": "abdc"})
    if not left:
        shutil.rmtree(folder)
    pushed = world.push(encryption_key=key)
    assert (pushed.report.exit_status, pushed.report.counts[Result.PUSHED]) == (0, 1), pushed.errors
    assert pushed.report.stats.fallbacks >= 1
    assert pushed.told("without the target's previous snapshot") == strict
    assert world.push(encryption_key=key).report.exit_status == 0


@pytest.mark.parametrize("key", [None, KEY], ids=["as it is", "with a key"])
@pytest.mark.parametrize("left", [True, False], ids=["kept", "pruned"])
def test_damage_in_the_size_of_the_targets_previous_image_stops_no_push(
    world: World, key: CryptKey | None, left: bool
) -> None:
    """The csum does not tell: it is over the digests alone."""
    small_disk = Piece("efi", 528 << 10, 300)
    folder = world.source.add("vm/1", 1, archives={IMAGE: (small_disk,)})
    world.push(encryption_key=key)
    index = world.there.folder("vm/1", 1) / IMAGE
    content = bytearray(index.read_bytes())
    content[64] ^= 1
    index.write_bytes(content)
    world.source.add("vm/1", 2, archives={IMAGE: (small_disk,)})
    if not left:
        shutil.rmtree(folder)
    pushed = world.push(encryption_key=key)
    assert (pushed.report.exit_status, pushed.report.counts[Result.PUSHED]) == (0, 1), pushed.errors


def test_what_the_plain_way_meets_too_is_sent_without_a_previous_snapshot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may have registered something else than what it lets us download."""

    def know_longer(session: TargetSession, digest: bytes, size: int, turn: Turn) -> None:
        previous = session.previous_time() is not None and digest not in uploaded
        session._known[digest] = KnownChunk(size + previous, turn.answer)

    uploaded: set[bytes] = set()
    upload = TargetSession.upload_chunk

    def upload_chunk(session: TargetSession, *arguments: Any, **more: Any) -> bool:
        uploaded.add(bytes.fromhex(arguments[2]))
        return upload(session, *arguments, **more)

    world.source.add("vm/1", 1, archives={"root.pxar.didx": "abc"})
    world.push()
    world.source.add("vm/1", 2, archives={"root.pxar.didx": "abdc"})
    monkeypatch.setattr(TargetSession, "_know", know_longer)
    monkeypatch.setattr(TargetSession, "upload_chunk", upload_chunk)
    pushed = world.push()
    assert (pushed.report.exit_status, pushed.report.stats.fallbacks) == (0, 2), pushed.errors
    assert pushed.told("trying again without the target's previous snapshot") == 1


def test_damage_in_one_previous_index_takes_no_shortcut_from_other_groups(world: World) -> None:
    for group in range(3):
        world.source.add(f"vm/{group}", 1, archives={"root.pxar.didx": "abc"})
    world.push()
    _damage_end_offset(world.there.folder("vm/0", 1) / "root.pxar.didx")
    for group in range(3):
        world.source.add(f"vm/{group}", 2, archives={"root.pxar.didx": "abdc"})
    pushed = world.push(parallel=1)
    assert pushed.report.exit_status == 0
    outcomes = {str(one.group): one.stats.fallbacks for one in pushed.report.outcomes}
    assert outcomes == {"vm/0": 2, "vm/1": 0, "vm/2": 0}


def test_a_chunk_that_moved_is_registered_and_not_sent(world: World) -> None:
    world.source.add("vm/1", 1, archives=_image())
    world.push()
    moved = list(_image()[IMAGE])
    moved[0], moved[1] = moved[1], moved[0]
    world.source.add("vm/1", 2, archives={IMAGE: tuple(moved)})
    pushed = world.push()
    assert "POST fixed_chunk" not in pushed.counted.requests
    assert pushed.counted.requests["previous"] == 2  # the manifest, and the index for registering
    assert pushed.counted.bytes_out < 20_000  # its body is not read to the end


def test_connections_are_opened_ahead_and_resumed(world: World) -> None:
    world.source.add("vm/1", 1, 2, 3, 4)
    pushed = world.push()
    assert pushed.counted.sessions == 4
    assert pushed.counted.tls_resumed >= 3


def test_zero_chunks_cross_once(world: World) -> None:
    world.source.add("vm/1", 1, archives={IMAGE: tuple(ZEROS for _ in range(40))})
    pushed = world.push()
    assert pushed.counted.requests["POST fixed_chunk"] == 1
    assert pushed.counted.requests["PUT fixed_index"] == 1


# -- the schedule --


@pytest.mark.parametrize(
    ("round_trip_s", "groups", "least", "most"),
    [
        (0.0, 100, LEAST_PARALLEL, MOST_PARALLEL),
        (0.0, 3, 3, 3),
        (0.05, 100, 33, MOST_PARALLEL),
        (5.0, 1000, MOST_PARALLEL, MOST_PARALLEL),
    ],
)
def test_more_groups_at_once_on_longer_links(
    round_trip_s: float, groups: int, least: int, most: int
) -> None:
    assert least <= chosen_parallel(round_trip_s, groups) <= most


def test_buffers_share_a_bound() -> None:
    assert buffer_share(1) == BUFFERS_TOGETHER
    assert buffer_share(4) * 4 <= BUFFERS_TOGETHER
    assert buffer_share(1000) == LEAST_BUFFER


def test_the_largest_group_goes_first(world: World) -> None:
    world.source.add("vm/1", 1)
    world.source.add("vm/2", 1, archives=_image())
    world.source.add("vm/3", 1, 2)
    source = Datastore(world.source.path)

    def plan(name: str, newest: int | None) -> GroupPlan:
        group = SourceGroup(Namespace(), Group.parse(name), None)
        snapshots = source.snapshots(group).snapshots
        return GroupPlan(group, Namespace(), newest, snapshots)

    plans = [plan("vm/1", None), plan("vm/3", None), plan("vm/2", None)]
    ordered = [str(item.source.group) for item in largest_first(plans, source)]
    assert ordered == ["vm/2", "vm/3", "vm/1"]
    known = [plan("vm/1", None), plan("vm/2", 1)]
    assert str(largest_first(known, source)[0].source.group) == "vm/1"


def test_chunks_in_the_order_of_inodes(world: World) -> None:
    world.source.add("vm/1", 1, archives=_image())
    opened = Datastore(world.source.path)
    group = opened.groups(Namespace())[0]
    with opened.open_snapshot(opened.snapshots(group).snapshots[0]) as snapshot:
        index = snapshot.open_index(IMAGE)
    chunks_fd = os.open(world.source.path / ".chunks", os.O_RDONLY)
    try:
        positions = np.array([6, 0, 3, 5], dtype=np.uint32)
        ordered = _by_inode(chunks_fd, index, positions)
    finally:
        os.close(chunks_fd)
    assert sorted(ordered) == sorted(positions)

    def inode(position: int) -> int:
        name = index.digests[position].tobytes().hex()
        return (world.source.path / ".chunks" / name[:4] / name).stat().st_ino

    inodes = [inode(int(position)) for position in ordered]
    assert inodes == sorted(inodes)
    index.close()
    pushed = world.push(chunk_order="inode")
    assert pushed.report.exit_status == 0
