"""A push for programs that run an event loop: its events as they come, over a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pbs_push.push.engine import Push
from pbs_push.source.datastore import Datastore

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator
    from concurrent.futures import Executor

    from pbs_push.push.events import Event
    from pbs_push.push.options import PushOptions
    from pbs_push.push.plan import Plan
    from pbs_push.push.report import Report
    from pbs_push.push.workers import Workers
    from pbs_push.remote.target import Target


@dataclass(frozen=True, slots=True)
class Finished:
    """The push has ended; this is the last that comes."""

    report: Report


class _End:
    """What the thread says when it is done."""

    def __init__(self, error: BaseException | None) -> None:
        self.error: Final = error


async def apush(
    source: Datastore | str | os.PathLike[str],
    target: Target,
    options: PushOptions | None = None,
    plan: Plan | None = None,
    executor: Executor | Workers | None = None,
) -> AsyncGenerator[Event | Finished, None]:
    """Push, and yield each event, and in the end ``Finished`` with the report.

    ``async for event in apush(...)``. The work is done by threads, or by the workers of
    ``executor``; leaving the loop early, or
    cancelling the task, stops the push, and waits until it has stopped. Raises what ``Push.run``
    raises, in the place of ``Finished``.
    """
    if not isinstance(source, Datastore):
        source = Datastore(source)
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[Event | _End] = asyncio.Queue()

    def put(event: Event | _End) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            loop.call_soon_threadsafe(events.put_nowait, event)

    push = Push(source, target, options, put, executor)

    def run() -> None:
        error: BaseException | None = None
        try:
            push.run(plan)
        except BaseException as caught:  # noqa: BLE001  (raised where the events are awaited)
            error = caught
        put(_End(error))

    thread = threading.Thread(target=run, name="apush", daemon=True)
    thread.start()
    try:
        while not isinstance(event := await events.get(), _End):
            yield event
        if event.error is not None:
            raise event.error
        yield Finished(push.report)
    finally:
        push.cancel()
        while thread.is_alive():
            await asyncio.shield(loop.run_in_executor(None, thread.join, 0.2))
