"""Verifying the target of a push's World, and harming its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tests.push.world import ME, World, filters

from pbs_push.formats.index import open_index
from pbs_push.formats.index_writer import dynamic_index_bytes
from pbs_push.names import Namespace
from pbs_push.verify.target import TargetVerification
from pbs_push.verify.target_events import TargetVerifyEvent, TargetVerifyListener
from pbs_push.verify.target_options import Sample, TargetVerifyOptions
from pbs_push.verify.target_report import CopyVerdict, TargetReport

VM = "vm/100"
FIDX, DIDX = "disk.img.fidx", "root.pxar.didx"
ALL = Sample(1.0)


def verify(
    world: World,
    *,
    who: str = ME,
    events: list[TargetVerifyEvent] | None = None,
    listener: TargetVerifyListener | None = None,
    **options: Any,
) -> TargetReport:
    """Verify with these options; namespaces and filters as texts. Counters begin anew."""
    made: dict[str, Any] = {"retries": 0, **options}
    for name in ("source_namespace", "target_namespace"):
        if name in made:
            made[name] = Namespace.parse(made[name])
    if "group_filters" in made:
        made["group_filters"] = filters(*made["group_filters"])
    listen = listener or (events.append if events is not None else None)
    with world.target(who) as target:
        world.server.counters.reset()
        return TargetVerification(
            world.datastore(), target, TargetVerifyOptions(**made), listen
        ).run()


def counts(report: TargetReport) -> dict[str, int]:
    """Snapshots by verdict, as far as there are any."""
    return {verdict.value: count for verdict, count in report.counts.items() if count}


def only_result(report: TargetReport, verdict: CopyVerdict, *words: str) -> None:
    """Check that one snapshot has this verdict, for reasons in which these words stand."""
    found = list(report.of(verdict))
    assert len(found) == 1, report.results
    text = "; ".join(str(one) for one in found[0].differences)
    for word in words:
        assert word in text
    assert report.exit_status == 3


def flip(path: Path, at: int) -> None:
    """Flip a bit."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def truncate(path: Path, by: int) -> None:
    path.write_bytes(path.read_bytes()[:-by])


def remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def index_of(path: Path, *, reverse: bool = False, repeat: bool = False) -> str:
    """Write a dynamic index anew: entries in reverse order, or the first chunk in all places.

    Its csum, in hex.
    """
    with open_index(path) as index:
        digests, ends = np.array(index.digests), np.array(index.end_offsets)
    if reverse:
        digests = digests[::-1]
    if repeat:
        digests[:] = digests[0]
    path.write_bytes(dynamic_index_bytes(ends, np.ascontiguousarray(digests)))
    with open_index(path) as index:
        return index.csum().hex()
