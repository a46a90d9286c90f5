"""The table: each fault with each kind of request, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import stores
from .scene import Ran, Scene, Templates, violations
from .strikes import FAULTS, NEVER_REACHED, Aim

MANIFEST = "manifest"


@dataclass(frozen=True, slots=True)
class Case:
    """One field of the table; ``kind`` is that of requests, or ``manifest``."""

    fault: str
    kind: str
    retries: int

    def __str__(self) -> str:
        return f"{self.fault} / {self.kind} / retries {self.retries}"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a case, in few words, and what did not hold."""

    case: Case
    outcome: str
    violations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Aims:
    """All kinds of requests that a push makes here, each with the one that is struck."""

    aims: dict[str, Aim]

    @classmethod
    def found(cls, templates: Templates, folder: Path) -> Aims:
        """Push once without a fault, and look at all that is asked."""
        with Scene(templates, folder) as scene:
            ran, _left = scene.push("--parallel", "1")
            assert ran.status == 0, ran.err
            problems = violations(scene, ran, [])
            assert not problems, problems
            seen = list(scene.seen)
        aims: dict[str, Aim] = {}
        for at, (kind, number, handled) in enumerate(seen):
            if handled:
                continue
            before = seen[at - 1] if at else None
            aims.setdefault(kind, Aim(kind, number, before))
            if kind == "POST finish" and number == 1:
                last = max(i for i in range(at) if seen[i][0] == "POST blob" and not seen[i][2])
                aims[MANIFEST] = Aim("POST blob", seen[last][1], seen[last - 1])
        return cls(aims)

    def cases(self) -> Iterator[Case]:
        """The whole table."""
        for fault in FAULTS.values():
            for kind, aim in self.aims.items():
                if fault.fits(aim):
                    yield from (Case(fault.name, kind, retries) for retries in (25, 0))


def run_case(templates: Templates, aims: Aims, case: Case, folder: Path) -> Result:
    """Push with a fault, look at what is left, and push again without."""
    fault, aim = FAULTS[case.fault], aims.aims[case.kind]
    with Scene(templates, folder) as scene:
        source_before = stores.tree(scene.source)
        struck = fault.strike(scene, aim)
        ran, left = scene.push("--parallel", "1", "--retries", str(case.retries))
        hit = struck()
        found = violations(scene, ran, left)
        passes = fault.passes and case.kind != NEVER_REACHED
        if case.retries and passes and ran.status != 0:
            found.append(f"ended with {ran.status}, although it passes: {ran.errors}")
        again, left = scene.push("--parallel", "1", "--retries", "0")
        found += [f"second push: {one}" for one in violations(scene, again, left)]
        if again.status != 0:
            found.append(f"the second push ended with {again.status}: {again.errors}")
        if stores.tree(scene.source) != source_before:
            found.append("the source was changed")
    return Result(case, outcome_of(ran) if hit else "did not strike", tuple(found))


def outcome_of(ran: Ran) -> str:
    """How a push ended, in few words."""
    if not ran.out:
        return f"{ran.status}"
    document = ran.document
    tries = document["retries"]
    if ran.status == 0:
        return f"0, tried again {tries}" if tries else "0"
    counts = document["snapshots"]
    return f"{ran.status}: {counts['pushed']} pushed, {counts['failed']} failed"
