"""Connections opened ahead: as many as there are sessions to begin, however often one is tried."""

from __future__ import annotations

import gc
import threading
import weakref
from types import SimpleNamespace

import pytest

from pbs_push.errors import ConnectError, TlsError
from pbs_push.remote.supply import ConnectionSupply


class _Stream:
    def end(self, _data: bytes) -> None:
        pass


class _Target:
    """Counts what is opened."""

    def __init__(self, round_trip_s: float = 0.02) -> None:
        self.opened = 0
        self.rest = SimpleNamespace(round_trip_s=round_trip_s)

    def connect(self, _cancelled: threading.Event, _congestion: str | None) -> _Stream:
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


def test_for_a_target_that_is_near_no_thread_is_started() -> None:
    target = _Target(round_trip_s=0.0005)
    supply = ConnectionSupply(target, threading.Event())  # type: ignore[arg-type]
    supply.expect(2)
    supply.open_ahead()
    assert target.opened == 0
    _, fresh = supply.take()
    assert fresh
    supply.close()
    assert target.opened == 1


def test_a_thread_that_cannot_be_started_is_waited_for_by_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At a limit of the system: neither by who takes a connection, nor in the end."""
    target = _Target()
    supply = ConnectionSupply(target, threading.Event())  # type: ignore[arg-type]
    supply.expect(2)
    with monkeypatch.context() as limited:

        def refused(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        limited.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError, match="new thread"):
            supply.open_ahead()
    _, fresh = supply.take()
    assert fresh
    supply.close()
    assert target.opened == 1


def test_a_target_that_is_not_trusted_is_told_at_once() -> None:
    """One that shows another certificate for a moment is not the target for a moment."""

    class Swapped(_Target):
        def connect(self, cancelled: threading.Event, congestion: str | None) -> _Stream:
            stream = super().connect(cancelled, congestion)
            if self.opened == 1:
                raise TlsError("another certificate")
            return stream

    supply = ConnectionSupply(Swapped(), threading.Event())  # type: ignore[arg-type]
    supply.expect(2)
    supply.open_ahead()
    with pytest.raises(TlsError):
        supply.take()
    supply.close()


def test_an_error_that_is_passed_over_holds_nothing_of_who_asked() -> None:
    """Its frames are those of a session, with all that is under way there."""

    class _Broken(_Target):
        def connect(self, cancelled: threading.Event, congestion: str | None) -> _Stream:
            stream = super().connect(cancelled, congestion)
            if self.opened == 1:
                raise ConnectError("cut")
            return stream

    supply = ConnectionSupply(_Broken(), threading.Event())  # type: ignore[arg-type]

    def session() -> weakref.ref[_Stream]:
        held = _Stream()
        supply.open_ahead()
        assert supply.take()[1]
        return weakref.ref(held)

    gc.disable()
    try:
        assert session()() is None
    finally:
        gc.enable()
    supply.close()
