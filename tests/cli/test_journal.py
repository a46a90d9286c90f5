"""What goes to systemd's journal has its priority, line by line; what goes elsewhere has none."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.own_host import COMMAND

from pbs_push.cli import event_json, interrupts, lines
from pbs_push.cli.event_lines import Importance, Line, tell
from pbs_push.push.outcome import Skip

from .conftest import Cli, Place
from .event_samples import failed, item, pushed, skipped


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that lines are said to, and that systemd says is the journal."""
    path = tmp_path / "journal"
    with path.open("w") as stream:
        monkeypatch.setattr(lines, "sys", SimpleNamespace(stderr=stream))
        found = path.stat()
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        yield path


def test_each_line_has_its_priority(journal: Path) -> None:
    lines.say(lines.error_line("broken"))
    lines.say(lines.warning_line("odd"))
    lines.say("done")
    lines.say("interrupted", lines.WARNING)
    tell(Line(Importance.DETAIL, "already there"), None)
    tell(Line(Importance.LOG, "pushing"), None)
    assert journal.read_text().splitlines() == [
        "<3>pbs-push: error: broken",
        "<4>pbs-push: warning: odd",
        "<6>done",
        "<4>interrupted",
        "<7>already there",
        "<6>pushing",
    ]


def test_each_of_several_lines_has_it(journal: Path) -> None:
    lines.say("one\ntwo\n\nthree")
    lines.say("")
    assert journal.read_text() == "<6>one\n<6>two\n<6>\n<6>three\n<6>\n"


def test_text_cannot_choose_its_own(journal: Path) -> None:
    lines.say("<0>a target's word")
    assert journal.read_text() == "<6><0>a target's word\n"


@pytest.mark.parametrize("stream", ["", "1:2", "x", "8:", None])
def test_elsewhere_there_is_none(
    journal: Path, monkeypatch: pytest.MonkeyPatch, stream: str | None
) -> None:
    if stream is None:
        monkeypatch.delenv("JOURNAL_STREAM")
    else:
        monkeypatch.setenv("JOURNAL_STREAM", stream)
    lines.say(lines.error_line("broken"))
    assert journal.read_text() == "pbs-push: error: broken\n"


def test_a_stderr_that_is_no_file(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caught = io.StringIO()
    monkeypatch.setattr(lines, "sys", SimpleNamespace(stderr=caught))
    lines.say("done")
    assert caught.getvalue() == "done\n"
    monkeypatch.setattr(lines, "sys", SimpleNamespace(stderr=None))
    assert not lines.goes_to_journal()


def test_events_for_programs_have_theirs(journal: Path) -> None:
    with event_json.JsonProgress() as progress:
        progress(pushed(item()))
        progress(failed(item()))
        progress(skipped(item(), Skip.NOT_NEWER))
    event_json.tell("warning", {"level": "warning", "text": "odd"})
    event_json.tell("message", {"level": "error", "text": "no"})
    event_json.tell("summary", {"exit-status": 0})
    event_json.tell("summary", {"exit-status": 3})
    told = journal.read_text().splitlines()
    assert [line[:3] for line in told] == ["<6>", "<3>", "<6>", "<4>", "<3>", "<6>", "<3>"]
    assert all(json.loads(line[3:])["format"] == "pbs-push-event" for line in told)


def test_an_impatient_end(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(os, "write", lambda _fd, text: written.append(text))
    monkeypatch.setattr(os, "_exit", lambda _status: None)
    interrupts.leave_at_once()
    assert written == [b"<4>pbs-push: interrupted again: left at once\n"]


def test_a_command_of_a_service(tmp_path: Path, source: Path, place: Place) -> None:
    path = tmp_path / "journal"
    with path.open("wb") as stream:
        found = os.fstat(stream.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        words = [*COMMAND, "push", str(source), place.repository, "-v", "--group-filter", "type:vm"]
        done = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=stream, env=environment, check=False
        )
        subprocess.run([*COMMAND, "push", "--nope"], stderr=stream, env=environment, check=False)
    assert done.returncode == 0
    assert not done.stdout.startswith(b"<"), "what is printed is no line of a log"
    *told, last = path.read_text().splitlines()
    assert {line[:3] for line in told} == {"<6>", "<7>"}
    assert last.startswith("<3>pbs-push: error: ")
    assert "\x1b" not in path.read_text()


def test_a_pipe_within_a_service_is_no_journal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    assert cli("push", "--nope").err.startswith("pbs-push: error: ")
