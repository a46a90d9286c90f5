"""The demonstration: a sample datastore is pushed, verified, pushed again, changed and pushed."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pbs_push.demo.sample import add_snapshot, sample_enc_key, write_sample
from pbs_push.demo.verify import verify_target
from pbs_push.errors import PbsPushError
from pbs_push.push.engine import push
from pbs_push.push.outcome import Result
from pbs_push.push.report import Report
from pbs_push.remote.target import Target
from pbs_push.target import CounterValues, Identities, TargetServer, create_datastore

_MIB: Final = 1 << 20
_TOKEN: Final = "root@pam!demo"  # noqa: S105  (a name, no secret)


class DemoFailed(PbsPushError):
    """The demonstration did not show what it should."""


@dataclass(frozen=True, slots=True)
class _Row:
    what: str
    report: Report
    counters: CounterValues


def run_demo(total_bytes: int) -> None:
    """Show it all in a temporary directory, which is removed. Raises DemoFailed, PbsPushError."""
    base = Path(tempfile.mkdtemp(prefix="pbs-push-demo-"))
    try:
        _run_in(base, total_bytes)
    finally:
        shutil.rmtree(base)


def _run_in(base: Path, total_bytes: int) -> None:
    print(f"writing a sample datastore of about {total_bytes // _MIB} MiB …")
    sample = write_sample(base / "source", total_bytes=total_bytes)
    print(
        f"  {sample.groups} groups in {sample.namespaces} namespaces, "
        f"{sample.snapshots} snapshots, {sample.chunks} chunks, {sample.chunk_bytes / _MIB:.1f} MiB"
    )
    secret = secrets.token_urlsafe(32)
    # A store that lives for a minute needs no chunk folder before there is a chunk for it: to make
    # and remove all 65,536 takes longer than everything else here.
    store = create_datastore(base / "target", all_chunk_folders=False)
    with TargetServer({"target": store}, identities=Identities.simple({_TOKEN: secret})) as server:
        repository = server.repository("target", _TOKEN)
        print(f"embedded target: {repository}\n  fingerprint {server.fingerprint.hex(':')}")
        with Target(repository, secret, server.fingerprint) as target:
            rows = [_push("first push", base, target, server)]
            _verify(base)
            rows.append(_push("again", base, target, server))
            _expect(rows[-1].counters.chunks == 0, "the second push sent chunks")
            change = add_snapshot(base / "source")
            rows.append(_push("after a change", base, target, server))
            sent, new = rows[-1].counters.chunks, len(change.new_digests)
            _expect(sent == new, f"{new} chunks were new, {sent} were sent")
            _verify(base)
    _print_table(rows)


def _push(what: str, base: Path, target: Target, server: TargetServer) -> _Row:
    server.counters.reset()
    print(f"{what} …", end=" ", flush=True)
    began = time.monotonic()
    report = push(base / "source", target)
    print(f"{time.monotonic() - began:.2f} s")
    for problem in report.problems:
        print(f"  {problem.what}: {problem.error}")
    for outcome in report.outcomes:
        if outcome.error is not None:
            print(f"  {outcome.label}: {outcome.error}")
    _expect(report.exit_status == 0, f"{what}: exit status {report.exit_status}")
    return _Row(what, report, server.counters.snapshot())


def _verify(base: Path) -> None:
    found = verify_target(base / "source", base / "target", enc_key=sample_enc_key())
    for problem in found.problems:
        print(f"  {problem}")
    _expect(found.ok, "the target's files are not those of the source")
    print(
        f"  verified on the target's disk: {found.snapshots} snapshots, {found.indexes} indexes, "
        f"{found.blobs} blobs, {found.chunks} chunks decoded and their digests compared"
    )


def _expect(condition: bool, failure: str) -> None:
    if not condition:
        raise DemoFailed(f"the demonstration failed: {failure}")


def _print_table(rows: list[_Row]) -> None:
    heads = ("push", "snapshots", "there", "chunks", "sent MiB", "reused MiB", "requests", "MiB/s")
    print("\n{:<16}{:>10}{:>7}{:>8}{:>10}{:>12}{:>10}{:>9}".format(*heads))
    for row in rows:
        stats, counts = row.report.stats, row.report.counts
        sent = stats.sent_bytes / _MIB
        rate = f"{sent / row.report.seconds:.1f}" if sent else "-"
        there = counts[Result.ALREADY_THERE] + counts[Result.SKIPPED]
        print(
            f"{row.what:<16}{counts[Result.PUSHED]:>10}{there:>7}"
            f"{stats.sent_chunks:>8}{sent:>10.1f}{stats.reused_bytes / _MIB:>12.1f}"
            f"{row.counters.total_requests:>10}{rate:>9}"
        )
