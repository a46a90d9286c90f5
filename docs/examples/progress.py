"""Push, and tell how far it is."""

from __future__ import annotations

import sys

from place import place

import pbs_push
from pbs_push import Event, Planned, SnapshotEnded, SnapshotStarted


def tell(event: Event) -> None:
    """A line for what matters. Called from the push's threads, one event at a time."""
    match event:
        case Planned():
            print(f"{event.snapshots} snapshots to push")
        case SnapshotStarted():
            print(f"… {event.snapshot.label}")
        case SnapshotEnded(outcome) if outcome.result is pbs_push.Result.PUSHED:
            stats = outcome.stats
            sent = 0 if stats is None else stats.sent_bytes
            print(f"✓ {outcome.label}: {sent / 1024:.0f} KiB sent")
        case SnapshotEnded(outcome) if outcome.error is not None:
            print(f"✗ {outcome.label}: {outcome.error}")


def main() -> int:
    """The exit status that the command would have."""
    with place() as (source, target):
        options = pbs_push.PushOptions(group_filters=["type:vm"])
        report = pbs_push.push(source, target, options, tell)
    print(f"{report.counts[pbs_push.Result.PUSHED]} pushed, {report.failed} failed")
    return report.exit_status


if __name__ == "__main__":
    sys.exit(main())
