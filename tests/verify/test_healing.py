"""The server's own verification, and sending again what is missing or bad at the target."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.push.world import ME, STRANGER, World, only

from pbs_push.demo.pieces import Piece
from pbs_push.errors import Cancelled, DeniedError
from pbs_push.formats.keys import CryptKey
from pbs_push.names import Group, Namespace
from pbs_push.remote.models import TaskStatus
from pbs_push.target import Faults, Identities, TargetOptions
from pbs_push.target.locks import try_lock
from pbs_push.target.rest import ENDPOINTS
from pbs_push.verify import healing
from pbs_push.verify.target import TargetVerification
from pbs_push.verify.target_events import (
    BadChunkFound,
    BadChunkTreated,
    ServerVerified,
    ServerVerifying,
    TargetVerifyEvent,
)
from pbs_push.verify.target_options import TargetVerifyOptions
from pbs_push.verify.target_report import CopyVerdict, Healing

from .target_world import ALL, DIDX, FIDX, VM, counts, flip, truncate, verify

V = CopyVerdict
KEY = CryptKey(bytes(range(1, 33)))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two groups that were pushed; one chunk is in all four snapshots."""
    with World(tmp_path) as made:
        fill(made)
        made.push()
        yield made


def fill(world: World) -> None:
    world.source.add(VM, 1)
    world.source.add(VM, 2, archives={FIDX: ("d",), DIDX: ("b", "e")})
    world.source.add("ct/7", 1, 2, ns="a/b")


def states(world: World) -> dict[tuple[str, int], str]:
    """What the manifests at the target say of their last verification."""
    folders = {
        (name, number): world.there.folder(name, number, ns=ns)
        for name, ns in ((VM, ""), ("ct/7", "a/b"))
        for number in (1, 2)
    }
    found = {}
    for key, folder in folders.items():
        state = world.there.unprotected(folder).get("verify_state")
        if state is not None:
            found[key] = state["state"]
    return found


def scratch_groups(world: World) -> list[Path]:
    world.settle()
    return [path for path in world.there.path.rglob(f"{healing.SCRATCH_PREFIX}*") if path.is_dir()]


# -- the server's own verification --


def test_the_server_verifies_and_is_waited_for(world: World) -> None:
    world.serve(faults=Faults(delays_s={"task verify_group": 0.5}))
    events: list[TargetVerifyEvent] = []
    report = verify(world, remote_verify=True, events=events)
    assert counts(report) == {"equal": 4}
    assert report.exit_status == 0
    assert set(states(world).values()) == {"ok"}
    assert [one.ok for one in report.server] == [2, 2]
    assert all(one.status == "OK" for one in report.server)
    assert sum(isinstance(event, ServerVerifying) for event in events) == 2
    assert sum(isinstance(event, ServerVerified) for event in events) == 2
    polls = world.server.counters.snapshot().requests["GET task status"]
    assert polls <= 2 * 5, "pauses grow"


def test_snapshots_that_the_server_finds_bad_are_told(world: World) -> None:
    flip(world.there.chunk_of("a"), -1)  # of vm/100, the first one, and of both of ct/7
    report = verify(world, remote_verify=True)
    assert counts(report) == {"equal": 1, "damaged": 3}
    assert report.exit_status == 3
    assert sorted(len(one.failed) for one in report.server) == [1, 2]
    assert not world.there.chunk_of("a").exists()


def test_an_old_failure_that_is_no_more_counts_no_more(world: World) -> None:
    state = {"state": "failed", "upid": "UPID:x"}
    world.there.rewrite_manifest(world.there.folder(VM, 1), verify_state=state)
    assert counts(verify(world)) == {"equal": 3, "damaged": 1}
    assert counts(verify(world, remote_verify=True)) == {"equal": 4}


def test_what_the_server_leaves_out_is_told(world: World) -> None:
    world.server.faults.delays_s = {"task verify_group": 0.3}
    locks = []

    def hold(event: TargetVerifyEvent) -> None:
        if isinstance(event, ServerVerifying):
            locks.append(try_lock(world.there.folder(VM, 1), exclusive=True))

    report = verify(world, remote_verify=True, listener=hold, group_filters=("group:vm/100",))
    for lock in locks:
        assert lock is not None
        lock.release()
    assert [len(one.not_done) for one in report.server] == [1]
    assert report.exit_status == 3


def test_without_the_right_to_verify_a_clear_word(world: World) -> None:
    held = frozenset(("Datastore.Read", "Datastore.Audit"))
    identities = Identities.simple({STRANGER: "secret"}, privileges=lambda _w, _p: held)
    world.serve(identities=identities)
    report = verify(world, who=STRANGER, remote_verify=True)
    assert counts(report) == {"equal": 4}
    assert [type(problem.error) for problem in report.problems] == [DeniedError, DeniedError]
    assert "takes Datastore.Verify there" in str(report.problems[0].error)
    assert report.exit_status == 3


def test_groups_of_others_cannot_be_verified_with_backup_alone(world: World) -> None:
    (world.there.path / VM / "owner").write_text(f"{STRANGER}\n")
    world.serve(identities=only("Backup", "Read", "Audit"))
    report = verify(world, remote_verify=True)
    assert counts(report) == {"equal": 4}
    (problem,) = report.problems
    assert "owning the group" in str(problem.error)
    assert [one.group for one in report.server] == ["ct/7"]


def test_a_server_without_verification_of_its_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {key: value for key, value in ENDPOINTS.items() if key != ("POST", "verify")}
    monkeypatch.setattr("pbs_push.target.http1.ENDPOINTS", kept)
    report = verify(world, remote_verify=True)
    (problem,) = report.problems
    assert "no verification of its own" in str(problem.error)


def test_a_task_that_takes_too_long_is_left_alone(world: World) -> None:
    world.serve(faults=Faults(delays_s={"task verify_group": 60}))
    report = verify(world, remote_verify=True, server_wait_s=0.3)
    assert [one.status for one in report.server] == [None]
    assert report.exit_status == 3
    assert report.to_dict()["server-verification"][0]["status"] is None


def test_waiting_for_the_server_can_be_cancelled(world: World) -> None:
    world.serve(faults=Faults(delays_s={"task verify_group": 60}))
    with world.target() as target:
        verification = TargetVerification(
            world.datastore(),
            target,
            TargetVerifyOptions(remote_verify=True),
            lambda event: verification.cancel() if isinstance(event, ServerVerifying) else None,
        )
        with pytest.raises(Cancelled):
            verification.run()


@pytest.mark.parametrize("answer", [None, 7, "no upid", "UPID:\x1b[31m", {"a": 1}])
def test_answers_that_are_no_task(
    world: World, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    def lie(_call: object) -> object:
        return answer

    endpoint = ENDPOINTS["POST", "verify"]
    changed = {**ENDPOINTS, ("POST", "verify"): type(endpoint)(endpoint.parameters, lie)}
    monkeypatch.setattr("pbs_push.target.http1.ENDPOINTS", changed)
    report = verify(world, remote_verify=True, group_filters=("group:vm/100",))
    (problem,) = report.problems
    assert "is no task" in str(problem.error)


def test_the_end_of_a_task_is_shown_in_one_line(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = TaskStatus("stopped", "\x1b[31mred\n" + "x" * 5000)
    monkeypatch.setattr("pbs_push.remote.api.TargetApi.task", lambda _self, _upid: status)
    report = verify(world, remote_verify=True, group_filters=("group:vm/100",))
    (found,) = report.server
    assert found.status is not None
    assert found.status.startswith("[31mred xxx")
    assert len(found.status) < 600


# -- healing --


def test_missing_chunks_are_sent_again(world: World) -> None:
    for label in "ab":
        world.there.chunk_of(label).unlink()
    events: list[TargetVerifyEvent] = []
    report = verify(world, sample=ALL, heal=True, events=events)
    assert counts(report) == {"equal": 4}
    assert report.exit_status == 0
    assert [one.healing for one in report.bad_chunks] == [Healing.HEALED] * 2
    assert scratch_groups(world) == []
    assert not (world.there.path / healing.SCRATCH_TYPE).exists() or not list(
        (world.there.path / healing.SCRATCH_TYPE).iterdir()
    )
    assert sum(isinstance(event, BadChunkFound) for event in events) == 2
    assert sum(isinstance(event, BadChunkTreated) for event in events) == 2
    again = verify(world, sample=ALL, heal=True)
    assert counts(again) == {"equal": 4}
    assert not again.bad_chunks
    assert "POST dynamic_chunk" not in world.server.counters.snapshot().requests


def test_what_the_server_marked_bad_is_found_without_downloads_and_healed(world: World) -> None:
    """As after a scheduled verification there, which renamed a chunk."""
    flip(world.there.chunk_of("b"), -1)
    verify(world, remote_verify=True)
    assert set(states(world).values()) == {"failed"}
    report = verify(world, heal=True)
    assert counts(report) == {"equal": 4}
    assert report.exit_status == 0
    assert [one.healing for one in report.bad_chunks] == [Healing.HEALED]
    assert set(states(world).values()) == {"ok"}, "the server was asked to verify again"
    assert len(report.server_again) == 2
    counted = world.server.counters.snapshot()
    assert counted.requests["GET chunk"] == 5 + 1, "each was asked for once, one was read back"
    assert scratch_groups(world) == []


def test_a_flipped_chunk_needs_the_servers_verification_first(world: World) -> None:
    flip(world.there.chunk_of("b"), -1)
    report = verify(world, sample=ALL, heal=True)
    (bad,) = report.bad_chunks
    assert bad.healing is Healing.STILL_BAD
    assert "--remote-verify" in bad.why
    assert report.exit_status == 3
    report = verify(world, sample=ALL, heal=True, remote_verify=True)
    (bad,) = report.bad_chunks
    assert bad.healing is Healing.HEALED
    assert counts(report) == {"equal": 4}
    assert report.exit_status == 0
    assert set(states(world).values()) == {"ok"}


def test_truncated_and_removed_chunks_converge(world: World) -> None:
    truncate(world.there.chunk_of("a"), 9)
    world.there.chunk_of("e").unlink()
    flip(world.there.chunk_of("c"), 20)
    report = verify(world, heal=True, remote_verify=True)
    assert counts(report) == {"equal": 4}
    assert {one.healing for one in report.bad_chunks} == {Healing.HEALED}
    assert len(report.bad_chunks) == 3
    final = verify(world, sample=ALL, remote_verify=True)
    assert counts(final) == {"equal": 4}
    assert final.exit_status == 0


@pytest.mark.parametrize("harm", ["missing", "flipped"])
def test_what_the_source_has_no_more_is_told_with_what_it_spoils(world: World, harm: str) -> None:
    world.there.chunk_of("a").unlink()
    world.there.chunk_of("d").unlink()
    if harm == "missing":
        world.source.chunk_of("a").unlink()
    else:  # well-formed, of another content
        content = world.source.chunk_of("b").read_bytes()
        world.source.chunk_of("a").write_bytes(content)
    report = verify(world, sample=ALL, heal=True)
    by_name = {one.digest.hex(): one for one in report.bad_chunks}
    lost = by_name[world.there.chunk_of("a").name]
    assert lost.healing is Healing.NOT_AT_SOURCE
    assert lost.why
    assert len(lost.spoils) == 3
    assert by_name[world.there.chunk_of("d").name].healing is Healing.HEALED
    assert counts(report) == {"equal": 1, "damaged": 3}
    assert not world.there.chunk_of("a").exists(), "what is not right is not sent"
    assert report.exit_status == 3


def test_chunks_that_were_encrypted_on_the_way_are_sealed_again(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        fill(world)
        world.push(encryption_key=KEY)
        lost = sorted(world.there.chunk_files())[:3]
        for path in lost:
            path.unlink()
        report = verify(world, sample=ALL, heal=True, key=KEY)
        assert counts(report) == {"equal": 4}
        assert report.exit_status == 0
        assert all(path.exists() for path in lost)
        assert counts(verify(world, sample=ALL, key=KEY)) == {"equal": 4}
        lost[0].unlink()
        world.source.chunk_of("a").unlink()
        world.source.chunk_of("b").unlink()
        for label in "cde":
            world.source.chunk_of(label).write_bytes(b"")
        report = verify(world, sample=ALL, heal=True, key=KEY)
        assert [one.healing for one in report.bad_chunks] == [Healing.NOT_AT_SOURCE]


def test_encrypted_chunks_are_sent_with_their_key_alone(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.source.add("vm/5", 1, encrypted=True)
        world.push()
        lost = next(world.there.chunk_files())
        lost.unlink()
        report = verify(world, sample=ALL, heal=True)
        (bad,) = report.bad_chunks
        assert bad.healing is Healing.NOT_CHECKABLE
        assert "without its key" in bad.why
        assert not lost.exists()
        report = verify(world, sample=ALL, heal=True, key=world.source.key)
        assert [one.healing for one in report.bad_chunks] == [Healing.HEALED]
        assert counts(report) == {"equal": 1}
        lost.unlink()
        here = world.source.path / ".chunks" / lost.name[:4] / lost.name
        other = next(path for path in world.source.chunk_files() if path != here)
        here.write_bytes(other.read_bytes())
        report = verify(world, sample=ALL, heal=True, key=world.source.key)
        assert [one.healing for one in report.bad_chunks] == [Healing.NOT_AT_SOURCE]


def test_many_chunks_are_sent_with_few_round_trips(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        pieces = tuple(Piece(f"p{i}", 5000, 300) for i in range(150))
        world.source.add(VM, 1, archives={DIDX: pieces})
        world.push()
        for path in list(world.there.chunk_files()):
            path.unlink()
        world.serve(TargetOptions(bad_login_delay_s=0, hold_answers_s=0.02))
        report = verify(world, sample=ALL, heal=True)
        assert counts(report) == {"equal": 1}
        counted = world.server.counters.snapshot()
        assert counted.requests["POST dynamic_chunk"] == 150
        # Two readers, with 150 chunks in two rows each, and the session that sends.
        assert counted.flights < 60 + 150 / 2


def test_without_the_right_to_back_up_nothing_is_sent(world: World) -> None:
    world.there.chunk_of("b").unlink()
    world.serve(identities=only("Read", "Audit", "Verify"))
    report = verify(world, sample=ALL, heal=True)
    (problem,) = report.problems
    assert "takes Datastore.Backup" in str(problem.error)
    assert [one.healing for one in report.bad_chunks] == [Healing.NOT_TRIED]
    assert report.exit_status == 3


def test_an_upload_that_is_refused_leaves_nothing_behind(world: World) -> None:
    world.there.chunk_of("b").unlink()

    def full(_digest: str) -> None:
        raise OSError(28, "No space left on device")

    world.server.faults.chunk_error = full
    report = verify(world, sample=ALL, heal=True)
    (problem,) = report.problems
    assert "No space left" in str(problem.error)
    assert scratch_groups(world) == []
    assert report.exit_status == 3


def test_a_scratch_group_that_a_server_leaves_is_removed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.there.chunk_of("b").unlink()
    monkeypatch.setattr(healing, "_GONE_WAITS_S", (0.01, 0.01))
    monkeypatch.setattr("pbs_push.target.session.Place.abandon", lambda self: self.release())
    report = verify(world, sample=ALL, heal=True)
    assert counts(report) == {"equal": 4}
    assert report.exit_status == 0
    assert scratch_groups(world) == []


def test_a_scratch_group_that_cannot_be_removed_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.there.chunk_of("b").unlink()
    monkeypatch.setattr(healing, "_GONE_WAITS_S", (0.01,))
    monkeypatch.setattr("pbs_push.target.session.Place.abandon", lambda self: self.release())
    world.serve(identities=only("Read", "Backup", "Audit"))
    report = verify(world, sample=ALL, heal=True)
    (problem,) = report.problems
    assert "made to heal in" in problem.what
    (left,) = scratch_groups(world)
    assert left.parent.name == "host"
    assert (left / "owner").read_text().strip() == ME


def test_the_scratch_group_lies_in_a_namespace_that_is_spoiled(world: World) -> None:
    world.push(source_namespace="a", target_namespace="x")
    world.there.chunk_of("b").unlink()
    seen: list[str] = []

    def look(kind: str, handled: bool) -> None:
        if kind == "POST dynamic_chunk" and handled:
            seen.extend(
                str(path.parent.relative_to(world.there.path))
                for path in world.there.path.rglob(f"{healing.SCRATCH_PREFIX}*")
            )

    world.server.faults.on_request = look
    report = verify(world, sample=ALL, heal=True, source_namespace="a", target_namespace="x")
    assert counts(report) == {"equal": 2}
    assert seen == [f"{Namespace.parse('x/b').disk_path}/host"]
    assert Group("host", f"{healing.SCRATCH_PREFIX}0").backup_type == healing.SCRATCH_TYPE


def test_healing_without_damage_begins_no_session(world: World) -> None:
    report = verify(world, sample=ALL, heal=True, remote_verify=True)
    assert counts(report) == {"equal": 4}
    counted = world.server.counters.snapshot()
    assert counted.sessions == 0


def test_the_document_tells_it_all(world: World) -> None:
    world.there.chunk_of("a").unlink()
    world.source.chunk_of("a").unlink()
    document = verify(world, sample=ALL, heal=True, remote_verify=True).to_dict()
    assert document["format"] == "pbs-push-verify-target"
    assert document["exit-status"] == 3
    assert document["snapshots"]["damaged"] == 3
    (chunk,) = document["bad-chunks"]
    assert chunk["healing"] == "not-at-source"
    assert chunk["archives"][0]["filename"] == FIDX
    assert document["server-verification"][0]["failed"]
