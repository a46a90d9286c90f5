"""What a target does as servers of some version do, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from pbs_push.target import Faults, TargetOptions
from pbs_push.target.habits import Habits

from .client import Rest, open_session, token, upgrade
from .conftest import ALICES_TOKEN, MakeTarget
from .samples import content, finish, manifest, send_blob, send_dynamic, send_fixed, sha256

AUTH = token(ALICES_TOKEN)
STORE = "/api2/json/admin/datastore/store"
GROUP = {"backup-type": "host", "backup-id": "h"}
PARAMS = {"store": "store", **GROUP, "backup-time": 1000}
FOLDER = "host/h/1970-01-01T00:16:40Z"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def options(version: str, release: str) -> TargetOptions:
    return TargetOptions(version=(version, release), bad_login_delay_s=0)


@pytest.mark.parametrize(
    ("version", "habits"),
    [
        (("2.2", "0"), Habits(64 << 10, False, False, False)),
        (("3.2", "10"), Habits(64 << 10, False, False, False)),
        (("3.2", "11"), Habits(64 << 10, True, False, False)),
        (("3.10", "1"), Habits(64 << 10, True, False, False)),
        (("4.0", "0"), Habits(512 << 10, True, False, False)),
        (("4.2", "3"), Habits(512 << 10, True, True, True)),
    ],
)
def test_habits_by_version(version: tuple[str, str], habits: Habits) -> None:
    assert TargetOptions(version=version).habits == habits


def test_old_servers_tell_nothing_of_deletions(make_target: MakeTarget) -> None:
    for release, told in (("10", False), ("11", True)):
        target = make_target(options=options("3.2", release))
        for call, params in (("groups", GROUP), ("namespace", {"ns": "a", "delete-groups": "1"})):
            with Rest(target.address, AUTH) as rest:
                rest.call("POST", f"{STORE}/namespace", {"name": "a"})
                with open_session(target.address, PARAMS, AUTH) as session:
                    finish(session, PARAMS)
                refused = rest.call(
                    "DELETE", f"{STORE}/{call}", {**params, "error-on-protected": "0"}
                )
                assert refused.status == (200 if told else 400)
                if not told:
                    assert "error-on-protected" in refused.text
                    assert rest.call("DELETE", f"{STORE}/{call}", params).data is None
                rest.call("DELETE", f"{STORE}/groups", GROUP)


def test_before_4_1_a_fixed_index_needs_its_size(make_target: MakeTarget) -> None:
    for minor, status in ((0, 400), (1, 200)):
        target = make_target(options=options(f"4.{minor}", "0"))
        with open_session(target.address, PARAMS, AUTH) as session:
            reply = session.call("POST", "/fixed_index", {"archive-name": "a.fidx"})
            assert reply.status == status


def test_old_servers_do_not_know_no_cache(make_target: MakeTarget) -> None:
    for minor, status in ((0, 400), (2, 101)):
        target = make_target(options=options(f"4.{minor}", "0"))
        wire, reply = upgrade(target.address, {**PARAMS, "no-cache": "1"}, AUTH)
        wire.close()
        assert reply.status == status


# -- finish --


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"filename": "b.didx"}, "manifest names 'b.didx', which this backup did not upload"),
        ({"csum": "00" * 32}, "manifest has csum 00"),
    ],
    ids=["as uploaded", "another name", "another csum"],
)
def test_finish_compares_the_manifest_with_what_came(
    make_target: MakeTarget, changes: dict[str, str], reason: str | None
) -> None:
    target = make_target()
    with open_session(target.address, PARAMS, AUTH) as session:
        digests = send_fixed(session, "a.fidx", 5, [b"bytes"])
        csum = sha256(bytes.fromhex(digests[0]))
        file = {"filename": "a.fidx", "size": 5, "csum": csum, **changes}
        send_blob(session, "index.json.blob", manifest(PARAMS, [file]))
        reply = session.call("POST", "/finish")
        assert reply.status == (200 if reason is None else 400)
        assert reason is None or reason in reply.text


def test_finish_of_4_2_3_does_not(make_target: MakeTarget) -> None:
    target = make_target(options=TargetOptions(bad_login_delay_s=0, compares_manifest=False))
    with open_session(target.address, PARAMS, AUTH) as session:
        file = {"filename": "b.didx", "size": 5, "csum": "00" * 32}
        send_blob(session, "index.json.blob", manifest(PARAMS, [file]))
        assert session.call("POST", "/finish").status == 200


# -- locks --


def test_the_groups_lock_may_linger_after_finish(make_target: MakeTarget) -> None:
    later = {**PARAMS, "backup-time": 2000}
    other = {**later, "backup-id": "other"}
    quick = TargetOptions(bad_login_delay_s=0)
    slow = TargetOptions(bad_login_delay_s=0, lock_linger_s=3600)
    for one, status in ((quick, 101), (slow, 400)):
        target = make_target(options=one)
        with Rest(target.address, AUTH) as rest:
            rest.call("DELETE", f"{STORE}/groups", GROUP)
        with open_session(target.address, PARAMS, AUTH) as session:
            finish(session, PARAMS)
        wire, reply = upgrade(target.address, later, AUTH)
        wire.close()
        assert reply.status == status
        if status == 400:
            assert "unable to acquire backup group lock" in reply.text
        wire, reply = upgrade(target.address, other, AUTH)
        wire.close()
        assert reply.status == 101, "of this group alone"
        target.close()  # does not wait for the lock


# -- what is left --


def test_open_writers_leave_their_temporary_files(make_target: MakeTarget, tmp_path: Path) -> None:
    """A real server creates them at once, and renames them when they are closed."""
    target = make_target()
    with open_session(target.address, PARAMS, AUTH) as session:
        session.call("POST", "/fixed_index", {"archive-name": "a.img.fidx", "size": 5})
        session.call("POST", "/dynamic_index", {"archive-name": "b.pxar.didx"})
        folder = tmp_path / "store" / FOLDER
        assert names(folder) == ["a.img.tmp_fidx", "b.pxar.tmp_didx"]
        send_dynamic(session, "c.didx", [content("c", 100)], wid=3)
        assert names(folder) == ["a.img.tmp_fidx", "b.pxar.tmp_didx", "c.didx"]


def test_an_unfinished_snapshot_loses_its_manifest_first(
    make_target: MakeTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that nobody takes for whole what is being removed."""
    seen: list[list[str]] = []
    monkeypatch.setattr(
        "pbs_push.target.session.shutil.rmtree",
        lambda path, **_: seen.append(names(Path(path))),
    )
    target = make_target()
    with open_session(target.address, PARAMS, AUTH) as session:
        send_blob(session, "index.json.blob", manifest(PARAMS))
        send_dynamic(session, "c.didx", [content("c", 100)])
    target.close()
    assert ["c.didx"] in seen


def test_request_boundaries_are_told(make_target: MakeTarget) -> None:
    seen: list[tuple[str, bool]] = []
    target = make_target(
        faults=Faults(on_request=lambda kind, handled: seen.append((kind, handled)))
    )
    with open_session(target.address, PARAMS, AUTH) as session:
        session.call("GET", "/previous_backup_time")
        finish(session, PARAMS)
    kinds = ["upgrade", "GET previous_backup_time", "POST blob", "POST finish"]
    assert seen == [(kind, handled) for kind in kinds for handled in (False, True)]
