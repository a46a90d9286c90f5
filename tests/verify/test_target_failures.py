"""What goes wrong while a target is verified: told, and of the rest nothing is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.push.imitation import ImitationServer
from tests.push.world import MY_USER, SECRET, STORE, World, only

from pbs_push.errors import (
    AuthError,
    DeniedError,
    PbsPushError,
    ProtocolError,
    SourceError,
    StatusError,
)
from pbs_push.formats.keys import CryptKey
from pbs_push.names import Group, Namespace
from pbs_push.remote.api import TargetApi
from pbs_push.remote.models import SnapshotItem
from pbs_push.source.datastore import Datastore
from pbs_push.target import TargetOptions
from pbs_push.target.answers import Refusal
from pbs_push.target.reader import ReaderSession
from pbs_push.verify import spoiled
from pbs_push.verify.target_events import TargetVerifyBegan, TargetVerifyEvent
from pbs_push.verify.target_report import CopyVerdict, Healing

from .target_world import ALL, DIDX, VM, counts, flip, index_of, only_result, verify
from .test_target_keys import resign

V = CopyVerdict
KEY = CryptKey(bytes(range(1, 33)))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        made.source.add(VM, 1, 2)
        made.source.add("ct/7", 1, ns="a")
        made.push()
        yield made


def failing(method: str, error: PbsPushError, namespace: str) -> Callable[..., Any]:
    """A call of the API that fails for one namespace."""
    right = getattr(TargetApi, method)

    def call(self: TargetApi, where: Namespace, *more: Any) -> Any:
        if str(where) == namespace:
            raise error
        return right(self, where, *more)

    return call


def test_a_namespace_that_cannot_be_listed_is_a_problem(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = StatusError("GET snapshots", 500, "broken")
    monkeypatch.setattr(TargetApi, "snapshots", failing("snapshots", error, "a"))
    report = verify(world)
    assert counts(report) == {"equal": 2}
    assert [problem.error for problem in report.problems] == [error]
    assert report.exit_status == 3


def test_only_one_side_of_namespaces_can_be_listed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.there.add("ct/1", 1, ns="only/there")
    denied = DeniedError("GET snapshots", 403, "no")
    with monkeypatch.context() as patch:
        patch.setattr(TargetApi, "snapshots", failing("snapshots", denied, "only/there"))
        report = verify(world)
    assert counts(report) == {"equal": 3}
    assert [problem.what for problem in report.problems] == ["target namespace only/there"]
    with monkeypatch.context() as patch:
        patch.setattr(TargetApi, "namespaces", failing("namespaces", denied, ""))
        report = verify(world)
    assert counts(report) == {"equal": 3}
    assert "namespaces below" in report.problems[0].what
    with monkeypatch.context() as patch:
        none = ProtocolError("no namespaces here")
        patch.setattr(TargetApi, "namespaces", failing("namespaces", none, ""))
        report = verify(world)
    assert (counts(report), report.problems) == ({"equal": 3}, [])


@pytest.mark.parametrize("what", ["namespaces", "snapshots"])
def test_a_login_that_is_refused_meanwhile_ends_it(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    world.there.make_namespace("only")
    error = AuthError("refused")
    where = "" if what == "namespaces" else "only"
    monkeypatch.setattr(TargetApi, what, failing(what, error, where))
    with pytest.raises(AuthError):
        verify(world)


def test_groups_of_the_source_that_cannot_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.source.path / VM / "2026-13-77T99:00:00Z").mkdir()
    events: list[TargetVerifyEvent] = []
    assert counts(verify(world, events=events)) == {"equal": 3}
    assert any("2026-13-77T99:00:00Z: skipped" in str(event) for event in events)
    right = Datastore.contents

    def contents(self: Datastore, namespace: Namespace) -> Iterator[Any]:
        for group, found in right(self, namespace):
            broken = str(group.group) == VM
            yield group, SourceError("a bad sector", errno=5) if broken else found

    monkeypatch.setattr(Datastore, "contents", contents)
    report = verify(world)
    assert counts(report) == {"equal": 1}
    assert report.problems[0].what == f"source group {VM}"


def test_a_ticket_that_runs_out_in_the_middle_is_renewed(world: World) -> None:
    now = [1e9]
    world.serve(TargetOptions(bad_login_delay_s=0, clock=lambda: now[0]))

    def later(event: TargetVerifyEvent) -> None:
        if isinstance(event, TargetVerifyBegan):
            now[0] += 10_000

    world.there.chunk_of("b").unlink()
    report = verify(world, who=MY_USER, listener=later, sample=ALL, heal=True)
    assert counts(report) == {"equal": 3}
    assert report.exit_status == 0


def test_an_index_there_of_another_length_or_kind(world: World) -> None:
    other = world.there.add("vm/1", 1, archives={DIDX: ("b", "c", "d")})
    path = world.there.folder(VM, 1) / DIDX
    path.write_bytes((other / DIDX).read_bytes())
    text = world.there.manifest(world.there.folder(VM, 1))
    wrong = next(file for file in text["files"] if file["filename"] == DIDX)
    right = next(file for file in world.there.manifest(other)["files"] if file["filename"] == DIDX)
    wrong.update(right)
    world.there.write_manifest(world.there.folder(VM, 1), text)
    only_result(verify(world), V.DIFFERENT, "2 entries of 10000 bytes here, 3 of 15000")


def test_a_blob_that_is_another_with_a_manifest_that_fits(world: World) -> None:
    other = world.there.add("vm/1", 1, blobs={"some.conf.blob": b"other\n"})
    folder = world.there.folder(VM, 1)
    (folder / "some.conf.blob").write_bytes((other / "some.conf.blob").read_bytes())
    text, fits = world.there.manifest(folder), world.there.manifest(other)
    name = "some.conf.blob"
    entry = next(file for file in text["files"] if file["filename"] == name)
    entry.update(next(file for file in fits["files"] if file["filename"] == name))
    world.there.write_manifest(folder, text)
    only_result(verify(world), V.DIFFERENT, "csum", "its bytes are not the source's")


def test_a_signature_that_is_another(world: World) -> None:
    folder = world.there.folder(VM, 1)
    text = world.there.manifest(folder)
    text["signature"] = "ab" * 32
    world.there.write_manifest(folder, text)
    only_result(verify(world), V.DIFFERENT, "the signatures differ")


@pytest.mark.parametrize(("status", "fault"), [(401, "unreadable"), (418, "unreadable")])
def test_chunks_that_are_not_given(
    world: World, monkeypatch: pytest.MonkeyPatch, status: int, fault: str
) -> None:
    def refuse(*_: object) -> bytes:
        raise Refusal(status, "not today")

    monkeypatch.setattr(ReaderSession, "chunk", refuse)
    report = verify(world, sample=ALL)
    assert {one.fault for one in report.bad_chunks} == {fault}


def test_a_server_that_is_busy_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, tries = ReaderSession.chunk, []

    def busy(self: ReaderSession, *more: Any) -> bytes:
        if not tries:
            tries.append(1)
            raise Refusal(503, "busy")
        return right(self, *more)

    monkeypatch.setattr(ReaderSession, "chunk", busy)
    report = verify(world, sample=ALL, retries=2)
    assert counts(report) == {"equal": 3}
    assert report.chunks.ok == 3


def test_files_that_are_not_given_for_another_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise Refusal(500, "out of order")

    monkeypatch.setattr(ReaderSession, "download", refuse)
    report = verify(world)
    assert counts(report) == {"unreadable": 3}
    assert "out of order" in str(report.results[0].differences[0])


def test_whom_damage_spoils_is_not_always_known(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **_more: object) -> Iterator[Any]:
        raise SourceError("gone")
        yield

    monkeypatch.setattr(spoiled, "_indexes", broken)
    world.there.chunk_of("b").unlink()
    events: list[TargetVerifyEvent] = []
    report = verify(world, sample=ALL, heal=True, events=events)
    (bad,) = report.bad_chunks
    assert bad.healing is Healing.STILL_BAD
    assert bad.why == "it could not be read back"
    assert any("what damage spoils it is not known" in str(event) for event in events)
    assert world.there.chunk_of("b").exists()
    assert report.exit_status == 3


def test_names_and_numbers_of_a_target_are_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = TargetApi.snapshots

    def more(self: TargetApi, namespace: Namespace, group: Group | None = None) -> Any:
        found = right(self, namespace, group)
        odd = [
            SnapshotItem("vm", "../up", 1, size=1),
            SnapshotItem("vm", "9", 10**17, size=1),
            SnapshotItem("vm", "9", -(10**17), size=1),
        ]
        return [*found, *odd, *(SnapshotItem("vm", "9", time, size=1) for time in range(1, 9))]

    monkeypatch.setattr(TargetApi, "snapshots", more)
    monkeypatch.setattr("pbs_push.verify.target_report.MOST_TARGET_ONLY", 5)
    report = verify(world)
    assert counts(report) == {"equal": 3, "target-only": 8 * 2}
    assert len(report.results) == 5
    assert all(result.place.label for result in report.results)


def test_a_server_that_cannot_be_read_back(world: World) -> None:
    """One that imitates PBS: nothing is called equal, and nothing crashes."""
    server = ImitationServer({STORE: world.there.path}, user=MY_USER, secret=SECRET)
    with server:
        world.server = server
        report = verify(world, who=MY_USER, sample=ALL, remote_verify=True, max_depth=0)
    # Those of all namespaces are listed in each: it knows none.
    assert counts(report) == {"unreadable": 2, "target-only": 2}
    why = str(next(report.of(V.UNREADABLE)).differences[0])
    assert "does not change to proxmox-backup-reader-protocol-v1" in why
    (problem,) = report.problems
    assert "is not that of a Proxmox Backup Server" in str(problem.error)
    assert report.exit_status == 3


# -- healing --


def test_without_the_right_to_verify_healing_is_proved_by_reading_back(world: World) -> None:
    world.there.chunk_of("b").unlink()
    world.serve(identities=only("Read", "Audit", "Backup"))
    (world.there.path / VM / "owner").write_text("stranger@pbs\n")
    state = {"state": "failed", "upid": "UPID:x"}
    world.there.rewrite_manifest(world.there.folder(VM, 1), verify_state=state)
    events: list[TargetVerifyEvent] = []
    report = verify(world, heal=True, events=events)
    assert [one.healing for one in report.bad_chunks] == [Healing.HEALED]
    assert report.problems == []
    assert any("takes Datastore.Verify" in str(event) for event in events)
    # The server still says that it failed, so a push would begin anew behind it.
    assert counts(report) == {"equal": 2, "damaged": 1}
    assert report.exit_status == 3


def test_what_is_encrypted_otherwise_at_the_source_is_not_sent(world: World) -> None:
    world.there.chunk_of("b").unlink()
    other = World(world.folder / "other")
    other.source.add("vm/5", 1, encrypted=True)
    sealed = next(other.source.chunk_files())
    world.source.chunk_of("b").write_bytes(sealed.read_bytes())
    report = verify(world, sample=ALL, heal=True)
    (bad,) = report.bad_chunks
    assert bad.healing is Healing.NOT_AT_SOURCE
    assert "encrypted otherwise" in bad.why


def test_another_key_than_that_of_the_target_heals_nothing(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.source.add("vm/5", 1, encrypted=True)
        world.push()
        next(world.there.chunk_files()).unlink()
        report = verify(world, sample=ALL, heal=True, key=KEY)
        assert [one.healing for one in report.bad_chunks] == [Healing.NOT_AT_SOURCE]
        assert "another key" in report.bad_chunks[0].why


def test_a_copy_whose_signed_index_names_a_chunk_in_anothers_place_is_not_healed(
    tmp_path: Path,
) -> None:
    """What the source's chunk becomes under the key is not what that index names."""
    with World(tmp_path) as world:
        world.source.add(VM, 1)
        world.push(encryption_key=KEY)
        csum = index_of(world.there.folder(VM, 1) / DIDX, reverse=True)

        def change(text: dict[str, Any]) -> None:
            next(file for file in text["files"] if file["filename"] == DIDX)["csum"] = csum
            del text["unprotected"]["pbs-push-copy-proof"]

        resign(world, change)
        report = verify(world, key=KEY, sample=ALL, heal=True)
        assert {one.healing for one in report.bad_chunks} == {Healing.NOT_AT_SOURCE}
        assert "under the key" in report.bad_chunks[0].why


def test_a_bad_target_store_is_left_as_it_is_without_heal(world: World) -> None:
    flip(world.there.chunk_of("b"), -1)
    before = {path: path.read_bytes() for path in world.there.chunk_files()}
    verify(world, sample=ALL)
    assert {path: path.read_bytes() for path in world.there.chunk_files()} == before
