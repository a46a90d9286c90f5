"""``pbs-push run``: several pushes over real TLS, and how they end together."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from pbs_push.cli.exit_status import EXIT_STATUSES
from pbs_push.demo.sample import sample_enc_key
from pbs_push.errors import Cancelled
from pbs_push.push.report import _FROM_WORST, worst

from .conftest import SECRET, Cli, Place


@pytest.fixture
def config(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the target in its defaults; its secret is not in the environment."""
    monkeypatch.delenv("PBS_PASSWORD")
    monkeypatch.delenv("PBS_FINGERPRINT")
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    path = tmp_path / "pbs-push.toml"
    path.write_text(
        f"""[defaults]
repository = "{place.repository}"
fingerprint = "{place.fingerprint}"
password-file = "{tmp_path}/secret"
config-dir = "{tmp_path}"
"""
    )
    return path


def add(config: Path, name: str, **values: object) -> None:
    lines = [f"{key.replace('_', '-')} = {json.dumps(value)}" for key, value in values.items()]
    with config.open("a") as file:
        file.write("\n".join([f"[push.{name}]", *lines, ""]))


def test_all_pushes_one_after_another(
    cli: Cli, config: Path, small_source: Path, place: Place, tmp_path: Path
) -> None:
    rate = tmp_path / "rate"
    rate.write_text("1GiB")
    key = tmp_path / "key"
    key.write_text(json.dumps({"kdf": None, "data": base64.b64encode(sample_enc_key()).decode()}))
    source = str(small_source)
    add(
        config,
        "first",
        source=source,
        rate_file=str(rate),
        metrics_file=f"{tmp_path}/{{name}}.prom",
    )
    add(config, "broken", source=str(tmp_path / "nowhere"))
    add(config, "third", source=source, ns="lab", remote_ns="other", keyfile=str(key))
    ran = cli("run", "--all", "--config", config, "--json")
    document = json.loads(ran.out)
    assert (document["format"], document["exit-status"]) == ("pbs-push-run", ran.status)
    assert [(one["push"], one["exit-status"]) for one in document["reports"]] == [
        ("first", 0),
        ("broken", 1),
        ("third", 0),
    ]
    assert document["reports"][0]["snapshots"]["pushed"] == 26
    assert document["reports"][2]["target"]["ns"] == "other"
    assert document["not-begun"] == []
    assert document["config"] == str(config)
    assert ran.status == 1
    assert "pbs-push: error: broken: source" in ran.err
    assert "pbs-push: third: " in ran.err
    assert (tmp_path / "first.prom").exists()
    assert any(name.startswith("ns/other/") for name in place.snapshots())


def test_some_by_name_as_lines_of_json(cli: Cli, config: Path, small_source: Path) -> None:
    add(config, "a", source="/nowhere")
    add(config, "b", source=str(small_source), password_command=["printf", SECRET])
    ran = cli("run", "b", "--config", config, "--log-json")
    events = [json.loads(line) for line in ran.err.splitlines()]
    assert ran.status == 0
    assert [events[0]["event"], events[0]["push"]] == ["push-begun", "b"]
    assert [events[-2]["event"], events[-2]["push"]] == ["summary", "b"]
    assert events[-1]["event"] == "run-ended"
    assert (events[-1]["exit-status"], events[-1]["pushes"]) == (0, {"b": 0})


def test_dry_runs_change_nothing(
    cli: Cli, config: Path, small_source: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_SECRET", SECRET)
    add(config, "a", source=str(small_source), password_env="THE_SECRET")
    ran = cli("run", "a", "--config", config, "--dry-run").succeeded()
    assert "26 snapshots" in ran.out
    monkeypatch.setenv("THE_SECRET", SECRET)
    document = json.loads(cli("run", "a", "--config", config, "--dry-run", "--json").out)
    assert document["reports"][0]["format"] == "pbs-push-plan"
    assert document["reports"][0]["to-push"] == 26
    assert place.snapshots() == set()


def test_programs_do_not_inherit_a_secret(
    cli: Cli, config: Path, small_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_SECRET", f"{SECRET}\nmore")
    monkeypatch.setenv("ANOTHER", "seen")
    told = tmp_path / "told"
    command = f"sh -c 'env > {told}'"
    for name in ("a", "b"):
        ns = {"ns": "lab"} if name == "a" else {}
        add(
            config,
            name,
            source=str(small_source),
            password_env="THE_SECRET",
            on_finish=command,
            **ns,
        )
    cli("run", "--all", "--config", config).succeeded()
    assert "ANOTHER=seen" in told.read_text()
    assert "THE_SECRET" not in told.read_text()


def test_a_list(cli: Cli, config: Path, place: Place) -> None:
    add(config, "one", source="/store", ns="a", remote_ns="b")
    add(config, "elsewhere", source="s", remote="r", remote_store="there")
    ran = cli("run", "--list", "--config", config).succeeded()
    assert ran.out.splitlines() == [
        f"one        /store/a -> {place.repository}/b",
        "elsewhere  s -> r:there",
    ]
    listed = json.loads(cli("run", "--list", "--json", "--config", config).out)
    assert (listed["format"], listed["format-version"]) == ("pbs-push-run-list", 1)
    assert listed["ended"] >= listed["began"] > 1e9
    assert (listed["exit-status"], listed["error"]) == (0, None)
    assert listed["config"] == str(config)
    assert [one["push"] for one in listed["pushes"]] == ["one", "elsewhere"]
    assert listed["pushes"][1]["target"]["repository"] == "r:there"
    add(config, "odd", source="/a\x1b[31mb")
    assert "\x1b" not in cli("run", "--list", "--config", config).out
    add(config, "wrong", sourc="/a")
    ran = cli("run", "--list", "--json", "--config", config).failed(2, "'sourc' is not known")
    listed = json.loads(ran.out)
    assert (listed["error"]["kind"], listed["exit-status"]) == ("ConfigError", 2)
    assert listed["pushes"] == []


def test_nothing_is_pushed_where_the_file_has_a_mistake(
    cli: Cli, config: Path, small_source: Path, place: Place
) -> None:
    add(config, "a", source=str(small_source))
    add(config, "b", source=str(small_source), transfer_lost=3)
    ran = cli("run", "a", "--config", config, "--json")
    ran.failed(2, f"{config}:10: 'transfer-lost' is not known: did you mean 'transfer-last'?")
    document = json.loads(ran.out)
    assert (document["exit-status"], document["reports"]) == (2, [])
    assert document["error"]["kind"] == "ConfigError"
    assert place.snapshots() == set()


def test_a_key_file_that_lacks_is_told_before_anything_is_pushed(
    cli: Cli, config: Path, small_source: Path, place: Place, tmp_path: Path
) -> None:
    add(config, "good", source=str(small_source))
    add(config, "bad", source=str(small_source), keyfile=str(tmp_path / "none"))
    done = cli("run", "--all", "--config", config).failed(2, "none: there is no such file")
    assert "pbs-push.toml:" in done.err
    assert not list(place.path.glob("vm/*"))
    cli("run", "good", "--config", config).succeeded()


@pytest.mark.parametrize("key", ["html", "metrics_file", "on_finish", "rate_file", "keyfile"])
def test_a_null_character_is_a_mistake_of_its_line(cli: Cli, config: Path, key: str) -> None:
    add(config, "bad", source="x", **{key: "a\0b"})
    cli("run", "--all", "--config", config).failed(2, "null character")


def test_a_wrong_command_line(cli: Cli, config: Path) -> None:
    add(config, "nightly", source="/s")
    cli("run", "--config", config).failed(2, "which push? Give its NAME, or --all")
    cli("run", "x", "--all").failed(2, "cannot be given together")
    cli("run", "nighty", "--config", config).failed(2, "did you mean 'nightly'?")
    cli("run", "--all", "--config", config.parent / "none").failed(2, "No such file")


def test_others_may_write(cli: Cli, config: Path) -> None:
    add(config, "a", source="/s")
    config.chmod(0o666)
    assert "warning: " in cli("run", "--list", "--config", config).err


def test_secrets_that_cannot_be_had(cli: Cli, config: Path, small_source: Path) -> None:
    add(config, "a", source=str(small_source), password_command=["false"])
    ran = cli("run", "a", "--config", config)
    ran.failed(2, f"a: {config}:8: password-command: 'false' ended with status 1")
    (config.parent / "secret").write_text("\n")
    add(config, "b", source=str(small_source))
    cli("run", "b", "--config", config).failed(2, "the secret for root@pam!push is empty")


def test_no_other_begins_after_an_interruption(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise Cancelled("stopped as asked")

    monkeypatch.setattr("pbs_push.cli.pushing.run_interruptibly", interrupted)
    source = config.parent / "source"
    (source / ".chunks").mkdir(parents=True)
    add(config, "a", source=str(source))
    add(config, "b", source=str(source))
    ran = cli("run", "--all", "--config", config, "--json")
    document = json.loads(ran.out)
    assert ran.status == document["exit-status"] == 130
    assert [one["push"] for one in document["reports"]] == ["a"]
    assert document["not-begun"] == ["b"]
    assert "pbs-push: a: interrupted: stopped as asked" in ran.err


def test_what_the_system_says_ends_one_push_alone(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error", "/disk")

    monkeypatch.setattr("pbs_push.cli.pushing.spare_threads", broken)
    source = config.parent / "source"
    (source / ".chunks").mkdir(parents=True)
    add(config, "a", source=str(source))
    add(config, "b", source=str(source))
    ran = cli("run", "--all", "--config", config)
    assert ran.status == 1
    assert [line.partition("error: ")[2] for line in ran.errors] == [
        "a: /disk: Input/output error",
        "b: /disk: Input/output error",
    ]
    events = [
        json.loads(line)
        for line in cli("run", "a", "--config", config, "--log-json").err.splitlines()
    ]
    assert [event["event"] for event in events] == ["push-begun", "summary", "run-ended"]
    assert events[1]["error"]["message"] == "/disk: Input/output error"

    def closed(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("pbs_push.cli.pushing.spare_threads", closed)
    assert cli("run", "--all", "--config", config).errors == []


def test_every_status_has_a_place() -> None:
    assert set(_FROM_WORST) == set(EXIT_STATUSES)


@pytest.mark.parametrize(
    ("statuses", "status"),
    [([], 0), ([0, 0], 0), ([0, 3], 3), ([3, 5], 5), ([1, 3, 0], 1), ([4, 1], 4), ([4, 130], 130)],
)
def test_the_worst_status_counts(statuses: list[int], status: int) -> None:
    assert worst(statuses) == status
