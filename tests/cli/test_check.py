"""Whether a push would go through: each thing that keeps it from it is found before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.push.world import ME, SECRET, STRANGER, World, only, time

from pbs_push import Push, PushOptions
from pbs_push.names import Group, Namespace, Snapshot
from pbs_push.push.checkpoint_mark import Mark
from pbs_push.push.preflight import Finding, Grade, without_waiting
from pbs_push.target import Identities

from .conftest import Cli, Place


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


def looked(world: World, **options: Any) -> list[Finding]:
    with world.target() as target:
        before = world.there.snapshots()
        made = without_waiting(PushOptions(**options))
        found = list(Push(world.datastore(), target, made).preflight())
        assert world.there.snapshots() == before
        return found


def bad(found: list[Finding]) -> dict[str, str]:
    return {one.subject: one.text for one in found if one.grade is Grade.BAD}


def test_all_is_well(world: World) -> None:
    world.source.add("vm/1", 0)
    world.source.add("vm/1", 0, ns="a")
    found = looked(world, remove_vanished=True, sync_metadata=True)
    assert bad(found) == {}
    subjects = {one.subject for one in found}
    assert {
        "source",
        "target",
        "login",
        "round trip",
        "lock",
        "plan",
        "rights",
        "space",
    } <= subjects
    assert any(one.subject == "namespaces" and "namespace a" in one.text for one in found)


def test_rights_that_lack(world: World) -> None:
    world.serve(identities=only("Backup"))
    world.source.add("vm/1", 0)
    assert bad(looked(world)) == {}
    found = looked(world, remove_vanished=True)
    assert "--remove-vanished needs" in bad(found)["rights"]
    world.source.add("vm/1", 0, ns="a")
    assert "creating a namespace needs" in bad(looked(world))["rights"]


def test_what_is_the_same_in_many_namespaces_is_told_once(world: World) -> None:
    world.source.add("vm/1", 0)
    for number in range(12):
        world.source.add("vm/1", 0, ns=f"n{number:02}")
    world.push()
    told = [one for one in looked(world) if one.subject == "rights"]
    named = ", ".join(f"namespace n{number:02}" for number in range(9))
    everywhere = f"target root namespace, {named} and 3 more: all that this push needs"
    assert [one.text for one in told] == [everywhere]
    assert told[0].grade is Grade.OK


def test_rights_that_lack_somewhere_name_where(world: World) -> None:
    for ns in ("a", "b", "c"):
        world.source.add("vm/1", 0, ns=ns)
        world.there.make_namespace(ns)

    def held(_who: str, path: str) -> frozenset[str]:
        names = ("Audit",) if path.endswith(("/b", "/c")) else ("Audit", "Backup")
        return frozenset(f"Datastore.{name}" for name in names)

    world.serve(identities=Identities.simple({ME: SECRET}, privileges=held))
    found = [one for one in looked(world) if one.subject == "rights"]
    assert [(one.grade, one.text.partition(":")[0]) for one in found] == [
        (Grade.OK, "target root namespace, namespace a"),
        (Grade.BAD, "target namespace b, namespace c"),
    ]
    assert "no Datastore.Backup, which pushing needs" in found[1].text


def test_owners_alerts_and_checkpoints(world: World) -> None:
    world.source.add("vm/1", 0)
    world.there.add("vm/1", 1, owner=STRANGER)
    world.source.add("vm/2", 0, 1)
    folder = world.there.add("vm/2", 0)
    world.source.add("vm/3", 5)
    at = world.there.add("vm/3", 4)
    of = Snapshot(Group("vm", "3"), time(5))
    world.there.rewrite_manifest(at, notes=Mark(of, 1, None).notes)
    (folder / "root.pxar.didx").unlink()
    found = looked(world)
    assert "owned by" in bad(found)["owner"], found
    assert "broken" in bad(found)["group"]
    assert [one.text for one in found if one.subject == "checkpoints"] == [
        "vm/3: 1 checkpoint of a push that was cut"
    ]


def test_the_same_push_that_runs(world: World) -> None:
    world.source.add("vm/1", 0)
    with world.target() as target:
        running = Push(world.datastore(), target)
        with running._run.only_one():
            assert "lock" in bad(looked(world))


def test_what_ends_a_push_is_a_finding(world: World) -> None:
    world.source.add("vm/1", 0)
    found = looked(world, source_namespace=Namespace.parse("nosuch"))
    assert set(bad(found)) == {"push"}
    assert found[-1].advice


@pytest.mark.parametrize("token", [True, False])
def test_a_wrong_secret_is_sent_once(
    cli: Cli, place: Place, small_source: Path, monkeypatch: pytest.MonkeyPatch, *, token: bool
) -> None:
    """Servers count what is refused, and lock who does it often."""
    monkeypatch.setenv("PBS_PASSWORD", "wrong")
    repository = place.repository if token else place.user_repository
    place.server.counters.reset()
    out = cli("check", small_source, repository).out
    assert "BAD   push: " in out
    assert "note  link: not measured: nobody has logged in at the target" in out
    assert "ok    disk: " in out
    requests = place.server.counters.snapshot().requests
    assert requests == {"GET version" if token else "POST ticket": 1}


def test_on_the_command_line(
    cli: Cli, place: Place, small_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = (small_source, place.repository)
    out = cli("check", *side).succeeded().out
    assert "ok    link: " in out
    assert "over 4 connections" in out
    assert "ok    disk: " in out
    monkeypatch.chdir(small_source.parent)
    side = (f"./{small_source.name}", place.repository)
    document = json.loads(cli("check", *side, "--no-rates", "--json").succeeded().out)
    assert document["format"] == "pbs-push-check"
    assert document["source"] == {"datastore": str(small_source), "ns": ""}
    assert document["target"] == {"repository": place.repository, "ns": ""}
    assert not any(one["subject"] == "link" for one in document["findings"])
    assert list(place.path.glob("host/*")) == []
    wrong = cli("check", small_source, place.repository, "--ns", "nosuch", "--json", "--no-rates")
    assert wrong.status == 3
    assert json.loads(wrong.out)["exit-status"] == 3
    nowhere = cli("check", small_source.parent / "no", place.repository, "--json")
    assert nowhere.status == json.loads(nowhere.out)["exit-status"] != 0
