"""Prove that a target holds what the source has; print what it does not."""

from __future__ import annotations

import os
import sys

from place import place

import pbs_push


def main() -> int:
    """0 if all is there and as it should be, 3 if something is not (docs/exit-status.md)."""
    with place() as (source, target):
        if "PBS_REPOSITORY" not in os.environ:  # made up, and with gaps
            some = pbs_push.PushOptions(group_filters=["type:vm", "type:host"])
            pbs_push.push(source, target, some)
        options = pbs_push.TargetVerifyOptions(sample=pbs_push.Sample.parse("10%"))
        proof = pbs_push.verify_target(source, target, options)
    for result in proof.results:
        if result.verdict is not pbs_push.CopyVerdict.EQUAL:
            print(f"{result.place.label}: {result.verdict.value}")
            for difference in result.differences:
                print(f"  {difference.filename or 'snapshot'}: {difference.what}")
    for chunk in proof.bad_chunks:
        print(chunk)
    print(f"{proof.counts[pbs_push.CopyVerdict.EQUAL]} are equal")
    return proof.exit_status


if __name__ == "__main__":
    sys.exit(main())
