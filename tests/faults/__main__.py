"""The whole table of faults: ``python -m tests.faults``, which is ``make faults``.

Prints what befell and what became of it as Markdown, and ends with 1 if anything did not hold.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.own_host import be_without_pbs

from .cases import Aims, Case, run_case
from .disturbances import Disturbance, Place, all_of_them
from .failing_calls import build
from .scene import Templates


@dataclass(frozen=True)
class Row:
    """One of them, and what became of it."""

    what: Case | Disturbance
    outcome: str
    violations: tuple[str, ...]

    @property
    def text(self) -> str:
        return self.outcome + (" **BAD**" if self.violations else "")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    parser.add_argument("--seconds", type=float, help="as much of it as fits, in random order")
    parser.add_argument("--seed", type=int, default=None, help="of that order")
    parser.add_argument("--only", default="", help="what has this in its name")
    parser.add_argument("--table", type=Path, help="where the table goes too")
    asked = parser.parse_args()
    be_without_pbs()
    # Whoever runs this in the background lets it be ignored, by those that are started here too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seed = random.randrange(1 << 32) if asked.seed is None else asked.seed  # noqa: S311
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        rows = _run(Path(name), asked.seconds, asked.only, seed)
    text = f"{_requests(rows)}\n{_others(rows)}"
    print(text)
    if asked.table is not None:
        asked.table.write_text(text)
    return 1 if any(row.violations for row in rows) else 0


def _run(folder: Path, seconds: float | None, only: str, seed: int) -> list[Row]:
    templates = Templates.make(folder / "templates")
    library = build(folder)
    (folder / "first").mkdir()
    aims = Aims.found(templates, folder / "first")
    whole: list[Case | Disturbance] = [*aims.cases(), *all_of_them()]
    whole = [one for one in whole if only in str(one)]
    if seconds is not None:
        print(f"seed {seed}", file=sys.stderr)
        random.Random(seed).shuffle(whole)  # noqa: S311
    began, rows = time.monotonic(), []
    for number, one in enumerate(whole):
        if seconds is not None and time.monotonic() - began > seconds:
            break
        place = folder / f"{number}"
        place.mkdir()
        row = _row(one, templates, aims, place, library)
        shutil.rmtree(place, ignore_errors=True)
        rows.append(row)
        for problem in row.violations:
            print(f"{one}: {problem}", file=sys.stderr, flush=True)
    took = time.monotonic() - began
    bad = sum(bool(row.violations) for row in rows)
    print(f"{len(rows)} of {len(whole)} in {took:.0f} s, {bad} bad", file=sys.stderr)
    return rows


def _row(
    one: Case | Disturbance, templates: Templates, aims: Aims, folder: Path, library: Path
) -> Row:
    try:
        if isinstance(one, Case):
            result = run_case(templates, aims, one, folder)
            return Row(one, result.outcome, result.violations)
        happened = one.happen(Place(templates, folder, library))
        return Row(one, happened.outcome, tuple(happened.violations))
    except Exception as error:  # noqa: BLE001  (the others go on)
        return Row(one, "broke the harness", (f"{type(error).__name__}: {error}",))


def _requests(rows: list[Row]) -> str:
    """Faults by kinds of requests; a field has what came with and without trying again."""
    cases = [(row.what, row) for row in rows if isinstance(row.what, Case)]
    kinds = list(dict.fromkeys(case.kind for case, _ in cases))
    fields: dict[tuple[str, str], dict[int, str]] = {}
    for case, row in cases:
        fields.setdefault((case.fault, case.kind), {})[case.retries] = row.text
    lines = [_line("fault", kinds), _line("---", ["---"] * len(kinds))]
    for fault in dict.fromkeys(case.fault for case, _ in cases):
        texts = [fields.get((fault, kind), {}) for kind in kinds]
        lines.append(_line(fault, [_field(found) for found in texts]))
    return "\n".join(lines) + "\n"


def _field(found: dict[int, str]) -> str:
    return " / ".join(found[retries] for retries in sorted(found, reverse=True)) or "·"


def _others(rows: list[Row]) -> str:
    """The rest, a line for those that differ in a moment or a number alone."""
    outcomes: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        if isinstance(row.what, Disturbance):
            kind = row.what.name.partition(" after ")[0].partition(" before ")[0]
            outcomes.setdefault((row.what.which, kind), Counter())[row.text] += 1
    lines = [_line("what", ["which", "outcomes"]), _line("---", ["---", "---"])]
    for (which, kind), counts in outcomes.items():
        texts = [f"{n} times {text}" for text, n in counts.most_common()]
        lines.append(_line(which, [kind, "; ".join(texts)]))
    return "\n".join(lines) + "\n"


def _line(first: str, others: list[str]) -> str:
    return f"| {first} | " + " | ".join(others) + " |"


if __name__ == "__main__":
    sys.exit(main())
