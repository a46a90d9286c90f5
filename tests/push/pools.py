"""Executors of all kinds for pushes, and a push by one of them."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from tests.dask_cluster import two_workers

from pbs_push import (
    Event,
    PushOptions,
    Report,
    Workers,
    push,
)
from pbs_push.demo.pieces import Piece

from .world import World

SPAWN = multiprocessing.get_context("spawn")
EXECUTORS = ["thread pool", "processes", "dask"]
MANY = [Piece(f"chunk {number}", 60_000, 60_000) for number in range(200)]


class Pools:
    """Executors of two workers, made when they are first asked for."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._made: dict[str, Any] = {}

    def __enter__(self) -> Pools:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __getitem__(self, name: str) -> Executor:
        if name not in self._made:
            self._made[name] = getattr(self, "_" + name.replace(" ", "_"))()
        found: Executor = self._made[name]
        return found

    def _thread_pool(self) -> Executor:
        return self._stack.enter_context(ThreadPoolExecutor(2))

    def _processes(self) -> Executor:
        return self._stack.enter_context(ProcessPoolExecutor(2, mp_context=SPAWN))

    def _dask(self) -> Executor:
        from distributed import Client

        cluster = self._stack.enter_context(two_workers())
        self.client: Any = Client(cluster, set_as_default=False)  # type: ignore[no-untyped-call]
        self._stack.enter_context(self.client)
        made: Executor = self.client.get_executor(pure=False)
        return made


def pushed(
    world: World,
    executor: Executor | Workers | None,
    listener: Callable[[Event], None] | None = None,
    **options: Any,
) -> tuple[Report, list[Event]]:
    """Push with these workers; the target has settled when it returns."""
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if listener is not None:
            listener(event)

    made = PushOptions(**{"retries": 0, **options})
    with world.target() as target:
        report = push(world.datastore(), target, made, listen, executor)
    world.settle()
    return report, events


def no_job_threads() -> bool:
    names = {thread.name for thread in threading.enumerate()}
    return names.isdisjoint({"jobs", "job-link", "connect"})
