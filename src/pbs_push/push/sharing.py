"""What pushes of one source to several targets share: chunks that were read, the order of their
groups, and the rate limit."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pbs_push.push.rate_limits import RateLimits
from pbs_push.push.schedule import expected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from pbs_push._native.shared import SharedChunks
    from pbs_push.names import Group, Namespace
    from pbs_push.push.plan import GroupPlan
    from pbs_push.source.datastore import Datastore

MEETING_S: Final = 5.0
"""How long a push with a plan waits for the plans of the others: a target may be down."""
_LOOK_S: Final = 0.2

Key = tuple["Namespace", "Group"]


class CommonLimits(RateLimits):
    """The rate limits of all pushes together; ``for_all`` keeps them, once for all."""

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Nothing to do, for one of the pushes."""
        yield

    def for_all(self) -> AbstractContextManager[None]:
        """Within, the rate is what it should be."""
        return super().kept()


@dataclass(frozen=True, slots=True)
class _Arrived:
    """What one push has to do: expected work by group, and the round trip to its target."""

    work: Mapping[Key, float]
    round_trip_s: float


class Meeting:
    """Where ``members`` pushes meet when they have their plans, to take groups in the same order.

    Groups that most of them have to push come first, so that these are read once; of those the
    largest first, so that the longest does not begin last. Safe for threads.
    """

    def __init__(self, members: int, wait_s: float = MEETING_S) -> None:
        self._changed = threading.Condition()
        self._expected = set(range(members))
        self._arrived: dict[int, _Arrived] = {}
        self._wait_s = wait_s

    def leave(self, member: int) -> None:
        """This one is not to be waited for."""
        with self._changed:
            self._expected.discard(member)
            self._changed.notify_all()

    def arrive(
        self,
        member: int,
        work: Mapping[Key, float],
        round_trip_s: float,
        check_cancelled: Callable[[], None],
    ) -> None:
        """Tell what one has to do, and wait a while for the others. Raises Cancelled."""
        deadline = time.monotonic() + self._wait_s
        with self._changed:
            self._arrived[member] = _Arrived(work, round_trip_s)
            self._changed.notify_all()
            while self._expected - set(self._arrived):
                check_cancelled()
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return
                self._changed.wait(min(left_s, _LOOK_S))

    def rank(self, key: Key) -> tuple[int, float, Key]:
        """By which groups are sorted."""
        with self._changed:
            works = [one.work[key] for one in self._arrived.values() if key in one.work]
        return -len(works), -max(works, default=0.0), key

    @property
    def round_trip_s(self) -> float:
        """The longest of all: by it one decides how many groups are pushed at once."""
        with self._changed:
            return max((one.round_trip_s for one in self._arrived.values()), default=0.0)


@dataclass(frozen=True, slots=True)
class Sharing:
    """What one push, the ``member`` of this number, shares with the others."""

    member: int
    chunks: SharedChunks
    meeting: Meeting
    limits: CommonLimits

    def in_order(
        self,
        groups: Sequence[GroupPlan],
        source: Datastore,
        round_trip_s: float,
        check_cancelled: Callable[[], None],
    ) -> list[GroupPlan]:
        """The groups in the order in which all members push them. Raises Cancelled."""
        work = {key_of(group): expected(group, source) for group in groups}
        self.meeting.arrive(self.member, work, round_trip_s, check_cancelled)
        return sorted(groups, key=lambda group: self.meeting.rank(key_of(group)))

    def leave(self) -> None:
        """This push has ended: nobody waits for it, and nothing is kept for it."""
        self.meeting.leave(self.member)
        self.chunks.leave(self.member)


def key_of(group: GroupPlan) -> Key:
    """What a group is at every target."""
    return group.source.namespace, group.source.group
