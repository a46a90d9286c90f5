"""A push told as lines of JSON, and documents of what could not begin."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from pbs_push.cli.event_json import JsonProgress, event_json
from pbs_push.errors import ConnectError
from pbs_push.names import Namespace
from pbs_push.push.events import (
    Checkpointed,
    Event,
    NamespaceCreated,
    Note,
    Planned,
    Removal,
    Retrying,
)

from .conftest import Cli, Place
from .event_samples import Clock, item, progress, started

A = item()


def lines_of(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    for line in found:
        assert line["format"] == "pbs-push-event"
        assert line["format-version"] == 1
        assert line["program"].startswith("pbs-push ")
        assert line["time"] > 0
    return found


def test_a_push_as_lines(cli: Cli, place: Place, small_source: Path) -> None:
    done = cli("push", small_source, place.repository, "--log-json").succeeded()
    assert done.out == ""
    lines = lines_of(done.err)
    names = [line["event"] for line in lines]
    assert names.index("plan") < names.index("snapshot-begun") < names.index("snapshot-ended")
    assert names[-1] == "summary"
    assert names.count("snapshot-ended") == names.count("snapshot-begun") == 26
    assert "namespace-created" in names
    summary = lines[-1]
    assert summary["snapshots"]["pushed"] == 26
    assert summary["exit-status"] == summary["remains"] == 0
    assert summary["began"] <= summary["ended"]


def test_what_ends_a_push_is_in_the_summary(cli: Cli, place: Place, tmp_path: Path) -> None:
    done = cli("push", tmp_path / "nowhere", place.repository, "--log-json")
    assert done.status == 2 or done.status > 0
    (summary,) = lines_of(done.err)
    assert summary["error"]["message"]
    assert summary["exit-status"] == done.status


@pytest.mark.parametrize(
    ("event", "name", "part"),
    [
        (Planned(3, 4), "plan", {"groups": 3, "snapshots": 4}),
        (NamespaceCreated(Namespace.parse("a")), "namespace-created", {"target-ns": "a"}),
        (Checkpointed(A, 7, 99), "checkpoint", {"left-bytes": 99, "checkpoint-time": 7}),
        (Retrying("GET x", ConnectError("cut"), 2, 1.5), "retry", {"number": 2}),
        (Removal("group", Namespace(), "vm/1", "gone"), "removal", {"kind": "group"}),
        (Note("warning", "look"), "warning", {"text": "look"}),
        (Note("info", "so"), "message", {"level": "info"}),
    ],
)
def test_events(event: Event, name: str, part: dict[str, Any]) -> None:
    made = event_json(event)
    assert made is not None
    assert made[0] == name
    assert part.items() <= made[1].items()
    assert event_json(progress(A, 1, 2, 3)) is None


def test_progress_comes_by_itself() -> None:
    lines: list[dict[str, Any]] = []
    told = threading.Event()

    def write(line: str) -> None:
        lines.append(json.loads(line))
        if lines[-1]["event"] == "progress":
            told.set()

    with JsonProgress(write, every_s=0.01, clock=Clock()) as listener:
        listener(Planned(1, 1))
        listener(started(A))
        listener(progress(A, 5, 1, 2))
        assert told.wait(30)
    last = next(line for line in reversed(lines) if line["event"] == "progress")
    assert last["under-way"][0]["sent-bytes"] == 5
    assert last["snapshots"] == 1
    assert last["time"] == Clock().now


def test_a_wrong_option_gives_a_document(cli: Cli) -> None:
    for arguments in (("push", "--json", "--nosuch"), ("plan", "--output-format", "json", "-x")):
        done = cli(*arguments)
        assert done.status == 2
        document = json.loads(done.out)
        assert document["format"] == "pbs-push-error"
        assert document["exit-status"] == 2
        assert document["error"]["kind"] == "UsageError"
    assert cli("push", "--nosuch").out == ""
    cli("push", "x", "--json", "--output-format", "text").failed(2, "contradict")
    told = json.loads(cli("push", "x", "--log-json", "-q").err)
    assert (told["event"], told["level"], told["exit-status"]) == ("message", "error", 2)
    assert "--log-json" in told["text"]
