"""How far a target is behind: the table, the document, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.push.world import DAY, World, filters, time

from pbs_push.cli.status_lines import lines
from pbs_push.errors import SourceError
from pbs_push.names import AuthId, Group, Namespace, Snapshot
from pbs_push.push.checkpoint_mark import Mark
from pbs_push.push.options import PushOptions
from pbs_push.push.status import GroupStatus, status

from .conftest import Cli, Place


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def statuses(world: World, **options: object) -> dict[str, GroupStatus]:
    with world.target() as target:
        world.server.counters.reset()
        made = PushOptions(**options)  # type: ignore[arg-type]
        return {one.label: one for one in status(world.datastore(), target, made)}


def test_what_is_behind_and_what_is_missing(world: World) -> None:
    with world:
        world.source.add("vm/1", 1, 2)
        world.source.add("vm/2", 0)
        world.push()
        for number in (0, 3, 4):
            world.source.add("vm/1", number, archives={"root.pxar.didx": (f"new {number}", "b")})
        world.source.add("ct/9", 5, ns="prod")
        of = Snapshot(Group("vm", "2"), time(9))
        folder = world.there.add("vm/2", 3)
        world.there.rewrite_manifest(folder, notes=Mark(of, 3, time(0)).notes)
        found = statuses(world)
        assert world.server.counters.snapshot().requests["GET snapshots"] == 2
    one = found["vm/1"]
    assert (one.newest_here, one.newest_there) == (time(4), time(2))
    assert one.behind == (time(3), time(4))
    assert one.gaps == (time(0),)
    assert (one.plain_bytes, one.exact) == (3 * 5000, True) or one.plain_bytes == 2 * 5000
    assert one.owner == str(AuthId.parse("push@pbs!job"))
    assert one.lag_s(time(5)) == 2 * DAY
    two = found["vm/2"]
    assert (two.behind, two.newest_there, two.checkpoints) == ((), time(0), 1)
    assert two.lag_s(time(50)) == 0
    new = found["prod: ct/9"]
    assert (new.newest_there, new.behind, new.owner) == (None, (time(5),), None)
    assert new.exact


def test_a_checkpoint_at_the_source_is_not_behind(world: World) -> None:
    with world:
        world.source.add("vm/1", 0)
        world.push()
        folder = world.source.add("vm/1", 1)
        of = Snapshot(Group("vm", "1"), time(9))
        world.source.rewrite_manifest(folder, notes=Mark(of, 3, time(0)).notes)
        (one,) = statuses(world).values()
        assert (one.behind, one.newest_here) == ((), time(0))


def test_only_what_is_asked_for(world: World) -> None:
    with world:
        for name in ("vm/1", "ct/2"):
            world.source.add(name, 0)
        assert set(statuses(world, group_filters=filters("type:vm"))) == {"vm/1"}


def test_a_group_that_cannot_be_read() -> None:
    error = SourceError("no way")
    bad = GroupStatus(Namespace(), Namespace(), Group("vm", "1"), error=error)
    table = list(lines([bad], 0.0))
    assert "cannot be read" in table[1]
    assert bad.to_dict(0.0)["error"]["message"] == "no way"


def test_table_document_and_exit_status(cli: Cli, place: Place, small_source: Path) -> None:
    side = (small_source, place.repository)
    before = cli("status", *side).succeeded().out
    assert before.splitlines()[-1] == "26 snapshots of 13 groups behind, of 13 groups"
    late = cli("status", *side, "--max-lag", "1h")
    assert late.status == 3
    assert "longer than --max-lag" in late.err
    cli("status", *side, "--max-lag", "99999d").succeeded()
    cli("push", *side).succeeded()
    after = cli("status", *side, "--max-lag", "1s", "--json").succeeded()
    document = json.loads(after.out)
    assert document["format"] == "pbs-push-status"
    assert document["remains"] == 0
    assert len(document["groups"]) == 13
    assert all(group["lag-seconds"] == 0 for group in document["groups"])
    quick = cli("status", *side, "--no-bytes", "--json").succeeded()
    assert {group["plain-bytes"] for group in json.loads(quick.out)["groups"]} == {None}


def test_what_ends_it_is_in_the_document(cli: Cli, place: Place, tmp_path: Path) -> None:
    done = cli("status", tmp_path / "nowhere", place.repository, "--json")
    assert done.status != 0
    assert json.loads(done.out)["error"]["message"]
