"""``--protect-source``: what is to be copied is kept from the source's prune until it is.

A mark is for one place: the target's namespace that the snapshot goes to. So pushes to several
targets each have their own, and one that is copied to one of them stays for the others. Of the
snapshots of the groups that it looks at, a push sets the marks of those that it is to push, and
takes its place's away from those that are copied, or that no push will send any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from pbs_push.errors import ConfigError, PbsPushError, SnapshotVanished, SourceLocked
from pbs_push.push.events import SourceMarked
from pbs_push.push.outcome import Outcome, Skip

if TYPE_CHECKING:
    from pbs_push.names import Namespace, Repository
    from pbs_push.push.plan import GroupPlan, Plan
    from pbs_push.push.run import Run
    from pbs_push.source.items import SourceSnapshot

MAY_GO_LATER: Final = frozenset(
    (
        Skip.NOT_OWNED,
        Skip.NO_OWNER,
        Skip.BROKEN,
        Skip.OTHER_CONTENT,
        Skip.NOT_TRIED,
        Skip.OUT_OF_TIME,
    )
)
"""Reasons that end, of themselves or when somebody has mended something: marks stay."""

_THREADS: Final = 8
"""A mark is synced to the disk, and disks sync several at once."""


def place_of(repository: Repository, namespace: Namespace) -> str:
    """Where a snapshot goes, as its mark names it: ``host:port:datastore[:namespace]``."""
    netloc = repository.netloc.lower()
    if not netloc.isascii():
        netloc = netloc.encode("idna").decode("ascii")
    there = f"{netloc}:{repository.datastore}"
    return there if namespace.is_root else f"{there}:{namespace}"


def no_longer_due(
    snapshots: Iterable[SourceSnapshot],
    to_push: Sequence[SourceSnapshot],
    outcomes: Sequence[Outcome],
    place: str,
) -> tuple[SourceSnapshot, ...]:
    """Snapshots of a group that a push has marked for ``place``, and that need it no more.

    ``outcomes`` are those of its snapshots that are not ``to_push``.
    """
    stay = [one for one in outcomes if one.skip in MAY_GO_LATER]
    pending = set(to_push)
    return tuple(
        item
        for item in snapshots
        if place in item.waits_for
        and item.finished
        and item not in pending
        and not any(one.oldest <= item.snapshot.backup_time <= one.newest for one in stay)
    )


class SourceMarks:
    """The marks of one push. Where the options ask for none, nothing is done."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._wanted = run.options.protect_source
        self._told = SourceMarked(0, 0)

    def begin(self, plan: Plan) -> None:
        """Mark what is to be pushed, and clear what is left of earlier pushes.

        Raises ConfigError, before anything is marked, where nothing can be; Cancelled.
        """
        if not self._wanted:
            return
        check_may_mark(self._run, plan)
        groups = [group for item in plan.namespaces for group in item.groups]
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="mark") as pool:
            for _ in pool.map(lambda pair: self._set(*pair), _to_push(groups)):
                pass
            for _ in pool.map(lambda pair: self._take_away(*pair), _left(groups)):
                pass
        self.tell()

    def ended(self, item: SourceSnapshot, target: Namespace, skip: Skip | None = None) -> None:
        """A snapshot is at the target, or was skipped there: it need not be kept any longer."""
        if self._wanted and skip not in MAY_GO_LATER:
            self._take_away(item, target)

    def tell(self) -> None:
        """Tell how many marks were set and taken away so far, where that is not told yet."""
        report = self._run.report
        now = SourceMarked(report.source_protected, report.source_freed)
        if now != self._told:
            self._told = now
            self._run.notify(now)

    def _set(self, item: SourceSnapshot, target: Namespace) -> None:
        run = self._run
        run.check_cancelled()
        if item.protected:
            return
        try:
            run.report.count(source_protected=run.source.marks().set(item, self._place(target)))
        except PbsPushError as error:
            self._fail("protecting it at the source", item, error)

    def _take_away(self, item: SourceSnapshot, target: Namespace) -> None:
        run = self._run
        try:
            run.report.count(source_freed=run.source.marks().take_away(item, self._place(target)))
        except PbsPushError as error:
            self._fail("ending its protection at the source", item, error)

    def _fail(self, what: str, item: SourceSnapshot, error: PbsPushError) -> None:
        if isinstance(error, SourceLocked):  # it is written or removed; the next push looks again
            self._run.note("info", f"{item.label}: {what}: {error}")
        elif not isinstance(error, SnapshotVanished):  # the push tells of that
            self._run.problem(f"{item.label}: {what}", error)

    def _place(self, target: Namespace) -> str:
        return place_of(self._run.target.repository, target)


def check_may_mark(run: Run, plan: Plan) -> None:
    """Raise ConfigError where marks are asked for, and none of the plan's could be set."""
    if not run.options.protect_source:
        return
    marks = run.source.marks()
    first = None
    for item, _ in _to_push(group for one in plan.namespaces for group in one.groups):
        if item.protected:
            continue
        if marks.may_set(item):
            return
        first = first or item
    if first is not None:
        raise ConfigError(
            f"--protect-source: cannot write in source {run.source.path} (say, to "
            f"{first.disk_path}): it is read only, or this user has no right; push as root or as "
            "the datastore's user (backup), from where it is writable, or without --protect-source"
        )


def _to_push(groups: Iterable[GroupPlan]) -> Iterator[tuple[SourceSnapshot, Namespace]]:
    return ((item, group.target_namespace) for group in groups for item in group.snapshots)


def _left(groups: Iterable[GroupPlan]) -> Iterator[tuple[SourceSnapshot, Namespace]]:
    return ((item, group.target_namespace) for group in groups for item in group.marks_left)
