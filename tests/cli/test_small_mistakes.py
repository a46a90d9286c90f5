"""Mistakes at the edge of the command: told at once, and for what they are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from .conftest import Cli

REPOSITORY = "backup.example:store"


@pytest.mark.parametrize("flag", ["--metrics-file", "--html"])
def test_a_fifo_is_no_file_to_write(cli: Cli, source: Path, tmp_path: Path, flag: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    done = cli("push", source, REPOSITORY, flag, fifo)
    done.failed(2, f"{flag} {fifo}: something is there that is no file")


def test_a_fifo_that_nobody_writes_to_is_an_empty_configuration(cli: Cli, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    cli("run", "--list", "--config", fifo).failed(2, f"{fifo}: there is no [push.NAME] in it")


def test_a_configuration_that_a_shell_gives(cli: Cli) -> None:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b'[push.one]\nsource = "/store"\nrepository = "h:store"\n')
    os.close(write_fd)
    try:
        done = cli("run", "--list", "--config", f"/dev/fd/{read_fd}").succeeded()
    finally:
        os.close(read_fd)
    assert done.out.startswith("one  /store -> ")


def test_a_configuration_that_is_nested_deeply_is_named(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("a = " + "[" * 20_000)
    cli("run", "--list", "--config", path).failed(2, f"{path}: something in it is nested too deep")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "which push? Give its NAME, or --all"),
        (["a", "--all"], "the NAME of a push and --all cannot be given together"),
        (["--all", "--list"], "--all and --list cannot be given together"),
    ],
)
def test_which_pushes_to_run(cli: Cli, words: list[str], told: str) -> None:
    cli("run", *words).failed(2, told)


def test_a_file_of_two_pushes_however_it_is_spelled(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    (tmp_path / "link").symlink_to(tmp_path)
    push = '[push.{}]\nsource = "/s"\nrepository = "h:store"\nmetrics-file = "{}"\n'
    for other in (f"{tmp_path}/./a.prom", f"{tmp_path}/link/a.prom"):
        path.write_text(push.format("one", f"{tmp_path}/a.prom") + push.format("two", other))
        done = cli("run", "--list", "--config", path)
        done.failed(2, f"c.toml:8: metrics-file {other}: [push.one] writes it, too")


def test_a_wrong_option_is_an_event_where_these_are_asked_for(cli: Cli) -> None:
    done = cli("push", "--nope", "--log-json")
    assert done.status == 2
    (line,) = done.err.splitlines()
    told = json.loads(line)
    assert (told["event"], told["level"], told["exit-status"]) == ("message", "error", 2)
    assert "--nope" in told["text"]
