"""What each command imports: what takes the time of starting, and only where it is needed."""

from __future__ import annotations

import base64
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from pbs_push.cli.loading import begin, loading, spare_threads
from pbs_push.demo.sample import sample_enc_key

from .conftest import Cli, Place

WATCHED: Final = frozenset(
    (
        "anyio", "asyncio", "click", "concurrent.futures", "cryptography", "distributed",
        "email.message", "h11", "h2", "http.client", "httpcore", "httpx", "httpx._main", "logging",
        "multiprocessing", "numpy", "pydantic",
        "pydantic_core", "pygments", "re2", "rich", "socket", "ssl", "zstandard",
    )
)  # fmt: skip
"""Of packages from elsewhere, and of Python's own, what is large."""

_REST: Final = {
    "email.message", "h11", "http.client", "httpcore", "httpx", "logging", "socket", "ssl",
}  # fmt: skip
_HIDDEN: Final = ("anyio", "h2", "httpx._main", "socksio", "trio")
_INDEXES: Final = {"numpy", "zstandard"}
_CONFIG: Final = {"pydantic", "pydantic_core"}
_PUSH: Final = {"click", "concurrent.futures", *_REST}

_SCRIPT: Final = """
import gc, json, os, sys

def leave(status, end=os._exit):
    modules = [name for name, module in sys.modules.items() if module]
    told = {"modules": modules, "threads": os.environ.get("OPENBLAS_NUM_THREADS")}
    told |= {"gc": gc.isenabled(), "frozen": gc.get_freeze_count()}
    with open(sys.argv[0], "w") as file:
        json.dump(told, file)
    end(status)

os._exit = leave
sys.argv[:] = sys.argv[1:]
from pbs_push.cli import main
main()
"""
"""Runs ``pbs-push`` as its script does, and says at the end what is there."""


@pytest.fixture
def nothing(tmp_path: Path) -> Path:
    """A configuration without anything: whatever this host has is not looked at."""
    path = tmp_path / "etc"
    path.mkdir()
    return path


class Imported:
    """What a command had imported when it ended."""

    def __init__(self, told: dict[str, Any]) -> None:
        modules = set(told["modules"])
        self.told = told
        self.watched = modules & WATCHED
        self.rooms = {name.split(".")[1] for name in modules if name.startswith("pbs_push.")}
        self.cli = {name for name in modules if name.startswith("pbs_push.cli.")}


def imported(
    tmp_path: Path, *arguments: object, status: int = 0, stderr: int = subprocess.PIPE
) -> Imported:
    out = tmp_path / "modules"
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(out), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=stderr,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return Imported(json.loads(out.read_text()))


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_next_to_nothing_for_version_and_help(tmp_path: Path, option: str) -> None:
    found = imported(tmp_path, option)
    assert found.watched == {"click"}
    own = ("app", "exit_status", "lines", "loading", "privacy")
    assert found.cli == {f"pbs_push.cli.{name}" for name in own}
    assert found.rooms == {"cli", "errors", "version"}


@pytest.mark.parametrize("command", ["push", "run", "verify", "list", "job", "serve", "bench"])
def test_nothing_of_its_work_for_the_help_of_a_command(tmp_path: Path, command: str) -> None:
    found = imported(tmp_path, command, "--help")
    assert found.watched == {"click"}
    assert found.rooms.isdisjoint({"source", "remote", "target", "demo", "_native"})


def test_list(tmp_path: Path, small_source: Path, nothing: Path) -> None:
    found = imported(tmp_path, "list", small_source, "--config-dir", nothing)
    assert found.watched == {"click", "zstandard"}
    assert found.rooms.isdisjoint({"remote", "target", "bench", "demo"})


def test_verify(tmp_path: Path, small_source: Path, nothing: Path) -> None:
    found = imported(tmp_path, "verify", small_source, "--config-dir", nothing)
    assert found.watched == {"click", "concurrent.futures", "logging", "numpy", "zstandard"}
    assert found.rooms.isdisjoint({"remote", "target", "bench", "demo"})


@pytest.mark.parametrize("jobs", [False, True])
def test_list_of_jobs(tmp_path: Path, nothing: Path, jobs: bool) -> None:
    if jobs:
        text = "sync: j\n\tsync-direction push\n\tstore a\n\tremote b\n\tremote-store c\n"
        (nothing / "sync.cfg").write_text(text)
    found = imported(tmp_path, "job", "list", "--config-dir", nothing)
    assert found.watched == {"click", *_REST, *(_CONFIG if jobs else ())}
    assert found.rooms.isdisjoint({"target", "bench", "demo"})


def test_push_with_nothing_new(
    cli: Cli, tmp_path: Path, small_source: Path, place: Place, nothing: Path
) -> None:
    push = ("push", small_source, place.repository, "--config-dir", nothing)
    cli(*push).succeeded()
    found = imported(tmp_path, *push)
    assert found.watched == _PUSH
    assert found.rooms.isdisjoint({"target", "bench", "demo"})
    assert found.told["gc"], "collections are on again"
    assert found.told["frozen"], "and leave alone what was imported"


def test_more_of_a_push_only_for_what_there_is_to_do(
    tmp_path: Path, small_source: Path, place: Place, nothing: Path
) -> None:
    push = ("push", small_source, place.repository, "--config-dir", nothing, "--ns", "lab")
    none = ("--group-filter", "regex:^none/")
    assert imported(tmp_path, *push, *none).watched == {*_PUSH, "re2"}
    found = imported(tmp_path, *push)
    assert found.watched == {*_PUSH, "numpy", "zstandard"}
    assert found.told["threads"] == "1", "which numpy does not start for linear algebra"
    key = tmp_path / "key"
    key.write_text(json.dumps({"kdf": None, "data": base64.b64encode(sample_enc_key()).decode()}))
    with_key = imported(tmp_path, *push, "--keyfile", key, "--remote-ns", "x")
    assert with_key.watched == {*_PUSH, "numpy", "zstandard", "cryptography"}


def test_verification_of_a_target(
    cli: Cli, tmp_path: Path, small_source: Path, place: Place, nothing: Path
) -> None:
    cli("push", small_source, place.repository, "--config-dir", nothing).succeeded()
    words = ("verify", small_source, "--target", place.repository, "--config-dir", nothing)
    found = imported(tmp_path, *words)
    assert found.watched == {*_PUSH, "numpy", "zstandard"}
    assert found.rooms.isdisjoint({"target", "bench", "demo"})
    assert found.told["threads"] == "1"


def test_a_display_only_on_a_terminal(
    tmp_path: Path, small_source: Path, place: Place, nothing: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    push = ("push", small_source, place.repository, "--config-dir", nothing, "--dry-run")
    ours, theirs = os.openpty()
    assert imported(tmp_path, *push, stderr=theirs).watched == {*_PUSH, *_INDEXES, "rich"}
    os.close(theirs)
    os.close(ours)


def test_models_of_a_configuration_are_for_hosts_that_have_one(
    tmp_path: Path, small_source: Path, place: Place, nothing: Path
) -> None:
    (nothing / "user.cfg").write_text("user: root@pam\n\tenable 1\n")
    push = ("push", small_source, place.repository, "--config-dir", nothing, "--dry-run")
    assert imported(tmp_path, *push).watched == {*_PUSH, *_INDEXES, *_CONFIG}


def test_a_process_that_is_not_ours_is_left_as_it_is() -> None:
    with loading(rest=True):
        spare_threads()
        assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    assert "OPENBLAS_NUM_THREADS" not in os.environ


def test_what_is_done_in_a_process_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbs_push.cli.loading._Process.is_ours", False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    before = dict(sys.modules)
    try:
        begin()
        assert not gc.isenabled()
        with loading(rest=True):
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count()
    finally:
        gc.enable()
        gc.unfreeze()
    spare_threads()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3", "what was chosen counts"
    after = {name: sys.modules.get(name) for name in (*before, *_HIDDEN)}
    assert after == {**dict.fromkeys(_HIDDEN), **before}
    assert [name for name in _HIDDEN if name in sys.modules and name not in before] == []


def test_serve_and_bench(tmp_path: Path) -> None:
    """As far as they come with arguments that they do not take."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    serve = imported(tmp_path, "serve", tmp_path / "full", status=1)
    assert serve.watched.isdisjoint({"httpx", "pydantic", "rich", "re2"})
    assert serve.rooms.isdisjoint({"push", "remote", "source", "bench"})
    bench = imported(tmp_path, "bench", "--html", tmp_path / "none" / "x", status=2)
    assert bench.watched.isdisjoint({"h2", "httpx._main", "pydantic", "rich", "anyio"})
    assert "target" not in bench.rooms
