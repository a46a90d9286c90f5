"""The server's own verification: started, waited for, and told (protocol/rest.md, "Verification").

Only that finds a chunk bad for the server, and lets an upload of it replace what is there.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from pbs_push.errors import (
    Cancelled,
    DeniedError,
    NotOwnerError,
    PbsPushError,
    ProtocolError,
    StatusError,
)
from pbs_push.push.outcome import Problem
from pbs_push.push.patience import Pauses
from pbs_push.remote.words import shown_reason
from pbs_push.verify.target_events import ServerVerified, ServerVerifying
from pbs_push.verify.target_report import ServerVerification

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pbs_push.names import Group, Namespace
    from pbs_push.push.run import Run
    from pbs_push.verify.target_events import TargetVerifyEvent
    from pbs_push.verify.target_report import TargetReport

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 30.0
_GROWTH: Final = 1.5


class Asked(NamedTuple):
    """A group of the target, and the times of the snapshots that are asked about."""

    namespace: Namespace
    group: Group
    times: tuple[int, ...]

    @property
    def label(self) -> str:
        """For messages."""
        where = "" if self.namespace.is_root else f"{self.namespace}: "
        return f"{where}{self.group}"


class ServerVerifier:
    """Has the server verify groups, one after another: it shares its disk with backups.

    ``limit_s`` is how long all of that may take. What cannot be verified is a problem of the
    report, and no error.
    """

    def __init__(
        self,
        run: Run,
        report: TargetReport,
        notify: Callable[[TargetVerifyEvent], None],
        limit_s: float,
    ) -> None:
        self._run = run
        self._report = report
        self._notify = notify
        self._deadline = time.monotonic() + limit_s
        self._refused: set[Namespace] = set()
        self._asked_for = True

    def verify(
        self, groups: Iterable[Asked], *, asked_for: bool = True
    ) -> list[ServerVerification]:
        """What came of each that could be verified. Raises ConnectError, AuthError, Cancelled.

        Unless it was ``asked_for``, what cannot be is told, and no problem.
        """
        self._asked_for = asked_for
        done = []
        for asked in groups:
            if asked.namespace in self._refused:
                continue
            try:
                found = self._one(asked)
            except Cancelled:
                raise
            except (DeniedError, NotOwnerError) as error:
                if isinstance(error, DeniedError):
                    self._refused.add(asked.namespace)
                self._problem(asked, _without_right(error))
            except StatusError as error:
                if error.status == HTTPStatus.NOT_FOUND:
                    self._problem(asked, _without_jobs(error))
                    break
                self._problem(asked, error)
            except ProtocolError as error:
                self._problem(asked, error)
            else:
                done.append(found)
                self._notify(ServerVerified(found))
                if found.status is None:
                    break
        return done

    def _one(self, asked: Asked) -> ServerVerification:
        api = self._run.api
        only = asked.times[0] if len(asked.times) == 1 else None
        upid = api.verify(asked.namespace, asked.group, only)
        self._notify(ServerVerifying(asked.label, upid))
        status = self._wait(upid)
        listed = {
            item.backup_time: item.verification
            for item in api.snapshots(asked.namespace, asked.group)
        }
        states: dict[str, list[int]] = {"ok": [], "failed": [], "not-done": []}
        for at in asked.times:
            said = listed.get(at)
            fresh = said is not None and said.upid == upid and said.state in ("ok", "failed")
            states[said.state if said is not None and fresh else "not-done"].append(at)
        return ServerVerification(
            asked.namespace,
            str(asked.group),
            upid,
            status,
            len(states["ok"]),
            tuple(states["failed"]),
            tuple(states["not-done"]),
        )

    def _wait(self, upid: str) -> str | None:
        """How the task ended; None where it had not in time. It goes on then."""
        pauses = Pauses(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _GROWTH, (0.8, 1.2))
        while True:
            task = self._run.api.task(upid)
            if not task.running:
                return shown_reason((task.exitstatus or "").encode()) or "it does not say how"
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                return None
            self._run.pause(min(pauses.take(), left_s))

    def _problem(self, asked: Asked, error: PbsPushError) -> None:
        what = f"verification of {asked.label} by its server"
        if not self._asked_for:
            self._run.note("warning", f"{what}: {error}")
            return
        self._report.add_problem(Problem(what, error))
        self._run.note("error", f"{what}: {error}")


def _without_right(error: StatusError) -> StatusError:
    text = (
        f"{error.text}; to have the server verify takes Datastore.Verify there, "
        "or Datastore.Backup and owning the group"
    )
    return type(error)(error.request, error.status, text)


def _without_jobs(error: StatusError) -> StatusError:
    text = f"{error.text}; this server has no verification of its own: go without --remote-verify"
    return StatusError(error.request, error.status, text)
