"""What a target counts, for tests and benchmarks."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CounterValues:
    """The counters at one moment.

    ``requests`` by kind: ``GET groups``, ``POST fixed_chunk``, ``PUT dynamic_index``, … and, for
    short, ``previous`` (GET /previous) and ``upgrade`` (GET backup). ``bytes_in`` and ``bytes_out``
    are the plain bytes inside TLS; ``sessions`` back up, ``readers`` read; ``goodbyes`` counts the
    sessions that the client ended in order, with a GOAWAY; ``flights`` how often answers that were
    held went out (only with ``hold_answers_s``): round trips that a client waits for;
    ``chunk_bytes`` the encoded bytes of accepted chunk uploads, ``chunks`` their number and
    ``new_chunks`` how many the store did not have.
    """

    requests: Mapping[str, int] = field(default_factory=dict)
    bytes_in: int = 0
    bytes_out: int = 0
    connections: int = 0
    tls_resumed: int = 0
    sessions: int = 0
    readers: int = 0
    goodbyes: int = 0
    flights: int = 0
    chunks: int = 0
    new_chunks: int = 0
    chunk_bytes: int = 0

    @property
    def total_requests(self) -> int:
        """All requests of all kinds."""
        return sum(self.requests.values())


class Counters:
    """Thread-safe counters of one server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._numbers: Counter[str] = Counter()

    def request(self, kind: str) -> None:
        """Count one request."""
        with self._lock:
            self._requests[kind] += 1

    def add(self, **amounts: int) -> None:
        """Add to numbers, by the names of `CounterValues`."""
        with self._lock:
            self._numbers.update(amounts)

    def snapshot(self) -> CounterValues:
        """The present values."""
        with self._lock:
            return CounterValues(dict(self._requests), **self._numbers)

    def reset(self) -> None:
        """Start again at zero."""
        with self._lock:
            self._requests.clear()
            self._numbers.clear()
