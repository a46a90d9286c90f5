"""How connections end: in order, so that a real server has nothing to complain about."""

from __future__ import annotations

import time
from pathlib import Path

from pbs_push import Target, push
from pbs_push.push.outcome import Result
from pbs_push.target import Identities, TargetServer, create_datastore


def test_the_target_sees_each_session_end_in_order(sample_datastore: Path, tmp_path: Path) -> None:
    store = create_datastore(tmp_path / "offsite", all_chunk_folders=False)
    identities = Identities.simple({"root@pam!push": "secret"})
    with TargetServer({"offsite": store}, identities=identities) as server:
        repository = server.repository("offsite", "root@pam!push")
        with Target(repository, "secret", server.fingerprint) as target:
            report = push(sample_datastore, target)
        deadline = time.monotonic() + 20  # it may come to the last one after we are done
        while server.counters.snapshot().goodbyes < server.counters.snapshot().sessions:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert server.counters.snapshot().goodbyes == report.counts[Result.PUSHED] > 0
