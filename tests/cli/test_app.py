"""The commands as a whole: help, mistakes, the edge where errors end."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tests.own_host import COMMAND

import pbs_push
from pbs_push import errors
from pbs_push.cli import app, exit_status
from pbs_push.cli.exit_status import EXIT_STATUSES, help_text
from pbs_push.push import report

from .conftest import Cli


def all_errors(root: type[errors.PbsPushError]) -> list[type[errors.PbsPushError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in all_errors(child))]


def test_the_table_has_every_status() -> None:
    used = {error.exit_status for error in all_errors(errors.PbsPushError)}
    used |= {report.EXIT_FAILED, report.EXIT_PARTIAL, report.EXIT_NOTHING, 0}
    assert used == set(EXIT_STATUSES)
    assert errors.Cancelled.exit_status == exit_status.EXIT_INTERRUPTED
    assert click.UsageError.exit_code == errors.ConfigError.exit_status


@pytest.mark.parametrize("command", [(), ("push",), ("job", "run")])
def test_help_shows_the_statuses(cli: Cli, command: tuple[str, ...]) -> None:
    done = cli(*command, "--help").succeeded()
    for line in help_text().splitlines()[1:]:
        assert line.strip() in done.out


def test_help_has_all_commands(cli: Cli) -> None:
    text = cli("--help").out
    for name in app.app.list_commands(click.Context(app.app)):
        assert f"\n  {name} " in text
        assert cli(name, "--help").succeeded().out.startswith(f"Usage: pbs-push {name} ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Missing command (see 'pbs-push --help')"),
        (("pull",), "No such command 'pull'"),
        (("job",), "Missing command"),
        (("job", "walk"), "No such command 'walk'"),
        (("job", "run"), "Missing argument 'ID'"),
        (("list",), "Missing argument 'SOURCE'"),
        (("--bogus",), "No such option"),
    ],
)
def test_mistakes(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    done = cli(*arguments).failed(2, words)
    assert done.err.count("\n") == 1
    assert done.out == ""


def raising(error: BaseException) -> click.Command:
    def body() -> None:
        raise error

    return click.Command("raising", callback=body)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (errors.ConnectError("gone\nfor good"), 1, "pbs-push: error: gone for good"),
        (errors.AccessError(("A", "B"), "/x"), 4, "missing permissions 'A&B' on '/x'"),
        (errors.Cancelled("stopped as asked"), 130, "pbs-push: interrupted: stopped as asked"),
        (KeyboardInterrupt(), 130, "pbs-push: interrupted"),
        (
            OSError(errno.EACCES, "Permission denied", "/etc/x"),
            1,
            "pbs-push: error: /etc/x: Permission denied",
        ),
        (
            OSError(errno.EMFILE, "Too many open files"),
            1,
            "error: Too many open files: raise the limit (ulimit -n), or lower --parallel",
        ),
        (OSError("odd"), 1, "pbs-push: error: odd"),
        (click.ClickException("so not"), 1, "pbs-push: error: so not"),
        (MemoryError(), 1, "error: the system gives this process no more memory"),
        (RuntimeError("can't start new thread"), 1, "(can't start new thread): raise its limits"),
        (
            ImportError("numpy: lib.so: failed to map segment from shared object"),
            1,
            "(failed to map segment): raise its limits (ulimit -v, -u",
        ),
    ],
)
def test_errors_become_a_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, line: str
) -> None:
    monkeypatch.setattr(app, "app", raising(error))
    done = cli()
    assert done.status == status
    assert line in done.err
    assert done.err.strip().count("\n") == 0


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ImportError("no module named x")])
def test_what_is_a_mistake_of_ours_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(app, "app", raising(error))
    with pytest.raises(type(error)):
        app.run([])


def test_an_error_of_our_own_is_not_hidden(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "app", raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli()


def process(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], **(environment or {})},
    )


def test_a_process_ends_with_the_status(tmp_path: Path) -> None:
    with process("list", tmp_path) as running:
        out, err = running.communicate()
    assert (running.returncode, out) == (1, "")
    assert err == (
        f"pbs-push: error: source {tmp_path} is not a datastore: it has no folder '.chunks'\n"
    )


def test_more_files_may_be_open_than_usual() -> None:
    script = (
        "import resource, sys; from pbs_push.cli import app, main; "
        "app.run = lambda: print(resource.getrlimit(resource.RLIMIT_NOFILE)) or 0; main()"
    )
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    command = ["sh", "-c", 'ulimit -Sn 64; exec "$@"', "sh", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    limited = app.OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, app.OPEN_FILES)
    assert done.stdout == f"({limited}, {hard})\n"


def test_who_reads_may_leave(small_source: Path) -> None:
    with process("list", small_source, "--json") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 1


def test_a_full_disk_behind_stdout_is_an_error(small_source: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "list", small_source],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode != 0
    assert done.stderr.startswith("pbs-push: error: standard output: No space left on device\n")


def test_an_encoding_without_our_characters(small_source: Path) -> None:
    environment = {"PYTHONIOENCODING": "ascii"}
    with process("list", small_source, environment=environment) as running:
        out, err = running.communicate()
    assert (running.returncode, err) == (0, "")
    assert "\\u2713" in out


def test_version(cli: Cli) -> None:
    assert cli("--version").succeeded().out == f"pbs-push {pbs_push.__version__}\n"


def test_the_package_runs_as_the_command() -> None:
    asked = [sys.executable, "-m", "pbs_push", "--version"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert done.stdout == f"pbs-push {pbs_push.__version__}\n"
