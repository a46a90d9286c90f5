"""What travels beside the archives: manifests, notes, protection (spec 05, "Each snapshot")."""

from __future__ import annotations

from pbs_push.formats.keys import CryptKey
from pbs_push.formats.manifest import Manifest

from .world import World, only

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


def test_group_notes_without_a_common_snapshot(world: World) -> None:
    world.source.add("vm/1", 0)
    (world.source.path / "vm/1/notes").write_text("here")
    world.there.add("vm/1", 5)
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
