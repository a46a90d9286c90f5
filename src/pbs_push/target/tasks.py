"""Tasks of a server: work that goes on after a request was answered (protocol/rest.md, "Tasks")."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from pbs_push.names import AuthId
from pbs_push.target.answers import Refusal, bad_request
from pbs_push.target.params import Integer, Params, Schema, optional

_log = logging.getLogger(__name__)

NODE: Final = "localhost"
_LOG_LINES: Final = 50
OK: Final = "OK"

Work = Callable[["Task"], str]
"""Does a task, writes to its log, and returns how it ended: OK, or what is wrong."""


@dataclass(slots=True)
class Task:
    """One task: who started it, and its log. ``exit_status`` is None while it runs."""

    upid: str
    kind: str
    name: str
    auth_id: AuthId
    number: int
    started: int
    lines: list[str] = field(default_factory=list)
    exit_status: str | None = None

    def log(self, line: str) -> None:
        """Add a line to the task's log."""
        self.lines.append(line)


class Tasks:
    """The tasks of a server, by their UPIDs.

    ``begin`` (kind, work) starts work in a thread; ``clock`` tells epoch seconds.
    """

    def __init__(
        self, begin: Callable[[str, Callable[[], None]], None], clock: Callable[[], float]
    ) -> None:
        self._begin = begin
        self._clock = clock
        self._lock = threading.Lock()
        self._tasks: dict[str, Task] = {}

    def start(self, kind: str, name: str, auth_id: AuthId, work: Work) -> str:
        """Begin a task of this kind, about ``name``; returns its UPID."""
        now = int(self._clock())
        with self._lock:
            number = len(self._tasks)
            upid = (
                f"UPID:{NODE}:{os.getpid():08X}:{0:08X}:{number:08X}:{now:08X}:{kind}:"
                f"{_escaped(name)}:{auth_id}:"
            )
            task = self._tasks[upid] = Task(upid, kind, name, auth_id, number, now)

        def run() -> None:
            try:
                status = work(task)
            except Exception as error:  # noqa: BLE001  (a task ends, whatever went wrong)
                _log.debug("task %s failed", upid, exc_info=True)
                status = str(error) or type(error).__name__
            task.log(f"TASK {status}")
            task.exit_status = status

        self._begin(kind, run)
        return upid

    def find(self, node: str, upid: str, auth_id: AuthId) -> Task:
        """A task, for somebody who may see it: who started it, or the user of that token.

        Raises Refusal.
        """
        if node != NODE:
            raise bad_request(f"no such node '{node}'")
        if not upid.startswith("UPID:") or not upid.endswith(":"):
            raise bad_request("parameter verification failed - 'upid': unable to parse UPID")
        task = self._tasks.get(upid)
        if task is None:
            raise bad_request("no such task")
        if not auth_id.owns(task.auth_id):
            raise Refusal(HTTPStatus.FORBIDDEN, "permission check failed")
        return task


def _status(task: Task, _params: Params) -> object:
    told: dict[str, object] = {
        "upid": task.upid,
        "node": NODE,
        "pid": os.getpid(),
        "pstart": 0,
        "starttime": task.started,
        "type": task.kind,
        "id": task.name,
        "user": task.auth_id.user,
        "status": "running",
    }
    if task.auth_id.token is not None:
        told["tokenid"] = task.auth_id.token
    if task.exit_status is not None:
        told |= {"status": "stopped", "exitstatus": task.exit_status}
    return told


def _lines(task: Task, params: Params) -> object:
    first = params.integer("start")
    limit = params.integer("limit", _LOG_LINES)
    shown = list(task.lines[first : first + limit])
    return [{"n": first + at + 1, "t": line} for at, line in enumerate(shown)]


TASK_CALLS: Final[Mapping[str, tuple[Schema, Callable[[Task, Params], object]]]] = {
    "status": ({}, _status),
    "log": (
        {"start": optional(Integer(minimum=0)), "limit": optional(Integer(minimum=0))},
        _lines,
    ),
}


def _escaped(name: str) -> str:
    """A worker's id as it stands in a UPID: what could be taken for its syntax is escaped."""
    return "".join(
        one if one.isascii() and (one.isalnum() or one in "._-") else f"\\x{ord(one):02x}"
        for one in name
    )
