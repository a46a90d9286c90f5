"""What an administrator sees of a push that is not all well: lines, statuses, JSON."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.own_host import COMMAND

from .conftest import SECRET, Cli, Place
from .test_jobs import config_dir

__all__ = ["config_dir"]

ONE = ("--group-filter", "group:vm/100", "--max-depth", 0)


# -- standard streams --


def command(*arguments: object) -> list[str]:
    return [*COMMAND, *map(str, arguments)]


@pytest.mark.parametrize("closed", ["2>&-", "1>&-", "0<&-", "0<&- 1>&- 2>&-"])
def test_closed_streams_keep_no_push_back(place: Place, small_source: Path, closed: str) -> None:
    line = f'exec "$@" {closed}'
    called = ["sh", "-c", line, "sh", *command("push", small_source, place.repository, *ONE)]
    done = subprocess.run(called, check=False, timeout=60, capture_output=True, text=True)
    assert done.returncode == 0
    assert len(place.snapshots()) == 3
    if closed == "2>&-":
        assert done.stdout.startswith("pushed          3 snapshots\n"), "results alone"


def test_nothing_that_keeps_a_file_open_is_imported_before_the_streams_are_looked_at() -> None:
    """It would take the place of a closed one, and results would go into it."""
    code = "import sys, pbs_push.cli.app; sys.exit('ctypes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


# -- datastores of this host --


@pytest.fixture
def host(tmp_path: Path, small_source: Path) -> Path:
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "datastore.cfg").write_text(f"datastore: main\n\tpath {small_source}\n\n")
    return folder


def append(host: Path, text: str) -> None:
    with (host / "datastore.cfg").open("a") as file:
        file.write(text)


def test_a_broken_section_of_another_datastore_does_not_matter(
    cli: Cli, place: Place, small_source: Path, host: Path
) -> None:
    append(host, "datastore: other\n\tpath /elsewhere\n\tmaintenance-mode message=x\n")
    arguments = ("push", small_source, place.repository, *ONE, "--config-dir", host)
    cli(*arguments).succeeded()
    cli("push", "main", *arguments[2:]).succeeded()


def test_a_broken_section_of_the_very_datastore_does(
    cli: Cli, place: Place, small_source: Path, host: Path
) -> None:
    (host / "datastore.cfg").write_text(
        f"datastore: main\n\tpath {small_source}/.\n\tmaintenance-mode message=x\n"
    )
    arguments = (place.repository, *ONE, "--config-dir", host)
    cli("push", small_source, *arguments).failed(2, "datastore.cfg:3", "maintenance-mode")


def test_two_sections_of_one_directory_are_ambiguous(
    cli: Cli, place: Place, small_source: Path, host: Path
) -> None:
    append(host, f"datastore: again\n\tpath {small_source.parent}/./{small_source.name}\n")
    arguments = (place.repository, *ONE, "--config-dir", host)
    cli("push", small_source, *arguments).failed(2, "ambiguous", "'main' and 'again'")
    cli("push", "again", *arguments).succeeded()


# -- jobs --


def test_a_job_takes_what_its_file_cannot_say(
    cli: Cli, place: Place, config_dir: Path, small_source: Path
) -> None:
    text = (config_dir / "sync.cfg").read_text()
    (config_dir / "sync.cfg").write_text(
        text.replace("max-depth 0\n", "max-depth 0\n\tremove-vanished 1\n")
    )
    cli("job", "run", "flat", "--config-dir", config_dir).succeeded()
    empty = config_dir / "empty"
    shutil.copytree(small_source, empty, ignore=shutil.ignore_patterns("vm", "ct", "host"))
    (config_dir / "datastore.cfg").write_text(f"datastore: here\n\tpath {empty}\n")
    job = ("job", "run", "flat", "--config-dir", config_dir)
    before = place.snapshots()
    held = cli(*job)
    assert held.status == 3
    assert "held back" in held.out
    assert "--allow-empty-source" in held.err
    document = json.loads(cli(*job, "--json").out)
    assert document["exit-status"] == 3
    assert document["held-back"]
    assert place.snapshots() == before
    limited = cli(*job, "--allow-empty-source", "--max-removals", 1)
    assert limited.status != 0
    assert place.snapshots() == before
    options = ("--sync-metadata", "--sync-protected", "--skip-damaged", "--lock-wait", "5s")
    cli(*job, "--allow-empty-source", *options).succeeded()
    assert not (place.path / "ns/x/vm").exists() or not list((place.path / "ns/x/vm").iterdir())


def test_an_option_that_has_no_effect_on_a_job_is_an_error(cli: Cli, config_dir: Path) -> None:
    job = ("job", "run", "flat", "--config-dir", config_dir)
    cli(*job, "--max-removals", 3).failed(2, "max-removals has no effect", "remove-vanished")


def test_settings_that_are_ignored_are_told(cli: Cli, place: Place, config_dir: Path) -> None:
    path = config_dir / "sync.cfg"
    path.write_text(path.read_text().replace("max-depth 0\n", "max-depth 0\n\tnew-thing 1\n"))
    done = cli("job", "run", "flat", "--config-dir", config_dir).succeeded()
    assert "pbs-push: warning: " in done.err
    assert "sync job 'flat': 'new-thing' is ignored" in done.err
    jobs = {
        one["id"]: one
        for one in json.loads(cli("job", "list", "--json", "--config-dir", config_dir).out)["jobs"]
    }
    assert len(jobs["flat"]["ignored"]) == 1
    assert jobs["flat"]["problem"] is None
    assert "'new-thing' is ignored" in cli("job", "list", "--config-dir", config_dir).out


def test_a_setting_that_chooses_is_not_ignored_by_a_job_that_removes(
    cli: Cli, place: Place, config_dir: Path
) -> None:
    path = config_dir / "sync.cfg"
    text = path.read_text().replace("max-depth 0\n", "max-depth 0\n\tnew-filter x\n")
    path.write_text(text)
    cli("job", "run", "flat", "--config-dir", config_dir).succeeded()
    removing = text.replace("new-filter x\n", "new-filter x\n\tremove-vanished true\n")
    path.write_text(removing)
    cli("job", "run", "flat", "--config-dir", config_dir).failed(2, "new-filter")
    path.write_text(removing.replace("new-filter", "new-mail"))
    cli("job", "run", "flat", "--config-dir", config_dir).succeeded()


# -- lines --


def test_lock_wait_is_a_time(cli: Cli, place: Place, small_source: Path) -> None:
    cli("push", small_source, place.repository, "--lock-wait", "soon").failed(2, "not a time span")
    cli("push", small_source, place.repository, *ONE, "--lock-wait", "1.5m").succeeded()


def test_alerts_are_shown_however_quiet(cli: Cli, place: Place, source: Path) -> None:
    cli("push", source, place.repository, *ONE).succeeded()
    newest = max(name for name in place.snapshots() if name.startswith("vm/100/"))
    (place.path / newest / "drive-scsi0.img.fidx").unlink()
    for _ in range(2):
        done = cli("push", source, place.repository, *ONE, "--quiet")
        assert done.status == 3
        warning, closing = done.err.splitlines()
        assert warning.startswith(
            f"pbs-push: warning: {newest}: a snapshot at the target is broken"
        )
        assert "it lacks drive-scsi0.img.fidx" in warning
        assert closing.startswith("pbs-push: error: somebody has to look at this: ")
        assert done.out == ""
    done = cli("push", source, place.repository, *ONE, "--dry-run")
    assert done.status == 3
    assert "look at  " in done.out
    done = cli("push", source, place.repository, *ONE, "--json")
    (alert,) = json.loads(done.out)["alerts"]
    assert (alert["finding"], alert["group"]) == ("broken", "vm/100")


def test_a_damaged_chunk_names_archive_and_option(cli: Cli, place: Place, source: Path) -> None:
    chunks = [path for path in (source / ".chunks").glob("*/*") if path.is_file()]
    for chunk in chunks:
        chunk.unlink()
    done = cli("push", source, place.repository, *ONE)
    assert done.status != 0
    (error,) = done.errors
    assert " of drive-scsi0.img.fidx" in error or " of drive-efidisk0.img.fidx" in error
    assert "--skip-damaged" in done.err


# -- file systems without locks --


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_gives_one_warning(
    cli: Cli, place: Place, small_source: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        if operation & fcntl.LOCK_SH and place.is_relative_to(small_source):
            raise OSError(code, os.strerror(code))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    done = cli("push", small_source, place.repository, *ONE).succeeded()
    assert done.err.count("file system has no locks") == 1
    assert len(place.snapshots()) == 3


def test_the_targets_certificate_was_renewed(
    cli: Cli, place: Place, small_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PBS_FINGERPRINT", "ab" * 32)
    done = cli("push", small_source, place.repository)
    done.failed(4, place.fingerprint, "renewed", "proxmox-backup-manager cert info", "no CA of")
    assert SECRET not in done.err
