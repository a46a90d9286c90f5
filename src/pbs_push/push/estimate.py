"""How much a push has to send, from the indexes at the source alone (protocol/push.md, "Chunks").

What is in a snapshot's indexes and not in those of the one before it: exact where the source has
the target's newest snapshot, or the target has none; otherwise the most that it can be.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from pbs_push.errors import PbsPushError
from pbs_push.push.archives import Archives
from pbs_push.push.checkpoint import missing_chunks
from pbs_push.push.events import Estimated
from pbs_push.push.newest import newest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pbs_push.push.plan import GroupPlan
    from pbs_push.push.run import Run
    from pbs_push.source.datastore import Datastore
    from pbs_push.source.items import SourceSnapshot

_BEGIN_AFTER_S: Final = 2.0
"""What takes less needs no estimate."""
_SHARE: Final = 0.2
"""Of the time of one core, at most: what is small is pushed about as quickly as it is looked at."""


def estimates(source: Datastore, group: GroupPlan) -> Iterator[Estimated]:
    """For each snapshot that a plan pushes what is to be sent; none for one that cannot be read."""
    newest = newest_of(source, group)
    try:
        for item in group.snapshots:
            archives = _archives(source, item)
            if archives is None:
                continue
            newest.take_up(archives)
            there = newest.archives()
            missing = missing_chunks(archives, there.indexes if there is not None else {})
            chunks = sum(len(one.positions) for one in missing)
            size = sum(one.size for one in missing)
            yield Estimated(item, chunks, size, exact=there is not None or newest.time is None)
            newest.is_now(item.snapshot.backup_time, archives)
    finally:
        newest.close()


def _archives(source: Datastore, item: SourceSnapshot) -> Archives | None:
    try:
        with source.open_snapshot(item, lock=False) as opened:
            return Archives.load_indexes(opened)
    except PbsPushError:
        return None


class Estimator:
    """Tells, while a push runs, how much there is to send: a context, in which it may do so.

    It begins late and works little, so that it costs a short push nothing and a long one next to
    nothing.
    """

    def __init__(self, run: Run, groups: Sequence[GroupPlan]) -> None:
        self._run = run
        self._groups = groups
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="estimate", daemon=True)

    def __enter__(self) -> Estimator:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _tell(self) -> None:
        if self._over.wait(_BEGIN_AFTER_S):
            return
        for group in self._groups:
            began = time.thread_time()
            for estimated in estimates(self._run.source, group):
                self._run.notify(estimated)
                now = time.thread_time()
                if self._over.wait((now - began) * (1 / _SHARE - 1)):
                    return
                began = now


def all_estimates(
    source: Datastore, groups: Sequence[GroupPlan], check: Callable[[], None]
) -> dict[SourceSnapshot, Estimated]:
    """For all snapshots that a plan pushes, by snapshot; ``check`` may raise to end it."""
    found = {}
    for group in groups:
        for estimated in estimates(source, group):
            found[estimated.snapshot] = estimated
            check()
    return found
