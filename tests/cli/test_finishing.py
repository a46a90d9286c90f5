"""Whom a push tells how it ended: metrics, a command, a webhook; and one that has only so long."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.push.world import World

from pbs_push.cli.finishing import Finishing, values_of
from pbs_push.cli.metrics import write_metrics
from pbs_push.errors import ConfigError, ConnectError, PbsPushError
from pbs_push.names import Namespace
from pbs_push.push.outcome import Outcome, Problem, Result, Skip
from pbs_push.push.report import Report

from .conftest import Cli, Place
from .event_samples import MIB, item
from .test_results import SIDES, full_report

CONTRIB = Path(__file__).resolve().parents[2] / "contrib"


def samples(path: Path) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(path.read_text()):
        for sample in family.samples:
            assert {"source", "source_ns", "target", "target_ns"} <= set(sample.labels)
            more = [sample.labels.get(name, "") for name in ("result", "ns", "group")]
            found[" ".join((sample.name, *filter(None, more)))] = sample.value
    return found


def test_metrics_of_a_push(cli: Cli, place: Place, small_source: Path, tmp_path: Path) -> None:
    path = tmp_path / "pbs-push.prom"
    cli("push", small_source, place.repository, "--metrics-file", path).succeeded()
    found = samples(path)
    assert found["pbs_push_snapshots pushed"] == 26
    assert found["pbs_push_exit_status"] == found["pbs_push_remaining_snapshots"] == 0
    assert found["pbs_push_last_success_timestamp_seconds"] > 1e9
    assert found["pbs_push_last_run_timestamp_seconds"] > 1e9
    assert found["pbs_push_sent_bytes"] > 0
    assert [path.name for path in tmp_path.glob("pbs-push*")] == ["pbs-push.prom"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_last_success_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.prom"
    good = Report(SIDES)
    write_metrics(path, [good])
    success = samples(path)["pbs_push_last_success_timestamp_seconds"]
    bad = full_report()
    write_metrics(path, [bad])
    found = samples(path)
    assert found["pbs_push_last_success_timestamp_seconds"] == success
    assert found["pbs_push_exit_status"] == 3
    assert found["pbs_push_sent_bytes"] == 8 * MIB
    assert found["pbs_push_group_lag_seconds vm/100"] > 86_400
    assert found["pbs_push_max_lag_seconds"] == found["pbs_push_group_lag_seconds vm/100"]
    path.write_text("no metrics {")
    write_metrics(path, [bad])
    assert samples(path)["pbs_push_last_success_timestamp_seconds"] == 0
    write_metrics(tmp_path / "b.prom", [Report()])
    with pytest.raises(ConfigError, match="--metrics-file"):
        write_metrics(tmp_path / "nowhere" / "a.prom", [bad])


UNKNOWN = {
    "pbs_push_remaining_snapshots",
    "pbs_push_gap_snapshots",
    "pbs_push_max_lag_seconds",
    "pbs_push_alerts",
}
"""Metrics of a run that has looked at both sides."""


def test_what_a_run_that_never_began_does_not_know_is_absent(
    cli: Cli, place: Place, small_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.prom"
    push = ("push", small_source, place.repository, "--metrics-file", path)
    cli(*push).succeeded()
    before = samples(path)
    assert before.keys() >= UNKNOWN
    monkeypatch.setenv("PBS_PASSWORD", "wrong")
    cli(*push).failed(4, "credentials")
    found = samples(path)
    told = {name.split(" ")[0] for name in found}
    assert not told & {*UNKNOWN, "pbs_push_snapshots", "pbs_push_group_lag_seconds"}
    assert found["pbs_push_exit_status"] == 4
    last = "pbs_push_last_success_timestamp_seconds"
    assert found[last] == before[last] > 1e9


def test_a_run_that_could_look_at_no_namespace_does_not_know_either(tmp_path: Path) -> None:
    report = Report(SIDES)
    report.add_problem(Problem("source root namespace", PbsPushError("it cannot be read")))
    write_metrics(tmp_path / "a.prom", [report])
    assert not samples(tmp_path / "a.prom").keys() & UNKNOWN


@pytest.mark.parametrize("remove_vanished", [False, True])
def test_gaps_are_what_is_not_there(tmp_path: Path, *, remove_vanished: bool) -> None:
    """Most of what is not newer is there: that a target has all of it is no gap."""
    path = tmp_path / "a.prom"
    with World(tmp_path) as world:
        world.source.add("vm/1", 1, 2, 4)
        world.push()
        write_metrics(path, [world.push(remove_vanished=remove_vanished).report])
        assert samples(path)["pbs_push_gap_snapshots"] == 0
        world.source.add("vm/1", 3)
        report = world.push(remove_vanished=remove_vanished).report
        write_metrics(path, [report])
        assert samples(path)["pbs_push_gap_snapshots"] == 1
        assert [one.get("missing") for one in report.to_dict()["outcomes"]] == [1]


def test_several_targets_have_a_last_success_each(tmp_path: Path) -> None:
    path = tmp_path / "a.prom"
    good, other = Report(SIDES), Report(replace(SIDES, target_namespace=Namespace.parse("x")))
    other.error = PbsPushError("it failed")
    write_metrics(path, [good, other])
    write_metrics(path, [other, good])
    values = [
        float(line.rpartition(" ")[2])
        for line in path.read_text().splitlines()
        if line.startswith("pbs_push_last_success_timestamp_seconds{")
    ]
    assert values[0] == 0
    assert values[1] > 1e9


def test_every_metric_is_in_the_manual_and_the_examples_know_them(tmp_path: Path) -> None:
    manual = (CONTRIB.parent / "docs/monitoring.md").read_text()
    write_metrics(tmp_path / "a.prom", [full_report()])
    names = {name.split(" ")[0] for name in samples(tmp_path / "a.prom")}
    assert names
    assert all(f"`{name}`" in manual for name in names)
    dashboard = json.loads((CONTRIB / "prometheus/pbs-push.grafana.json").read_text())
    used = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = (CONTRIB / "prometheus/pbs-push.rules.yml").read_text()
    used += [line for line in rules.splitlines() if "expr:" in line]
    assert all(any(name in text for name in names) for text in used)


def test_a_command_is_given_the_report(
    cli: Cli, place: Place, small_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PBS_PUSH_WEBHOOK", "")
    script = tmp_path / "told.sh"
    script.write_text('#!/bin/sh\ncat > "$1"\nenv > "$1.env"\n')
    script.chmod(0o755)
    told = tmp_path / "a file.json"
    command = f"{script} '{told}'"
    cli("push", small_source, place.repository, "--on-finish", command).succeeded()
    report = json.loads(told.read_text())
    assert report["format"] == "pbs-push-report"
    assert report["snapshots"]["pushed"] == 26
    environment = Path(f"{told}.env").read_text()
    assert "PBS_PUSH_EXIT_STATUS=0" in environment
    assert "PBS_PASSWORD" not in environment
    told.unlink()
    again = ("push", small_source, place.repository, "--on-finish", command, "--notify", "failure")
    cli(*again).succeeded()
    assert not told.exists()
    cli("push", tmp_path / "nowhere", *again[2:])
    assert json.loads(told.read_text())["error"]["message"]


def test_a_command_that_fails_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    for command, text in (("false", "status 1"), ("/no/such/thing", "No such file")):
        Finishing(command=command).tell(Report())
        assert text in capsys.readouterr().err


def test_what_has_no_effect_in_a_dry_run_is_an_error(cli: Cli) -> None:
    for option in ("--metrics-file", "--html", "--on-finish", "--webhook"):
        cli("push", "x", "h:store", "--dry-run", option, "y").failed(2, option)


def test_wrong_options(cli: Cli) -> None:
    cli("push", "x", "h:store", "--on-finish", "'").failed(2, "--on-finish")
    cli("push", "x", "h:store", "--on-finish", " ").failed(2, "names no command")
    cli("push", "x", "h:store", "--on-finish", "/no/such").failed(2, "no such command")
    cli("push", "x", "h:store", "--html", "/no/such/x.html").failed(2, "no such folder")
    cli("push", "x", "h:store", "--metrics-file", "/no/such/x").failed(2, "no such folder")
    hook = ("push", "x", "h:store", "--webhook")
    cli(*hook, "file:///etc/passwd").failed(2, "must begin with http")
    cli(*hook, "http://h/", "--webhook-template", "/no/such").failed(2, "No such file")
    cli("push", "x", "h:store", "--webhook-template", "f").failed(2, "without --webhook")


class Hook(BaseHTTPRequestHandler):
    got: list[tuple[str, str]]
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.got.append((self.headers["content-type"], body))
        self.send_response(self.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[tuple[str, type[Hook]]]:
    handler = type("OneHook", (Hook,), {"got": []})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hook?token=very-secret", handler
        server.shutdown()
        thread.join()


def test_a_webhook_gets_the_report_or_a_template(
    hook: tuple[str, type[Hook]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, handler = hook
    Finishing(webhook=url).tell(full_report())
    kind, body = handler.got.pop()
    assert kind == "application/json"
    assert json.loads(body)["format"] == "pbs-push-report"
    report = full_report()
    report.error = ConnectError('it said "no"\n')
    template = tmp_path / "t.json"
    template.write_text('{"text": "$result: $pushed of $source to $target. $error"}')
    Finishing(webhook=url, template=template).tell(report)
    text = json.loads(handler.got.pop()[1])["text"]
    assert text == 'failed: 1 of /store to root@pam!p@h:8007:store. it said "no"\n'
    template.write_text("just $exit_status")
    Finishing(webhook=url, template=template).tell(report)
    assert handler.got.pop()[0].startswith("text/plain")
    assert capsys.readouterr().err == ""
    for bad in ("$nosuch", "$"):
        template.write_text(bad)
        Finishing(webhook=url, template=template).tell(report)
        assert "--webhook-template" in capsys.readouterr().err
    Finishing(webhook=url, template=tmp_path / "none").tell(report)
    assert "No such file" in capsys.readouterr().err
    handler.status = 500
    Finishing(webhook=url).tell(report)
    err = capsys.readouterr().err
    assert "it answered 500" in err
    assert "secret" not in err
    Finishing(webhook="http://127.0.0.1:1/?token=very-secret").tell(report)
    err = capsys.readouterr().err
    assert "ConnectError" in err
    assert "secret" not in err
    Finishing(webhook="no url\x00").tell(report)
    assert "--webhook" in capsys.readouterr().err


def test_what_a_template_may_name_is_in_the_manual() -> None:
    manual = (CONTRIB.parent / "docs/monitoring.md").read_text()
    assert all(f"`${name}`" in manual for name in values_of(Report()))


def test_a_push_that_has_only_so_long(tmp_path: Path) -> None:
    """It ends at a snapshot's end; the rest is left, and the status says so."""
    with World(tmp_path) as world:
        world.source.add("vm/1", 0, 1)
        world.source.add("vm/2", 0)
        world.there.add("vm/1", -1)
        done = world.push(max_duration_s=0, remove_vanished=True)
        assert done.report.exit_status == 3
        assert done.report.skips[Skip.OUT_OF_TIME] == done.report.remains == 3
        assert world.there.times("vm/1") == [-1]
        rest = world.push(max_duration_s=3600, remove_vanished=True)
        assert rest.report.exit_status == 0
        assert rest.report.remains == 0


def test_the_end_of_the_time_is_explained(cli: Cli, place: Place, small_source: Path) -> None:
    done = cli("push", small_source, place.repository, "--max-duration", "0")
    assert done.status == 3
    assert "26 snapshots: left for the next push" in done.err
    assert "(--max-duration)" in done.err


def test_lag_counts_what_was_left() -> None:
    report = Report(SIDES)
    one = item()
    left = Outcome.of(one.namespace, one.snapshot, Result.SKIPPED, skip=Skip.OUT_OF_TIME)
    report.add(left)
    assert report.exit_status == 3
