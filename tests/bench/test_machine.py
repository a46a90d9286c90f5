from __future__ import annotations

import dataclasses
import os
import threading

import pytest
import zstandard

from pbs_push.bench import machine
from pbs_push.bench.timing import rate_of
from pbs_push.bench.tls_pair import TlsSender
from pbs_push.errors import Cancelled


def test_every_rate_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "DIGESTS", 4096)
    told: list[str] = []
    found = machine.MachineBench(0.001, told.append, threading.Event()).measure()
    for name, value in dataclasses.asdict(found).items():
        assert value, name
        if isinstance(value, float):
            assert value > 0, name
    assert found.cores == len(os.sched_getaffinity(0))
    assert found.digests == 4096
    assert told[0] == "this machine: TLS"


def test_cancelled_at_once() -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        machine.MachineBench(60, lambda _text: None, cancelled).measure()


def test_content_compresses_by_about_half() -> None:
    content = machine.sample_content()
    assert len(content) == machine.CHUNK_BYTES
    packed = len(zstandard.ZstdCompressor(level=1).compress(content))
    assert 0.3 < packed / len(content) < 0.7


def test_tls_is_aes_gcm_and_takes_any_amount() -> None:
    sender = TlsSender()
    assert "AES" in sender.cipher
    assert "GCM" in sender.cipher
    for size in (0, 1, 1 << 20):
        sender.send(bytes(size))


def test_rate_is_of_the_median_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is asked once before all, and twice a call; then once after each three calls."""
    ticks = iter([0.0, 0.0, 9.0, 9.0, 11.0, 11.0, 14.0, 14.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    assert rate_of(lambda: None, 30, 1.0, threading.Event()) == 10.0  # spans of 9, 2 and 3


def test_a_clock_that_stands_still_is_no_division_by_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.perf_counter", lambda: 1.0)
    assert rate_of(lambda: None, 1, 0.0, threading.Event()) > 0
