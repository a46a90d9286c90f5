"""What befalls a push besides its requests: a source that breaks, full disks, limits, signals.

Each is a function that is given a place, and lets a push run into it.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.push.zygote import Zygote

from pbs_push.names import INDEX_SUFFIXES, MANIFEST_NAME

from . import stores
from .cases import outcome_of
from .failing_calls import OPEN, READ, WRITE, FailingCalls
from .scene import Elsewhere, Ran, Scene, Templates, violations
from .strikes import Boundary

MIB: Final = 1 << 20


@dataclass(frozen=True)
class Place:
    """Where a disturbance happens; ``library`` lets calls fail."""

    templates: Templates
    folder: Path
    library: Path


@dataclass(frozen=True)
class Happened:
    """What became of a push that was disturbed, and what did not hold."""

    outcome: str
    violations: list[str]


@dataclass(frozen=True)
class Disturbance:
    """One line of the second table; ``which`` are the lines that belong together."""

    which: str
    name: str
    happen: Callable[[Place], Happened]

    def __str__(self) -> str:
        return f"{self.which}: {self.name}"


def _judged(
    scene: Scene, ran: Ran, left: list[str], *, died: bool = False, lost: str = "\0"
) -> Happened:
    """Look at what is left, mend the source, and push again.

    ``lost`` may be missing then: by a rule it does not come along later.
    """
    found = violations(scene, ran, left, died=died)
    if scene.own_source:
        scene.mend_source()
    before = stores.tree(scene.source)
    again, left = scene.push("--retries", "0")
    later = [one for one in violations(scene, again, left) if lost not in one]
    found += [f"second push: {one}" for one in later]
    if again.status != 0:
        found.append(f"the second push ended with {again.status}: {again.errors}")
    if stores.tree(scene.source) != before:
        found.append("the source was changed")
    return Happened(outcome_of(ran), found)


# -- a source that breaks --


def _chunks(source: Path) -> list[Path]:
    return [path for path in source.glob(".chunks/*/*") if path.is_file()]


def _indexes(source: Path) -> list[Path]:
    return [path for path in source.rglob("*.?idx") if path.name.endswith(INDEX_SUFFIXES)]


def _vanish(source: Path) -> None:
    for path in _chunks(source):
        path.unlink()


def _shorten(source: Path) -> None:
    for path in _chunks(source):
        os.truncate(path, path.stat().st_size // 2)


def _flip(source: Path) -> None:
    for path in _chunks(source):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)


def _folders(source: Path) -> None:
    for path in _chunks(source):
        path.unlink()
        path.mkdir()


def _pipes(source: Path) -> None:
    for path in _chunks(source):
        path.unlink()
        os.mkfifo(path)


def _shrink(source: Path, size: int) -> None:
    for path in _indexes(source):
        os.truncate(path, min(size, path.stat().st_size))


def _scribble(source: Path) -> None:
    for path in _indexes(source):
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (path.stat().st_size - 4096))


def _no_indexes(source: Path) -> None:
    for path in _indexes(source):
        path.unlink()


def _no_manifests(source: Path) -> None:
    for path in source.rglob(MANIFEST_NAME):
        path.unlink()


def _pruned(source: Path) -> None:
    for path in source.rglob("*Z"):
        shutil.rmtree(path)


def _unmounted(source: Path) -> None:
    shutil.rmtree(source)
    source.mkdir()


BREAKING: Final = {
    "chunks vanish": _vanish,
    "chunks are cut": _shorten,
    "chunks are flipped": _flip,
    "chunks become folders": _folders,
    "chunks become pipes": _pipes,
    "indexes shrink to nothing": partial(_shrink, size=0),
    "indexes shrink to their header": partial(_shrink, size=4096),
    "indexes shrink by some bytes": partial(_shrink, size=4130),
    "indexes are written over": _scribble,
    "indexes vanish": _no_indexes,
    "manifests vanish": _no_manifests,
    "snapshots vanish": _pruned,
    "the source is unmounted": _unmounted,
}
MOMENTS: Final[tuple[Boundary, ...]] = (
    ("GET groups", 1, False),
    ("upgrade", 1, True),
    ("POST dynamic_index", 1, True),
    ("POST dynamic_chunk", 1, False),
    ("PUT dynamic_index", 1, False),
    ("POST dynamic_close", 1, False),
    ("POST finish", 1, False),
)


def _breaks(place: Place, breaking: Callable[[Path], None], moment: Boundary) -> Happened:
    with Scene(place.templates, place.folder, own_source=True) as scene:
        done: list[bool] = []

        def hook(kind: str, number: int, handled: bool) -> None:
            if (kind, number, handled) == moment and not done:
                done.append(True)
                breaking(scene.source)

        scene.hook = hook
        ran, left = scene.push("--parallel", "1")
        return _judged(scene, ran, left)


def _sources() -> Iterator[Disturbance]:
    for name, breaking in BREAKING.items():
        for moment in MOMENTS:
            when = f"{'after' if moment[2] else 'before'} {moment[0]}"
            happen = partial(_breaks, breaking=breaking, moment=moment)
            yield Disturbance("source breaks", f"{name} {when}", happen)


# -- disks that fail, seen from the pushing process --


def _disk(place: Place, calls: int, path: str, code: int, after: int, times: int) -> Happened:
    failing = FailingCalls(place.library, place.folder)
    with Scene(place.templates, place.folder, own_source=True) as scene:
        failing.fail(calls, path, code=code, after=after, times=times)
        ran, left = scene.ended(scene.start(environment=failing.environment))
        # A log that was damaged twice stays behind, and is told of (protocol/push.md, "Late logs").
        happened = _judged(scene, ran, left, lost="client.log.blob")
        return happened if failing.struck else Happened("did not strike", happened.violations)


def _disks() -> Iterator[Disturbance]:
    what = {
        "opening chunks": (OPEN, "/source/.chunks/"),
        "reading chunks": (READ, "/source/.chunks/"),
        "opening manifests": (OPEN, MANIFEST_NAME),
        "reading manifests": (READ, MANIFEST_NAME),
        "opening indexes": (OPEN, "disk.img.fidx"),
        "reading logs": (READ, "client.log.blob"),
        "opening folders": (OPEN, "/source/vm"),
        "opening owners": (OPEN, "/owner"),
    }
    codes = (errno.EIO, errno.EACCES, errno.EMFILE, errno.ESTALE, errno.ENOMEM)
    for name, (calls, path) in what.items():
        for code in codes:
            for after, times in ((0, 1), (0, 1 << 30), (2, 1 << 30)):
                how = f"{errno.errorcode[code]} {'once' if times == 1 else 'from then on'}"
                text = f"{how} {name}, after {after}"
                happen = partial(_disk, calls=calls, path=path, code=code, after=after, times=times)
                yield Disturbance("disk of the source", text, happen)


# -- full disks --


def _full_output(place: Place) -> Happened:
    with Scene(place.templates, place.folder) as scene, Path("/dev/full").open("w") as full:
        ran, left = scene.ended(scene.start(stdout=full.fileno()))
        return _judged(scene, ran, left)


def _full_here(place: Place, size: int) -> Happened:
    """No file may grow beyond so many bytes on this side."""
    with Scene(place.templates, place.folder) as scene:
        ran, left = scene.ended(scene.start(limits={resource.RLIMIT_FSIZE: size}))
        return _judged(scene, ran, left)


def _full_there(place: Place, calls: int, path: str, code: int, after: int) -> Happened:
    """The target's disk fails its process."""
    failing = FailingCalls(place.library, place.folder)
    with (
        Zygote(failing.environment) as zygote,
        Scene(place.templates, place.folder, zygote=zygote) as scene,
    ):
        failing.fail(calls, path, code=code, after=after)
        ran, left = scene.push("--retries", "2", "--lock-wait", "1")
        failing.stop()
        stores.tidy(scene.target)
        happened = _judged(scene, ran, left)
        return happened if failing.struck else Happened("did not strike", happened.violations)


@contextmanager
def tmpfs(kib: int) -> Iterator[Path | None]:
    """A file system of that size; None where none can be mounted."""
    with tempfile.TemporaryDirectory(prefix="faults-full-") as name:
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", name]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            yield None
            return
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


def _full_tmpfs(place: Place, kib: int) -> Happened:
    """The target's file system has little room; then it is given more."""
    with tmpfs(kib) as room:
        if room is None:
            return Happened("cannot mount", [])
        with Scene(place.templates, place.folder) as scene:
            real = scene.target / ".chunks"
            moved = room / "chunks"
            shutil.copytree(real, moved)
            shutil.rmtree(real)
            real.symlink_to(moved)
            ran, left = scene.push("--retries", "2", "--lock-wait", "1")
            subprocess.run(["mount", "-o", "remount,size=64m", str(room)], check=True)
            return _judged(scene, ran, left)


def _disks_full() -> Iterator[Disturbance]:
    yield Disturbance("full disk", "of what takes the output", _full_output)
    for size in (0, 1, 100, 4096):
        name = f"here: no file beyond {size} bytes"
        yield Disturbance("full disk", name, partial(_full_here, size=size))
    paths = ("/target/.chunks/", "tmp_fidx", "tmp_didx", ".blob", "/target/")
    for path in paths:
        for calls, word in ((WRITE, "writing"), (OPEN, "making")):
            for code in (errno.ENOSPC, errno.EIO):
                for after in (0, 2, 5):
                    text = f"there: {errno.errorcode[code]} {word} {path}, after {after}"
                    happen = partial(_full_there, calls=calls, path=path, code=code, after=after)
                    yield Disturbance("full disk", text, happen)
    for kib in (60, 64, 68, 72, 80, 90):
        yield Disturbance("full disk", f"there: {kib} KiB", partial(_full_tmpfs, kib=kib))


# -- limits --


def _limited(place: Place, which: int, value: int) -> Happened:
    with Scene(place.templates, place.folder) as scene:
        # As ``python -c 'import numpy'`` does with that little, alone: OpenBLAS, which comes with
        # it, does not look at what it got (SIGSEGV at 127.25 MiB, say), or ends the process.
        crashes = {"PYTHONFAULTHANDLER": "1"}
        ran, left = scene.ended(scene.start(limits={which: value}, environment=crashes))
        happened = _judged(scene, ran, left)
        if ran.status < 0 and "/numpy/_core/multiarray.py" not in ran.err:
            happened.violations.append(f"died of signal {-ran.status}: {ran.err[-2000:]}")
        return happened


def _limits() -> Iterator[Disturbance]:
    for files in range(6, 60, 3):
        happen = partial(_limited, which=resource.RLIMIT_NOFILE, value=files)
        yield Disturbance("limit", f"{files} open files", happen)
    for mib in range(60, 480, 6):
        happen = partial(_limited, which=resource.RLIMIT_AS, value=mib * MIB)
        yield Disturbance("limit", f"{mib} MiB of addresses", happen)


# -- signals --

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
SIGNALLED: Final = 200
BOUNDARIES: Final = 180
"""About as many as a push has here."""
STARTS: Final = 20
"""So many of the signals come while the process starts."""
LATER_S: Final = 0.02


def _signalled(place: Place, number: signal.Signals, boundary: int, later_s: float) -> Happened:
    """A signal comes a moment after a boundary of a request; 0 is the start of the process."""
    with Scene(place.templates, place.folder) as scene:
        reached = threading.Event()
        if boundary:
            scene.hook = lambda *_: reached.set() if len(scene.seen) == boundary else None
        process = scene.start()
        while boundary and not reached.wait(0.01) and process.poll() is None:
            pass
        time.sleep(later_s)
        process.send_signal(number)
        ran, left = scene.ended(process)
        happened = _judged(scene, ran, left)
        if not boundary:
            # Python itself ends by a signal that comes before the command is there, with a
            # traceback of what it was importing: only what became of both stores counts.
            told = ("a traceback", "status 1, without a document")
            kept = [one for one in happened.violations if not one.startswith(told)]
            return Happened(happened.outcome, kept)
        if ran.status not in {0, 130, *([-number] if number == signal.SIGKILL else [])}:
            happened.violations.append(f"ended with {ran.status}: {ran.err}")
        return happened


def _signals() -> Iterator[Disturbance]:
    moments = random.Random(17)  # noqa: S311
    for turn in range(SIGNALLED):
        number = SIGNALS[turn % len(SIGNALS)]
        boundary = 0 if turn < STARTS else moments.randrange(1, BOUNDARIES)
        later_s = moments.uniform(0, LATER_S if boundary else 0.2)
        happen = partial(_signalled, number=number, boundary=boundary, later_s=later_s)
        name = f"{number.name} after boundary {boundary} and {later_s:.3f} s"
        yield Disturbance("signal", name, happen)


# -- a target that is killed, and comes back --

REACHED: Final = 2
"""Boundaries before it has answered for the first time."""


def _killed(place: Place, boundary: int, retries: int) -> Happened:
    """It is started again with the next connection; what tries again brings all."""
    with Zygote() as zygote, Scene(place.templates, place.folder, zygote=zygote) as scene:
        served = scene.served
        assert isinstance(served, Elsewhere)
        served.close()
        served.start(kill_at=boundary)
        revived: list[bool] = []

        def revive(_number: int) -> None:
            if not revived and served.child.is_dead():
                revived.append(True)
                served.start()

        scene.line.on_accept = revive
        ran, left = scene.push("--retries", str(retries))
        if not revived:
            served.close()
            served.start()
        stores.tidy(scene.target)
        happened = _judged(scene, ran, left, died=True)
        if retries and ran.status != 0 and boundary > REACHED:
            happened.violations.append(f"ended with {ran.status}, although it passes: {ran.errors}")
        return happened


def _kills() -> Iterator[Disturbance]:
    for boundary in range(1, 200, 3):
        for retries in (25, 0):
            name = f"at boundary {boundary}, retries {retries}"
            happen = partial(_killed, boundary=boundary, retries=retries)
            yield Disturbance("target killed", name, happen)


def all_of_them() -> list[Disturbance]:
    """All, in order."""
    return [*_sources(), *_disks(), *_disks_full(), *_limits(), *_signals(), *_kills()]
