"""A random life of two datastores, and an oracle that compares them after each step.

``python -m tests.faults.worlds --seconds 60`` is ``make worlds SECONDS=60``. The seed is printed;
with ``--seed`` and ``--steps`` the same operations come again (but not the same moments: processes
are killed when they have come as far as they have).
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.own_host import be_without_pbs
from tests.push.world import CHUNK, MY_USER, STORE, Store
from tests.push.zygote import Child, Zygote

from pbs_push.demo.pieces import Piece
from pbs_push.demo.verify import verify_target
from pbs_push.names import (
    Group,
    Namespace,
    Repository,
    Snapshot,
    format_backup_time,
    parse_backup_time,
)
from pbs_push.target import CertificateFiles
from pbs_push.target.certificate import self_signed

from . import stores

HOUR: Final = 3600
FIRST: Final = 1_700_000_000
NAMESPACES: Final = ("", "a", "a/b", "c")
GROUPS: Final = tuple(f"{kind}/{number}" for kind in ("vm", "ct", "host") for number in (1, 2))
MOST: Final = 40
"""Snapshots at the source; beyond that it is pruned more often."""
RETRIES: Final = 6
WHOLE_EVERY: Final = 10
"""Steps after which every chunk is read."""
Options = dict[str, Any]


class Wrong(AssertionError):
    """What the oracle did not expect."""


@dataclass
class Sides:
    """Both stores on disk: what they hold, and the ways in which they change by themselves."""

    source: Store
    target: Store
    chance: random.Random
    now: int = FIRST

    def groups(self) -> list[tuple[str, str]]:
        """Namespaces and groups of the source."""
        return [(ns, name) for ns in NAMESPACES for name in GROUPS if self.source.has(name, ns=ns)]

    def here(self) -> set[str]:
        return stores.snapshots_of(self.source.path)

    def there(self) -> set[str]:
        return stores.snapshots_of(self.target.path)

    def back_up(self) -> str:
        """A new snapshot; a group is new now and then."""
        chance = self.chance
        ns, name = chance.choice(NAMESPACES), chance.choice(GROUPS)
        self.now += chance.choice((1, 60, HOUR, 24 * HOUR))
        moment = self.now
        if chance.random() < 0.05:
            moment += chance.choice((-40 * 24 * HOUR, 30 * 24 * HOUR))
        return self._write(ns, name, moment)

    def _write(self, ns: str, name: str, moment: int) -> str:
        place = Path(Namespace.parse(ns).disk_path) / name / format_backup_time(moment)
        if (self.source.path / place).exists():
            return f"{place} is there already"
        chance = random.Random(f"{place}")  # noqa: S311  (the same content if it comes again)
        labels = [f"{name} {chance.randrange(12)}" for _ in range(chance.randrange(1, 9))]
        archives: dict[str, list[Piece]] = {
            "root.pxar.didx": [Piece(label, 4000 + 100 * len(label), 300) for label in labels],
            "disk.img.fidx": [
                *(Piece(label, CHUNK, 100) for label in labels[: chance.randrange(2)]),
                Piece(f"{place} end", 5000, 200),
            ],
        }
        if not self.source.has(name, ns=ns):
            self.source.group(name, ns=ns, owner=MY_USER)
        _write_at(
            self.source,
            ns,
            name,
            moment,
            archives,
            notes=f"of {place}" if chance.random() < 0.3 else None,
            log=chance.random() < 0.3,
            protected=chance.random() < 0.1,
        )
        return f"{place}"

    def prune(self) -> str:
        """Snapshots of the source go: the oldest, the newest, or any."""
        groups = self.groups()
        if not groups:
            return "nothing"
        ns, name = self.chance.choice(groups)
        folder = self.source.path / Namespace.parse(ns).disk_path / name
        snapshots = sorted(folder.glob("*Z"))
        gone = self.chance.choice(
            (snapshots[:1], snapshots[-1:], snapshots[: len(snapshots) // 2], snapshots)
        )
        for path in gone:
            shutil.rmtree(path)
        if not list(folder.glob("*Z")) and self.chance.random() < 0.5:
            shutil.rmtree(folder)
        return f"{len(gone)} of {folder.relative_to(self.source.path)}"

    def drop_group(self) -> str:
        groups = self.groups()
        if not groups:
            return "nothing"
        ns, name = self.chance.choice(groups)
        shutil.rmtree(self.source.path / Namespace.parse(ns).disk_path / name)
        return f"{ns} {name}"

    def drop_namespace(self) -> str:
        ns = self.chance.choice(NAMESPACES[1:])
        shutil.rmtree(self.source.path / Namespace.parse(ns).disk_path, ignore_errors=True)
        return ns

    def prune_there(self) -> str:
        """The target's own prune job: never the newest of a group."""
        folders = [path.parent for path in self.target.path.rglob("owner")]
        if not folders:
            return "nothing"
        folder = self.chance.choice(sorted(folders))
        for path in sorted(folder.glob("*Z"))[:-1]:
            if not (path / ".protected").exists() and self.chance.random() < 0.5:
                shutil.rmtree(path)
        return f"{folder.relative_to(self.target.path)}"


def _write_at(
    store: Store,
    ns: str,
    name: str,
    moment: int,
    archives: dict[str, list[Piece]],
    *,
    notes: str | None,
    log: bool,
    protected: bool,
) -> None:
    from pbs_push.demo.store_writer import SampleSnapshot

    made = {archive: store.writer.chunks(pieces) for archive, pieces in archives.items()}
    snapshot = Snapshot(Group.parse(name), moment)
    store.writer.snapshot(
        SampleSnapshot(
            Namespace.parse(ns),
            snapshot,
            made,
            {"some.conf.blob": f"{snapshot}".encode() * 3},
            None,
            {} if notes is None else {"notes": notes},
            client_log=b"log" if log else None,
            protected=protected,
        )
    )


@dataclass
class Life:
    """A world that lives: ``step`` it."""

    sides: Sides
    zygote: Zygote
    certificate: CertificateFiles
    chance: random.Random
    port: int = 0
    clock_s: float = 0.0
    pushes: int = 0
    died: bool = False
    """Whether the target was killed since the last push that came to its end."""

    def begin(self) -> None:
        """Let the target serve, on the same port as before."""
        self.server = self.zygote.start(
            "serve",
            store=str(self.sides.target.path),
            me=MY_USER,
            kill_at=None,
            certificate=[str(self.certificate.certificate), str(self.certificate.key)],
            port=self.port,
            clock_s=self.clock_s,
        )
        said = self.server.hear()
        self.port, self.fingerprint = said["port"], said["fingerprint"]

    def end(self) -> None:
        self.server.kill()

    # -- pushes --

    def _options(self) -> Options:
        removing = self.chance.random() < 0.5
        return {
            "remove_vanished": removing,
            "sync_metadata": self.chance.random() < 0.3,
            "parallel": self.chance.choice((1, 2, 6)),
            "allow_empty_source": removing and self.chance.random() < 0.5,
            "lock_wait_s": 10,
        }

    def _pusher(self, options: Options) -> Child:
        self.pushes += 1
        repository = Repository.parse(f"{MY_USER}@127.0.0.1:{self.port}:{STORE}")
        child = self.zygote.start(
            "push",
            source=str(self.sides.source.path),
            repository=str(repository),
            fingerprint=self.fingerprint,
            options=options,
        )
        child.hear()
        return child

    def push(self) -> str:
        """Undisturbed, and to its end."""
        options = self._options()
        before = self.sides.there()
        said = self._heard(self._pusher(options))
        self._judge(options, before, said, alone=True)
        self.died = False
        return f"{options}: {_short(said)}"

    def push_twice(self) -> str:
        """The second one finds nothing to do, and says the same.

        Unless the first one has removed what vanished: an older snapshot that this kept out is
        then the newest, and goes with the next push.
        """
        options = self._options()
        at_first = self.sides.there()
        self._heard(self._pusher(options))
        before = self.sides.there()
        if options["remove_vanished"] and at_first - before:
            self._heard(self._pusher(options))
            before = self.sides.there()
        said = self._heard(self._pusher(options))
        self._judge(options, before, said, alone=True)
        if said["counts"].get("pushed") or self.sides.there() - before:
            raise Wrong(f"the second push pushed: {said}")
        self.died = False
        return _short(said)

    def two_at_once(self) -> str:
        """Two that differ in what they say, and push the same."""
        first, second = self._options(), self._options()
        second["max_depth"] = 7
        before, here = self.sides.there(), self.sides.here()
        children = [self._pusher(first), self._pusher(second)]
        said = [self._heard(child) for child in children]
        removing = first["remove_vanished"] or second["remove_vanished"]
        self._within(before, here, removing=removing)
        return " + ".join(map(_short, said))

    def push_killed(self) -> str:
        """The process that pushes dies; the target removes what was not finished."""
        options = self._options()
        before, here = self.sides.there(), self.sides.here()
        child = self._pusher(options)
        moment_s = self.chance.uniform(0, 0.5)
        time.sleep(moment_s)
        child.kill()
        self._settle()
        self._within(before, here, removing=options["remove_vanished"])
        return f"after {moment_s:.3f} s"

    def target_killed(self) -> str:
        """The target dies, and comes back; who tries again brings all, if it was there before."""
        options = {**self._options(), "retries": RETRIES, "retry_for_s": 30}
        before, here = self.sides.there(), self.sides.here()
        child = self._pusher(options)
        moment_s = self.chance.uniform(0, 0.5)
        time.sleep(moment_s)
        self.server.kill()
        self.died = True
        stores.tidy(self.sides.target.path)
        self.begin()
        said = self._heard(child)
        stores.tidy(self.sides.target.path)
        self._within(before, here, removing=options["remove_vanished"])
        if said.get("retries") and "error" not in said:
            self._judge(options, before, said, alone=False)
        return f"after {moment_s:.3f} s: {_short(said)}"

    def target_restarted(self) -> str:
        """Its clock may have been set meanwhile: all tickets are worth nothing."""
        self.clock_s = self.chance.choice((0.0, -9000.0, 9000.0, 86_400.0 * 400))
        self.server.stop()
        self.begin()
        return f"its clock is {self.clock_s:.0f} s ahead"

    def source_changes_meanwhile(self) -> str:
        """A prune job and a backup run at the source while it is pushed."""
        options = self._options()
        before, here = self.sides.there(), self.sides.here()
        child = self._pusher(options)
        time.sleep(self.chance.uniform(0, 0.3))
        did = [self.sides.prune(), self.sides.back_up(), self.sides.prune()]
        said = self._heard(child)
        now = self.sides.here()
        self._within(before, here & now, removing=options["remove_vanished"], seen=here | now)
        return f"{did}: {_short(said)}"

    def _heard(self, child: Child) -> dict[str, Any]:
        said = child.hear()
        child.wait()
        self._settle()
        return said

    def _settle(self) -> None:
        """Until the target has removed what was not finished, and given its locks back."""
        target = self.sides.target.path
        deadline = time.monotonic() + 5
        while not self.died and (stores.pieces_left(target) or stores.locked(target)):
            if time.monotonic() > deadline:
                left = stores.pieces_left(target) + stores.locked(target)
                raise Wrong(f"left at the target: {left}")
            time.sleep(0.005)
        if self.died:
            time.sleep(0.1)

    # -- the oracle --

    def _within(
        self, before: set[str], here: set[str], *, removing: bool, seen: set[str] | None = None
    ) -> None:
        """Nothing came but from the source, and nothing went that was not to go.

        ``here`` is what the source had all the while, ``seen`` what it had at any time.
        """
        after = self.sides.there()
        if strange := after - before - (seen or here):
            raise Wrong(f"came from nowhere: {sorted(strange)}")
        if lost := before - after - (set() if not removing else before - here):
            raise Wrong(f"went, though it was not to go: {sorted(lost)}")

    def _judge(
        self, options: Options, before: set[str], said: dict[str, Any], *, alone: bool
    ) -> None:
        """What a push that came to its end must have done, and must have said."""
        if "error" in said:
            raise Wrong(f"ended with {said['error']}")
        here, removing = self.sides.here(), options["remove_vanished"]
        self._within(before, here, removing=removing)
        errors = [one for one in said["errors"] if not (self.died and "died there" in one)]
        if errors:
            raise Wrong(f"errors without a reason: {errors}")
        status, after = said["status"], self.sides.there()
        if status not in (0, 3):
            raise Wrong(f"ended with {status}: {said}")
        looked_at = said["alerts"] or said["held"] or said["errors"]
        if status == 3 and not looked_at:
            raise Wrong(f"status 3, and nothing to look at: {said}")
        missing = [one for one in sorted(here - after) if _pushable(one, before)]
        if missing and not said["errors"]:
            raise Wrong(f"not pushed, though it could be: {missing}")
        if status == 0 and removing:
            kept = {one for one in after - here if not self._is_protected(one)}
            if alone and kept:
                raise Wrong(f"status 0, and still there: {sorted(kept)}")

    def _is_protected(self, snapshot: str) -> bool:
        return (self.sides.target.path / snapshot / ".protected").exists()

    def compare(self, *, every_chunk: bool) -> None:
        """Both stores as they lie on disk: what both have is equal, and all is whole."""
        source, target = self.sides.source.path, self.sides.target.path
        if half := stores.half_snapshots(target, chunks=every_chunk):
            raise Wrong(f"half a snapshot: {half}")
        report = verify_target(source, target, all_snapshots=False)
        problems = [one for one in report.problems if not _is_metadata(one)]
        if problems:
            raise Wrong(f"both have it, and it differs: {problems}")


def _pushable(snapshot: str, before: set[str]) -> bool:
    """Whether nothing newer of its group was at the target."""
    group, _, moment = snapshot.rpartition("/")
    there = [
        parse_backup_time(one.rpartition("/")[2])
        for one in before
        if one.rpartition("/")[0] == group
    ]
    return not there or parse_backup_time(moment) > max(there)


def _is_metadata(problem: str) -> bool:
    """What only comes along if it is asked for, or was there when the rest went."""
    return "client.log.blob" in problem or "'notes'" in problem


def _short(said: dict[str, Any]) -> str:
    if "error" in said:
        return str(said["error"])
    return f"status {said['status']}, {said['counts']}, {len(said['alerts'])} alerts"


WEIGHTS: Final = {
    "back_up": 10,
    "prune": 3,
    "drop_group": 1,
    "drop_namespace": 1,
    "prune_there": 2,
    "push": 8,
    "push_twice": 2,
    "two_at_once": 3,
    "push_killed": 4,
    "target_killed": 4,
    "target_restarted": 1,
    "source_changes_meanwhile": 3,
}


def operations(life: Life, chance: random.Random) -> Iterator[tuple[str, Callable[[], str]]]:
    """What happens, for ever."""
    names = list(WEIGHTS)
    while True:
        weights = dict(WEIGHTS)
        if len(life.sides.here()) > MOST:
            weights["prune"] *= 8
        name = chance.choices(names, [weights[one] for one in names])[0]
        owner = life if hasattr(life, name) else life.sides
        yield name, getattr(owner, name)


def live(folder: Path, seed: int, *, seconds: float, steps: int) -> Counter[str]:
    """Live for so long, or so many steps; how often what happened. Raises Wrong."""
    chance = random.Random(seed)  # noqa: S311
    (folder / "certificate").mkdir()
    sides = Sides(Store(folder / "source"), Store(folder / "target"), chance)
    did: Counter[str] = Counter()
    log: list[str] = []
    began = time.monotonic()
    with Zygote() as zygote:
        life = Life(sides, zygote, self_signed(folder / "certificate"), chance)
        life.begin()
        try:
            for number, (name, operation) in enumerate(operations(life, chance), 1):
                if number > steps or time.monotonic() - began > seconds:
                    break
                log.append(f"{number} {name}: begun")
                log[-1] = f"{number} {name}: {operation()}"
                did[name] += 1
                life.compare(every_chunk=number % WHOLE_EVERY == 0)
        except (Wrong, TimeoutError) as error:
            raise Wrong(f"seed {seed}: {error}\n  " + "\n  ".join(log[-12:])) from error
        finally:
            life.end()
    did["pushes"] = life.pushes
    return did


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.faults.worlds", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--steps", type=int, default=1 << 60)
    asked = parser.parse_args()
    be_without_pbs()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    deadline = time.monotonic() + asked.seconds
    sums: Counter[str] = Counter()
    worlds = wrong = 0
    while (left_s := deadline - time.monotonic()) > 0 and not (asked.seed is not None and worlds):
        seed = random.randrange(1 << 32) if asked.seed is None else asked.seed  # noqa: S311
        print(f"seed {seed}", flush=True)
        worlds += 1
        with tempfile.TemporaryDirectory(prefix="world-") as name:
            try:
                # A new one now and then: what is young differs from what is old.
                sums += live(Path(name), seed, seconds=min(left_s, 120.0), steps=asked.steps)
            except Wrong as error:
                wrong += 1
                print(f"WRONG: {error}", flush=True)
                keep = Path(tempfile.gettempdir()) / f"world-{seed}-wrong"
                shutil.copytree(name, keep, symlinks=True, dirs_exist_ok=True)
                print(f"both stores are kept in {keep}", flush=True)
    total = sum(count for name, count in sums.items() if name != "pushes")
    print(f"{worlds} worlds, {total} steps, {wrong} wrong: {dict(sums.most_common())}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
