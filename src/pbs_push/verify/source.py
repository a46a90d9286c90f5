"""A source verified: each snapshot's files, and each chunk of the datastore once."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from pbs_push.errors import (
    ConfigError,
    PbsPushError,
    SnapshotVanished,
    SourceError,
    drop_frames,
)
from pbs_push.push.document import Span
from pbs_push.source.datastore import Datastore
from pbs_push.verify.chunks import ChunkThreads
from pbs_push.verify.events import VerifyBegan
from pbs_push.verify.options import VerifyOptions
from pbs_push.verify.record import Record
from pbs_push.verify.report import Unlisted, Verdict, VerifyReport
from pbs_push.verify.state import StateDamaged, StateFile
from pbs_push.verify.task import Task
from pbs_push.verify.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pbs_push.source.items import SourceSnapshot
    from pbs_push.verify.events import VerifyListener


def verify_source(
    source: Datastore | str | os.PathLike[str],
    options: VerifyOptions | None = None,
    listener: VerifyListener | None = None,
) -> VerifyReport:
    """Verify all that a datastore holds, and report what is damaged and which snapshots it spoils.

    ``source`` is a Datastore or the path of one; it is only read. ``listener`` is told of events
    while it runs. Damage is in the report (``report.damaged``, ``report.exit_status``), and no
    error. Raises PbsPushError where the verification cannot begin or go on.
    """
    if isinstance(source, str | os.PathLike):
        source = Datastore(source)
    return SourceVerification(source, options, listener).run()


class SourceVerification:
    """A verification of ``source``, to be run once; ``report`` is filled meanwhile.

    ``listener`` is given events (VerifyEvent), from the thread that runs it.
    """

    def __init__(
        self,
        source: Datastore,
        options: VerifyOptions | None = None,
        listener: VerifyListener | None = None,
    ) -> None:
        self._task = Task(source, options or VerifyOptions(), listener)
        self.report: Final = self._task.report

    def cancel(self) -> None:
        """Ask it to stop soon, from any thread or a signal handler: Cancelled is raised then."""
        self._task.cancelled.set()

    def run(self) -> VerifyReport:
        """Verify, and return ``report``. Damage is in there, and no error.

        Raises Cancelled after ``cancel``, and PbsPushError where it cannot begin or go on: the
        source is not there (any more), or may not be read. ``report.error`` is that, too, and the
        state, if it is kept, was written.
        """
        began = time.time()
        try:
            self._run()
        except PbsPushError as error:
            drop_frames(error)
            self.report.error = error
            raise
        finally:
            self.report.span = Span(began, max(began, time.time()))
        return self.report

    def _run(self) -> None:
        task, source, options = self._task, self._task.source, self._task.options
        identity = source.identity()
        record = Record(self._state_file(), options.save_every_s)
        try:
            record.load()
        except StateDamaged as error:
            task.note("warning", f"{error}; beginning anew")
        record.save()  # where it cannot be written, better now than after hours
        items = list(self._items())
        source.check_is(identity)
        task.notify(VerifyBegan(self.report.groups, len(items), record.resumed))
        threads = options.parallel or len(os.sched_getaffinity(0))
        with (
            source.open_chunk_store() as chunks_fd,
            ChunkThreads(source, chunks_fd, options.key, task.cancelled, threads=threads) as pool,
        ):
            walk = Walk(task, record, pool, chunks_fd, identity)
            try:
                walk.go(items)
                source.check_is(identity)
            finally:
                walk.close()
        record.finish()

    def _state_file(self) -> StateFile | None:
        path, source = self._task.options.state_file, self._task.source
        if path is None:
            return None
        if path.absolute().resolve().is_relative_to(source.path.resolve()):
            raise ConfigError(f"state file {path} lies in the source, which is only read")
        return StateFile(path, source)

    def _items(self) -> Iterator[SourceSnapshot]:
        """The snapshots to look at; what is not finished is counted."""
        source, options = self._task.source, self._task.options
        for namespace in source.namespaces(options.namespace, options.max_depth):
            for group, found in source.contents(namespace):
                self._task.check_cancelled()
                if not options.group_filters.accepts(group.group):
                    continue
                if isinstance(found, SourceError):
                    if not isinstance(found, SnapshotVanished):
                        self._unlisted(f"source group {group.label}", str(found))
                    continue
                self.report.groups += 1
                for name, why in found.left_out:
                    self._unlisted(f"{group.label}/{name}", why)
                for item in found.snapshots:
                    if item.finished:
                        yield item
                    else:
                        self.report.add(item, Verdict.IN_PROGRESS)

    def _unlisted(self, what: str, why: str) -> None:
        self.report.unlisted.append(Unlisted(what, why))
        self._task.note("warning", f"{what}: {why}")
