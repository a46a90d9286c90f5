"""Push from an event loop, and stop when there is no more time for it."""

from __future__ import annotations

import asyncio
import sys

from place import place

import pbs_push


async def push_within(
    seconds: float, source: pbs_push.Datastore, target: pbs_push.Target
) -> pbs_push.Report | None:
    """The report; None if it did not end in time: what was under way is gone at the target."""
    try:
        async with asyncio.timeout(seconds):
            async for event in pbs_push.apush(source, target):
                if isinstance(event, pbs_push.Finished):
                    return event.report
    except TimeoutError:
        print("no time left: stopped")
    return None


async def main() -> int:
    """Stop one at once, and let another go on where it was; meanwhile the loop does other work."""
    with place() as (source, target):
        await push_within(0, source, target)
        other = asyncio.create_task(asyncio.sleep(0.01, "the loop goes on"))
        report = await push_within(3600, source, target)
        print(await other)
    if report is None:
        return 1
    print(f"{report.counts[pbs_push.Result.PUSHED]} pushed")
    return report.exit_status


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
