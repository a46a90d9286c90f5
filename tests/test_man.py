"""The man pages: there is one for each command, it says all, and groff finds nothing wrong."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

_MAKER = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "make_man.py"))
_COMMANDS: list[Any] = list(_MAKER["commands"]())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    _MAKER["write"](folder)
    return folder


def test_each_command_has_one(folder: Path) -> None:
    pages = {path.name for path in folder.iterdir()}
    assert pages == {f"{named.page}.1" for named in _COMMANDS}
    assert {"pbs-push.1", "pbs-push-push.1", "pbs-push-job-run.1", "pbs-push-bench.1"} <= pages


@pytest.mark.parametrize("named", _COMMANDS, ids=lambda named: named.page)
def test_it_has_what_a_page_has(folder: Path, named: Any) -> None:
    text = (folder / f"{named.page}.1").read_text()
    heads = re.findall(r"^\.SH (.*)$", text, re.M)
    assert heads[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert heads[-3:] == ["OPTIONS", "EXIT STATUS", "SEE ALSO"]
    sections = dict(re.findall(r"^\.SH (.*)\n([^\0]*?)(?=^\.SH |\Z)", text, re.M))
    assert all(body.strip() for body in sections.values())
    plain = sections["OPTIONS"].replace("\\-", "-")
    for option in named.command.params:
        if isinstance(option, click.Option):
            assert f"\\fB{option.opts[0]}" in plain or f", {option.opts[0]}" in plain
    for other in re.findall(r"\\fB([\w\\-]+)\\fR\(1\)", text):
        assert (folder / f"{other.replace(chr(92), '')}.1").exists()


def test_groff_warns_of_nothing(folder: Path) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("no groff here")
    pages = sorted(folder.iterdir())
    done = subprocess.run(
        [groff, "-man", "-Kutf8", "-Tutf8", "-ww", "-z", *pages], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")


def test_the_date_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    assert '"2026-01-01"' in _MAKER["page"](_COMMANDS[0])


@pytest.mark.parametrize(
    ("markdown", "roff"),
    [
        ("An `--o` and\n**bold** [text](a.md#b).", [".PP", r"An \fB\-\-o\fR and \fBbold\fR text."]),
        ("### Head", [".SS Head"]),
        ("- one\n  more\n- two", [r".IP \(bu 2", "one more", r".IP \(bu 2", "two"]),
        ("| a | b |\n| --- | --- |\n| `x` | y |", [".TP", r"\fBx\fR", "y"]),
        ("```sh\n.run\n```", [".PP", ".nf", r"\&.run", ".fi"]),
        (".begin 'quoted' back\\slash", [".PP", r"\&.begin \(aqquoted\(aq back\eslash"]),
    ],
)  # fmt: skip
def test_markdown(markdown: str, roff: list[str]) -> None:
    assert list(_MAKER["roff"](markdown)) == roff
