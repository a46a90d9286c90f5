"""What travels beside the archives: manifests, notes, protection (protocol/push.md)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pbs_push import Result
from pbs_push.errors import StatusError
from pbs_push.formats.blob import encode_blob
from pbs_push.formats.keys import CryptKey
from pbs_push.formats.manifest import Manifest
from pbs_push.remote.api import TargetApi
from pbs_push.remote.pacing import Pacer, Terms

from .world import World, only, time

# -- manifests and metadata --


def test_the_pushed_manifest(world: World) -> None:
    folder = world.source.add(
        "vm/1",
        0,
        encrypted=True,
        unprotected={
            "notes": "first line ä\nsecond",
            "verify_state": {"state": "ok", "upid": "UPID:x"},
            "from-the-future": {"a": [1, 2]},
        },
    )
    world.source.rewrite_manifest(folder, chunk_upload_stats={"count": 999})
    text = world.source.manifest(folder)
    assert "chunk_upload_stats" in text["unprotected"]
    assert world.push().report.exit_status == 0

    there = world.there.folder("vm/1", 0)
    made = world.there.manifest(there)
    assert made["files"] == text["files"]
    assert made["signature"] == text["signature"]
    kept = made["unprotected"]
    assert kept["notes"] == "first line ä\nsecond"
    assert kept["from-the-future"] == {"a": [1, 2]}
    assert kept["key-fingerprint"] == text["unprotected"]["key-fingerprint"]
    assert "verify_state" not in kept, "the target never checked it"
    assert kept["chunk_upload_stats"]["count"] == 3, "the target's own"
    manifest = Manifest.decode((there / "index.json.blob").read_bytes())
    assert manifest.verify_signature(world.source.key)
    assert not manifest.verify_signature(CryptKey(bytes(32)))


def test_a_failed_verification_at_the_source_does_not_travel(world: World) -> None:
    state = {"verify_state": {"state": "failed", "upid": "U"}}
    world.source.add("vm/1", 0, unprotected=state)
    world.source.add("vm/1", 1, unprotected=state)
    done = world.push()
    assert done.report.stats.sent_chunks == 3, "the second one still had a previous one"
    assert "verify_state" not in world.there.unprotected(world.there.folder("vm/1", 1))


def test_notes_are_synced_only_if_asked_for(world: World) -> None:
    """Lists show the first line, so it is the second that differs."""
    world.source.add("vm/1", 0, 1, unprotected={"notes": "same\nnew"})
    world.there.add("vm/1", 0, unprotected={"notes": "same\nold"})
    world.there.add("vm/1", 1, unprotected={"notes": "same\nnew"})
    (world.source.path / "vm/1/notes").write_text("group\nnew")
    (world.there.path / "vm/1/notes").write_text("group\nold")
    assert world.push().report.metadata_updates == 0
    assert world.there.unprotected(world.there.folder("vm/1", 0))["notes"] == "same\nold"
    done = world.push(sync_metadata=True)
    assert world.there.unprotected(world.there.folder("vm/1", 0))["notes"] == "same\nnew"
    assert (world.there.path / "vm/1/notes").read_text() == "group\nnew"
    assert done.report.metadata_updates == 2
    assert world.push(sync_metadata=True).report.metadata_updates == 0


def test_notes_are_taken_away_too(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/1", 0, unprotected={"notes": "old"})
    (world.there.path / "vm/1/notes").write_text("old")
    assert world.push(sync_metadata=True).report.metadata_updates == 2
    assert not world.there.unprotected(world.there.folder("vm/1", 0)).get("notes")


def test_notes_with_an_empty_first_line_are_seen(world: World) -> None:
    """Lists show that line alone, so that these look like none."""
    world.source.add("vm/1", 0)
    world.there.add("vm/1", 0, unprotected={"notes": "\nsecond"})
    (world.there.path / "vm/1/notes").write_text("\nsecond")
    assert world.push(sync_metadata=True).report.metadata_updates == 2
    assert not world.there.unprotected(world.there.folder("vm/1", 0)).get("notes")
    assert not (world.there.path / "vm/1/notes").read_text()


def test_a_dry_run_shows_what_would_be_set(world: World) -> None:
    world.source.add("vm/1", 0, unprotected={"notes": "same\nnew"}, protected=True)
    world.source.add("vm/1", 1, unprotected={"notes": "same"})
    world.source.add("vm/1", 2, protected=True)
    world.there.add("vm/1", 0, unprotected={"notes": "same\nold"})
    world.there.add("vm/1", 1, unprotected={"notes": "same"}, protected=True)
    world.source.group("ct/1", notes="of a new group")
    world.source.add("ct/1", 0)
    plan, _ = world.plan(sync_metadata=True, sync_protected=True)
    counted = world.server.counters.snapshot()
    assert not any(kind.startswith(("POST", "PUT", "DELETE")) for kind in counted.requests)
    planned = {
        (str(change.snapshot and change.snapshot.snapshot.backup_time), change.kind.name)
        for item in plan.namespaces
        for group in item.groups
        for change in group.changes
    }
    assert planned == {
        ("None", "GROUP_NOTES"),
        (str(time(0)), "NOTES"),
        (str(time(0)), "PROTECT"),
        (str(time(1)), "UNPROTECT"),
        (str(time(2)), "PROTECT"),
    }
    done = world.push(plan=plan, sync_metadata=True, sync_protected=True)
    assert done.report.metadata_updates == len(planned)
    assert done.report.exit_status == 0


def test_nothing_is_set_of_what_could_not_be_pushed(world: World) -> None:
    world.source.group("vm/1", notes="of the group")
    world.source.add("vm/1", 0, protected=True, archives={"disk.img.fidx": ("lost",)})
    world.source.chunk_of("lost").unlink()
    done = world.push(sync_metadata=True, sync_protected=True)
    assert len(done.errors) == 1
    assert done.report.metadata_updates == 0


def test_notes_that_cannot_be_compared_are_a_problem(world: World) -> None:
    world.source.add("vm/1", 0, 1)
    world.there.add("vm/1", 0)
    (world.source.folder("vm/1", 0) / "index.json.blob").write_bytes(b"no blob")
    done = world.push(sync_metadata=True)
    assert [text for text in done.errors if "comparing notes" in text]
    assert world.there.times("vm/1") == [0, 1]
    assert done.report.exit_status == 3


# -- logs that came late --


def late_log(world: World, number: int) -> Path:
    """A log at the source; where it would lie at the target."""
    blob = encode_blob(b"log\n" * 20)
    (world.source.folder("vm/1", number) / "client.log.blob").write_bytes(blob)
    return world.there.folder("vm/1", number) / "client.log.blob"


def test_a_late_log_goes_to_the_newest_that_both_have(world: World) -> None:
    """The target's newest was pruned here: only a list of its snapshots tells."""
    world.source.add("vm/1", 0, 1, 2, 3)
    world.push()
    shutil.rmtree(world.source.folder("vm/1", 3))
    late_log(world, 1)
    log = late_log(world, 2)
    plan, _ = world.plan()
    (group,) = plan.namespaces[0].groups
    assert group.log_for is not None
    assert group.log_for.snapshot.backup_time == time(2)
    done = world.push()
    assert done.counted.requests["GET snapshots"] == 2, "once to see it, once to be sure"
    assert done.report.logs_added == 1
    assert log.is_file()
    assert not (world.there.folder("vm/1", 1) / "client.log.blob").exists()
    again = world.push()
    assert again.report.logs_added == 0


def test_a_late_log_counts_for_the_rate_limit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.source.add("vm/1", 0)
    world.push()
    taken: list[int] = []
    real = Pacer.take

    def take(self: Pacer, count: int, terms: Terms | None = None) -> float:
        taken.append(count)
        return real(self, count, terms)

    monkeypatch.setattr(Pacer, "take", take)
    blob = encode_blob(os.urandom(300_000))
    (world.source.folder("vm/1", 0) / "client.log.blob").write_bytes(blob)
    assert world.push(rate_out=50_000_000).report.logs_added == 1
    assert sum(taken) == pytest.approx(len(blob), rel=0.01)
    assert (world.there.folder("vm/1", 0) / "client.log.blob").read_bytes() == blob


def test_a_long_log_that_is_refused_fails_no_snapshot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes after its snapshot, which is at the target then."""
    folder = world.source.add("vm/1", 0)
    (folder / "client.log.blob").write_bytes(encode_blob(os.urandom(17 << 20), compress=False))
    world.source.add("vm/1", 1)

    def refuse(*_arguments: object) -> None:
        raise StatusError("POST upload-backup-log", 400, "no space")

    monkeypatch.setattr(TargetApi, "upload_log", refuse)
    done = world.push()
    assert done.report.counts == {Result.PUSHED: 2}
    assert [problem.what for problem in done.report.problems] == [
        "vm/1/2026-05-28T20:26:40Z: adding its client log"
    ]
    assert done.report.exit_status == 3


def test_a_late_log_whose_snapshot_is_pruned_meanwhile_is_no_error(world: World) -> None:
    world.source.add("vm/1", 0)
    world.push()
    late_log(world, 0)
    source = world.datastore()
    plan, _ = world.plan()
    shutil.rmtree(world.source.folder("vm/1", 0))
    done = world.push(plan=plan, source=source)
    assert done.report.exit_status == 0
    assert done.told("is gone since it was listed") == 1


def test_no_list_is_asked_for_where_the_newest_there_is_known_here(world: World) -> None:
    for name in ("vm/1", "vm/2", "vm/3"):
        world.source.add(name, 0, 1)
        world.there.add(name, 0, 1)
    assert "GET snapshots" not in world.push().counted.requests
    for name in ("vm/1", "vm/2"):
        world.there.add(name, 3)
    assert world.push().counted.requests["GET snapshots"] == 1, "for all groups of a namespace"


def test_group_notes_without_a_common_snapshot(world: World) -> None:
    world.source.add("vm/1", 0)
    (world.source.path / "vm/1/notes").write_text("here")
    world.there.add("vm/1", -5)
    world.push(sync_metadata=True)
    assert (world.there.path / "vm/1/notes").read_text() == "here"


def test_group_notes_come_with_a_new_group(world: World) -> None:
    world.source.group("vm/1", notes="of the group")
    world.source.add("vm/1", 0)
    world.push(sync_metadata=True)
    assert (world.there.path / "vm/1/notes").read_text() == "of the group"


def test_the_protected_flag_is_synced_only_if_asked_for(world: World) -> None:
    world.source.add("vm/1", 0, 2, protected=True)
    world.source.add("vm/1", 1)
    world.there.add("vm/1", 0)
    world.there.add("vm/1", 1, protected=True)
    world.push()

    def protected() -> list[bool]:
        return [(world.there.folder("vm/1", number) / ".protected").exists() for number in range(3)]

    assert protected() == [False, True, False]
    done = world.push(sync_protected=True)
    assert protected() == [True, False, True]
    assert done.report.metadata_updates == 3


def test_a_refused_note_is_a_problem_of_its_own(world: World) -> None:
    world.source.add("vm/1", 0, 1, unprotected={"notes": "new"})
    world.there.add("vm/1", 0)
    world.there.add("vm/1", -1)
    world.serve(identities=only("Audit", "Backup", "Prune"))
    done = world.push(sync_metadata=True, remove_vanished=True)
    assert done.report.exit_status == 0, "Backup and owning suffice"
    assert world.there.times("vm/1") == [0, 1]
