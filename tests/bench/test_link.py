from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from tests.bench.conftest import Place

from pbs_push.bench import link
from pbs_push.bench.link import LinkBench
from pbs_push.errors import AuthError, Cancelled, PbsPushError, StatusError
from pbs_push.names import Group, Namespace
from pbs_push.remote import tls_stream
from pbs_push.remote.target import Target

ROOT = Namespace()
pytestmark = pytest.mark.usefixtures("small_requests")


def bench(target: Target, namespace: Namespace = ROOT, **more: Any) -> LinkBench:
    arguments = {"notify": lambda _text: None, "cancelled": threading.Event(), **more}
    return LinkBench(target, namespace, 0.02, **arguments)


@pytest.mark.parametrize("namespace", [ROOT, Namespace.parse("tests")], ids=["root", "tests"])
def test_figures_and_a_clean_target(place: Place, namespace: Namespace) -> None:
    with place.connect() as target:
        measuring = bench(target, namespace)
        found = measuring.measure()
        assert measuring.left_behind() == []
    assert place.is_clean()
    assert [upload.connections for upload in found.uploads] == [1, 2, 4, 8]
    assert all(upload.bytes_per_s > 0 for upload in found.uploads)
    assert found.round_trips >= 5
    assert found.repository == place.repository
    assert found.version == "4.2.3"
    assert min(found.connect_s, found.begin_s, found.round_trip_s) > 0


@pytest.mark.parametrize(
    ("text", "most"),
    [("4096\t16384\t4194304\n", 4 << 20), ("", None), (None, None)],
    ids=["as usual", "empty", "absent"],
)
def test_what_the_system_lets_be_on_the_way(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str | None,
    most: int | None,
) -> None:
    if text is not None:
        (tmp_path / "tcp_wmem").write_text(text)
    monkeypatch.setattr(tls_stream, "_SYSTEM_BUFFERS", tmp_path / "tcp_wmem")
    monkeypatch.setattr(tls_stream, "_SO_SNDBUFFORCE", 9999)  # as where we may not
    with place.connect() as target:
        assert bench(target).measure().most_in_flight == most


def test_uploads_are_speedtests_in_sessions_of_their_own(place: Place) -> None:
    with place.connect() as target:
        bench(target).measure()
    assert place.is_clean()
    counted = place.server.counters.snapshot()
    assert counted.requests["POST speedtest"] >= 7 + 4 * 9
    assert counted.requests["upgrade"] == counted.sessions == 1 + 2 + 4 + 8
    sorts = set(counted.requests) - {"POST speedtest", "upgrade", "GET version"}
    assert sorts == set()
    assert counted.chunks == 0
    assert counted.bytes_in > 15 * 4 * 4096


def test_groups_are_the_benchmark_one_and_temporary_ones(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, bool]] = []
    original = Target.begin_backup

    def spy(self: Target, stream: Any, namespace: Any, snapshot: Any, **more: Any) -> Any:
        begun.append((str(snapshot.group), more["benchmark"]))
        return original(self, stream, namespace, snapshot, **more)

    monkeypatch.setattr(Target, "begin_backup", spy)
    with place.connect() as target:
        bench(target).measure()
    assert begun[0] == ("host/benchmark", True)
    assert begun[1:] == [(f"host/pbs-push-bench-{n}", False) for n in range(1, 15)]


@pytest.mark.parametrize("moment", ["round trips", "uploads, 1 at once", "uploads, 4 at once"])
def test_cancelling_leaves_nothing(place: Place, moment: str) -> None:
    cancelled = threading.Event()

    def notify(text: str) -> None:
        if text.endswith(moment):
            cancelled.set()

    with place.connect() as target, pytest.raises(Cancelled):
        bench(target, notify=notify, cancelled=cancelled).measure()
    assert place.is_clean()
    assert not [item for item in threading.enumerate() if item.name.startswith("bench-upload")]


def test_a_request_that_fails_ends_it_and_leaves_nothing(place: Place) -> None:
    place.server.faults.reset_streams = {"POST speedtest": 20}
    with place.connect() as target, pytest.raises(PbsPushError, match="speedtest"):
        bench(target).measure()
    assert place.is_clean()


def test_a_group_in_use_is_named(place: Place) -> None:
    with place.connect() as target:
        first = bench(target)
        stream = target.connect(threading.Event())
        session = first._begin(link.BENCHMARK_GROUP, stream)
        try:
            with pytest.raises(StatusError, match=r"host/benchmark.*lock"):
                bench(target).measure()
        finally:
            session.close()
    assert place.is_clean()


def test_wrong_secret(place: Place) -> None:
    with (
        Target(place.repository, "wrong", place.server.fingerprint) as target,
        pytest.raises(AuthError),
    ):
        bench(target).measure()


def test_what_stays_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_RELEASE_LIMIT_S", 0.0)
    with place.connect() as target:
        measuring = bench(target)
        session = measuring._begin(
            Group("host", "pbs-push-bench-1"), target.connect(threading.Event())
        )
        assert measuring.left_behind() == [Group("host", "pbs-push-bench-1")]
        session.close()
    assert place.is_clean()
