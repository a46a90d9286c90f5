"""A target proved against its source, over real TLS: equal, different, damaged, lacking."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.push.world import DAY, ME, STRANGER, World, only, time, whole

from pbs_push.errors import AuthError, Cancelled, ConfigError, ConnectError, TlsError
from pbs_push.names import CLIENT_LOG_NAME, MANIFEST_NAME, Group, Snapshot
from pbs_push.push.checkpoint_mark import Mark
from pbs_push.push.events import Retrying
from pbs_push.remote.target import Target
from pbs_push.target import Identities, TargetOptions
from pbs_push.target.locks import try_lock
from pbs_push.verify.target import TargetVerification, verify_target
from pbs_push.verify.target_events import TargetVerifyEvent
from pbs_push.verify.target_options import Sample, TargetVerifyOptions
from pbs_push.verify.target_report import CopyVerdict, Healing

from .target_world import (
    ALL,
    DIDX,
    FIDX,
    VM,
    counts,
    flip,
    index_of,
    only_result,
    remove,
    truncate,
    verify,
)

V = CopyVerdict


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two groups that were pushed, of two snapshots each; one in a namespace."""
    with World(tmp_path) as made:
        made.source.add(VM, 1)
        made.source.add(VM, 2, archives={FIDX: ("d",), DIDX: ("b", "e")})
        blobs = {"pct.conf.blob": b"conf", "fw.conf.blob": b""}
        made.source.add("ct/7", 1, 2, ns="a/b", blobs=blobs)
        made.push()
        yield made


# -- equal --


def test_a_copy_is_equal(world: World) -> None:
    report = verify(world)
    assert counts(report) == {"equal": 4}
    assert report.exit_status == 0
    assert not report.results
    assert report.groups == 2
    assert report.seed is None


def test_all_chunks_of_a_copy_are_right_and_each_is_downloaded_once(world: World) -> None:
    report = verify(world, sample=ALL)
    stored = list(world.there.chunk_files())
    assert counts(report) == {"equal": 4}
    assert report.exit_status == 0
    assert report.chunks.ok == report.chunks.known == len(stored) == 5
    assert report.chunks.downloaded_bytes == sum(path.stat().st_size for path in stored)
    assert world.server.counters.snapshot().requests["GET chunk"] == 5


def test_nothing_is_changed_on_either_side(world: World) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        return {
            path: (path.stat().st_mtime_ns, path.stat().st_size)
            for root in (world.source.path, world.there.path)
            for path in root.rglob("*")
            if path.is_file()
        }

    before = state()
    verify(world, sample=ALL)
    assert state() == before
    world.settle()
    lock = try_lock(world.there.folder(VM, 1), exclusive=True)
    assert lock is not None, "a session is left that holds it"
    lock.release()


def test_a_sample_is_told_and_can_be_taken_again(world: World) -> None:
    many = {FIDX: tuple(whole(f"s{i}") for i in range(4)), DIDX: tuple(f"t{i}" for i in range(200))}
    world.source.add("vm/200", 1, archives=many)
    world.push()
    first = verify(world, sample=Sample.parse("30%"))
    assert first.seed is not None
    assert 30 < first.chunks.ok < 95
    assert first.chunks.known == 209
    again = verify(world, sample=Sample.parse("30%"), seed=first.seed)
    other = verify(world, sample=Sample.parse("30%"), seed=first.seed ^ 1)
    assert again.chunks == first.chunks
    assert other.chunks.downloaded_bytes != first.chunks.downloaded_bytes
    assert first.to_dict()["sample"] == "30%"


def test_round_trips_do_not_add_up_with_files_and_chunks(world: World) -> None:
    archives = {f"drive-{i}.img.fidx": (whole(f"w{i}"),) for i in range(6)}
    archives["root.pxar.didx"] = tuple(f"p{i}" for i in range(60))
    world.source.add("vm/300", 1, archives=archives, blobs={f"c{i}.blob": b"x" for i in range(5)})
    world.push()
    world.serve(TargetOptions(bad_login_delay_s=0, hold_answers_s=0.05))
    report = verify(world, sample=ALL, group_filters=("group:vm/300",))
    counted = world.server.counters.snapshot()
    assert report.chunks.ok == 66
    assert counted.readers == 1
    # The upgrade; all files; two chunks of 4 MiB at a time, as their memory is bounded, and the
    # small ones with the last of these.
    assert counted.flights <= 2 + 4


# -- mapping --


def test_namespaces_are_mapped_as_by_a_push(world: World) -> None:
    world.push(source_namespace="a", target_namespace="x/y")
    report = verify(world, source_namespace="a", target_namespace="x/y")
    assert counts(report) == {"equal": 2}
    report = verify(world, source_namespace="a", target_namespace="x/y", max_depth=0)
    assert (report.groups, counts(report)) == (0, {})
    report = verify(world, max_depth=0)
    assert counts(report) == {"equal": 2}
    report = verify(world, source_namespace="a", target_namespace="a", group_filters=("type:ct",))
    assert counts(report) == {"equal": 2}


def test_a_namespace_that_was_not_pushed(world: World) -> None:
    report = verify(world, target_namespace="elsewhere")
    assert counts(report) == {"not-pushed": 4}
    assert report.exit_status == 3


def test_a_checkpoint_at_the_source_is_none_that_the_target_lacks(world: World) -> None:
    number = max(world.source.times(VM)) + 1
    folder = world.source.add(VM, number)
    of = Snapshot(Group.parse(VM), time(number + 9))
    world.source.rewrite_manifest(folder, notes=Mark(of, 1, None).notes)
    report = verify(world)
    assert counts(report)["left"] == 1
    assert report.exit_status == 0


def test_what_the_target_lacks_is_told_apart(world: World) -> None:
    world.source.add(VM, 3, 4, 5, 6)
    for number in (4, 6):
        world.there.add(VM, number, archives={FIDX: ("other",)})
    world.source.add(VM, 7, 8)
    for folder in (world.there.folder(VM, 1), world.source.folder(VM, 4)):
        remove(folder)
    world.there.add("vm/9", 1)
    world.there.add("ct/1", 1, ns="only/there")
    report = verify(world)
    found = {
        verdict: [(r.place.snapshot.backup_time - time(0)) // DAY for r in report.of(verdict)]
        for verdict in V
    }
    assert found[V.OLDER] == [1]
    assert found[V.GAP] == [3, 5]
    assert found[V.NOT_PUSHED] == [7, 8]
    assert found[V.DIFFERENT] == [6]
    assert sorted(found[V.TARGET_ONLY]) == [1, 1, 4]
    places = [
        (str(result.place.target_namespace), str(result.place.snapshot.group))
        for result in report.of(V.TARGET_ONLY)
    ]
    assert sorted(places) == [("", VM), ("", "vm/9"), ("only/there", "ct/1")]
    assert report.exit_status == 3


def test_what_the_target_alone_has_is_no_failure(world: World) -> None:
    remove(world.source.folder(VM, 2))
    world.there.add("vm/9", 1)
    report = verify(world)
    assert counts(report) == {"equal": 3, "target-only": 2}
    assert report.exit_status == 0


def test_older_ones_than_the_target_keeps_are_no_failure(world: World) -> None:
    remove(world.there.folder(VM, 1))
    report = verify(world)
    assert counts(report) == {"equal": 3, "older": 1}
    assert report.exit_status == 0


def test_unfinished_ones_here_and_there(world: World) -> None:
    (world.source.folder(VM, 1) / MANIFEST_NAME).unlink()
    (world.there.folder(VM, 2) / MANIFEST_NAME).unlink()
    report = verify(world)
    assert counts(report) == {"equal": 2, "left": 1, "different": 1}
    only_result(report, V.DIFFERENT, "not finished, or has no manifest")


def test_what_no_push_ever_takes_is_not_missed(world: World) -> None:
    world.source.add("vm/8", 1)
    (world.source.path / "vm/8" / "owner").write_text("nobody at all\n")
    world.source.add("host/benchmark", 1)
    report = verify(world)
    assert counts(report) == {"equal": 4, "left": 2}
    assert report.exit_status == 0
    reasons = {str(result.differences[0]) for result in report.of(V.LEFT)}
    assert "its group has no readable owner: a push skips it" in reasons


# -- differences --


def change_manifest(world: World, change: Callable[[dict[str, Any]], object]) -> None:
    folder = world.there.folder(VM, 1)
    text = world.there.manifest(folder)
    change(text)
    world.there.write_manifest(folder, text)


def rewrite_file(world: World, name: str = FIDX, **changes: Any) -> None:
    def change(text: dict[str, Any]) -> None:
        next(file for file in text["files"] if file["filename"] == name).update(changes)

    change_manifest(world, change)


def drop_file(world: World) -> None:
    change_manifest(
        world,
        lambda text: text.update(files=[f for f in text["files"] if f["filename"] != FIDX]),
    )


def other_time(world: World) -> None:
    text = world.there.manifest(world.there.folder(VM, 2))
    world.there.write_manifest(world.there.folder(VM, 1), text)


def swap_entries(world: World) -> None:
    """A well-formed index of the same chunks in another order, with a manifest that fits."""
    rewrite_file(world, DIDX, csum=index_of(world.there.folder(VM, 1) / DIDX, reverse=True))


def other_blob(world: World) -> None:
    other = world.there.add("vm/1", 1, blobs={"some.conf.blob": b"other\n"})
    content = (other / "some.conf.blob").read_bytes()
    (world.there.folder(VM, 1) / "some.conf.blob").write_bytes(content)


def there(world: World, name: str) -> Path:
    return world.there.folder(VM, 1) / name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: rewrite_file(w, size=1), [FIDX, "5000 bytes here, 1 there"]),
        (lambda w: rewrite_file(w, csum="00" * 32), ["csum", "00" * 32]),
        (
            lambda w: rewrite_file(w, **{"crypt-mode": "sign-only"}),
            ["crypt-mode none here, sign-only there"],
        ),
        (lambda w: rewrite_file(w, filename="x.fidx"), ["does not name it", "only the target's"]),
        (drop_file, ["the target's manifest does not name it"]),
        (other_time, ["the manifest is that of"]),
        (
            lambda w: w.there.rewrite_manifest(
                w.there.folder(VM, 1), **{"key-fingerprint": "ab:" * 31 + "ab"}
            ),
            ["key none here, ab:ab:ab:ab:ab:ab:ab:ab there"],
        ),
        (swap_entries, [DIDX, "csum", "differ, from entry 0 on"]),
        (lambda w: flip(there(w, DIDX), -1), [DIDX, "csum"]),
        (lambda w: flip(there(w, FIDX), 40), [FIDX, "csum"]),
        (lambda w: truncate(there(w, DIDX), 20), [DIDX, "cannot give it"]),
        (lambda w: there(w, DIDX).unlink(), [DIDX, "cannot give it"]),
        (other_blob, ["some.conf.blob", "manifest describes"]),
        (lambda w: there(w, "some.conf.blob").unlink(), ["cannot give it"]),
        (
            lambda w: there(w, "some.conf.blob").write_bytes(bytes(200_000)),
            ["longer there than it could be"],
        ),
    ],
)
def test_what_differs_is_told(
    world: World, change: Callable[[World], object], words: list[str]
) -> None:
    change(world)
    report = verify(world, group_filters=("group:vm/100",))
    assert report.counts[V.EQUAL] == 1
    only_result(report, V.DIFFERENT, *words)


def test_a_manifest_there_that_is_none(world: World) -> None:
    there(world, MANIFEST_NAME).write_bytes(b"x" * 50)
    only_result(verify(world), V.DIFFERENT, "has no manifest")


def test_uuid_and_time_of_an_index_may_differ(world: World) -> None:
    data = bytearray(there(world, DIDX).read_bytes())
    data[8:32] = bytes(24)
    there(world, DIDX).write_bytes(data)
    assert counts(verify(world)) == {"equal": 4}


def test_notes_and_verify_states_may_differ(world: World) -> None:
    state = {"state": "ok", "upid": "UPID:x"}
    world.there.rewrite_manifest(world.there.folder(VM, 1), notes="theirs", verify_state=state)
    assert counts(verify(world)) == {"equal": 4}


def test_a_client_log_is_compared_where_both_have_one(world: World) -> None:
    blob = (world.source.folder(VM, 1) / "some.conf.blob").read_bytes()
    (world.source.folder(VM, 1) / CLIENT_LOG_NAME).write_bytes(blob)
    events: list[TargetVerifyEvent] = []
    assert counts(verify(world, events=events)) == {"equal": 4}
    assert any("no client log" in str(event) for event in events)
    there(world, CLIENT_LOG_NAME).write_bytes(blob)
    assert counts(verify(world)) == {"equal": 4}
    flip(there(world, CLIENT_LOG_NAME), -1)
    only_result(verify(world), V.DIFFERENT, "client.log.blob", "its bytes are not the source's")


def test_a_damaged_client_log_of_the_source_is_not_compared(world: World) -> None:
    (world.source.folder(VM, 1) / CLIENT_LOG_NAME).write_bytes(b"x" * 50)
    events: list[TargetVerifyEvent] = []
    assert counts(verify(world, events=events)) == {"equal": 4}
    assert any("it is not compared" in str(event) for event in events)


# -- chunks --


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (lambda path: flip(path, -1), "crc"),
        (lambda path: flip(path, 0), "format"),
        (lambda path: path.unlink(), "missing"),
        (lambda path: truncate(path, 5), "crc"),
        (lambda path: path.write_bytes(b""), "format"),
        (lambda path: path.write_bytes(bytes(200_000)), "length"),
    ],
)
def test_damaged_chunks_spoil_all_snapshots_that_name_them(
    world: World, harm: Callable[[Path], object], fault: str
) -> None:
    harm(world.there.chunk_of("b"))  # of all four snapshots
    assert counts(verify(world)) == {"equal": 4}, "without a sample no chunk is looked at"
    report = verify(world, sample=ALL)
    assert counts(report) == {"damaged": 4}
    (bad,) = report.bad_chunks
    assert bad.fault == fault
    assert bad.digest.hex() == world.there.chunk_of("b").name
    assert bad.healing is Healing.NOT_TRIED
    assert {name for _, name in bad.spoils} == {DIDX}
    assert len(bad.spoils) == 4
    assert report.chunks.ok == 4
    assert report.exit_status == 3


def test_a_chunk_of_another_content_is_found(world: World) -> None:
    world.there.chunk_of("b").write_bytes(world.there.chunk_of("c").read_bytes())
    report = verify(world, sample=ALL)
    (bad,) = report.bad_chunks
    assert bad.fault == "digest"
    assert "its content has the digest" in bad.reason


def test_an_encrypted_chunk_in_the_place_of_a_plain_one_is_found(world: World) -> None:
    other = World(world.folder / "other")
    folder = other.source.add("vm/5", 1, encrypted=True)
    assert folder.is_dir()
    sealed = next(other.source.chunk_files())
    world.there.chunk_of("b").write_bytes(sealed.read_bytes())
    (bad,) = verify(world, sample=ALL).bad_chunks
    assert bad.fault == "crypt-mode"


def test_what_the_server_says_of_a_snapshot_counts(world: World) -> None:
    state = {"state": "failed", "upid": "UPID:x"}
    world.there.rewrite_manifest(world.there.folder(VM, 2), verify_state=state)
    only_result(verify(world), V.DAMAGED, "the target's own verification of it failed")


# -- rights, and what goes wrong --


def test_rights_that_are_lacking_are_told_in_a_clear_word(world: World) -> None:
    world.serve(identities=only("Audit"))
    report = verify(world)
    assert counts(report) == {"unreadable": 4}
    assert "no permissions on /datastore/store1" in str(report.results[0].differences[0])
    assert report.exit_status == 3
    assert world.server.counters.snapshot().requests["GET reader"] == 2, "once a group"


def test_groups_of_others_are_read_with_the_right_to_read(world: World) -> None:
    def serve(*privileges: str) -> None:
        held = frozenset(f"Datastore.{name}" for name in privileges)
        identities = Identities.simple({STRANGER: "secret"}, privileges=lambda _w, _p: held)
        world.serve(identities=identities)

    serve("Read", "Audit")
    assert counts(verify(world, who=STRANGER)) == {"equal": 4}
    serve("Backup", "Audit")
    report = verify(world, who=STRANGER)
    assert counts(report) == {"unreadable": 4}
    assert "owner check failed" in str(report.results[0].differences[0])


def test_no_trust_and_no_login(world: World) -> None:
    world.serve(TargetOptions(bad_login_delay_s=0))
    repository = world.server.repository("store1", ME)
    with Target(repository, "secret", bytes(32)) as target, pytest.raises(TlsError):
        verify_target(world.datastore(), target)
    with (
        Target(repository, "wrong", world.server.fingerprint) as target,
        pytest.raises(AuthError),
    ):
        verify_target(world.source.path, target)


def test_what_cannot_be_read_at_the_source(world: World) -> None:
    truncate(world.source.folder(VM, 1) / FIDX, 10)
    (world.source.folder(VM, 2) / "some.conf.blob").unlink()
    report = verify(world)
    assert counts(report) == {"equal": 2, "unreadable": 2}
    assert report.exit_status == 3


def test_a_snapshot_that_is_removed_there_meanwhile(world: World) -> None:
    def listen(event: TargetVerifyEvent) -> None:
        if type(event).__name__ == "TargetVerifyBegan":
            remove(world.there.folder(VM, 1))

    only_result(verify(world, listener=listen), V.UNREADABLE, "does not exist")


def test_a_connection_that_breaks_is_tried_again(world: World) -> None:
    """And of the chunks that were claimed by the try that failed, none is left out."""
    world.server.faults.goaway_after_requests = 6
    events: list[TargetVerifyEvent] = []

    def listen(event: TargetVerifyEvent) -> None:
        events.append(event)
        if isinstance(event, Retrying):
            world.server.faults.goaway_after_requests = None

    report = verify(world, sample=ALL, listener=listen, retries=3, parallel=1)
    assert counts(report) == {"equal": 4}
    assert report.chunks.ok == report.chunks.known == 5
    assert any(isinstance(event, Retrying) for event in events)


def test_a_target_that_is_gone_ends_it(world: World) -> None:
    with world.target() as target:
        world.server.close()
        verification = TargetVerification(world.datastore(), target, TargetVerifyOptions(retries=0))
        with pytest.raises(ConnectError):
            verification.run()
    assert verification.report.exit_status == 1
    assert verification.report.to_dict()["error"]["kind"] == "ConnectError"


def test_it_can_be_cancelled(world: World) -> None:
    with world.target() as target:
        verification = TargetVerification(
            world.datastore(),
            target,
            TargetVerifyOptions(sample=ALL),
            lambda _event: verification.cancel(),
        )
        with pytest.raises(Cancelled):
            verification.run()
    assert verification.report.exit_status == 130


@pytest.mark.parametrize(
    "wrong",
    [
        {"parallel": 0},
        {"parallel": 49},
        {"max_depth": 8},
        {"seed": 1},
        {"sample": Sample(0.1), "seed": -1},
        {"server_wait_s": -1.0},
    ],
)
def test_options_that_are_wrong(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        TargetVerifyOptions(**wrong)


@pytest.mark.parametrize("text", ["", "5", "0%", "101%", "-1%", "none", "5 %", "nan%"])
def test_samples_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError):
        Sample.parse(text)


def test_samples() -> None:
    assert Sample.parse("all").part == 1
    assert Sample.parse("12.5%").part == 0.125
    assert str(Sample.parse("12.5%")) == "12.5%"
    assert str(Sample.parse("100%")) == "all"
