"""Shares of one rate: of all jobs together no more than the limit."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pbs_push.push.rate_shares import RateShares, Share


def test_one_job_has_all_and_two_share() -> None:
    shares = RateShares(1000)
    shares.join(1)
    assert shares.due() == [Share(1, 1, 1000)]
    assert shares.due() == []
    shares.join(2)
    assert shares.due() == [Share(1, 2, 500)], "and the other waits until it goes by that"
    assert shares.due() == []
    shares.acknowledged(1, 2)
    assert shares.due() == [Share(2, 3, 500)]
    shares.acknowledged(2, 3)
    shares.leave(1)
    assert shares.due() == [Share(2, 4, 1000)]
    shares.acknowledged(2, 77)
    shares.acknowledged(5, 1)
    assert shares.most == 1000


def test_without_a_limit_all_may_do_what_they_can() -> None:
    shares = RateShares(None)
    shares.join(1)
    shares.join(2)
    assert shares.due() == [Share(1, 1, None), Share(2, 2, None)]
    shares.set_limit(100)
    assert shares.due() == [Share(1, 3, 50), Share(2, 4, 50)]
    shares.set_limit(None)
    assert [share.rate for share in shares.due()] == [None, None]
    shares.leave(1)
    shares.leave(2)
    assert shares.due() == []


class SharesLive(RuleBasedStateMachine):
    """Jobs come, go, and acknowledge late; the limit changes: the sum keeps to it."""

    def __init__(self) -> None:
        super().__init__()
        self.limit: int | None = 1000
        self.allowed: float = 1000
        self.shares = RateShares(self.limit)
        self.pending: list[Share] = []
        self.at: dict[int, float] = {}
        self.next = 0

    @rule()
    def join(self) -> None:
        self.shares.join(self.next)
        self.at[self.next] = 0
        self.next += 1
        self.tell()

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if self.at:
            job = data.draw(st.sampled_from(sorted(self.at)))
            del self.at[job]
            self.shares.leave(job)
            self.pending = [one for one in self.pending if one.job != job]
            self.tell()

    @rule(limit=st.none() | st.integers(1, 5000))
    def change(self, limit: int | None) -> None:
        self.limit = limit
        self.shares.set_limit(limit)
        self.tell()
        # Until those that were told of a lower one have heard it, they may send at what they had.
        self.allowed = max(self.shares.most, self.most())

    @rule()
    def hear(self) -> None:
        if self.pending:
            share = self.pending.pop(0)
            self.at[share.job] = float("inf") if share.rate is None else share.rate
            self.shares.acknowledged(share.job, share.number)
            self.tell()
            if not self.pending:
                self.allowed = self.most()

    def most(self) -> float:
        """A share is at least a byte a second."""
        return float("inf") if self.limit is None else max(self.limit, len(self.at))

    def tell(self) -> None:
        self.pending += self.shares.due()

    @invariant()
    def keeps_to_it(self) -> None:
        assert sum(self.at.values()) <= max(self.allowed, self.most())

    @invariant()
    def nobody_waits_for_ever(self) -> None:
        if not self.pending and self.at:
            assert min(self.at.values()) > 0


SharesLive.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestSharesLive = SharesLive.TestCase
