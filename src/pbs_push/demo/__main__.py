"""``python -m pbs_push.demo``: run the demonstration; ``--mib N`` for another size."""

from __future__ import annotations

import argparse
import sys

from pbs_push.demo.run import run_demo
from pbs_push.errors import PbsPushError


def main() -> int:
    """Run it; the exit status is 0 only if all of it went as it should."""
    parser = argparse.ArgumentParser(prog="python -m pbs_push.demo", description=__doc__)
    parser.add_argument("--mib", type=int, default=300, help="size of the sample (default: 300)")
    arguments = parser.parse_args()
    try:
        run_demo(arguments.mib << 20)
    except PbsPushError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
