"""Connections opened ahead: as many as there are sessions to begin, however often one is tried."""

from __future__ import annotations

import threading

from pbs_push.remote.supply import ConnectionSupply


class _Stream:
    def end(self, _data: bytes) -> None:
        pass


class _Target:
    """Counts what is opened."""

    def __init__(self) -> None:
        self.opened = 0

    def connect(self, _cancelled: threading.Event) -> _Stream:
        self.opened += 1
        return _Stream()


def test_a_session_that_is_begun_again_does_not_count_twice() -> None:
    target = _Target()
    supply = ConnectionSupply(target, threading.Event())  # type: ignore[arg-type]
    supply.expect(2)
    supply.take()
    supply.take(again=True)
    supply.open_ahead()
    supply.open_ahead()
    _, fresh = supply.take()
    assert not fresh, "one was to be begun still"
    supply.open_ahead()
    supply.close()
    assert target.opened == 3
