"""Events of a push for programs: one JSON object a line (docs/json.md, "--log-json")."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Self

from pbs_push.cli.lines import ERROR, INFO, WARNING, safe_json, say
from pbs_push.cli.progress import PushState, View
from pbs_push.push.document import FORMAT_VERSION, Json
from pbs_push.push.events import (
    Checkpointed,
    Event,
    NamespaceCreated,
    Note,
    Planned,
    Removal,
    Retrying,
    SnapshotEnded,
    SnapshotStarted,
    SourceMarked,
)
from pbs_push.push.outcome import Result
from pbs_push.source.items import SourceSnapshot
from pbs_push.version import VERSION

EVERY_S: Final = 5.0
"""How often progress is told."""


def line(name: str, content: Json, now: float | None = None) -> str:
    """One event; ``now`` in epoch seconds."""
    head = {
        "format": "pbs-push-event",
        "format-version": FORMAT_VERSION,
        "program": f"pbs-push {VERSION}",
        "time": round(time.time() if now is None else now, 3),
        "event": name,
    }
    return safe_json({**content, **head})


def tell(
    name: str,
    content: Json,
    write: Callable[[str], None] | None = None,
    now: float | None = None,
) -> None:
    """Give ``write`` an event; None: say it, with the priority that it has in a journal."""
    text = line(name, content, now)
    if write is not None:
        write(text)
        return
    failed = content.get("result") == Result.FAILED.value or content.get("exit-status")
    priority = {"warning": WARNING, "error": ERROR}.get(str(content.get("level")), INFO)
    say(text, ERROR if failed else priority)


class JsonProgress:
    """Tells a push as JSON lines: each event, and every ``every_s`` how far it is.

    ``about`` stands in each line.
    """

    def __init__(
        self,
        write: Callable[[str], None] | None = None,
        *,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.time,
        about: Json | None = None,
    ) -> None:
        self._about = about or {}
        self._write = write
        self._every_s = every_s
        self._clock = clock
        self._state = PushState()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="progress", daemon=True)

    def __call__(self, event: Event) -> None:
        """Take an event."""
        self._state.take(event)
        if (made := event_json(event)) is not None:
            name, content = made
            tell(name, content | self._about, self._write, self._clock())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _tell(self) -> None:
        while not self._over.wait(self._every_s):
            view = self._state.view()
            if view.planned:
                content = progress_json(view) | self._about
                tell("progress", content, self._write, self._clock())


def event_json(event: Event) -> tuple[str, Json] | None:
    """The name of an event and what it tells; None for those that progress sums up."""
    made: tuple[str, Json] | None = None
    match event:
        case Planned(groups=groups, snapshots=snapshots):
            made = "plan", {"groups": groups, "snapshots": snapshots}
        case NamespaceCreated(namespace=namespace):
            made = "namespace-created", {"target-ns": str(namespace)}
        case SnapshotStarted(snapshot=item, target=target):
            made = "snapshot-begun", {**_named(item), "target-ns": str(target)}
        case SnapshotEnded(outcome=outcome):
            made = "snapshot-ended", outcome.to_dict()
        case Checkpointed(snapshot=item, time=at, left_bytes=left):
            made = "checkpoint", {**_named(item), "checkpoint-time": at, "left-bytes": left}
        case Retrying(what=what, error=error, number=number, wait_s=wait_s):
            waits = {"number": number, "wait-seconds": round(wait_s, 3)}
            made = "retry", {"what": what, "error": error.to_dict(), **waits}
        case Removal(kind=kind, namespace=namespace, name=name):
            made = "removal", {"kind": kind, "target-ns": str(namespace), "name": name}
        case SourceMarked(protected=protected, freed=freed):
            made = "source-marked", {"protected": protected, "freed": freed}
        case Note(level=level, text=text):
            made = ("warning" if level == "warning" else "message"), {"level": level, "text": text}
    return made


def progress_json(view: View) -> Json:
    """How far a push is."""
    left = view.remaining_s
    return {
        "snapshots": view.planned,
        "ended": view.ended,
        "failed": view.failed,
        "percent": round(view.share * 100, 1),
        "sent-bytes": view.sent_bytes,
        "rate": round(view.rate_bytes_per_s),
        "remaining-seconds": None if left is None else round(left, 1),
        "plain-bytes": view.to_send,
        "exact": view.exact,
        "under-way": [
            {"name": row.label, "percent": round(row.share * 100, 1), "sent-bytes": row.sent_bytes}
            for row in view.rows
        ],
    }


def _named(item: SourceSnapshot) -> Json:
    return {
        "ns": str(item.namespace),
        "group": str(item.snapshot.group),
        "backup-time": item.snapshot.backup_time,
    }
