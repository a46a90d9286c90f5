"""Helpers that run in processes of their own, so that their CPU time is not the pusher's.

A helper is a script of this directory: its first line of output is a JSON object that tells what it
is (its port, say); then it answers each JSON line that it reads with one, until its input ends.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

Json = dict[str, Any]

TOKEN: Final = "root@pam!bench"
SECRET: Final = "not-a-secret"
"""Here, and not with the target, whose code would count as the pusher's memory."""
KEY: Final = bytes(range(32))
"""What benchmarks encrypt with."""


class Helper:
    """A running helper; use it in ``with``. ``facts`` is what it said of itself."""

    def __init__(self, script: str, *arguments: object) -> None:
        path = Path(__file__).with_name(script)
        self._process = subprocess.Popen(
            [sys.executable, str(path), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._name = script
        self.facts = self._read()

    def ask(self, **question: object) -> Json:
        """Send one line and return the answer. Raises RuntimeError if the helper has died."""
        if self._process.stdin is None:
            raise RuntimeError(f"{self._name} has no input")
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Json:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise RuntimeError(f"{self._name} ended with status {self._process.wait()}")
        answer: Json = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End its input, and wait for it to go."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def answer_questions(facts: Json, answer: Callable[[Json], Json]) -> None:
    """The helper's side: say ``facts``, and answer lines until there are no more."""
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def cpu_seconds() -> float:
    """CPU time of this process so far, all threads, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def memory_mib(kind: str) -> float:
    """Memory of this process in MiB: VmHWM is the most that was resident, mapped files included.

    Unlike ``ru_maxrss`` it does not begin with what the parent had when it started this process.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"no {kind} in /proc/self/status")


def cpu_model() -> str:
    """The processor's name, for reports."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return f"{os.cpu_count()} CPUs of {line.partition(':')[2].strip()}"
    return f"{os.cpu_count()} CPUs"
