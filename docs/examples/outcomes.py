"""What became of each snapshot, as a table: CSV for anybody, a DataFrame for who has pandas."""

from __future__ import annotations

import csv
import io
import sys
from importlib.util import find_spec
from typing import Any

from place import place

import pbs_push


def as_csv(records: list[dict[str, Any]]) -> str:
    """Records of a report; lists within them as Python writes them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]) if records else [])
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def main() -> int:
    """Push, and print the table."""
    with place() as (source, target):
        report = pbs_push.push(source, target)
    records = report.records()
    print(as_csv(records), end="")
    if find_spec("pandas") is not None:
        import pandas  # noqa: PLC0415  (only who has it)

        frame = pandas.DataFrame(records)
        print(frame.groupby("group")[["sent-bytes", "reused-bytes"]].sum(), file=sys.stderr)
    return report.exit_status


if __name__ == "__main__":
    sys.exit(main())
