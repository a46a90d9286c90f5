"""The service and the timer of ``contrib/systemd``: what they run, and what systemd says."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from pbs_push.cli.app import app

_FOLDER = Path(__file__).parents[1] / "contrib" / "systemd"
_MOST_EXPOSED = 20
"""Of systemd's 100; it says "OK" below 50, and a service that says nothing of a sandbox has 96."""


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """Both, of an instance."""
    made = []
    for kind in ("service", "timer"):
        made.append(tmp_path / f"pbs-push@offsite.{kind}")
        shutil.copy(_FOLDER / f"pbs-push@.{kind}", made[-1])
    return made


def analyze(*words: object) -> subprocess.CompletedProcess[str]:
    """Ask systemd-analyze; skips where there is none that can look at a file."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze here")
    version = re.search(r"systemd (\d+)", _said([program, "--version"]).stdout)
    if version is None or int(version[1]) < 250:
        pytest.skip("this systemd-analyze cannot look at files (--offline)")
    return _said([program, *map(str, words)])


def _said(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False)


def read(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


def test_systemd_understands_them(units: list[Path]) -> None:
    done = analyze("verify", "--man=no", "--recursive-errors=no", *units)
    said = [line for line in done.stderr.splitlines() if "pbs-push@" in line]
    assert (done.returncode, said) == (0, []), done.stderr


def test_the_sandbox_leaves_little(units: list[Path]) -> None:
    done = analyze(
        "security", "--offline=true", "--no-pager", f"--threshold={_MOST_EXPOSED}", units[0]
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_service_runs_a_push_of_the_configuration_file(
    units: list[Path], tmp_path: Path
) -> None:
    service = read(units[0])["Service"]
    env, program, *words = service["ExecStart"].replace("%i", "offsite").split()
    assert (env, program, words) == ("/usr/bin/env", "pbs-push", ["run", "offsite"])
    config = tmp_path / "pbs-push.toml"
    config.write_text('[push.offsite]\nsource = "store1"\nrepository = "h.example:tank"\n')
    done = CliRunner().invoke(app, ["run", "--list", "--config", str(config)])
    assert "offsite" in done.output
    assert service["LoadCredential"] == "pbs-push.password:/etc/pbs-push/%i.secret"


def test_the_service_is_started_by_its_timer_alone(units: list[Path]) -> None:
    assert "Install" not in read(units[0])
    assert read(units[1])["Install"]["WantedBy"] == "timers.target"
