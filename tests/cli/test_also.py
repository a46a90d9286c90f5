"""Several targets in one run: ``--also``, tables of the configuration file, and what is shown."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pbs_push.cli.also import AlsoTarget
from pbs_push.cli.fan_out_display import FanOutDisplay
from pbs_push.cli.fan_out_progress import label_of, labelled
from pbs_push.demo.verify import verify_target
from pbs_push.errors import Cancelled, ConfigError
from pbs_push.names import AuthId, Namespace, Repository
from pbs_push.push.events import Event, FromTarget, Note, Planned
from pbs_push.target import TargetOptions, TargetServer, create_datastore

from .conftest import SECRET, Cli, Place, identities
from .test_push_page import parsed

FINGERPRINT = ":".join(["ab"] * 32)


@pytest.fixture
def second(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Another target; a variable has its secret."""
    path = create_datastore(tmp_path / "second", all_chunk_folders=False)
    options = TargetOptions(bad_login_delay_s=0)
    with TargetServer({"offsite": path}, identities=identities(), options=options) as server:
        monkeypatch.setenv("SECOND", SECRET)
        yield Place(server, path)


def also(place: Place, *more: str) -> str:
    """What leads to a target."""
    return ",".join((place.repository, f"fingerprint={place.fingerprint}", *more))


# -- what --also says --


def test_all_that_can_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    file.write_text("of the file\n")
    who = AuthId.parse("a@pbs!t")
    made = AlsoTarget.parse(
        f"a@pbs!t@there:8008:store2,remote-ns=x/y,fingerprint={FINGERPRINT},password-file={file}"
    )
    assert made.repository == Repository.parse("a@pbs!t@there:8008:store2")
    assert made.namespace == Namespace.parse("x/y")
    assert made.fingerprint == bytes.fromhex("ab" * 32)
    assert made.find(who).get_secret_value() == "of the file"
    made = AlsoTarget.parse(f"repository=store2,password-command=cat {file}")
    assert made.find(who).get_secret_value() == "of the file"
    monkeypatch.setenv("MINE", "of the variable")
    made = AlsoTarget.parse("store2,password-env=MINE")
    monkeypatch.delenv("MINE")
    assert made.find(who).get_secret_value() == "of the variable"
    assert made.variable == "MINE"
    made = AlsoTarget.parse("remote=far,remote-store=store3")
    assert (made.repository, made.remote, made.store, str(made)) == (
        None,
        "far",
        "store3",
        "far:store3",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "repository is empty"),
        ("a:b:c:store2", "expected [[AUTH-ID@]HOST[:PORT]:]DATASTORE"),
        ("store2,remote=far,remote-store=x", "give a repository, or a remote"),
        ("remote-ns=x", "give a repository, or a remote"),
        ("remote=far", "need each other"),
        ("store2,remote-store=far", "need each other"),
        ("remote=far,remote-store=st,fingerprint=x", "fingerprint has no effect with remote"),
        ("remote=far,remote-store=st,password-env=x", "password-env has no effect with remote"),
        ("store2,password-env=A,password-file=b", "give one of password-file and password-env"),
        ("store2,password-env=NOT_SET", "NOT_SET is not set"),
        ("store2,password=hush", "a secret must not stand here"),
        ("store2,token-secret=hush", "a secret must not stand here"),
        ("store2,colour=hush", "'colour' is not known"),
        ("store2,remote-ns=", "remote-ns is empty"),
        ("store2,remote-ns=x,remote-ns=y", "remote-ns is given twice"),
        ("store2,fingerprint=zz", "a fingerprint is 32 bytes"),
    ],
)
def test_what_cannot_be_said(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        AlsoTarget.parse(text)
    assert words in str(raised.value)
    assert "hush" not in str(raised.value)


def test_the_secret_of_the_first_target_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be told to somebody else's server. A terminal is asked."""
    monkeypatch.setenv("PBS_PASSWORD", SECRET)
    made = AlsoTarget.parse("root@pam@there:store2")
    with pytest.raises(ConfigError, match="no password of root@pam at there:store2: say password-"):
        made.find(AuthId.parse("root@pam"))
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    asked: list[str] = []

    def typed(text: str, stream: object) -> str:
        assert stream is not None
        asked.append(text)
        return "typed"

    monkeypatch.setattr("getpass.getpass", typed)
    assert made.find(AuthId.parse("root@pam")).get_secret_value() == "typed"
    assert asked == ["Password of root@pam at there:store2: "]


# -- the command --


def test_push_to_two(
    cli: Cli, small_source: Path, place: Place, second: Place, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.json"
    ran = cli(
        "push",
        small_source,
        place.repository,
        "--also",
        also(second, "password-env=SECOND"),
        "--metrics-file",
        tmp_path / "a.prom",
        "--html",
        tmp_path / "a.html",
        "--on-finish",
        f"cp /dev/stdin {kept}",
    ).succeeded()
    for one in (place, second):
        assert verify_target(small_source, one.path).problems == ()
        label = f"127.0.0.1:{one.server.address[1]}:offsite"
        assert f"to {label}:" in ran.out
        assert f"{label}: " in ran.err
        assert f'target="{one.repository}"' in (tmp_path / "a.prom").read_text()
    document = json.loads(kept.read_text())
    assert document["format"] == "pbs-push-fan-out"
    assert [one["target"]["repository"] for one in document["reports"]] == [
        place.repository,
        second.repository,
    ]
    assert "all targets together:" in ran.out
    page = parsed((tmp_path / "a.html").read_text())
    assert sum(one.tag.endswith("}h1") for one in page.iter()) == 2
    reading = document["reading"]
    both = sum(one["sums"]["sent-chunks"] for one in document["reports"])
    assert reading["read-chunks"] + reading["taken-chunks"] == both
    assert reading["again-chunks"] == 0
    ran = cli(
        "push",
        small_source,
        place.repository,
        "--quiet",
        "--also",
        also(second, "password-env=SECOND"),
    ).failed(2, "SECOND is not set")


def test_events_say_which_target(cli: Cli, small_source: Path, place: Place, second: Place) -> None:
    there = also(second, "password-env=SECOND", "remote-ns=from/first")
    ran = cli(
        "push", small_source, place.repository, "--also", there, "--json", "--log-json"
    ).succeeded()
    document = json.loads(ran.out)
    events = [json.loads(line) for line in ran.err.splitlines()]
    *others, last = events
    assert {one["repository"] for one in others} == {place.repository, second.repository}
    summaries = [one for one in others if one["event"] == "summary"]
    assert [one["target"]["ns"] for one in summaries] == ["", "from/first"]
    assert last["event"] == "targets-ended"
    assert last["targets"] == {place.repository: 0, second.repository: 0}
    assert last["exit-status"] == document["exit-status"] == 0
    assert last["reading"] == document["reading"]
    assert [one["reading"] for one in summaries] == [one["reading"] for one in document["reports"]]


def test_one_that_fails_is_told_and_the_other_is_pushed(
    cli: Cli, small_source: Path, place: Place, second: Place, tmp_path: Path
) -> None:
    posted = tmp_path / "posted"
    ran = cli(
        "push",
        small_source,
        place.repository,
        "--also",
        f"{second.repository},password-env=SECOND",  # no fingerprint
        "--json",
        "--on-finish",
        f"cp /dev/stdin {posted}",
    )
    ran.failed(4, "127.0.0.1:", "is not trusted")
    document = json.loads(ran.out)
    assert [one["exit-status"] for one in document["reports"]] == [0, 4]
    assert document["exit-status"] == 4
    assert document["error"] is None
    assert verify_target(small_source, place.path).problems == ()
    assert second.snapshots() == set()


def test_dry_run(cli: Cli, small_source: Path, place: Place, second: Place) -> None:
    there = also(second, "password-env=SECOND")
    ran = cli("plan", small_source, place.repository, "--also", there, "--rate", "1MiB")
    assert ran.succeeded().out.count("nothing was changed") == 2
    assert ran.out.count("time     ") == 2
    assert place.snapshots() == second.snapshots() == set()


def test_a_dry_run_measures_each(
    cli: Cli,
    small_source: Path,
    place: Place,
    second: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pbs_push.cli.measuring._MEASURED_S", 0.05)
    there = also(second, "password-env=SECOND")
    ran = cli("plan", small_source, place.repository, "--also", there, "--measure", "--quiet")
    assert ran.succeeded().out.count("time     ") == 2


def test_dry_run_in_json(cli: Cli, small_source: Path, place: Place, second: Place) -> None:
    there = f"{second.repository},password-env=SECOND"
    ran = cli("plan", small_source, place.repository, "--also", there, "--json")
    ran.failed(4, "is not trusted")
    document = json.loads(ran.out)
    assert (document["format"], document["exit-status"]) == ("pbs-push-fan-out", 4)
    first, other = document["reports"]
    assert first["format"] == other["format"] == "pbs-push-plan"
    assert first["to-push"] == document["remains"] > 0
    assert other["error"]["kind"] == "TlsError"
    for one in (first, other):
        assert document["began"] <= one["began"] < one["ended"] <= document["ended"]


def test_what_contradicts(
    cli: Cli, small_source: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECOND", SECRET)
    again = f"{place.repository},password-env=SECOND"
    cli("push", small_source, place.repository, "--also", again).failed(2, "--also", "given twice")
    other = ("--also", "root@pam@else:st2,password-env=SECOND")
    for workers in (("--processes", 2), ("--dask", "tcp://127.0.0.1:1")):
        ran = cli("push", small_source, place.repository, *other, *workers)
        ran.failed(2, "--also has no effect with --processes or --dask")
    wrong = cli("push", small_source, place.repository, "--also", "x,password=y", "--json")
    wrong.failed(2, "a secret must not stand here")
    ran = cli("push", small_source, place.repository, "--also", "root@pam@else:st2", "--json")
    ran.failed(2, "say password-file=FILE")
    document = json.loads(ran.out)
    assert (document["format"], document["reports"]) == ("pbs-push-fan-out", [])
    assert document["error"]["kind"] == "ConfigError"
    ran = cli("push", small_source, place.repository, "--also", "root@pam@else:st2", "--log-json")
    assert ran.status == 2
    assert json.loads(ran.err.splitlines()[0])["event"] == "summary"


def test_a_remote_of_this_host(
    cli: Cli, small_source: Path, place: Place, second: Place, tmp_path: Path
) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()

    host, port = second.server.address
    secret = base64.b64encode(SECRET.encode()).decode()
    (etc / "remote.cfg").write_text(
        f"remote: far\n\thost {host}\n\tport {port}\n\tauth-id root@pam!push\n"
        f"\tpassword {secret}\n\tfingerprint {second.fingerprint}\n"
    )
    there = "remote=far,remote-store=offsite"
    cli("push", small_source, place.repository, "--also", there, "--config-dir", etc).succeeded()
    assert verify_target(small_source, second.path).problems == ()


# -- the configuration file --


def write(path: Path, place: Place, tables: list[str], **values: object) -> Path:
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    secret = path.with_name("first.secret")
    secret.write_text(SECRET)
    path.write_text(
        "\n".join(
            (
                "[push.both]",
                f'repository = "{place.repository}"',
                f'fingerprint = "{place.fingerprint}"',
                f'password-file = "{secret}"',
                *lines,
                *tables,
                "",
            )
        )
    )
    path.chmod(0o600)
    return path


def table(*lines: str) -> list[str]:
    return ["[[push.both.also]]", *lines]


def test_tables_of_further_targets(
    cli: Cli, small_source: Path, place: Place, second: Place, tmp_path: Path
) -> None:
    config = write(
        tmp_path / "c.toml",
        place,
        table(
            f'repository = "{second.repository}"',
            f'fingerprint = "{second.fingerprint}"',
            f'password-command = ["cat", "{tmp_path}/first.secret"]',
            'remote-ns = "copy"',
        ),
        source=str(small_source),
    )
    listed = cli("run", "--list", "--config", config).succeeded()
    assert f"{place.repository}, {second.repository}" in listed.out
    listed = cli("run", "--list", "--json", "--config", config).succeeded()
    assert json.loads(listed.out)["pushes"][0]["also"] == [second.repository]
    ran = cli("run", "both", "--config", config, "--json").succeeded()
    (report,) = json.loads(ran.out)["reports"]
    assert (report["push"], report["format"]) == ("both", "pbs-push-fan-out")
    assert [one["exit-status"] for one in report["reports"]] == [0, 0]
    assert verify_target(small_source, place.path).problems == ()
    assert any(path.startswith("ns/copy/") for path in second.snapshots())


def test_texts_for_further_targets(
    cli: Cli, small_source: Path, place: Place, second: Place, tmp_path: Path
) -> None:
    more = also(second, "password-env=SECOND")
    config = write(tmp_path / "c.toml", place, [], source=str(small_source), also=[more])
    cli("run", "--all", "--config", config, "--log-json").succeeded()
    assert verify_target(small_source, second.path).problems == ()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (['repository = "x"'], "target 1: 'x' is not a datastore name"),
        (['repository = "store2"', 'password = "hush"'], "a secret must not stand here"),
        (['repository = "store2"', "remote-ns = 5"], "remote-ns: must be a text"),
        (['repository = "store2"', 'password-command = "x"'], "must be a list of texts"),
        (['repository = "store2"', 'password-file = "/nowhere"'], "there is no such file"),
        (['repository = "store2"', 'password-env = "NOWHERE"'], "NOWHERE is not set"),
    ],
)
def test_mistakes_are_told_with_their_line(
    cli: Cli, small_source: Path, place: Place, tmp_path: Path, lines: list[str], words: str
) -> None:
    config = write(tmp_path / "c.toml", place, table(*lines), source=str(small_source))
    ran = cli("run", "--all", "--config", config).failed(2, words, f"{config}:6: also, target 1")
    assert "hush" not in ran.err


def test_tables_and_texts_do_not_mix(
    cli: Cli, small_source: Path, place: Place, tmp_path: Path
) -> None:
    config = tmp_path / "c.toml"
    write(config, place, [], source=str(small_source))
    with config.open("a") as file:
        file.write('also = [{repository = "store2"}, "store3"]\n')
    cli("run", "--all", "--config", config).failed(2, "target 2: must be a table")


# -- what is shown --


def test_on_a_terminal(
    cli: Cli,
    small_source: Path,
    place: Place,
    second: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    there = also(second, "password-env=SECOND")
    ran = cli("push", small_source, place.repository, "--also", there).succeeded()
    for one in (place, second):
        assert f"127.0.0.1:{one.server.address[1]}:offsite: " in ran.err
        assert verify_target(small_source, one.path).problems == ()


def test_one_that_does_not_stop_in_time(
    cli: Cli,
    small_source: Path,
    place: Place,
    second: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def late(_work: object, cancel: Callable[[], None]) -> None:
        cancel()
        raise Cancelled("the target does not answer")

    monkeypatch.setattr("pbs_push.cli.fanning.run_interruptibly", late)
    there = also(second, "password-env=SECOND")
    ran = cli("push", small_source, place.repository, "--also", there, "--json")
    assert ran.status == 130
    document = json.loads(ran.out)
    assert document["exit-status"] == 130
    assert [one["exit-status"] for one in document["reports"]] == [130, 130]


ONE = Repository.parse("a@pbs@one:store1")
TWO = Repository.parse("a@pbs@two:9007:store1")


def test_labels() -> None:
    assert [label_of(one) for one in (ONE, TWO)] == ["one:store1", "two:9007:store1"]
    assert labelled("x", "text") == "x: text"
    assert labelled("x", "pbs-push: error: text") == "pbs-push: error: x: text"
    assert labelled("x", "pbs-push: warning: text") == "pbs-push: warning: x: text"


def test_the_display_has_all_targets() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=False)
    display = FanOutDisplay(console, [ONE, TWO])

    def tell(number: int, event: Event) -> Any:
        return display(FromTarget(number, (ONE, TWO)[number], event))

    tell(0, Planned(2, 3))
    tell(1, Note("warning", "look at this"))
    console.print(display.render())
    shown = out.getvalue()
    assert "one:store1: 3 snapshots to push; 2 groups looked at" in shown
    assert "pbs-push: warning: two:9007:store1: look at this" in shown
    assert "one:store1: 0% · 0 of 3 snapshots" in shown
    assert "two:9007:store1: looking at source and target" in shown
