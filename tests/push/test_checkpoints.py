"""Long snapshots are committed in parts, and a push goes on from what a broken one committed.

See docs/protocol/push.md, "Checkpoints".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push import (
    Cancelled,
    Checkpointed,
    CheckpointRule,
    ConfigError,
    Event,
    Push,
    PushOptions,
    Retrying,
)
from pbs_push.demo.pieces import Piece
from pbs_push.formats.keys import CryptKey
from pbs_push.names import Group, Snapshot
from pbs_push.push import checkpoint_memory, checkpointing
from pbs_push.push.checkpoint_mark import Mark
from pbs_push.push.outcome import Skip
from pbs_push.push.status import status
from pbs_push.target import Faults

from .world import CHUNK, FIRST, World, content_of, only, time, verify, whole

PART = 4 * CHUNK
KEY = bytes(range(1, 33))
IMAGE = tuple(whole(f"piece {number}") for number in range(40))
SMALL_PIECES = tuple(Piece(f"small {number}", 200_000, 300) for number in range(40))
OLD = tuple(whole(f"old {number}") for number in range(3))

FIXED: dict[str, Any] = {"disk.img.fidx": IMAGE}
DYNAMIC: dict[str, Any] = {"root.pxar.didx": SMALL_PIECES}
TWO: dict[str, Any] = {
    "disk.img.fidx": IMAGE[:20],
    "root.pxar.didx": (*SMALL_PIECES[:20], *SMALL_PIECES[:3]),
}


class Cut:
    """Cuts the line for good after so many chunks in all; ``chunks`` counts those that came."""

    def __init__(self, after: int | None = None) -> None:
        self.after = after
        self.chunks = 0

    def __call__(self, kind: str, handled: bool) -> None:
        if self.after is not None and self.chunks >= self.after:
            raise ConnectionResetError
        if kind.endswith("_chunk") and handled:
            self.chunks += 1

    def again(self, after: int | None = None) -> None:
        self.chunks, self.after = 0, after


def served(world: World, after: int | None = None) -> Cut:
    cut = Cut(after)
    world.serve(faults=Faults(on_request=cut))
    return cut


def mark_of(world: World, folder: Path) -> Mark | None:
    notes = world.there.unprotected(folder).get("notes")
    return Mark.read(notes, Snapshot.parse(f"vm/100/{folder.name}"))


def checkpoint_folders(world: World) -> list[Path]:
    """Those that lie in a group of the target."""
    return [one for one in (world.there.path / "vm/100").glob("*Z") if mark_of(world, one)]


def checkpoints_there(world: World) -> list[Mark]:
    return [mark for folder in checkpoint_folders(world) if (mark := mark_of(world, folder))]


def same_content(world: World, name: str, number: int, key: CryptKey) -> None:
    """A snapshot that was encrypted on the way holds what the source's does."""
    here, there = world.source.folder(name, number), world.there.folder(name, number)
    for file in world.source.manifest(here)["files"]:
        archive = file["filename"]
        plain = content_of(world.source.path, here, archive, None)
        assert content_of(world.there.path, there, archive, key) == plain


@pytest.mark.parametrize(
    ("archives", "part", "most"),
    [
        pytest.param(FIXED, f"{PART}B", 24, id="fixed"),
        pytest.param(DYNAMIC, "800kB", 24, id="dynamic"),
        pytest.param(TWO, f"{PART}B", 28, id="two archives"),
    ],
)
@pytest.mark.parametrize("kind", ["first", "previous", "encrypted", "on the way"])
def test_a_push_that_was_cut_in_the_middle_sends_the_rest(
    world: World, archives: Mapping[str, Any], part: str, most: int, kind: str
) -> None:
    encrypted = kind == "encrypted"
    options: dict[str, Any] = {"checkpoint": part}
    if kind == "on the way":
        options["encryption_key"] = CryptKey(KEY)
    cut = served(world)
    if kind == "previous":
        changed = {name: (*OLD, *pieces[3:6]) for name, pieces in archives.items()}
        world.source.add("vm/100", 0, archives=changed)
        assert world.push(**options).report.exit_status == 0
    world.source.add("vm/100", 1, archives=archives, encrypted=encrypted)
    cut.again(after=20)
    broken = world.push(**options)
    assert broken.report.exit_status != 0, broken.errors
    assert len(checkpoints_there(world)) == 1
    cut.again()
    rest = world.push(**options)
    assert rest.report.exit_status == 0, rest.errors
    assert cut.chunks <= most
    assert checkpoints_there(world) == []
    assert set(world.there.times("vm/100")) == set(world.source.times("vm/100"))
    if kind == "on the way":
        same_content(world, "vm/100", 1, CryptKey(KEY))
    else:
        verify(world)


def test_a_push_that_is_cut_again_and_again_arrives(world: World) -> None:
    """Each try gets a little further, over retries of one run and over runs."""
    world.source.add("vm/100", 0, archives=FIXED)
    cut = served(world)
    sent = 0
    for _ in range(3):
        cut.again(after=11)
        assert world.push(checkpoint=f"{PART}B").report.exit_status != 0
        sent += cut.chunks
        assert len(checkpoints_there(world)) == 1
    cut.again()
    last = world.push(checkpoint=f"{PART}B")
    assert last.report.exit_status == 0
    assert sent + cut.chunks <= len(IMAGE) + 3 * 4
    assert last.report.to_dict()["sums"]["checkpoints"] > 0
    assert world.there.times("vm/100") == [0]
    verify(world)


def test_a_retry_goes_on_from_the_checkpoint(world: World) -> None:
    world.source.add("vm/100", 0, archives=FIXED)
    cut = served(world, after=22)

    events: list[Event] = []

    def mend(event: Event) -> None:
        events.append(event)
        if isinstance(event, Retrying):
            cut.after = None

    with world.target() as target:
        options = PushOptions(checkpoint=CheckpointRule(size=PART))
        report = Push(world.datastore(), target, options, mend).run()
    world.settle()
    assert report.exit_status == 0
    assert report.retries >= 1
    assert cut.chunks <= len(IMAGE) + 4
    made = [event for event in events if isinstance(event, Checkpointed)]
    lefts = [event.left_bytes for event in made]
    assert lefts == sorted(lefts, reverse=True)
    assert report.stats.sent_chunks == len(IMAGE)
    assert report.stats.reused_entries == 0
    verify(world)


@pytest.mark.parametrize("number", [1, 3])
def test_a_checkpoint_whose_last_answer_was_lost_counts(world: World, number: int) -> None:
    """It is there: the next try goes on from it, and removes it in the end."""
    world.source.add("vm/100", 0, archives=DYNAMIC)
    finishes = 0

    def lose(kind: str, handled: bool) -> None:
        nonlocal finishes
        if kind == "POST finish" and handled:
            finishes += 1
            if finishes == number:
                raise ConnectionResetError

    world.serve(faults=Faults(on_request=lose))
    done = world.push(checkpoint="800kB", retries=3)
    assert done.report.exit_status == 0
    assert done.report.retries == 1
    assert done.counted.chunks == len(SMALL_PIECES)
    assert checkpoints_there(world) == []
    assert world.there.times("vm/100") == [0]
    verify(world)


def test_what_was_sent_and_lost_counts_as_sent(world: World) -> None:
    """Of a push that fails, and of one that is stopped, with its committed parts."""
    world.source.add("vm/100", 0, archives=DYNAMIC)
    served(world, after=20)
    failed = world.push(checkpoint="800kB").report.stats
    assert failed.checkpoints in {3, 4}
    assert failed.sent_chunks == 4 * failed.checkpoints
    assert failed.sent_bytes > 0
    assert failed.requests > failed.sent_chunks

    def stop(event: Event) -> None:
        if isinstance(event, Checkpointed):
            push.cancel()

    with World(world.folder / "stopped") as other, other.target() as target:
        other.source.add("vm/100", 0, archives=DYNAMIC)
        options = PushOptions(checkpoint=CheckpointRule.parse("800kB"))
        push = Push(other.datastore(), target, options, stop)
        with pytest.raises(Cancelled):
            push.run()
        assert push.report.stats.sent_chunks == 4
        assert push.report.stats.sent_bytes > 0
        assert push.report.remains == 1


def test_what_was_sent_counts_for_its_own_snapshot(world: World) -> None:
    """The first one is there, though its last answer was lost; the second has nothing to send."""
    world.source.add("vm/100", 0, 1, archives=DYNAMIC)
    finishes = 0

    def lose(kind: str, handled: bool) -> None:
        nonlocal finishes
        if kind == "POST finish" and handled:
            finishes += 1
            if finishes == 1:
                raise ConnectionResetError

    world.serve(faults=Faults(on_request=lose))
    done = world.push(checkpoint="off", retries=3)
    assert done.report.exit_status == 0
    assert done.report.stats.sent_bytes > 0
    (second,) = [one for one in done.report.outcomes if one.newest == time(1)]
    assert second.stats.sent_bytes == 0


def test_without_the_right_to_remove_it_there_is_none(world: World) -> None:
    world.serve(identities=only("Backup"))
    world.source.add("vm/100", 0, archives=FIXED)
    done = world.push(checkpoint=f"{PART}B")
    assert done.report.exit_status == 0
    assert done.told("no checkpoints: the remote user may not remove it afterwards") == 1
    assert done.counted.sessions == 1
    assert done.report.stats.checkpoints == 0


def small_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointing, "_WORTH_IT", 16 * CHUNK)
    monkeypatch.setattr(checkpointing, "_LEAST_PART", 2 * CHUNK)
    monkeypatch.setattr(checkpointing, "_LEAST_SECONDS", 0)


def test_by_itself_only_what_is_long_gets_checkpoints(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_auto(monkeypatch)
    world.source.add("vm/1", 0, archives={"disk.img.fidx": IMAGE[:16]})
    world.source.add("vm/2", 0, archives={"disk.img.fidx": IMAGE[16:]})
    done = world.push()
    assert done.report.exit_status == 0
    made = [event for event in done.events if isinstance(event, Checkpointed)]
    assert {str(event.snapshot.snapshot.group) for event in made} == {"vm/2"}
    assert 5 <= done.report.stats.checkpoints <= 12
    # What changed little is not long, however large it is.
    world.source.add("vm/2", 1, archives={"disk.img.fidx": (*OLD, *IMAGE[19:])})
    again = world.push()
    assert again.report.exit_status == 0
    assert again.report.stats.checkpoints == 0
    verify(world)


def test_by_itself_nothing_is_said_of_rights(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    small_auto(monkeypatch)
    world.serve(identities=only("Backup"))
    world.source.add("vm/2", 0, archives=FIXED)
    done = world.push()
    assert done.report.exit_status == 0
    assert done.told("checkpoint") == 0
    assert done.counted.requests["GET permissions"] == 1


def test_off_is_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    small_auto(monkeypatch)
    world.source.add("vm/2", 0, archives=FIXED)
    done = world.push(checkpoint="off")
    assert done.report.stats.checkpoints == 0
    assert "GET permissions" not in done.counted.requests


def test_parts_by_time_go_by_the_rate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first part tells the rate; the next ones are at most some times as long."""
    monkeypatch.setattr(checkpointing, "_FIRST_BYTES", PART)
    monkeypatch.setattr(checkpointing, "_GROWTH", 2)
    world.source.add("vm/2", 0, archives=FIXED)
    done = world.push(checkpoint="1d")
    lefts = [event.left_bytes // CHUNK for event in done.events if isinstance(event, Checkpointed)]
    assert lefts == [36, 28, 12]
    verify(world)


def remembered() -> list[Path]:
    """What is kept of groups that may have a checkpoint."""
    folder = checkpoint_memory.OF_ROOT
    return list(folder.iterdir()) if folder.exists() else []


class End:
    """Cuts the line for good at the first of such requests, as for a process that is killed."""

    def __init__(self, moment: str) -> None:
        self.moment: str | None = moment
        self.came = False

    def __call__(self, kind: str, _handled: bool) -> None:
        self.came = self.moment is not None and (self.came or kind == self.moment)
        if self.came:
            raise ConnectionResetError


@pytest.mark.parametrize("with_list", [False, True])
def test_one_left_behind_its_snapshot_is_removed_by_the_next_push(
    world: World, monkeypatch: pytest.MonkeyPatch, with_list: bool
) -> None:
    """Its run ended between the end of the real snapshot and the removal: no list shows that."""
    monkeypatch.setattr(checkpoint_memory, "OF_ROOT", world.folder / "state")
    world.source.add("vm/1", 0, archives={"disk.img.fidx": IMAGE[:4]})
    world.source.add("vm/100", 0, archives=FIXED)
    end = End("DELETE snapshots")
    world.serve(faults=Faults(on_request=end))
    # The first part is removed once the second one is there.
    assert world.push(checkpoint=f"{18 * CHUNK}B").report.exit_status == 0
    assert (len(checkpoints_there(world)), world.there.times("vm/100")[-1]) == (1, 0)
    (kept,) = remembered()
    assert kept.read_text().startswith("vm/100 in root namespace of datastore")
    end.moment = None
    done = world.push(remove_vanished=with_list)
    assert done.report.exit_status == 0
    assert checkpoints_there(world) == []
    assert done.counted.requests["GET snapshots"] == 1
    assert remembered() == []
    assert "GET snapshots" not in world.push().counted.requests
    verify(world)


def test_where_nothing_can_be_remembered_a_push_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.folder / "file").write_bytes(b"")
    monkeypatch.setattr(checkpoint_memory, "OF_ROOT", world.folder / "file")
    world.source.add("vm/100", 0, archives=FIXED)
    done = world.push(checkpoint=f"{PART}B")
    assert done.report.exit_status == 0
    assert checkpoints_there(world) == []
    verify(world)


def test_a_left_checkpoint_hides_nothing(world: World) -> None:
    """Not from transfer-last, nor from the rules of what vanished, nor what is there already."""
    world.source.add("vm/100", 0)
    world.source.add("vm/100", 1, archives=FIXED)
    cut = served(world, after=20)
    broken = world.push(checkpoint=f"{PART}B")
    assert broken.report.exit_status != 0
    cut.again()
    assert len(checkpoints_there(world)) == 1
    plan, _report = world.plan(remove_vanished=True, max_removals=0, transfer_last=1)
    group = plan.namespaces[0].groups[0]
    assert [item.snapshot.backup_time for item in group.snapshots] == [time(1)]
    assert group.vanished == ()
    assert plan.no_removals is None
    assert [one.mark.of.backup_time for one in group.checkpoints] == [time(1)]
    with world.target() as target:
        (one,) = status(world.datastore(), target, PushOptions())
    assert (one.behind, one.checkpoints, one.exact) == ((time(1),), 1, True)
    assert one.plain_bytes == (len(IMAGE) - 16) * CHUNK, "what the checkpoint has need not go again"
    assert group.to_dict()["checkpoints"] == [group.checkpoints[0].snapshot.backup_time]
    assert group.alerts == ()


def test_a_checkpoint_of_what_the_source_lost_goes(world: World) -> None:
    folder = world.source.add("vm/100", 1, archives=FIXED)
    world.source.add("vm/200", 0)
    cut = served(world, after=20)
    world.push(checkpoint=f"{PART}B")
    cut.again()
    assert len(checkpoints_there(world)) == 1
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    world.source.add("vm/100", 2)
    done = world.push()
    assert done.report.exit_status == 0
    assert checkpoints_there(world) == []
    assert world.there.times("vm/100") == [2]
    # And where nothing is to be pushed at all.
    cut.again(after=20)
    world.source.add("vm/100", 3, archives={"disk.img.fidx": IMAGE[::-1]})
    shifted = world.source.folder("vm/100", 3)
    world.push(checkpoint=f"{PART}B")
    cut.again()
    assert len(checkpoints_there(world)) == 1
    for file in shifted.iterdir():
        file.unlink()
    shifted.rmdir()
    assert world.push().report.exit_status == 0
    assert checkpoints_there(world) == []


def test_what_is_not_ours_stays(world: World) -> None:
    """Somebody's notes are no mark, nor is one of another group, or of an impossible time."""
    world.source.add("vm/100", 5)
    snapshot = Snapshot(Group("vm", "100"), time(5))
    other = Mark(Snapshot(Group("vm", "101"), time(5)), 3, None)
    for number, notes in enumerate(
        (
            "my notes on a pbs-push checkpoint",
            other.notes,
            Mark(snapshot, 3, time(4)).notes,
            Mark(snapshot, 3, None).notes + "x",
            " " + Mark(snapshot, 3, None).notes,
        )
    ):
        folder = world.there.add("vm/100", number)
        world.there.rewrite_manifest(folder, notes=notes)
    done = world.push()
    assert done.report.exit_status == 0
    # The fourth has a mark in its first line, whatever follows it.
    assert world.there.times("vm/100") == [0, 1, 2, 4, 5]


def test_a_checkpoint_at_the_source_is_not_pushed(world: World) -> None:
    """The source may be the target of another push. It does not count for transfer-last either."""
    world.source.add("vm/100", 1)
    folder = world.source.add("vm/100", 2)
    of = Snapshot(Group("vm", "100"), time(9))
    world.source.rewrite_manifest(folder, notes=Mark(of, 1, time(1)).notes)
    plan, _report = world.plan(transfer_last=1)
    assert plan.to_push == 1
    assert plan.settled().skips == {Skip.CHECKPOINT: 1}
    done = world.push(transfer_last=1)
    assert done.report.exit_status == 0
    assert world.there.times("vm/100") == [1]
    assert done.report.skips[Skip.CHECKPOINT] == 1


def test_where_no_time_is_left_there_is_none(world: World) -> None:
    world.source.add("vm/100", 0)
    world.push()
    folder = world.source.add("vm/100", 1, archives=FIXED)
    text = world.source.manifest(folder)
    text["backup-time"] = time(0) + 1
    world.source.write_manifest(folder, text)
    folder.rename(folder.with_name(Snapshot(Group("vm", "100"), time(0) + 1).time_text))
    done = world.push(checkpoint=f"{PART}B")
    assert done.report.exit_status == 0
    assert done.told("there is no time left between") == 1
    verify(world)


def test_a_mark_that_lies_costs_nothing_but_work(world: World) -> None:
    """Who may write at the target could claim that a checkpoint holds what it does not."""
    world.source.add("vm/100", 1, archives=TWO)
    cut = served(world, after=20)
    world.push(checkpoint=f"{PART}B")
    cut.again()
    (folder,) = (world.there.path / "vm/100").glob("*Z")
    (mark,) = checkpoints_there(world)
    world.there.rewrite_manifest(folder, notes=Mark(mark.of, mark.entries + 9, None).notes)
    done = world.push(checkpoint=f"{PART}B")
    assert done.report.exit_status == 0
    assert checkpoints_there(world) == []
    verify(world)


def test_a_checkpoint_that_is_pruned_meanwhile_costs_its_chunks(world: World) -> None:
    world.source.add("vm/100", 1, archives=FIXED)

    def prune(kind: str, handled: bool) -> None:
        if kind == "upgrade" and not handled:
            for folder in (world.there.path / "vm/100").glob("*Z"):
                if (folder / "index.json.blob").exists():
                    for file in folder.iterdir():
                        file.unlink()
                    folder.rmdir()

    world.serve(faults=Faults(on_request=prune))
    done = world.push(checkpoint=f"{4 * PART}B")
    assert done.report.exit_status == 0
    assert world.there.times("vm/100") == [1]
    verify(world)


def test_a_dead_folder_in_its_place_is_no_reason_to_fail(world: World) -> None:
    world.source.add("vm/100", 0)
    world.push()
    world.source.add("vm/100", 1, archives=FIXED)
    dead = Snapshot(Group("vm", "100"), time(0) + 1)
    (world.there.path / str(dead)).mkdir()
    done = world.push(checkpoint=f"{PART}B")
    assert done.report.exit_status == 0
    assert done.told("no checkpoint: ") == 1
    verify(world)


def test_what_a_checkpoint_holds_is_whole(world: World) -> None:
    """Anybody may read, verify, pull or prune it: its indexes and chunks are there."""
    world.source.add("vm/100", 0, archives={"disk.img.fidx": (*OLD, *IMAGE[3:20])})
    world.push()
    world.source.add("vm/100", 1, archives=TWO)
    cut = served(world, after=9)
    world.push(checkpoint="8MiB")
    cut.again()
    (folder,) = checkpoint_folders(world)
    files = world.there.manifest(folder)["files"]
    assert files
    for file in files:
        assert len(content_of(world.there.path, folder, file["filename"], None)) == file["size"]


# -- values --


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("auto", CheckpointRule()),
        ("off", CheckpointRule(off=True)),
        ("4GiB", CheckpointRule(size=4 << 30)),
        ("30M", CheckpointRule(size=30_000_000)),
        ("1000B", CheckpointRule(size=1000)),
        ("30m", CheckpointRule(seconds=1800)),
        ("1.5h", CheckpointRule(seconds=5400)),
        (" 2d ", CheckpointRule(seconds=172_800)),
    ],
)
def test_rules(text: str, rule: CheckpointRule) -> None:
    assert CheckpointRule.parse(text) == rule
    assert PushOptions(checkpoint=text).checkpoint == rule  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "90", "4 X", "0B", "0s", "-1GiB", "Auto", "m", "1y"])
def test_no_rules(text: str) -> None:
    with pytest.raises(ConfigError):
        CheckpointRule.parse(text)


def test_a_rule_is_one_thing() -> None:
    with pytest.raises(ConfigError, match="either"):
        CheckpointRule(size=1, off=True)


@given(
    st.integers(2, 2**40),
    st.integers(0, 10**15 - 1),
    st.none() | st.integers(1, 2**33),
    st.integers(1, 1000),
)
def test_a_mark_is_read_back(of_time: int, entries: int, base: int | None, between: int) -> None:
    group = Group("vm", "a.b-c_d")
    at = (base or 0) + between
    of = Snapshot(group, min(at + of_time, 2**36))
    if at >= of.backup_time:
        return
    mark = Mark(of, entries, base)
    assert Mark.read(mark.notes, Snapshot(group, at)) == mark
    assert Mark.read(mark.notes.split("\n")[0], Snapshot(group, at)) == mark
    assert Mark.read(mark.notes, Snapshot(Group("ct", "a.b-c_d"), at)) is None


@given(st.text())
def test_no_text_is_a_mark_by_chance(text: str) -> None:
    snapshot = Snapshot(Group("vm", "1"), FIRST)
    assert Mark.read(text, snapshot) is None
    Mark.read(f"pbs-push checkpoint of {text}", snapshot)
