"""Processes to be killed, started in some milliseconds: forks of one that has imported everything.

Run as a script, it reads a command a line (JSON) from stdin and forks for each; parent and children
write what they have to say as JSON lines to stdout, with their number: a process id is another's
sooner or later. ``Zygote`` is the other side.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pbs_push
import pbs_push.push.engine
import pbs_push.push.worker  # which a push imports with the first group that has work
from pbs_push.target import CertificateFiles, Faults, Identities, TargetOptions, TargetServer

SECRET = "secret"
STORE = "store1"
PATIENCE_S = 60.0
PARENT = 0


class _Me:
    """Which process this is: the parent, or the fork of the command of that number."""

    number = PARENT


def say(**words: Any) -> None:
    """One line, written at once: lines of several processes do not mix."""
    os.write(1, json.dumps({"number": _Me.number, **words}).encode() + b"\n")


def serve(
    store: str,
    me: str,
    kill_at: int | None,
    certificate: list[str],
    port: int,
    secret: str = SECRET,
    clock_s: float = 0.0,
) -> None:
    """A target that dies at a request boundary, or when it is told to; it counts the boundaries.

    ``clock_s``: how far its clock is ahead.
    """
    seen = 0

    def boundary(_kind: str, _handled: bool) -> None:
        nonlocal seen
        seen += 1
        if seen == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    server = TargetServer(
        {STORE: Path(store)},
        identities=Identities.simple({me: secret}),
        options=TargetOptions(bad_login_delay_s=0, clock=lambda: time.time() + clock_s),
        faults=Faults(on_request=boundary),
        certificate=CertificateFiles(*map(Path, certificate)),
        port=port,
    )
    with server:
        say(port=server.address[1], fingerprint=server.fingerprint.hex())
        signal.sigwait({signal.SIGTERM})
    say(boundaries=seen)


def push(source: str, repository: str, fingerprint: str, options: dict[str, Any]) -> None:
    """A push; says how it ended, and what it told."""
    key = options.pop("key", None)
    if key is not None:
        options["encryption_key"] = pbs_push.CryptKey(bytes.fromhex(key))
    datastore = pbs_push.Datastore(source, lock_root=Path(f"{source}.no-pbs"))
    target = pbs_push.Target(repository, SECRET, bytes.fromhex(fingerprint))
    say(begun=True)
    with target:
        report = pbs_push.push(datastore, target, pbs_push.PushOptions(**{"retries": 0, **options}))
    failed = [f"{one.label}: {one.error}" for one in report.outcomes if one.error is not None]
    say(
        status=report.exit_status,
        counts={one.value: n for one, n in report.counts.items()},
        errors=failed + [f"{one.what}: {one.error}" for one in report.problems],
        alerts=[one.text for one in report.alerts],
        held=[str(one) for one in report.held_back],
        retries=report.retries,
    )


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: they leave no zombies
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    for line in sys.stdin:
        command = json.loads(line)
        number = command.pop("number")
        pid = os.fork()
        if pid == 0:
            _Me.number = number
            try:
                {"serve": serve, "push": push}[command.pop("do")](**command)
            except Exception as error:  # noqa: BLE001 (it goes to the test)
                say(error=f"{type(error).__name__}: {error}")
            os._exit(0)
        say(forked=pid)


class Child:
    """A forked process."""

    def __init__(self, zygote: Zygote, number: int, pid: int) -> None:
        self._zygote = zygote
        self._number = number
        self.pid = pid
        self._pidfd: int | None = None
        with suppress(ProcessLookupError):  # it has done its work, and is gone
            self._pidfd = os.pidfd_open(pid)

    def hear(self) -> dict[str, Any]:
        """The next that it says."""
        return self._zygote.hear(self._number)

    def kill(self) -> None:
        """End it without a word, unless it has ended."""
        self._signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        """End it in order."""
        self._signal(signal.SIGTERM)
        self.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def is_dead(self) -> bool:
        """Whether it has ended."""
        return self._pidfd is None or self._ends_within(0)

    def wait(self) -> None:
        """Until it is dead."""
        if self._pidfd is None:
            return
        if not self._ends_within(PATIENCE_S):
            raise TimeoutError(f"process {self.pid} lives on")
        os.close(self._pidfd)
        self._pidfd = None

    def _ends_within(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._pidfd or 0, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


class Zygote:
    """Starts processes; use it in ``with``."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """``environment`` is added to this process's own."""
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )
        self._heard: dict[int, list[dict[str, Any]]] = {}
        self._rest = b""
        self._started = PARENT

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        self._process.stdout.close()

    def start(self, do: str, **arguments: Any) -> Child:
        """Start a process that serves, or pushes."""
        assert self._process.stdin is not None
        self._started += 1
        command = {"do": do, "number": self._started, **arguments}
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        return Child(self, self._started, self.hear(PARENT)["forked"])

    def hear(self, number: int) -> dict[str, Any]:
        """The next line of a process. Raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE_S
        while not self._heard.get(number):
            self._listen(deadline - time.monotonic())
        return self._heard[number].pop(0)

    def _listen(self, patience_s: float) -> None:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        if not select.select([descriptor], [], [], max(0.0, patience_s))[0]:
            raise TimeoutError("nothing was said")
        *lines, self._rest = (self._rest + os.read(descriptor, 65536)).split(b"\n")
        for line in lines:
            said = json.loads(line)
            self._heard.setdefault(said.pop("number"), []).append(said)


if __name__ == "__main__":
    main()
