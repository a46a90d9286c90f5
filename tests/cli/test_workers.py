"""``--processes`` and ``--dask``: the command's own processes, and a cluster of two workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.dask_cluster import two_workers

from pbs_push.cli.processes import process_workers
from pbs_push.cli.worker_options import AskedWorkers
from pbs_push.demo.verify import verify_target

from .conftest import Cli, Place
from .test_interrupts import place_environment, push_command, until


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a cluster of two workers."""
    with two_workers() as cluster:
        yield cluster.scheduler_address


def whole(place: Place, source: Path) -> int:
    report = verify_target(source, place.path)
    assert report.problems == ()
    return report.snapshots


def test_processes_push_the_same(cli: Cli, place: Place, small_source: Path) -> None:
    push = ("push", small_source, place.repository, "--processes", "2", "--json")
    first = json.loads(cli(*push).succeeded().out)
    assert first["snapshots"]["pushed"] == whole(place, small_source)
    again = json.loads(cli(*push).succeeded().out)
    assert again["snapshots"]["pushed"] == 0


def test_no_other_process_has_a_secret_in_its_environment() -> None:
    """Not the pool's, and not the one that Python starts along with it, which anybody may read."""
    script = """
import os
from pathlib import Path
from pbs_push.cli.processes import process_workers
if __name__ == "__main__":
    with process_workers(1) as workers:
        found = [workers.executor.submit(os.getenv, "PBS_PASSWORD").result()]
        for path in Path("/proc").glob("[0-9]*"):
            status = (path / "stat").read_text().rpartition(")")[2].split()
            if int(status[1]) == os.getpid():
                found.append(b"PBS_PASSWORD" in (path / "environ").read_bytes())
    print(found, os.environ["PBS_PASSWORD"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PATH": os.environ["PATH"], "PBS_PASSWORD": "secret"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[None, False, False] secret\n", done.stderr


def test_a_cluster_pushes_the_same(
    cli: Cli, place: Place, small_source: Path, scheduler: str
) -> None:
    done = cli("push", small_source, place.repository, "--dask", scheduler, "--log-json")
    events = [json.loads(line) for line in done.succeeded().err.splitlines()]
    names = {event["event"] for event in events}
    assert {"plan", "snapshot-begun", "snapshot-ended", "summary"} <= names
    assert events[-1]["snapshots"]["pushed"] == whole(place, small_source)


def test_a_cluster_is_told_where_to_connect(
    cli: Cli, place: Place, small_source: Path, scheduler: str
) -> None:
    push = ("push", small_source, place.repository, "--dask", scheduler, "--listen", "localhost")
    cli(*push).succeeded()
    assert whole(place, small_source)


def test_a_configured_push_by_processes(
    cli: Cli, place: Place, small_source: Path, tmp_path: Path
) -> None:
    config = tmp_path / "pbs-push.toml"
    secret = tmp_path / "secret"
    secret.write_text(os.environ["PBS_PASSWORD"])
    config.write_text(
        f"""[push.night]
source = "{small_source}"
repository = "{place.repository}"
fingerprint = "{place.fingerprint}"
password-file = "{secret}"
config-dir = "{tmp_path}"
processes = 2
"""
    )
    cli("run", "night", "--config", config, "--dry-run").succeeded()
    cli("run", "night", "--config", config).succeeded()
    assert whole(place, small_source)
    config.write_text(config.read_text() + 'dask = "tcp://x:8786"\n')
    cli("run", "night", "--config", config).failed(2, "either --processes or --dask")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--processes", "0"), "between 1 and 64"),
        (("--processes", "65"), "between 1 and 64"),
        (("--processes", "two"), "not a whole number"),
        (("--processes", "2", "--dask", "x"), "either --processes or --dask"),
        (("--listen", "nas"), "no effect without --dask"),
        (("--dask", "x", "--listen", "a b"), "'a b' is not HOST[:PORT]"),
        (("--dask", "x", "--listen", "nas:70000"), "'nas:70000' is not HOST[:PORT]"),
        (("--dask", ""), "tcp://HOST:PORT"),
        (("--processes", "2", "--dry-run"), "--processes has no effect with --dry-run"),
        (("--dask", "x", "--dry-run"), "--dask has no effect with --dry-run"),
        (("--dask", "nosuch://x"), "Dask scheduler 'nosuch://x'"),
    ],
)
def test_what_cannot_be_asked_for(
    cli: Cli, place: Place, small_source: Path, words: tuple[str, ...], message: str
) -> None:
    cli("push", small_source, place.repository, *words).failed(2, message)


def test_addresses_to_listen_at() -> None:
    from pbs_push.cli.worker_options import _listen

    assert _listen("nas") == ("nas", 0)
    assert _listen("[fd00::1]:99") == ("fd00::1", 99)
    assert AskedWorkers().processes is None


def test_without_dask_it_is_said_how_to_get_it(
    cli: Cli, place: Place, small_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "pbs_push.push.dask_workers", raising=False)
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = cli("push", small_source, place.repository, "--dask", "tcp://x:8786")
    done.failed(2, "pip install 'pbs-push[dask]'")


def test_a_dask_that_is_broken_is_not_taken_for_none(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pbs_push.cli.dask_cluster import cluster_workers

    monkeypatch.delitem(sys.modules, "pbs_push.push.dask_workers", raising=False)
    monkeypatch.setitem(sys.modules, "pbs_push.push.workers", None)
    with pytest.raises(ModuleNotFoundError), cluster_workers("x", None):
        pass


# -- the processes --


def test_processes_are_as_private_as_the_command() -> None:
    """Nobody else reads their memory, and a terminal's signals are the command's alone."""
    with process_workers(1) as workers:
        ask = workers.executor.submit
        assert ask(eval, "__import__('ctypes').CDLL(None).prctl(3, 0, 0, 0, 0)").result() == 0
        limit = ask(eval, "__import__('resource').getrlimit(4)[0]").result()
        assert limit == 0, "no core dumps"
        assert ask(eval, "__import__('os').umask(0o077)").result() == 0o077
        handler = "__import__('signal').getsignal({}) is __import__('signal').SIG_IGN"
        assert ask(eval, handler.format(2)).result()
        assert ask(eval, handler.format(1)).result()
        blocked = ask(eval, "__import__('signal').pthread_sigmask(0, [])").result()
        assert blocked == set()
        assert ask(eval, "'httpx._main' in __import__('sys').modules").result() is False
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def workers_of(pid: int) -> list[int]:
    """Processes of a push's pool."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if b"spawn_main" in words and parent == pid:
            found.append(int(folder.name))
    return found


def is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def begun(place: Place, source: Path) -> subprocess.Popen[str]:
    """A push by two processes whose chunks go slowly, as far as the first of them."""
    place.server.faults.delays_s = {"POST fixed_chunk": 0.2, "POST dynamic_chunk": 0.2}
    running = subprocess.Popen(
        push_command(source, place.repository, "--processes", 2),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], **place_environment()},
        start_new_session=True,
    )
    requests = place.server.counters.snapshot
    until(lambda: sum(n for kind, n in requests().requests.items() if kind.endswith("_chunk")))
    return running


def nothing_half(place: Place) -> bool:
    """Whether the target has removed what was under way, once it has noticed that it ended."""
    return all((place.path / name / "index.json.blob").exists() for name in place.snapshots())


def test_ctrl_c_stops_command_and_processes(place: Place, small_source: Path) -> None:
    """A terminal sends it to all of them."""
    with begun(place, small_source) as running:
        children = workers_of(running.pid)
        assert children
        os.killpg(running.pid, signal.SIGINT)
        _, err = running.communicate()
    assert running.returncode == 130
    assert err.splitlines()[-1] == "pbs-push: interrupted: stopped as asked"
    assert "Traceback" not in err
    until(lambda: not any(map(is_there, children)))
    until(lambda: nothing_half(place))


def test_processes_end_with_a_command_that_is_killed(place: Place, small_source: Path) -> None:
    with begun(place, small_source) as running:
        children = workers_of(running.pid)
        assert children
        running.kill()
        running.communicate()
    until(lambda: not any(map(is_there, children)))
    until(lambda: nothing_half(place))
