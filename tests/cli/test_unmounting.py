"""``unmount-on-done``: a removable datastore is unmounted when its job has ended, by PBS's command.

A script of its name stands in for that; it notes what it was told, and what of the datastore the
process that pushed has open then.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from time import sleep

import pytest

from pbs_push.access.datastores import DatastoreConfig
from pbs_push.cli import unmounting
from pbs_push.cli.interrupts import run_interruptibly
from pbs_push.cli.unmounting import COMMAND, Unmounting
from pbs_push.errors import ConfigError, PbsPushError

from .conftest import SECRET, Cli, Place

_SCRIPT = """#!/bin/sh
{{
    echo "$@"
    env | grep -c '^PBS_PASSWORD'
    ls -l /proc/$PPID/fd /proc/$PPID/cwd | grep -c '{store}'
    grep -c '{store}' /proc/$PPID/maps
    for folder in {store}/*/*/*Z; do
        flock -n "$folder" true || echo "locked: $folder"
    done
}} >>{log}
{end}
"""


@dataclass
class Host:
    """A host's configuration with one job on a removable datastore, and its command."""

    config: Path
    store: Path
    log: Path
    program: Path

    def ends(self, end: str) -> None:
        """What the command does in the end."""
        text = _SCRIPT.format(store=self.store, log=self.log, end=end)
        self.program.write_text(text)
        self.program.chmod(0o755)

    @property
    def told(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def change(self, name: str, old: str, new: str) -> None:
        text = (self.config / name).read_text()
        assert old in text
        (self.config / name).write_text(text.replace(old, new))


ONCE = ["datastore unmount usb", "0", "0", "0"]
"""Its words; no password, nothing of the datastore open or mapped, no lock held."""


@pytest.fixture
def host(tmp_path: Path, place: Place, small_source: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    mounts = tmp_path / "mnt"
    store = mounts / "usb" / "store"
    shutil.copytree(small_source, store)
    kwdefaults = DatastoreConfig.require_readable.__kwdefaults__
    assert kwdefaults is not None
    monkeypatch.setitem(kwdefaults, "mount_root", mounts)
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == mounts / "usb")
    config = tmp_path / "config"
    config.mkdir()
    (config / "datastore.cfg").write_text("datastore: usb\n\tpath store\n\tbacking-device 1-2\n")
    address, port = place.server.address
    secret = base64.b64encode(SECRET.encode()).decode()
    (config / "remote.cfg").write_text(
        f"remote: there\n\thost {address}\n\tport {port}\n\tauth-id root@pam!push\n"
        f"\tpassword {secret}\n\tfingerprint {place.fingerprint}\n"
    )
    (config / "sync.cfg").write_text(
        "sync: away\n\tsync-direction push\n\tstore usb\n\tremote there\n\tremote-store offsite\n"
        "\tns prod\n\tmax-depth 0\n\trun-on-mount 1\n\tunmount-on-done 1\n"
    )
    tools = tmp_path / "sbin"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    made = Host(config, store, tmp_path / "log", tools / COMMAND)
    made.ends("exit 0")
    return made


def run(cli: Cli, host: Host, *more: object) -> tuple[int, str, str]:
    done = cli("job", "run", "away", "--config-dir", host.config, "--retries", "0", *more)
    return done.status, done.out, done.err


def test_it_is_unmounted_when_nothing_of_it_is_open(cli: Cli, place: Place, host: Host) -> None:
    status, _, err = run(cli, host)
    assert status == 0, err
    assert len(place.snapshots()) == 4
    assert host.told == ONCE
    assert "datastore 'usb' is unmounted" in err
    assert "unmounted" not in run(cli, host, "--quiet")[2]


def test_the_path_of_a_timer_has_no_sbin(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(unmounting, "_ADMIN_FOLDERS", str(host.program.parent))
    assert Unmounting.of("usb").program == str(host.program)
    monkeypatch.setattr(unmounting, "_ADMIN_FOLDERS", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=f"there is no {COMMAND} here"):
        Unmounting.of("usb")


def test_without_the_command_nothing_is_begun(
    cli: Cli, place: Place, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.program.unlink()
    monkeypatch.setattr(unmounting, "_ADMIN_FOLDERS", "/nowhere")
    done = cli("job", "run", "away", "--config-dir", host.config)
    done.failed(2, "sync.cfg:9: sync job 'away' cannot be run", "unmount-on-done", COMMAND)
    assert place.snapshots() == set()
    (listed,) = json.loads(cli("job", "list", "--json", "--config-dir", host.config).out)["jobs"]
    assert COMMAND in listed["problem"]


def test_a_dry_run_leaves_it_mounted(cli: Cli, host: Host) -> None:
    assert run(cli, host, "--dry-run")[0] == 0
    assert host.told == []


def test_also_after_a_failure(cli: Cli, host: Host) -> None:
    for path in host.store.glob(".chunks/*/*"):
        path.unlink()
    status, _, _ = run(cli, host)
    assert status != 0
    assert host.told == ONCE


def test_also_where_the_target_cannot_be_reached(cli: Cli, place: Place, host: Host) -> None:
    host.change("remote.cfg", f"port {place.server.address[1]}", "port 1")
    status, _, err = run(cli, host)
    assert status not in (0, 3), err
    assert host.told == ONCE


def test_not_after_a_job_that_cannot_be_run(cli: Cli, host: Host) -> None:
    host.change("remote.cfg", "remote: there", "remote: elsewhere")
    assert run(cli, host)[0] == 2
    assert host.told == []


def test_what_goes_wrong_is_a_problem(cli: Cli, place: Place, host: Host) -> None:
    host.ends("printf 'device \\033[31mis busy\\n' >&2; echo more; exit 7")
    status, out, err = run(cli, host)
    assert status == 3
    assert len(place.snapshots()) == 4
    assert "error: unmounting datastore 'usb':" in err
    assert f"'{host.program}' ended with status 7: device [31mis busy more" in err
    assert "other problems  1" in out


@pytest.mark.parametrize("end", ["exit 0", "echo no; exit 1"])
def test_programs_are_told(cli: Cli, host: Host, end: str) -> None:
    host.ends(end)
    status, out, err = run(cli, host, "--json")
    document = json.loads(out)
    assert status == document["exit-status"] == (0 if end == "exit 0" else 3)
    assert [one["what"] for one in document["problems"]] == (
        [] if end == "exit 0" else ["unmounting datastore 'usb'"]
    )
    status, out, err = run(cli, host, "--log-json")
    *_, told, summary = (json.loads(line) for line in err.splitlines())
    assert told["event"] == "message"
    assert told["level"] == ("info" if end == "exit 0" else "error")
    assert summary["exit-status"] == status


def test_one_that_does_not_end(cli: Cli, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unmounting, "LIMIT_S", 0.2)
    host.ends("exec sleep 60")
    status, _, err = run(cli, host)
    assert status == 3
    assert "has not ended within 0.2 s" in err


def test_one_that_is_interrupted(host: Host) -> None:
    host.ends(f"echo ready >>{host.log}.ready; exec sleep 60")
    work = Unmounting.of("usb")
    work._stop()  # nothing runs yet

    def stopped() -> None:
        while not Path(f"{host.log}.ready").exists():
            sleep(0.01)
        work._stop()

    def running() -> str:
        with pytest.raises(PbsPushError, match="was ended by signal 15"):
            work._run()
        return "ended"

    threading.Thread(target=stopped).start()
    assert run_interruptibly(running, work._stop) == "ended"


def test_a_program_that_cannot_be_run(host: Host) -> None:
    host.program.write_text("#!/nowhere/sh\n")
    with pytest.raises(PbsPushError, match="No such file"):
        Unmounting.of("usb").run()


def test_where_it_is_not_removable_it_says_so(cli: Cli, host: Host) -> None:
    host.change("datastore.cfg", "path store\n\tbacking-device 1-2", f"path {host.store}")
    status, _, err = run(cli, host)
    assert status == 0
    assert host.told == []
    assert "sync.cfg:9: sync job 'away': 'unmount-on-done' has no effect" in err


def test_without_it_nothing_is_unmounted(cli: Cli, host: Host) -> None:
    host.change("sync.cfg", "unmount-on-done 1", "unmount-on-done 0")
    assert run(cli, host)[0] == 0
    assert host.told == []
