"""Ctrl-C, SIGTERM and SIGHUP."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.own_host import COMMAND

from pbs_push.cli import interrupts
from pbs_push.cli.interrupts import run_interruptibly
from pbs_push.errors import Cancelled, ConnectError

from .conftest import Place
from .test_app import process
from .test_bad_input import ONE_GROUP, settled


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def push_command(*arguments: object) -> list[str]:
    return [*COMMAND, "push", *map(str, arguments)]


def place_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("PBS_")}


def push(place: Place, source: Path) -> subprocess.Popen[str]:
    return process("push", source, place.repository, *ONE_GROUP, environment=place_environment())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_push_is_stopped(place: Place, small_source: Path, number: signal.Signals) -> None:
    place.server.faults.delays_s = {"POST fixed_chunk": 0.2}
    requests = place.server.counters.snapshot
    with push(place, small_source) as running:
        until(lambda: requests().requests.get("POST fixed_chunk"))
        running.send_signal(number)
        out, err = running.communicate()
    assert running.returncode == 130
    assert err.splitlines()[-1] == "pbs-push: interrupted: stopped as asked"
    assert err.count("interrupted") == 1
    assert "pushed          0 snapshots" in out
    assert settled(place)


_STRIKES = {
    "while the program is imported": """
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "pbs_push.cli.app":
            strike()
sys.meta_path.insert(0, Finder())
main()
""",
    "before a command runs": """
from pbs_push.cli import app
app.prepare = strike
main()
""",
    "beside a command": """
from pbs_push.cli import app
app.run = strike
main()
""",
    "when it has ended": """
from pbs_push.cli import app
app.run = lambda: 0
app.end = lambda status: strike()
main()
""",
}


@pytest.mark.parametrize("when", _STRIKES)
def test_ctrl_c_at_the_edges_shows_no_traceback(when: str) -> None:
    beginning = """
import os, signal, sys
def strike(*_arguments):
    os.kill(os.getpid(), signal.SIGINT)
    return 0
from pbs_push.cli import main
"""
    command = [sys.executable, "-c", beginning + _STRIKES[when]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode == (130 if when == "beside a command" else -signal.SIGINT)


def test_the_end_of_the_terminal_stops_a_push(place: Place, small_source: Path) -> None:
    """Nothing can be written to it any more, which must not get in the way."""
    place.server.faults.delays_s = {"POST fixed_chunk": 0.2}
    controlling, terminal = pty.openpty()
    running = subprocess.Popen(
        ["setsid", "-c", *push_command(small_source, place.repository, *ONE_GROUP)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={"PATH": os.environ["PATH"], **place_environment()},
    )
    os.close(terminal)
    until(lambda: place.server.counters.snapshot().requests.get("POST fixed_chunk"))
    os.close(controlling)
    assert running.wait() == 130
    assert settled(place)


def test_under_nohup_the_end_of_the_session_stops_nothing(place: Place, small_source: Path) -> None:
    place.server.faults.delays_s = {"POST fixed_chunk": 0.2}
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        running = push(place, small_source)
    finally:
        signal.signal(signal.SIGHUP, before)
    with running:
        until(lambda: place.server.counters.snapshot().requests.get("POST fixed_chunk"))
        running.send_signal(signal.SIGHUP)
        running.communicate()
    assert running.returncode == 0


def test_a_silent_target_keeps_nobody(place: Place, small_source: Path) -> None:
    """The first request is never answered: what waits for it ends all the same, in order."""
    place.server.faults.delays_s = {"GET version": 600, "GET namespace": 600, "GET groups": 600}
    with push(place, small_source) as running:
        until(lambda: place.server.counters.snapshot().requests.get("GET version"))
        running.send_signal(signal.SIGINT)
        _out, err = running.communicate()
    assert running.returncode == 130
    assert err.splitlines()[-1] == "pbs-push: interrupted: stopped as asked"


def test_the_second_one_ends_at_once(place: Place, small_source: Path) -> None:
    """The first one waits for what cannot be ended: a connection that is being opened."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        repository = str(place.repository).replace(str(place.server.address[1]), str(port))
        environment = place_environment()
        command = ("push", small_source, repository, *ONE_GROUP)
        with process(*command, environment=environment) as running:
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(1), "the first bytes of TLS"
                while running.poll() is None:
                    running.send_signal(signal.SIGINT)
                    time.sleep(0.1)
                _, err = running.communicate()
    assert running.returncode == 130
    assert err == "\npbs-push: interrupted again: left at once\n"


def interrupt_when(ready: threading.Event) -> threading.Thread:
    def body() -> None:
        ready.wait()
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=body)
    thread.start()
    return thread


def test_work_is_asked_to_stop() -> None:
    ready, asked = threading.Event(), threading.Event()

    def work() -> str:
        ready.set()
        asked.wait()
        return "done"

    thread = interrupt_when(ready)
    before = signal.getsignal(signal.SIGINT)
    assert run_interruptibly(work, asked.set) == "done"
    assert signal.getsignal(signal.SIGINT) is before
    thread.join()


def test_a_closed_terminal_asks_once_however_often_it_says_so() -> None:
    asked = threading.Event()

    def work() -> str:
        for _ in range(3):
            asked.clear()
            os.kill(os.getpid(), signal.SIGHUP)
            asked.wait()
        return "done"

    assert run_interruptibly(work, asked.set) == "done"


def test_work_that_does_not_stop_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "GRACE_S", 0.1)
    ready, release = threading.Event(), threading.Event()

    def work() -> None:
        ready.set()
        release.wait()

    thread = interrupt_when(ready)
    with pytest.raises(Cancelled, match="does not answer"):
        run_interruptibly(work, lambda: None)
    release.set()
    thread.join()


def test_errors_of_the_work() -> None:
    def work() -> None:
        raise ConnectError("no way")

    with pytest.raises(ConnectError, match="no way"):
        run_interruptibly(work, lambda: None)


def test_in_another_thread_signals_are_left_alone() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(run_interruptibly(lambda: 7, list)))
    thread.start()
    thread.join()
    assert found == [7]
