"""Whole pushes through an HTTP proxy, to a target that nobody can reach otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from tests.connect_proxy import NOWHERE, ConnectProxy, refusal

from pbs_push import ConnectError, Event, Push, PushOptions, Report, Result, Target
from pbs_push.errors import PbsPushError, ProxyError
from pbs_push.push import retries as retries_module
from pbs_push.push.events import Planned, Retrying
from pbs_push.remote import supply

from .world import ME, SECRET, STORE, World, verify

PASSWORD = "hunter2"
GROUPS = 4


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries_module, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(retries_module, "_LONGEST_PAUSE_S", 0.1)


@pytest.fixture
def proxy(world: World) -> Iterator[ConnectProxy]:
    for number in range(GROUPS):
        world.source.add(f"vm/{number}", 0)
    with ConnectProxy(world.serve().address, f"joe:{PASSWORD}") as made:
        yield made


def pushed(
    world: World, proxy: ConnectProxy, then: Sequence[bytes] = (), **options: Any
) -> tuple[Report, list[Event], PbsPushError | None]:
    """Push; ``then`` is what the proxy says in place of the first tunnels behind the plan."""
    events: list[Event] = []
    left = list(then)

    def heard(event: Event) -> None:
        events.append(event)
        if isinstance(event, Planned):
            proxy.answer = lambda _number: left.pop(0) if left else None

    there = f"{ME}@{NOWHERE}:8007:{STORE}"
    error: PbsPushError | None = None
    with Target(there, SECRET, world.server.fingerprint, proxy=proxy.url) as target:
        run = Push(world.datastore(), target, PushOptions(**options), heard)
        try:
            run.run()
        except PbsPushError as failure:
            error = failure
    world.settle()
    assert PASSWORD not in repr(events) + str(error) + repr(run.report.to_dict())
    return run.report, events, error


def test_all_connections_go_through_it(
    world: World, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that are opened ahead, as for a target that is far."""
    monkeypatch.setattr(supply, "NEAR_S", 0.0)
    report, _events, error = pushed(world, proxy)
    assert error is None
    assert report.counts == {Result.PUSHED: verify(world)}
    assert {one.target for one in proxy.asked} == {f"{NOWHERE}:8007"}
    sessions = world.server.counters.snapshot().sessions
    assert sessions >= GROUPS
    assert proxy.tunnels == len(proxy.asked) >= sessions + 1, "one for each session, one for REST"
    assert all("proxy-authorization" in one.headers for one in proxy.asked)
    seen = bytes(proxy.seen)
    for secret in (SECRET.encode(), b"PBSAPIToken", b"/api2/", STORE.encode()):
        assert secret not in seen, "the proxy sees what the target is sent"
    assert b"\x16\x03" in seen, "it sees TLS"


@pytest.mark.parametrize(
    "said", [refusal(502), refusal(503), refusal(504), b""], ids=["502", "503", "504", "closed"]
)
def test_what_may_pass_is_tried_again(world: World, proxy: ConnectProxy, said: bytes) -> None:
    report, events, error = pushed(world, proxy, [said] * 3, parallel=1)
    assert error is None
    assert report.counts == {Result.PUSHED: verify(world)}
    assert report.retries == len([one for one in events if isinstance(one, Retrying)]) > 0
    assert all("proxy" in str(one.error) for one in events if isinstance(one, Retrying))


def test_before_the_target_was_reached_nothing_is_tried_again(
    world: World, proxy: ConnectProxy
) -> None:
    """The address, of either, may be wrong."""
    proxy.answer = lambda _number: refusal(502)
    report, _events, error = pushed(world, proxy)
    assert isinstance(error, ConnectError)
    assert (report.retries, proxy.tunnels) == (0, 0)


def test_a_refusal_in_mid_push_is_final(world: World, proxy: ConnectProxy) -> None:
    report, _events, _error = pushed(world, proxy, [refusal(403)] * 99)
    assert report.retries == 0
    assert report.counts[Result.FAILED] >= GROUPS - 1, "one connection was opened ahead"


def test_a_refusal_at_once(world: World, proxy: ConnectProxy) -> None:
    proxy.answer = lambda _number: refusal(403)
    _report, _events, error = pushed(world, proxy)
    assert isinstance(error, ProxyError)
    assert error.exit_status == 4
