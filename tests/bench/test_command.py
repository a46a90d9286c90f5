"""The whole benchmark, by library and by command."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.bench.conftest import SECRET, Place
from tests.own_host import COMMAND

from pbs_push.bench import machine
from pbs_push.bench.limits import Limit
from pbs_push.bench.link import BENCHMARK_GROUP, LinkBench
from pbs_push.bench.suite import Bench
from pbs_push.cli.app import run
from pbs_push.errors import AuthError, Cancelled, ConfigError, PbsPushError, SourceError
from pbs_push.push.schedule import MOST_PARALLEL, chosen_parallel
from pbs_push.remote.target import Target
from pbs_push.source.datastore import Datastore

FAST = ["bench", "--seconds", "0.005"]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, small_requests: None) -> None:
    for name in list(os.environ):
        if name.startswith("PBS_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(machine, "DIGESTS", 4096)


@pytest.fixture
def environment(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("PBS_REPOSITORY", place.repository)
    monkeypatch.setenv("PBS_PASSWORD", SECRET)
    monkeypatch.setenv("PBS_FINGERPRINT", place.server.fingerprint.hex(":"))
    return place


def test_library(place: Place, sample_datastore: Path) -> None:
    with place.connect() as target:
        bench = Bench(datastore=Datastore(sample_datastore), target=target, seconds=0.01)
        report = bench.run()
    assert report is bench.report
    assert report.notes == []
    assert None not in (report.machine, report.store, report.link)
    assert report.verdict is not None
    assert {item.limit for item in report.verdict.ceilings} == {Limit.CPU, Limit.DISK, Limit.LINK}
    assert report.link is not None
    auto = chosen_parallel(report.link.round_trip_s, MOST_PARALLEL)
    assert report.verdict.parallel in (auto, 8)
    assert place.is_clean()


def test_what_can_be_measured_is_where_a_part_fails(place: Place, tmp_path: Path) -> None:
    (tmp_path / "empty" / ".chunks").mkdir(parents=True)
    with place.connect() as target:
        bench = Bench(datastore=Datastore(tmp_path / "empty"), target=target, seconds=0.01)
        with pytest.raises(SourceError, match="holds no chunk with content"):
            bench.run()
    report = bench.report
    assert None not in (report.link, report.machine, report.verdict)
    assert ["datastore could not be measured" in note for note in report.notes] == [True]


@pytest.mark.parametrize("seconds", [0, -1, 601, float("nan")])
def test_seconds_out_of_range(seconds: float) -> None:
    with pytest.raises(ConfigError):
        Bench(seconds=seconds)


def test_cancel_before_it_begins() -> None:
    bench = Bench(seconds=60)
    bench.cancel()
    with pytest.raises(Cancelled):
        bench.run()


def test_table(
    environment: Place, sample_datastore: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run([*FAST, "--datastore", str(sample_datastore)]) == 0
    out, err = capfd.readouterr()
    for text in (
        "Upload to",
        "8 connections",
        "round trip",
        "cold",
        "16 reads at once",
        "TLS",
        "SHA-256",
        "CRC-32",
        "zstd",
        "AES-256-GCM",
        "index csum",
        "look up",
        "Verdict",
        "--parallel",
        "--read-ahead",
    ):
        assert text in out
    assert "measuring" in err
    assert SECRET not in out + err
    assert environment.is_clean()


def test_json_and_html(
    environment: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "bench.html"
    assert run([*FAST, "--json", "--html", str(page), "--remote-ns", "tests"]) == 0
    out, _err = capfd.readouterr()
    made = json.loads(out)
    assert made["format"] == "pbs-push-bench"
    assert made["target"]["repository"] == environment.repository
    assert made["datastore"] is None
    assert made["verdict"]["parallel"] >= 1
    ElementTree.fromstring(page.read_text("utf-8").partition("\n")[2])  # noqa: S314


def test_this_machine_alone(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(FAST) == 0
    assert "disk and link were not measured" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--remote", "r"], 2, "need each other"),
        (["--fingerprint", "ab" * 32], 2, "no effect without a target"),
        (["--remote-ns", "a"], 2, "no effect without a target"),
        (["--remote", "r", "--remote-store", "sss", "--repository", "sss"], 2, "not both"),
        (["--html", "no/such/folder/page.html"], 2, "there is no such folder"),
        (["--datastore", "/no/such/store"], 1, "not a directory"),
        (["--seconds", "0"], 2, "seconds"),
    ],
)
def test_mistakes(
    arguments: list[str], status: int, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run([*FAST, *arguments]) == status
    out, err = capfd.readouterr()
    assert text in err
    assert err.count("pbs-push: error: ") == 1
    assert out == ""


def test_a_failure_is_in_the_document(
    environment: Place,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    environment.server.faults.reset_streams = {"POST speedtest": 20}
    (tmp_path / "empty" / ".chunks").mkdir(parents=True)
    page = tmp_path / "bench.html"
    empty = str(tmp_path / "empty")
    assert run([*FAST, "--json", "--html", str(page), "--datastore", empty]) == 1
    out, err = capfd.readouterr()
    assert "measuring the target failed: " in err
    assert err.count("pbs-push: error: ") == 1
    made = json.loads(out)
    assert made["exit-status"] == 1
    assert "speedtest" in made["error"]["message"]
    assert (made["target"], made["datastore"]) == (None, None)
    assert made["machine"]["cores"] >= 1
    assert made["verdict"]["limit"] is None
    assert [note.split(" could not")[0] for note in made["notes"]] == [
        "the target",
        "the datastore",
    ]
    assert "the datastore could not be measured" in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("mistake", "status", "text"),
    [
        ("password", 4, "authentication failed"),
        ("namespace", 1, "ENOENT"),
        ("address", 1, "Connection refused"),
    ],
)
def test_nothing_is_measured_where_the_login_fails(
    environment: Place,
    tmp_path: Path,
    sample_datastore: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    mistake: str,
    status: int,
    text: str,
) -> None:
    page = tmp_path / "bench.html"
    arguments = [*FAST, "--json", "--html", str(page), "--datastore", str(sample_datastore)]
    if mistake == "password":
        monkeypatch.setenv("PBS_PASSWORD", "wrong")
    elif mistake == "namespace":
        arguments += ["--remote-ns", "none"]
    else:
        environment.server.close()
    assert run(arguments) == status
    out, err = capfd.readouterr()
    assert text in err
    assert err.count("pbs-push: error: ") == 1
    assert err.count("measuring") == 1, "just the login"
    made = json.loads(out)
    assert (made["machine"], made["datastore"], made["target"]) == (None, None, None)
    assert made["exit-status"] == status
    assert not page.exists()
    assert environment.is_clean()


def test_the_login_is_tried_where_the_version_needs_none(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place.connect() as good:
        features = good.features
    monkeypatch.setattr(Target, "features", features)
    with Target(place.repository, "wrong", place.server.fingerprint) as target:
        bench = Bench(target=target, seconds=0.01)
        with pytest.raises(AuthError):
            bench.run()
    assert not bench.report.measured


def test_the_machine_may_fail_too(
    environment: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/bench.fidx")

    monkeypatch.setattr(machine, "write_fixed_index", full)
    page = tmp_path / "bench.html"
    assert run([*FAST, "--html", str(page)]) == 1
    out, err = capfd.readouterr()
    assert "8 connections" in out
    reason = "the machine could not be measured: measuring the machine: /tmp/bench.fidx: No space"
    assert f"warning: {reason}" in out
    assert reason in page.read_text("utf-8")
    assert err.count("pbs-push: error: ") == 1


def test_a_page_that_cannot_be_written(capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*FAST, "--json", "--html", "/dev/full"]) == 1
    out, err = capfd.readouterr()
    made = json.loads(out)
    assert made["machine"] is not None
    assert made["exit-status"] == 1
    assert "/dev/full: No space left" in made["error"]["message"]
    assert "pbs-push: error: --html" in err


def test_traces_are_looked_for_after_a_failure(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.server.faults.reset_streams = {"POST speedtest": 20}
    monkeypatch.setattr(LinkBench, "left_behind", lambda _self: [BENCHMARK_GROUP])
    with place.connect() as target:
        bench = Bench(target=target, seconds=0.01)
        with pytest.raises(PbsPushError, match="speedtest"):
            bench.run()
    assert len(bench.report.notes) == 2
    assert "still shows group host/benchmark" in bench.report.notes[1]


def test_ctrl_c(environment: Place) -> None:
    """A real process and a real signal, in the middle of uploading."""
    process = subprocess.Popen(
        [*COMMAND, "bench", "--seconds", "60", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            if "uploads" in line:
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["error"]["kind"] == "Cancelled"
    assert "Traceback" not in err
    assert environment.is_clean()
