"""The results of pushes and dry runs, made of values."""

from __future__ import annotations

import json

import pytest

from pbs_push.cli.results import plan_lines, summary_lines
from pbs_push.errors import ChunkError, StatusError
from pbs_push.names import AuthId, Group, Namespace, Repository, Snapshot
from pbs_push.push.changes import MetadataChange, MetadataKind
from pbs_push.push.document import Sides, key_of
from pbs_push.push.events import Estimated
from pbs_push.push.forecast import Forecast
from pbs_push.push.outcome import (
    Alert,
    Finding,
    HeldBack,
    Outcome,
    Problem,
    Result,
    Skip,
    TransferStats,
)
from pbs_push.push.plan import GroupPlan, NamespacePlan, Plan
from pbs_push.push.report import Report
from pbs_push.push.vanished import VanishedGroup, VanishedNamespace, VanishedSnapshot
from pbs_push.source.items import SourceGroup
from pbs_push.units import counted, duration_text, rate_text, size_text

from .event_samples import MIB, item

A = item()
LATER = item("vm/100/2026-05-29T20:30:03Z")
SIDES = Sides("/store", Namespace(), Repository.parse("root@pam!p@h:store"), Namespace())


def full_report() -> Report:
    report = Report(SIDES)
    stats = TransferStats(4, 8 * MIB, 9 * MIB, 7, 2 * MIB, 30, 2, 1)
    report.add(Outcome.of(A.namespace, A.snapshot, Result.PUSHED, stats=stats))
    error = ChunkError("ab" * 32, "/store/ab", "missing")
    report.add(Outcome.of(A.namespace, LATER.snapshot, Result.FAILED, error=error))
    for skip in (Skip.NOT_NEWER, Skip.IN_PROGRESS):
        report.add(Outcome.of(A.namespace, A.snapshot, Result.SKIPPED, skip=skip))
    report.add(Outcome.of(A.namespace, A.snapshot, Result.ALREADY_THERE))
    report.add_problem(Problem("source namespace a", StatusError("GET groups", 400, "no")))
    report.created_namespaces.append(Namespace.parse("x"))
    report.count_removed(namespaces=1, groups=2, snapshots=3, protected=4)
    report.count_kept(namespaces=1, groups=2)
    report.hold_back(HeldBack("3 vanished groups of target x", "the push had errors"))
    report.add_alert(Alert(Finding.FUTURE, A.namespace, A.namespace, A.snapshot.group, "in full"))
    report.count(logs_added=1, metadata_updates=2)
    report.seconds = 4.0
    report.groups = 5
    return report


def test_summary() -> None:
    assert list(summary_lines(full_report())) == [
        "pushed          1 snapshot",
        "already there   1 snapshot",
        "skipped         1 snapshot: in progress or dead: it has no manifest",
        f"skipped         1 snapshot: {Skip.NOT_NEWER.value}",
        "failed          1 snapshot",
        "other problems  1",
        "created         1 namespace",
        "removed         1 namespace, 2 groups, 3 snapshots",
        "kept            1 namespace, 2 groups, 4 protected snapshots",
        "held back       3 vanished groups of target x: the push had errors",
        "look at         vm/100: the target's newest snapshot is dated in the future",
        "logs added      1 snapshot",
        "metadata set    2 times",
        "chunks          4 sent, 7 times reused",
        "bytes           8.0 MiB sent, 2.0 MiB reused",
        "requests        30",
        "time            4.0 s, 2.0 MiB/s",
    ]


def test_summary_of_nothing() -> None:
    assert list(summary_lines(Report())) == [
        "pushed          0 snapshots",
        "already there   0 snapshots",
        "failed          0 snapshots",
        "chunks          0 sent, 0 times reused",
        "bytes           0 B sent, 0 B reused",
        "requests        0",
        "time            0.0 s",
    ]


def full_plan(*, refused: str | None = None) -> Plan:
    group = GroupPlan(
        SourceGroup(Namespace(), Group("vm", "100"), AuthId("root@pam")),
        Namespace.parse("x"),
        None,
        snapshots=(A, LATER),
        outcomes=(
            Outcome.of(A.namespace, A.snapshot, Result.ALREADY_THERE),
            Outcome.of(A.namespace, LATER.snapshot, Result.SKIPPED, skip=Skip.NOT_VERIFIED),
        ),
        vanished=(
            VanishedSnapshot(Snapshot(Group("vm", "100"), 1000), protected=False, finished=True),
            VanishedSnapshot(Snapshot(Group("vm", "100"), 2000), protected=True, finished=True),
        ),
        dead=(VanishedSnapshot(LATER.snapshot, protected=False, finished=False),),
        log_for=A,
        changes=(
            MetadataChange(MetadataKind.NOTES, A, "new"),
            MetadataChange(MetadataKind.PROTECT, LATER, after_push=True),
            MetadataChange(MetadataKind.GROUP_NOTES, notes="of the group"),
        ),
        notes=("look\nout",),
        alerts=(
            Alert(Finding.FUTURE, A.namespace, A.namespace, A.snapshot.group, "mind the\nfuture"),
        ),
        held_back=(HeldBack("2 vanished snapshots", "because"),),
    )
    namespace = NamespacePlan(
        Namespace(),
        Namespace.parse("x"),
        (Namespace.parse("x"),),
        (group,),
        vanished=(
            VanishedGroup(Group("ct", "1"), 3, 1),
            VanishedGroup(Group("ct", "2"), 1),
            VanishedGroup(Group("ct", "3"), 0, 2),
        ),
        notes=("mind the namespace",),
        held_back=(HeldBack("3 vanished groups of target x", "the push had errors"),),
        finished=4,
    )
    gone = (
        VanishedNamespace(Namespace.parse("x/y/z"), 1, 2),
        VanishedNamespace(Namespace.parse("x/v"), 1, 1, 2),
        VanishedNamespace(Namespace.parse("x/w"), 1, 0, 1),
        VanishedNamespace(Namespace.parse("x/y"), 1, 2, keep="it holds ct/1"),
        VanishedNamespace(Namespace.parse("x/u"), keep="it was renamed", held_back=True),
    )
    return Plan((namespace,), gone, refused)


def shown(plan: Plan, **more: bool) -> list[str]:
    """With an estimate of one snapshot; the others cannot be read."""
    estimates = {A: Estimated(A, 3, 12 * MIB, exact=False)}
    return list(plan_lines(plan, Forecast(plan, estimates, 2, 0.25, 1 * MIB), **more))


def test_plan() -> None:
    assert list(shown(full_plan())) == [
        "warning  mind the namespace",
        "held     3 vanished groups of target x: the push had errors",
        "create   target namespace x",
        "warning  look out",
        "look at  mind the future",
        "held     2 vanished snapshots: because",
        "there    vm/100/2026-05-28T20:30:03Z",
        "skip     vm/100/2026-05-29T20:30:03Z: not verified",
        "push     root → x: vm/100/2026-05-28T20:30:03Z: "
        "at most 3 chunks, 12.0 MiB before compression",
        "push     root → x: vm/100/2026-05-29T20:30:03Z: it cannot be read",
        "add log  root → x: vm/100/2026-05-28T20:30:03Z",
        "set      root → x: vm/100/2026-05-28T20:30:03Z: notes",
        "set      root → x: vm/100/2026-05-29T20:30:03Z: protected",
        "set      root → x: vm/100: group notes",
        "remove   target x: vm/100/2026-05-29T20:30:03Z: dead, in the way of a push",
        "remove   target x: vm/100/1970-01-01T00:16:40Z",
        "keep     target x: vm/100/1970-01-01T00:33:20Z: it is protected",
        "remove   3 snapshots of target x: ct/1: it stays, with 1 protected snapshot",
        "remove   target x: ct/2, with 1 snapshot",
        "keep     target x: ct/3: it stays, with 2 protected snapshots",
        "remove   target namespace x/y/z, with 1 group, 2 snapshots",
        "remove   1 snapshot of target namespace x/v: it stays, with 2 protected snapshots",
        "keep     target namespace x/w: it stays, with 1 protected snapshot",
        "keep     target namespace x/y: it holds ct/1",
        "held     target namespace x/u: it was renamed",
        "to send  at most 3 chunks, 12.0 MiB before compression; 1 snapshot cannot be read",
        "waiting  16 round trips of 250.0 ms, with 2 groups at once",
        "time     16 s at 1.0 MiB/s, less where chunks are compressed",
        "dry run: 2 snapshots of 1 group would be pushed, 1 namespace created, "
        "9 snapshots removed; nothing was changed",
    ]


def test_a_plan_tells_more_or_less() -> None:
    plan = full_plan()
    sums = "sends    root → x: vm/100: at most 3 chunks, 12.0 MiB before compression; "
    assert sums + "1 snapshot cannot be read" in shown(plan, verbose=True)
    assert {line.split()[0] for line in shown(plan, quiet=True)} == {
        "warning", "held", "look", "to", "waiting", "time", "dry",
    }  # fmt: skip


def test_plan_of_an_empty_source() -> None:
    assert list(shown(Plan((), notes=("mind it",)))) == [
        "warning  mind it",
        "dry run: 0 snapshots of 0 groups would be pushed, 0 namespaces created; "
        "nothing was changed",
    ]


def test_plan_with_removals_refused() -> None:
    lines = list(shown(full_plan(refused="too many")))
    assert sum(line.startswith("(remove) ") for line in lines) == 6
    assert not any(line.startswith("remove ") for line in lines)
    assert "refused  nothing would be removed: too many" in lines
    assert "0 snapshots removed" in lines[-1]


def test_report_document() -> None:
    document = json.loads(json.dumps(full_report().to_dict()))
    assert document["exit-status"] == 3
    assert document["snapshots"] == {
        "pushed": 1, "already-there": 1, "skipped": 2, "failed": 1,
    }  # fmt: skip
    assert document["skipped"] == {"not-newer": 1, "in-progress": 1}
    assert document["sums"]["sent-bytes"] == 8 * MIB
    assert document["removed"] == {
        "namespaces": 1, "groups": 2, "snapshots": 3, "protected": 4,
        "kept-namespaces": 1, "kept-groups": 2,
    }  # fmt: skip
    assert document["held-back"] == [
        {"what": "3 vanished groups of target x", "why": "the push had errors"}
    ]
    assert document["alerts"] == [
        {
            "finding": "future",
            "ns": "",
            "target-ns": "",
            "group": "vm/100",
            "backup-time": None,
            "text": "in full",
        }
    ]
    (failed,) = (o for o in document["outcomes"] if o["result"] == "failed")
    assert failed["error"]["kind"] == "ChunkError"
    assert failed["error"]["retryable"] is False
    assert document["problems"] == [
        {
            "what": "source namespace a",
            "error": {
                "kind": "StatusError",
                "message": "GET groups: no (status 400)",
                "exit-status": 1,
                "retryable": False,
            },
        }
    ]


def test_plan_document() -> None:
    document = json.loads(json.dumps(full_plan().to_dict()))
    assert (document["to-push"], document["to-remove"]) == (2, 9)
    assert document["removals-refused"] is None
    assert document["notes"] == []
    (namespace,) = document["namespaces"]
    assert namespace["create"] == ["x"]
    (group,) = namespace["groups"]
    assert group["push"] == [A.snapshot.backup_time, LATER.snapshot.backup_time]
    assert group["vanished"][1] == {"backup-time": 2000, "protected": True}
    assert group["dead"] == [LATER.snapshot.backup_time]
    assert group["set"] == [
        {"what": "notes", "backup-time": A.snapshot.backup_time},
        {"what": "protect", "backup-time": LATER.snapshot.backup_time},
        {"what": "group-notes", "backup-time": None},
    ]
    assert document["vanished-namespaces"][-2]["keep"] == "it holds ct/1"


def test_names_of_reasons() -> None:
    names = [key_of(skip) for skip in Skip]
    assert len(set(names)) == len(names)
    assert key_of(Skip.NOT_NEWER) == "not-newer"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536 * 1024, "1.5 MiB"),
        (5 << 30, "5.0 GiB"), (5 << 40, "5.0 TiB"), (5000 << 40, "5000.0 TiB"),
    ],
)  # fmt: skip
def test_sizes(number: int, text: str) -> None:
    assert size_text(number) == text
    assert rate_text(number) == f"{text}/s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"), (9.94, "9.9 s"), (10, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s"),
        (200, "3 min 20 s"), (3600, "1 h 0 min"), (7500, "2 h 5 min"), (360_000, "100 h 0 min"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_plurals() -> None:
    assert [counted(n, "chunk") for n in (0, 1, 2)] == ["0 chunks", "1 chunk", "2 chunks"]


def test_what_could_not_be_checked_is_told() -> None:
    report = Report(SIDES)
    stats = TransferStats(unchecked_chunks=3, unchecked_blobs=1)
    report.add(Outcome.of(A.namespace, A.snapshot, Result.PUSHED, stats=stats))
    found = [line for line in summary_lines(report) if line.startswith("not checked")]
    assert found == ["not checked     3 chunks, 1 blob sent, encrypted without the key for it here"]
