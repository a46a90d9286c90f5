"""What is decided about one group, as a table of rules (protocol/push.md, "Which snapshots")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pbs_push.errors import ManifestError
from pbs_push.formats.keys import CryptKey
from pbs_push.formats.manifest import CryptMode, FileInfo, Manifest, Protection
from pbs_push.names import AuthId, Group, Namespace, Snapshot
from pbs_push.push import late_logs
from pbs_push.push.group_rules import plan_group
from pbs_push.push.options import PushOptions
from pbs_push.push.outcome import Skip
from pbs_push.push.plan import GroupPlan, NamespacePlan, Plan, namespaces_to_create
from pbs_push.push.vanished import VanishedGroup, VanishedNamespace
from pbs_push.remote.models import GroupItem, SnapshotItem
from pbs_push.remote.reading import read
from pbs_push.source.items import SnapshotList, SourceGroup, SourceSnapshot

from .world import FIRST, ME, MY_USER, STRANGER, time

GROUP = Group("vm", "100")
ROOT = Namespace()
REMOTE_USER = AuthId.parse(ME)
FULL = ("drive.img.fidx", "index.json.blob")


def source_group(owner: str | None = "root@pam", group: Group = GROUP) -> SourceGroup:
    return SourceGroup(ROOT, group, None if owner is None else AuthId.parse(owner))


def snapshots(
    *numbers: int, dead: Sequence[int] = (), group: Group = GROUP
) -> tuple[SourceSnapshot, ...]:
    return tuple(
        SourceSnapshot(ROOT, Snapshot(group, time(number)), number not in dead, protected=False)
        for number in numbers
    )


def at_target(newest: int | None, *, owner: str = ME, files: Sequence[str] = FULL) -> GroupItem:
    return GroupItem(
        backup_type="vm",
        backup_id="100",
        last_backup=0 if newest is None else time(newest),
        backup_count=1,
        files=tuple(files),
        owner=AuthId.parse(owner),
    )


def listed(*numbers: int, files: Sequence[str] = FULL, **more: Any) -> list[SnapshotItem]:
    return [
        read(
            SnapshotItem,
            {
                "backup-type": "vm",
                "backup-id": "100",
                "backup-time": time(number),
                "size": 1,
                "files": [{"filename": name} for name in files],
                **more,
            },
            "a list",
        )
        for number in numbers
    ]


def manifest(state: str | None = None, mode: CryptMode = CryptMode.NONE) -> Manifest:
    unprotected = {} if state is None else {"verify_state": {"state": state, "upid": "U"}}
    files = (FileInfo("a.img.fidx", mode, 1, bytes(32)),)
    return Manifest(Snapshot(GROUP, FIRST), files, unprotected)


def plan(
    found: Sequence[SourceSnapshot] | SnapshotList,
    there: GroupItem | None = None,
    *,
    group: SourceGroup | None = None,
    manifests: dict[int, Manifest | None] | None = None,
    logs: Sequence[int] = (),
    lists: Sequence[SnapshotItem] = (),
    **options: Any,
) -> GroupPlan:
    if not isinstance(found, SnapshotList):
        found = SnapshotList(tuple(found))

    def read(item: SourceSnapshot) -> Manifest:
        number = (item.snapshot.backup_time - FIRST) // 86_400
        text = manifests[number] if manifests else Manifest(item.snapshot, ())
        if text is None:
            raise ManifestError("broken")
        return text

    def has_log(item: SourceSnapshot) -> bool:
        return item.snapshot.backup_time in [time(number) for number in logs]

    return plan_group(
        group or source_group(),
        found,
        there,
        ROOT,
        REMOTE_USER,
        PushOptions(**options),
        read,
        has_log,
        lists,
    )


def summary(made: GroupPlan) -> tuple[list[int], dict[str, int]]:
    """Numbers of the snapshots to push, and how many others there are by reason."""
    numbers = [(item.snapshot.backup_time - FIRST) // 86_400 for item in made.snapshots]
    reasons = {
        outcome.skip.name if outcome.skip else outcome.result.name: outcome.count
        for outcome in made.outcomes
    }
    return numbers, reasons


CHOICES: dict[str, tuple[Sequence[SourceSnapshot], GroupItem | None, dict[str, Any], Any]] = {
    "all to an empty target, oldest first": (snapshots(0, 1, 2), None, {}, ([0, 1, 2], {})),
    "only newer ones": (
        snapshots(0, 1, 2, 3),
        at_target(1),
        {},
        ([2, 3], {"NOT_NEWER": 1, "ALREADY_THERE": 1}),
    ),
    "all are older": (snapshots(0, 1), at_target(5), {}, ([], {"NOT_NEWER": 2})),
    "the target's newest is unfinished": (
        snapshots(0, 1),
        at_target(1, files=["drive.img.fidx"]),
        {},
        ([0, 1], {}),
    ),
    "the target's group has no finished one": (snapshots(0), at_target(None), {}, ([0], {})),
    "in progress or dead ones stay here": (
        snapshots(0, 1, 2, dead=[1]),
        None,
        {},
        ([0, 2], {"IN_PROGRESS": 1}),
    ),
    "a dead one is not older": (
        snapshots(0, 1, dead=[0]),
        at_target(1),
        {},
        ([], {"IN_PROGRESS": 1, "ALREADY_THERE": 1}),
    ),
    "transfer-last keeps the newest": (
        snapshots(0, 1, 2, 3),
        None,
        {"transfer_last": 2},
        ([2, 3], {"TRANSFER_LAST": 2}),
    ),
    "transfer-last counts what is there already": (
        snapshots(0, 1, 2, 3),
        at_target(2),
        {"transfer_last": 2},
        ([3], {"NOT_NEWER": 2, "ALREADY_THERE": 1}),
    ),
    "transfer-last does not count dead ones": (
        snapshots(0, 1, 2, dead=[2]),
        None,
        {"transfer_last": 2},
        ([0, 1], {"IN_PROGRESS": 1}),
    ),
    "transfer-last of more than there are": (
        snapshots(0, 1),
        None,
        {"transfer_last": 9},
        ([0, 1], {}),
    ),
}


@pytest.mark.parametrize("rule", CHOICES)
def test_which_snapshots_are_pushed(rule: str) -> None:
    found, there, options, expected = CHOICES[rule]
    assert summary(plan(found, there, **options)) == expected


OK, BAD, UNKNOWN = manifest("ok"), manifest("failed"), manifest()
SECRET, SIGNED = manifest("ok", CryptMode.ENCRYPT), manifest("ok", CryptMode.SIGN_ONLY)
PARTLY = replace(SECRET, files=(*SECRET.files, *OK.files))
KEY = CryptKey(bytes(32))

FILTERS: dict[str, tuple[dict[int, Manifest | None], dict[str, Any], Any]] = {
    "verified-only takes just what is ok": (
        {0: OK, 1: BAD, 2: UNKNOWN},
        {"verified_only": True},
        ([0], {"NOT_VERIFIED": 2}),
    ),
    "encrypted-only takes no signed ones": (
        {0: SECRET, 1: SIGNED, 2: OK},
        {"encrypted_only": True},
        ([0], {"NOT_ENCRYPTED": 2}),
    ),
    "encrypted-only takes no partly encrypted ones": (
        {0: SECRET, 1: PARTLY},
        {"encrypted_only": True},
        ([0], {"NOT_ENCRYPTED": 1}),
    ),
    "both": (
        {0: SECRET, 1: replace(SECRET, unprotected={}), 2: SIGNED},
        {"encrypted_only": True, "verified_only": True},
        ([0], {"NOT_VERIFIED": 1, "NOT_ENCRYPTED": 1}),
    ),
    "transfer-last counts after the filters": (
        {0: OK, 1: OK, 2: BAD},
        {"verified_only": True, "transfer_last": 1},
        ([1], {"NOT_VERIFIED": 1, "TRANSFER_LAST": 1}),
    ),
    "with a key, what is partly encrypted": (
        {0: PARTLY, 1: SECRET, 2: SIGNED, 3: PARTLY, 4: None},
        {"encryption_key": KEY},
        ([1, 2, 4], {"PARTLY_ENCRYPTED": 2}),
    ),
    "without a key it goes as it is": ({0: PARTLY, 1: OK}, {}, ([0, 1], {})),
    "it counts for transfer-last, and is then refused": (
        {0: OK, 1: OK, 2: PARTLY},
        {"encryption_key": KEY, "transfer_last": 2},
        ([1], {"PARTLY_ENCRYPTED": 1, "TRANSFER_LAST": 1}),
    ),
    "what cannot be read is tried, and fails visibly": (
        {0: None, 1: OK, 2: BAD},
        {"verified_only": True},
        ([0, 1], {"NOT_VERIFIED": 1}),
    ),
}


@pytest.mark.parametrize("rule", FILTERS)
def test_filters_that_look_into_manifests(rule: str) -> None:
    manifests, options, expected = FILTERS[rule]
    made = plan(snapshots(*manifests), manifests=manifests, **options)
    assert summary(made) == expected


def test_a_manifest_without_files_is_not_encrypted() -> None:
    assert Protection.of(SECRET) is Protection.FULL
    assert Protection.of(replace(SECRET, files=())) is not Protection.FULL


@pytest.mark.parametrize(
    ("group", "there", "reason", "text"),
    [
        (source_group(None), None, "NO_OWNER", "no readable owner"),
        (source_group(), at_target(0, owner=STRANGER), "NOT_OWNED", STRANGER),
        (source_group(), at_target(0, owner=MY_USER), "NOT_OWNED", f"not by the remote user {ME}"),
        (source_group(), at_target(0, owner="push@pbs!other"), "NOT_OWNED", "push@pbs!other"),
        (source_group(group=Group("host", "benchmark")), None, "UNSUPPORTED", "benchmark"),
    ],
)
def test_a_group_that_is_skipped_says_why(
    group: SourceGroup, there: GroupItem | None, reason: str, text: str
) -> None:
    made = plan(snapshots(0, 1), there, group=group, remove_vanished=True, lists=listed(7))
    assert summary(made) == ([], {reason: 2})
    assert any(text in note for note in made.notes)
    assert not made.has_work


@pytest.mark.parametrize(
    ("me", "owner", "owned"),
    [
        ("a@pbs", "a@pbs", True),
        ("a@pbs", "a@pbs!t", True),
        ("a@pbs!t", "a@pbs!t", True),
        ("a@pbs!t", "a@pbs", False),
        ("a@pbs!t", "a@pbs!u", False),
        ("a@pbs", "b@pbs", False),
        ("a@pbs", None, False),
    ],
)
def test_owning(me: str, owner: str | None, *, owned: bool) -> None:
    item = GroupItem(
        backup_type="vm", backup_id="1", owner=None if owner is None else AuthId.parse(owner)
    )
    assert item.is_owned_by(AuthId.parse(me)) is owned


@pytest.mark.parametrize(("epoch", "pushed"), [(-5, False), (0, False), (1, True)])
def test_times_that_a_server_refuses(epoch: int, *, pushed: bool) -> None:
    item = SourceSnapshot(ROOT, Snapshot(GROUP, epoch), finished=True, protected=False)
    made = plan([item])
    assert bool(made.snapshots) is pushed
    assert summary(made)[1] == ({} if pushed else {"UNSUPPORTED": 1})


def test_times_that_are_no_dates_are_told() -> None:
    made = plan(SnapshotList(snapshots(0), (("2026-13-01T00:00:00Z", "no date"),)))
    assert summary(made) == ([0], {})
    assert any("2026-13-01T00:00:00Z" in note and "no date" in note for note in made.notes)


def test_an_empty_group_is_told() -> None:
    assert any("empty" in note for note in plan(()).notes)


def test_older_ones_are_summed_up() -> None:
    (older,) = [o for o in plan(snapshots(0, 1, 2), at_target(9)).outcomes if o.skip]
    assert (older.count, older.oldest, older.newest) == (3, time(0), time(2))


def test_what_the_list_shows_is_there_already() -> None:
    made = plan(snapshots(0, 1, 2), at_target(2), remove_vanished=True, lists=listed(0, 2))
    assert summary(made) == ([], {"NOT_NEWER": 1, "ALREADY_THERE": 2})


def test_vanished_are_those_whose_time_is_not_here_at_all() -> None:
    made = plan(
        snapshots(1, 2, 3, dead=[2]),
        at_target(4),
        remove_vanished=True,
        verified_only=True,
        manifests={3: BAD},
        lists=listed(4, 3, 2, 1, 0),
    )
    assert [item.snapshot.backup_time for item in made.vanished] == [time(0), time(4)]


def test_nothing_vanishes_unless_asked_for() -> None:
    assert plan(snapshots(1), at_target(1), lists=listed(0, 1)).vanished == ()


def test_an_empty_group_does_not_empty_the_targets() -> None:
    asked = {"remove_vanished": True, "lists": listed(0, 1)}
    made = plan((), at_target(1), **asked)
    assert made.vanished == ()
    (held,) = made.held_back
    assert "2 vanished snapshots of target vm/100" in held.what
    assert "--allow-empty-source" in held.why
    assert len(plan((), at_target(1), allow_empty_source=True, **asked).vanished) == 2


LOGS: dict[str, tuple[Sequence[int], GroupItem | None, list[SnapshotItem], int | None]] = {
    "here and not there": ([1], at_target(1), [], 1),
    "not here": ([], at_target(1), [], None),
    "on both sides": ([1], at_target(1, files=[*FULL, "client.log.blob"]), [], None),
    "of an older one, not listed": ([0], at_target(1), [], None),
    "the target's newest is not here": ([1], at_target(3), [], None),
    "listed: the newest that both have": ([1], at_target(3), listed(0, 1, 3), 1),
    "listed: with a log there": (
        [1],
        at_target(3),
        [*listed(0), *listed(1, files=[*FULL, "client.log.blob"])],
        None,
    ),
    "no group there": ([1], None, [], None),
}


@pytest.mark.parametrize("case", LOGS)
def test_late_logs(case: str) -> None:
    logs, there, lists, expected = LOGS[case]
    made = plan(snapshots(0, 1), there, logs=logs, lists=lists)
    number = made.log_for and (made.log_for.snapshot.backup_time - FIRST) // 86_400
    assert number == expected
    assert made.has_work is bool(made.log_for or made.snapshots)


def test_in_common_is_what_is_finished_on_both_sides() -> None:
    lists = [*listed(0, 1, 5, 3), *listed(2, size=None)]
    found = late_logs.in_common(snapshots(0, 1, 2, 3, dead=[3]), lists)
    assert [item.snapshot.backup_time for item, _ in found] == [time(0), time(1)]
    assert [item.backup_time for _, item in found] == [time(0), time(1)]


# -- what vanished, if nothing else would be left --

LEFT: dict[str, tuple[Sequence[SourceSnapshot], list[int], dict[str, Any], list[int]]] = {
    "all are older than the target's newest": (snapshots(1, 2), [0, 3], {}, []),
    "one is there": (snapshots(1, 2), [0, 1, 3], {}, [0, 3]),
    "one will be pushed": (snapshots(1, 4), [0, 3], {}, [0, 3]),
    "the only one that could be is filtered": (
        snapshots(4),
        [0, 3],
        {"verified_only": True, "manifests": {4: BAD}},
        [],
    ),
    "the only one that could be is unfinished": (snapshots(1, 4, dead=[4]), [0, 3], {}, []),
    "nothing is here, as allowed": ((), [0, 3], {"allow_empty_source": True}, [0, 3]),
}


@pytest.mark.parametrize("case", LEFT)
def test_something_of_the_source_has_to_be_left_at_the_target(case: str) -> None:
    found, there, options, gone = LEFT[case]
    made = plan(found, at_target(3), remove_vanished=True, lists=listed(*there), **options)
    assert [item.snapshot.backup_time for item in made.vanished] == [time(n) for n in gone]
    assert bool(made.held_back) is not bool(gone)


# -- what is known of older ones --


@pytest.mark.parametrize(
    ("count", "lists", "text"),
    [
        (4, (), ""),
        (9, (), ""),
        (2, (), "at least 2 of them not at the target, and too late"),
        (1, (), "not at the target, and too late"),
        (1, listed(3), "not at the target, and too late"),
    ],
)
def test_older_ones_are_not_said_to_be_missing_unless_they_are(
    count: int, lists: Sequence[SnapshotItem], text: str
) -> None:
    there = replace(at_target(3), backup_count=count)
    made = plan(snapshots(0, 1, 2, 3), there, lists=lists)
    (older,) = (outcome for outcome in made.outcomes if outcome.skip)
    assert (older.skip, older.count) == (Skip.NOT_NEWER, 3)
    assert older.detail.startswith(text)
    assert bool(older.detail) is bool(text)


# -- dead ones in the way --


def test_dead_ones_in_the_way_go_first() -> None:
    manifest_is_broken = listed(2, size=None)
    no_manifest: dict[str, Any] = {"size": None, "files": ["drive.img.fidx"]}
    lists = [
        *listed(0),
        *listed(1, 5, **no_manifest),
        *manifest_is_broken,
        *listed(3, protected=True, **no_manifest),
    ]
    made = plan(snapshots(0, 1, 2, 3), at_target(0), remove_vanished=True, lists=lists)
    assert [item.snapshot.backup_time for item in made.dead] == [time(1)]
    assert plan(snapshots(0, 1), at_target(0), lists=lists).dead == ()


@pytest.mark.parametrize(
    ("wanted", "existing", "created"),
    [
        ("", [""], []),
        ("a", ["", "a"], []),
        ("a", [""], ["a"]),
        ("a/b/c", [""], ["a", "a/b", "a/b/c"]),
        ("a/b/c", ["", "a"], ["a/b", "a/b/c"]),
        ("a/b/c", ["a/b"], ["a/b/c"]),  # `a` exists, unseen
        ("a/b/c", ["", "a/b"], ["a/b/c"]),
    ],
)
def test_namespaces_are_created_below_the_deepest_that_is_seen(
    wanted: str, existing: list[str], created: list[str]
) -> None:
    found = namespaces_to_create(
        Namespace.parse(wanted), {Namespace.parse(text) for text in existing}
    )
    assert [str(namespace) for namespace in found] == created


def test_removals_are_counted_without_what_stays() -> None:
    lists = [*listed(0), *listed(3, protected=True)]
    group = plan(snapshots(1, 4), at_target(3), remove_vanished=True, lists=lists)
    assert len(group.vanished) == 2
    gone = VanishedGroup(Group("ct", "1"), 4, protected=2)
    namespaces = (
        VanishedNamespace(Namespace(("a",)), 1, 10, protected=5),
        VanishedNamespace(Namespace(("b",)), 1, 100, keep="because"),
    )
    made = Plan((NamespacePlan(ROOT, ROOT, (), (group,), vanished=(gone,)),), namespaces)
    assert made.removals == 1 + 4 + 10
