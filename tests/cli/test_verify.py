"""``pbs-push verify``: what is shown, where, and with which status."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from rich.console import Console
from tests.own_host import COMMAND

from pbs_push import (
    Datastore,
    Namespace,
    Note,
    SnapshotVerified,
    Verdict,
    VerifyBegan,
    VerifyProgress,
    VerifyReport,
)
from pbs_push.cli.event_lines import Importance
from pbs_push.cli.verify_display import VerifyDisplay
from pbs_push.cli.verify_lines import VerifyLines
from pbs_push.demo.sample import sample_enc_key
from pbs_push.errors import Cancelled
from pbs_push.push.document import Span
from pbs_push.source.items import SourceSnapshot
from pbs_push.verify.report import (
    ChunkCounts,
    ChunkDamage,
    FileDamage,
    Place,
    Unlisted,
)

from .conftest import Cli

DOCS = Path(__file__).resolve().parents[2] / "docs"


def some_chunk(source: Path) -> Path:
    """A chunk of ct/200."""
    datastore = Datastore(source)
    (group,) = (one for one in datastore.groups(Namespace()) if str(one.group) == "ct/200")
    item = datastore.snapshots(group).snapshots[0]
    with datastore.open_snapshot(item) as opened, opened.open_index("root.pxar.didx") as index:
        return datastore.chunk_path_of(index.digests[-1].tobytes())


def keys(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values()))
    return set().union(*map(keys, value)) if isinstance(value, list) else set()


def test_a_source_that_is_all_right(cli: Cli, small_source: Path) -> None:
    ran = cli("verify", small_source).succeeded()
    assert re.search(r"^ok +25 snapshots$", ran.out, re.MULTILINE)
    assert re.search(r"^not checked +1 snapshot$", ran.out, re.MULTILINE)
    assert "could not be checked (encrypted; only their CRC-32 was)" in ran.out
    assert ran.err.startswith("verifying 26 snapshots of 13 groups\n")
    assert "encrypted, and not all of it could be checked" in ran.err


def test_quietly(cli: Cli, small_source: Path) -> None:
    ran = cli("verify", small_source, "--quiet").succeeded()
    assert (ran.out, ran.err) == ("", "")


def test_with_a_key(cli: Cli, small_source: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(json.dumps({"kdf": None, "data": base64.b64encode(sample_enc_key()).decode()}))
    ran = cli("verify", small_source, "--keyfile", key, "--json").succeeded()
    assert json.loads(ran.out)["snapshots"]["ok"] == 26
    cli("verify", small_source, "--keyfile", tmp_path / "none").failed(2, "No such file")


def test_what_is_damaged_is_named_with_what_it_spoils(cli: Cli, source: Path) -> None:
    chunk = some_chunk(source)
    chunk.unlink()
    ran = cli("verify", source)
    assert ran.status == 3
    assert chunk.name in ran.errors[0]
    assert ran.errors[-1].endswith("1 chunk damaged or missing: spoiled 3 snapshots")
    assert len(re.findall(r"^spoils root.pxar.didx of ct/200/", ran.out, re.MULTILINE)) == 3
    ran = cli("verify", source, "--json", "--quiet", "--group-filter", "type:ct")
    document = json.loads(ran.out)
    assert ran.status == document["exit-status"] == 3
    (damage,) = document["damaged-chunks"]
    assert (damage["digest"], damage["fault"]) == (chunk.name, "missing")
    assert {one["group"] for one in damage["archives"]} == {"ct/200"}
    assert document["snapshots"]["damaged"] == 3


def test_a_part_of_it(cli: Cli, small_source: Path) -> None:
    for options, number in (
        (("--ns", "prod"), 8),
        (("--ns", "prod", "--max-depth", "0"), 4),
        (("--ns", "prod", "--group-filter", "exclude:type:vm"), 6),
    ):
        ran = cli("verify", small_source, *options, "--parallel", 1, "--json").succeeded()
        assert json.loads(ran.out)["snapshots"]["ok"] == number


def test_what_keeps_it_from_beginning(cli: Cli, small_source: Path, tmp_path: Path) -> None:
    cli("verify", tmp_path).failed(1, "is not a datastore")
    ran = cli("verify", tmp_path / "none", "--json").failed(1, "is not a directory")
    document = json.loads(ran.out)
    assert document["error"]["kind"] == "SourceError"
    assert document["source"]["datastore"] == str(tmp_path / "none")
    cli("verify", small_source, "--state", small_source / "x").failed(2, "lies in the source")
    cli("verify", small_source, "--parallel", "0").failed(2, "--parallel")
    cli("verify", small_source, "--quiet", "--verbose").failed(2, "contradict")
    cli("verify", small_source, "--ns", "nowhere").failed(2, "has no namespace")


def test_interrupted_it_goes_on_later(small_source: Path, tmp_path: Path) -> None:
    """In a process of its own, stopped by the signal while a chunk waits to be read."""
    source = tmp_path / "source"
    subprocess.run(["cp", "-a", small_source, source], check=True)
    state = tmp_path / "state"
    arguments = [*COMMAND, "verify", source, "--state", state, "--json", "--parallel", "1"]
    # SIGINT is pending when the work begins: a listener of events cannot be had from outside.
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        for line in process.stderr:
            if line.startswith("verifying"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        document = json.loads(process.stdout.read())
    if process.returncode == 0:
        return  # it was done before the signal came
    assert process.returncode == document["exit-status"] == 130
    assert "interrupted" in rest
    assert state.stat().st_mode & 0o777 == 0o600
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    again = json.loads(done.stdout)
    assert again["chunks"]["resumed"] >= document["chunks"]["ok"]
    assert not state.exists()


def item(name: str = "vm/1") -> SourceSnapshot:
    from pbs_push import Group, Snapshot

    return SourceSnapshot(Namespace(), Snapshot(Group.parse(name), 1_780_000_000), True, False)


def full_report() -> VerifyReport:
    """One that has everything."""
    report = VerifyReport("/store", Namespace())
    for verdict in Verdict:
        report.add(item(), verdict)
    place = Place(item(), "a.didx")
    report.damaged_files = [FileDamage(place, "crc", "a.didx: bad\x1b[31m")]
    report.damaged_chunks = [ChunkDamage("ab" * 32, "/store/ab", 7, "crc", "bad", [place])]
    report.unlisted = [Unlisted("vm/2", "why")]
    report.chunks = ChunkCounts(5, 1, 1, 9, 100, 200)
    report.files_not_checked = 1
    report.span = Span(1_780_000_000, 1_780_000_002)
    report.error = Cancelled("stopped")
    return report


def test_every_key_is_in_the_manual() -> None:
    documented = set(re.findall(r"`([a-z-]+)`", (DOCS / "json.md").read_text()))
    assert keys(full_report().to_dict()) - documented == set()
    assert {verdict.value for verdict in Verdict} <= documented


def test_nothing_steers_a_terminal() -> None:
    from pbs_push.cli.verify_lines import closing_line, summary_lines

    text = "\n".join(summary_lines(full_report()))
    assert "\x1b" not in text
    assert "9 checked by an earlier run" in text
    assert "1 file encrypted, not checked" in text
    assert closing_line(full_report()) == (
        "/store: 1 chunk damaged or missing; 1 file damaged or missing; 1 folder not to be read: "
        "spoiled 1 snapshot"
    )


def test_lines_tell_how_far_it_is_once_a_minute() -> None:
    now, lines = [0.0], []
    show = VerifyLines(Importance.LOG, lines.append, lambda: now[0])
    with show:
        show(VerifyBegan(1, 2, 30))
        show(VerifyProgress(1, 9, 10 << 20, 20 << 20))
        now[0] = 61.0
        show(SnapshotVerified(item(), Verdict.OK))
        show(VerifyProgress(3, 9, 10 << 20, 122 << 20))
        show(Note("info", "some"))
        show(Note("warning", "more"))
    assert lines == [
        "verifying 2 snapshots of 1 group; going on behind 30 chunks",
        "vm/1/2026-05-28T20:26:40Z: ok",
        "1 of 2 snapshots · 3 of 9 chunks so far · 122.0 MiB checked · 2.0 MiB/s",
        "some",
        "pbs-push: warning: more",
    ]


def test_a_display_on_a_terminal() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    display = VerifyDisplay(console)
    assert str(display.render()) == "looking at the source …"
    with display:
        display(VerifyBegan(1, 2, 0))
        display(SnapshotVerified(item(), Verdict.OK))
        display(SnapshotVerified(item("vm/2"), Verdict.DAMAGED))
        assert str(display.render()).startswith("2 of 2 snapshots · 0 of 0 chunks so far")
    assert "vm/2/2026-05-28T20:26:40Z: damaged" in out.getvalue()
    assert "vm/1/2026-05-28T20:26:40Z: ok" not in out.getvalue(), "the display tells it"


def test_the_display_is_for_terminals(small_source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = os.openpty()
    done = subprocess.run(
        [*COMMAND, "verify", small_source], stderr=theirs, stdout=subprocess.PIPE, check=True
    )
    os.close(theirs)
    assert b"26 snapshots" in os.read(ours, 65536)
    os.close(ours)
    assert b"25 snapshots" in done.stdout
