"""``pbs-push verify SOURCE --target``: options, lines, documents, statuses."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pbs_push.cli.event_lines import Importance
from pbs_push.cli.options import Output
from pbs_push.cli.timed_lines import PROGRESS_EVERY_S
from pbs_push.cli.verify_target_display import TargetVerifyDisplay
from pbs_push.cli.verify_target_lines import (
    TargetVerifyLines,
    closing_line,
    describe,
    summary_lines,
)
from pbs_push.cli.verifying_target import _shown
from pbs_push.demo.sample import sample_enc_key
from pbs_push.errors import ConnectError
from pbs_push.names import Namespace, Snapshot
from pbs_push.push.events import Note, Retrying
from pbs_push.push.outcome import Problem
from pbs_push.verify.target_events import (
    BadChunkFound,
    BadChunkTreated,
    CopyCompared,
    CopyProgress,
    ServerVerified,
    ServerVerifying,
    TargetVerifyBegan,
    TargetVerifyEvent,
)
from pbs_push.verify.target_report import (
    BadChunk,
    CopyPlace,
    CopyResult,
    CopyVerdict,
    Difference,
    Healing,
    ServerVerification,
    TargetReport,
)

from .conftest import SECRET, Cli, Place, identities
from .event_samples import Clock
from .test_docs import DOCS, keys

PLACE = CopyPlace(Namespace(), Namespace.parse("a"), Snapshot.parse("vm/1/2026-05-28T20:30:03Z"))


def chunk_of(place: Place) -> Path:
    """The largest chunk file of the target."""
    return max(place.path.glob(".chunks/*/*"), key=lambda path: (path.stat().st_size, path.name))


@pytest.fixture
def pushed(cli: Cli, source: Path, place: Place) -> Path:
    cli("push", source, place.repository).succeeded()
    return source


def test_a_copy_that_is_equal(cli: Cli, pushed: Path, place: Place) -> None:
    ran = cli("verify", pushed, "--target", place.repository).succeeded()
    assert re.search(r"^equal +\d+ snapshots$", ran.out, re.MULTILINE)
    assert "comparing" in ran.err
    quiet = cli("verify", pushed, "--target", place.repository, "--quiet").succeeded()
    assert quiet.out == quiet.err == ""


def test_a_sample_in_lines_and_as_a_document(cli: Cli, pushed: Path, place: Place) -> None:
    words = ("verify", pushed, "--target", place.repository, "--sample", "all", "--seed", "7")
    ran = cli(*words).succeeded()
    assert "the sample's seed is 7" in ran.err
    assert re.search(r"^sample +all of \d+ chunks, seed 7$", ran.out, re.MULTILINE)
    document = json.loads(cli(*words, "--json").succeeded().out)
    assert document["exit-status"] == 0
    assert (document["seed"], document["sample"]) == (7, "all")
    chunks = document["chunks"]
    assert chunks["ok"] + chunks["same"] == chunks["known"] > 0
    assert document["target"]["repository"] == place.repository
    assert document["ended"] > document["began"] > 1e9
    assert document["seconds"] == pytest.approx(document["ended"] - document["began"], abs=0.003)


def test_with_the_key_all_is_decoded(cli: Cli, pushed: Path, place: Place, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(json.dumps({"kdf": None, "data": base64.b64encode(sample_enc_key()).decode()}))
    words = ("verify", pushed, "--target", place.repository, "--sample", "all", "--json")
    chunks = json.loads(cli(*words, "--keyfile", key).succeeded().out)["chunks"]
    assert chunks["ok"] == chunks["known"]


def test_a_remote_a_namespace_and_a_key_of_this_host(
    cli: Cli, source: Path, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    host, port = place.server.address
    (etc / "remote.cfg").write_text(
        f"remote: far\n\thost {host}\n\tport {port}\n\tauth-id root@pam!push\n"
        f"\tpassword {base64.b64encode(SECRET.encode()).decode()}\n"
        f"\tfingerprint {place.fingerprint}\n"
    )
    key = tmp_path / "key"
    key.write_text(json.dumps({"kdf": None, "data": base64.b64encode(bytes(32)).decode()}))
    there = ("--remote", "far", "--remote-store", "offsite", "--config-dir", etc)
    cli("push", source, *there, "--remote-ns", "x", "--keyfile", key)
    words = ("verify", source, "--json", "--sample", "all", "--keyfile", key)
    document = json.loads(cli(*words, *there, "--remote-ns", "x").out)
    assert document["snapshots"]["equal"] > 20
    assert document["snapshots"]["not-checked"] == document["snapshots"]["different"] == 0
    monkeypatch.setenv("PBS_NAMESPACE", "x")
    same = json.loads(cli(*words, "--target", place.repository).out)
    assert same["snapshots"] == document["snapshots"]
    assert same["target"]["ns"] == "x"
    monkeypatch.setenv("PBS_NAMESPACE", "/x//")
    cli(*words, "--target", place.repository).failed(2, "PBS_NAMESPACE")
    cli("verify", source, *there, "--encryption-key", "mine", "--sample", "all").failed(2, "mine")


def test_damage_is_told_and_healed(cli: Cli, pushed: Path, place: Place) -> None:
    chunk = chunk_of(place)
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 1
    chunk.write_bytes(data)
    words = ("verify", pushed, "--target", place.repository, "--sample", "all")
    ran = cli(*words)
    assert ran.status == 3
    assert f"chunk {chunk.name} at the target: wrong CRC-32" in ran.err
    assert "damaged at the target" in ran.errors[-1]
    assert "it is needed by" in ran.out
    ran = cli(*words, "--heal")
    assert ran.status == 3
    assert "still bad" in ran.out
    ran = cli(*words, "--heal", "--remote-verify")
    assert ran.status == 0, ran
    assert f"chunk {chunk.name}: healed" in ran.err
    assert "its server has verified" in ran.err
    cli(*words, "--remote-verify").succeeded()


def test_what_was_not_pushed_is_told(cli: Cli, source: Path, place: Place) -> None:
    ran = cli("verify", source, "--target", place.repository, "--ns", "lab")
    assert ran.status == 3
    assert "not pushed yet" in ran.errors[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sample", "all"), "--sample has no effect without --target"),
        (("--seed", "1"), "--seed has no effect without --target"),
        (("--remote-verify",), "--remote-verify has no effect without --target"),
        (("--heal",), "--heal has no effect without --target"),
        (("--remote-ns", "a"), "--remote-ns has no effect without --target"),
        (("--fingerprint", "ab" * 32), "--fingerprint has no effect without --target"),
        (("--server-wait", "1"), "--server-wait has no effect without --target"),
        (("--target", "h:store", "--state", "x"), "--state has no effect with --target"),
        (("--target", "h:store", "--seed", "1"), "--seed has no effect without --sample"),
        (("--target", "h:store", "--server-wait", "1"), "--server-wait has no effect without --r"),
        (("--target", "h:store", "--sample", "7"), "is not a sample"),
        (("--target", "h:store", "--sample", "all", "--parallel", "200"), "it may be 1 to 48"),
        (("--target", "!"), "is not a datastore name"),
        (("--remote-store", "s"), "--remote-store has no effect without --target"),
        (("--encryption-key", "k"), "--encryption-key has no effect without --target"),
        (("--target", "h:store", "--remote", "r"), "either --target or --remote, not both"),
        (("--remote", "r"), "--remote and --remote-store need each other"),
        (
            ("--remote", "r", "--remote-store", "s", "--fingerprint", "ab" * 32),
            "--fingerprint has no effect with --remote",
        ),
        (
            ("--target", "h:store", "--keyfile", "k", "--encryption-key", "k"),
            "either --encryption-key or --keyfile, not both",
        ),
        (("--remote", "r", "--remote-store", "s"), "no remote 'r'"),
    ],
)
def test_mistakes(
    cli: Cli,
    small_source: Path,
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PBS_PASSWORD", "x")
    cli("verify", small_source, *words).failed(2, message)


def test_failures_have_a_document_too(
    cli: Cli, pushed: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PBS_FINGERPRINT", "ab" * 32)
    ran = cli("verify", pushed, "--target", place.repository, "--json").failed(4, "certificate")
    document = json.loads(ran.out)
    assert document["error"]["kind"] == "TlsError"
    assert document["ended"] >= document["began"] > 1e9
    assert document["exit-status"] == 4
    monkeypatch.setenv("PBS_PASSWORD", "wrong")
    monkeypatch.setenv("PBS_FINGERPRINT", place.fingerprint)
    ran = cli("verify", pushed, "--target", place.repository).failed(4, "refuses the credentials")
    assert ran.out == ""


def bad(healing: Healing = Healing.NOT_TRIED, why: str = "") -> BadChunk:
    return BadChunk(
        bytes(32), 100, "missing", "it is gone", bytes(32), False, [(PLACE, "a.fidx")], healing, why
    )


def server(status: str | None = "OK", **more: Any) -> ServerVerification:
    values: dict[str, Any] = {"ok": 1, "failed": (), "not_done": (), **more}
    return ServerVerification(Namespace(), "vm/1", "UPID:x", status, **values)


def full_report() -> TargetReport:
    """All that a report may hold."""
    report = TargetReport()
    report.seed, report.sample = 5, "10%"
    report.chunks.same = report.chunks.not_checked = 1
    for at, verdict in enumerate(CopyVerdict):
        snapshot = Snapshot(PLACE.snapshot.group, PLACE.snapshot.backup_time + at)
        place = CopyPlace(Namespace(), Namespace(), snapshot)
        report.add(CopyResult(place, verdict, (Difference("a.fidx", "it differs"),)))
    report.bad_chunks = [bad(healing) for healing in Healing]
    report.server = [server()]
    report.server_again = [server(None)]
    report.add_problem(Problem("asking", ConnectError("gone")))
    return report


def test_all_of_a_report_is_in_the_summary() -> None:
    text = "\n".join(summary_lines(full_report()))
    for verdict in CopyVerdict:
        assert verdict.value.replace("-", " ") in text
    for words in ("as at the source", "cannot be checked", "5 damaged or missing", "asking: gone"):
        assert words in text
    line = closing_line(full_report())
    for words in ("1 snapshot different", "4 chunks damaged", "1 thing", "not all was verified"):
        assert words in line


def test_every_key_is_in_the_manual() -> None:
    document = full_report().to_dict()
    documented = set(re.findall(r"`([a-z-]+)`", (DOCS / "json.md").read_text()))
    del document["problems"]
    assert keys(document) - documented == set()
    assert {verdict.value for verdict in CopyVerdict} <= documented
    assert {healing.value for healing in Healing} <= documented


@pytest.mark.parametrize(
    ("event", "importance", "text"),
    [
        (TargetVerifyBegan(1, 2, None), Importance.INFO, "comparing 2 snapshots of 1 group"),
        (CopyCompared(CopyResult(PLACE, CopyVerdict.EQUAL)), Importance.LOG, "equal"),
        (CopyCompared(CopyResult(PLACE, CopyVerdict.OLDER)), Importance.INFO, "older than all"),
        (CopyCompared(CopyResult(PLACE, CopyVerdict.GAP)), Importance.ALERT, "missing at the"),
        (BadChunkFound(bad()), Importance.ALERT, "it is gone"),
        (BadChunkTreated(bad(Healing.STILL_BAD, "so")), Importance.INFO, "still bad: so"),
        (ServerVerifying("vm/1", "UPID"), Importance.INFO, "the target's server verifies vm/1"),
        (ServerVerified(server(None)), Importance.ALERT, "not waited for any longer"),
        (
            ServerVerified(server(failed=(1,), not_done=(2,))),
            Importance.INFO,
            "1 ok, 1 failed, 1 left out (OK)",
        ),
        (Note("warning", "beware"), Importance.ALERT, "warning: beware"),
        (Retrying("reading", ConnectError("gone"), 1, 2.0), Importance.INFO, "trying again"),
    ],
)
def test_lines(event: TargetVerifyEvent, importance: Importance, text: str) -> None:
    line = describe(event)
    assert line is not None
    assert line.importance is importance
    assert text in line.text
    assert describe(CopyProgress(1, 1)) is None


EVENTS: tuple[TargetVerifyEvent, ...] = (
    TargetVerifyBegan(1, 2, 9),
    CopyCompared(CopyResult(PLACE, CopyVerdict.EQUAL)),
    BadChunkFound(bad()),
    ServerVerifying("vm/1", "UPID"),
    CopyProgress(3, 3 << 20),
)


def test_once_a_minute_how_far_it_is() -> None:
    clock, lines = Clock(), list[str]()
    with TargetVerifyLines(Importance.LOG, lines.append, clock) as shown:
        for event in EVENTS:
            shown(event)
        clock.now += PROGRESS_EVERY_S
        shown(CopyProgress(4, 6 << 20))
        shown(ServerVerified(server()))
    expected = "1 of 2 snapshots compared · 1 bad chunk · 4 chunks · 6.0 MiB downloaded"
    assert any(line.startswith(expected) for line in lines)
    assert any("its server verifies vm/1" in line for line in lines)


def test_on_a_terminal() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=200)
    with TargetVerifyDisplay(console, Importance.INFO, Clock()) as shown:
        assert "looking at both sides" in str(shown.render())
        for event in EVENTS:
            shown(event)
        assert "1 of 2 snapshots compared" in str(shown.render())
    assert "comparing 2 snapshots" in out.getvalue()
    assert ": equal" not in out.getvalue()


def test_a_display_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(_shown(Output(quiet=True)), TargetVerifyLines)
    assert isinstance(_shown(Output()), TargetVerifyLines)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(_shown(Output()), TargetVerifyDisplay)


def test_rights_that_lack(cli: Cli, pushed: Path, place: Place) -> None:
    held = frozenset(("Datastore.Audit",))
    less = identities(privileges=lambda _who, _path: held)
    object.__setattr__(place.server._shared, "identities", less)
    ran = cli("verify", pushed, "--target", place.repository)
    assert ran.status == 3
    assert "no permissions on /datastore/offsite" in ran.err
