"""A Dask cluster of two worker processes on this host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def two_workers() -> Iterator[Any]:
    """The cluster; what Dask writes into the environment for its workers is taken out again."""
    from distributed import LocalCluster

    before = set(os.environ)
    try:
        cluster: Any = LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=2,
            processes=True,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
        )
        with cluster:
            yield cluster
    finally:
        for name in set(os.environ) - before - {"PYTEST_CURRENT_TEST"}:
            del os.environ[name]
