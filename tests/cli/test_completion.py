"""What a Tab offers, in the shells themselves where they are here, and what it does not load."""

from __future__ import annotations

import os
import runpy
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete
from tests.own_host import COMMAND

from pbs_push.cli.app import app

from .test_imports import imported

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "contrib" / "completions"


def offered(*words: str) -> list[str]:
    """What is offered for the last word; a file or a directory as ``<dir>``."""
    completion = BashComplete(app, {}, "pbs-push", "_PBS_PUSH_COMPLETE")
    items = completion.get_completions(list(words[:-1]), words[-1])
    return [item.value if item.type == "plain" else f"<{item.type}>" for item in items]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "datastore.cfg").write_text(
        "datastore: main\n\tpath /a\n\tcomment datastore: not\n\ndatastore: backup.2\n\tpath /b\n"
    )
    (tmp_path / "remote.cfg").write_text("remote: offsite\n\thost h\n\tpassword c2VjcmV0\n")
    (tmp_path / "sync.cfg").write_text("sync: nightly\n\tstore main\n\nsync: weekly\n\tstore a\n")
    (tmp_path / "encryption-keys.cfg").write_text("sync-key: k1\n\tpath /k\n")
    return tmp_path


def test_commands_and_options() -> None:
    assert offered("") == list(app.list_commands(click.Context(app)))
    assert offered("p") == ["push", "plan"]
    assert offered("--v") == ["--version"]
    assert offered("job", "") == ["list", "run"]
    assert offered("push", "--remote-") == ["--remote-store", "--remote-ns"]
    assert offered("nothing", "--x") == []


def test_choices() -> None:
    assert offered("push", "a", "--chunk-order", "") == ["index", "inode"]
    assert offered("plan", "a", "--output-format", "json") == ["json", "json-pretty"]
    assert offered("push", "--keyfile", "") == ["<file>"]


def test_names_of_this_host(config: Path) -> None:
    here = ("--config-dir", str(config))
    assert offered("push", *here, "") == ["<dir>", "main", "backup.2"]
    assert offered("push", *here, "ma") == ["<dir>", "main"]
    assert offered("push", *here, "--remote", "") == ["offsite"]
    assert offered("push", *here, "--encryption-key", "") == ["k1"]
    assert offered("job", "run", *here, "") == ["nightly", "weekly"]
    assert offered("bench", *here, "--datastore", "b") == ["<dir>", "backup.2"]
    for command in ("list", "verify", "status", "plan"):
        assert offered(command, *here, "m") == ["<dir>", "main"]


def test_what_cannot_be_read_is_not_offered(config: Path) -> None:
    here = ("--config-dir", str(config))
    (config / "sync.cfg").write_bytes(b"sync: \xff\nsync: ok\n\x00")
    assert offered("job", "run", *here, "") == ["ok"]
    (config / "sync.cfg").unlink()
    (config / "sync.cfg").mkdir()
    assert offered("job", "run", *here, "") == []
    assert offered("push", "--config-dir", "/nowhere", "") == ["<dir>"]


_NOWHERE = "--config-dir /nowhere"


@pytest.mark.parametrize(
    "words",
    [
        "", "pu", "push --", "push --chunk-order ", f"push {_NOWHERE} ", f"job run {_NOWHERE} ",
        "bench --",
    ],
)  # fmt: skip
def test_a_tab_loads_nothing_large(
    tmp_path: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"pbs-push {words}"
    monkeypatch.setenv("_PBS_PUSH_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    found = imported(tmp_path)
    assert found.watched == {"click"}
    assert found.rooms.isdisjoint({"source", "remote", "target", "demo", "_native"})
    if not words:
        assert found.rooms == {"cli", "errors", "version"}, "names need no command"


def test_bash_itself(config: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    words = ["pbs-push", "job", "run", "--config-dir", str(config), "ni"]
    script = (
        f"compopt() {{ :; }}; source {SCRIPTS / 'pbs-push'}; complete -p pbs-push >&2\n"
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pbs_push_completion pbs-push\n'
        'echo "${COMPREPLY[@]}"'
    )
    called = config / "bin" / "pbs-push"
    called.parent.mkdir()
    called.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    called.chmod(0o755)
    done = subprocess.run(
        [bash, "-c", script, "bash", *words],
        env={**os.environ, "PATH": f"{called.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "nightly\n"
    assert "-F _pbs_push_completion pbs-push" in done.stderr


@pytest.mark.parametrize(("shell", "file"), [("zsh", "_pbs-push"), ("fish", "pbs-push.fish")])
def test_the_other_shells_take_their_files(shell: str, file: str) -> None:
    text = (SCRIPTS / file).read_text()
    assert f"_PBS_PUSH_COMPLETE={shell}_complete" in text
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here")
    subprocess.run([program, "-n", SCRIPTS / file], check=True)


def test_the_maker_makes_what_this_click_has() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_completions.py"))
    assert {path.name for path in SCRIPTS.iterdir()} == set(made["FILES"].values())
    for shell in made["FILES"]:
        text = made["script"](shell)
        assert f"_PBS_PUSH_COMPLETE={shell}_complete" in text
        assert "pbs-push" in text
