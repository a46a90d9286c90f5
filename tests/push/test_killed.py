"""Whatever is killed, and whenever: a snapshot is whole or does not count as finished.

The target is a process of its own, and dies at every request boundary, and at random moments; so
does the process that pushes. Afterwards the next push makes both sides equal.
"""

from __future__ import annotations

import random
import shutil
import threading
import time as clock
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.faults.stores import half_snapshots, tidy

from pbs_push import Datastore, PushOptions, Target, push
from pbs_push.demo.verify import verify_target
from pbs_push.errors import PbsPushError
from pbs_push.formats.keys import CryptKey
from pbs_push.formats.manifest import Manifest
from pbs_push.names import MANIFEST_NAME, Namespace, Repository
from pbs_push.target import Faults
from pbs_push.target.certificate import self_signed
from pbs_push.target.store import create_datastore

from .world import ME, SECRET, STORE, Store, World, content_of
from .zygote import Child, Zygote

KEY = bytes(range(40, 72))
MOMENTS = 100
SNAPSHOTS = 4
FINE: tuple[int, list[str]] = (0, [])


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as made:
        yield made


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    files = self_signed(tmp_path_factory.mktemp("certificate"))
    return [str(files.certificate), str(files.key)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two groups in two namespaces, a log, both kinds of index, and chunks that stay."""
    store = Store(tmp_path_factory.mktemp("source") / "source")
    store.add("vm/1", 0, client_log=b"log")
    store.add("vm/1", 1, 2, archives={"disk.img.fidx": ("n",), "root.pxar.didx": ("b", "x", "c")})
    store.add("ct/2", 0, ns="a")
    return store.path


@dataclass
class Place:
    """A target's directory, and processes that serve it."""

    zygote: Zygote
    certificate: list[str]
    source: Path
    path: Path
    repository: Repository = field(init=False)
    fingerprint: str = field(init=False)

    def serve(self, kill_at: int | None = None, *, fresh: bool = False) -> Child:
        if fresh:
            shutil.rmtree(self.path, ignore_errors=True)
            create_datastore(self.path, all_chunk_folders=False)
        child = self.zygote.start(
            "serve",
            store=str(self.path),
            me=ME,
            kill_at=kill_at,
            certificate=self.certificate,
            port=0,
        )
        said = child.hear()
        self.repository = Repository.parse(f"{ME}@127.0.0.1:{said['port']}:{STORE}")
        self.fingerprint = said["fingerprint"]
        return child

    def push(self, **options: Any) -> tuple[int, list[str]]:
        """Push from this process; the exit status, and all that failed."""
        with Target(self.repository, SECRET, bytes.fromhex(self.fingerprint)) as target:
            try:
                report = push(
                    Datastore(self.source), target, PushOptions(**{"retries": 0, **options})
                )
            except PbsPushError as error:
                return error.exit_status, [str(error)]
        errors = [str(one.error) for one in report.outcomes if one.error is not None]
        return report.exit_status, errors + [str(one.error) for one in report.problems]

    def check_whole(self) -> None:
        assert half_snapshots(self.path) == []

    def mend(self, enc_key: bytes | None = None) -> None:
        """Push the rest to the target started anew, and compare both sides."""
        tidy(self.path)
        server = self.serve()
        key = None if enc_key is None else CryptKey(enc_key)
        assert self.push(remove_vanished=True, encryption_key=key) == FINE
        server.stop()
        self.check_equal(key)
        assert not list(self.path.rglob("*.tmp_?idx"))

    def check_equal(self, key: CryptKey | None) -> None:
        """Compare all that both sides have; with a key, the contents of the encrypted copies."""
        if key is None:
            report = verify_target(self.source, self.path)
            assert report.problems == ()
            assert (report.snapshots, report.extra_snapshots) == (SNAPSHOTS, 0)
            return
        here, there = (
            {path.parent.relative_to(side) for path in side.rglob(MANIFEST_NAME)}
            for side in (self.source, self.path)
        )
        assert here == there
        for folder in here:
            for info in Manifest.decode((self.path / folder / MANIFEST_NAME).read_bytes()).files:
                copy = content_of(self.path, self.path / folder, info.filename, key)
                ours = content_of(self.source, self.source / folder, info.filename, None)
                assert copy == ours


@pytest.fixture
def place(zygote: Zygote, certificate: list[str], source: Path, tmp_path: Path) -> Place:
    return Place(zygote, certificate, source, tmp_path / "target")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("enc_key", [None, KEY], ids=["plain", "encrypting"])
def test_a_target_that_dies_at_any_request_boundary(place: Place, enc_key: bytes | None) -> None:
    key = None if enc_key is None else CryptKey(enc_key)
    options: dict[str, Any] = {"encryption_key": key, "parallel": 1}
    whole = place.serve(fresh=True)
    assert place.push(**options) == FINE
    whole.stop()
    boundaries = whole.hear()["boundaries"]
    assert boundaries > 60
    for number in range(1, boundaries + 1):
        dying = place.serve(number, fresh=True)
        status, _ = place.push(**options)
        dying.wait()
        assert status != 0 or number == boundaries, f"died at boundary {number}"
        place.check_whole()
        place.mend(enc_key)


@pytest.mark.timeout(300)
def test_a_target_that_dies_at_any_moment(place: Place) -> None:
    moments = random.Random(14)  # noqa: S311
    began = clock.monotonic()
    whole = place.serve(fresh=True)
    assert place.push(parallel=2) == FINE
    lasts_s = clock.monotonic() - began
    whole.stop()
    for _ in range(MOMENTS):
        dying = place.serve(fresh=True)
        timer = threading.Timer(moments.uniform(0, lasts_s), dying.kill)
        timer.start()
        place.push(parallel=2)
        timer.join()
        place.check_whole()
        place.mend()


@pytest.mark.timeout(300)
def test_a_push_that_dies_at_any_moment(place: Place) -> None:
    """The target lives on, and removes what was not finished; then the next push goes on."""
    moments = random.Random(15)  # noqa: S311
    server = place.serve(fresh=True)
    began = clock.monotonic()
    assert place.push(parallel=2) == FINE
    lasts_s = clock.monotonic() - began
    for _ in range(MOMENTS // 2):
        for path in ("vm", "ct", "host", "ns"):
            shutil.rmtree(place.path / path, ignore_errors=True)
        dying = place.zygote.start(
            "push",
            source=str(place.source),
            repository=str(place.repository),
            fingerprint=place.fingerprint,
            options={"parallel": 2},
        )
        assert dying.hear() == {"begun": True}
        clock.sleep(moments.uniform(0, lasts_s))
        dying.kill()
        place.check_whole()
        assert place.push(remove_vanished=True) == FINE
        assert verify_target(place.source, place.path).problems == ()
    server.stop()


# -- others who look on --


def _looking_on(world: World, look: Callable[[], object]) -> tuple[list[int], list[object]]:
    """Push, and look at each request boundary; the statuses of the push, and what was seen."""
    seen: list[object] = []
    looking = threading.Lock()

    def boundary(_kind: str, _handled: bool) -> None:
        if looking.acquire(blocking=False):  # else it is a request of who looks
            try:
                seen.append(look())
            finally:
                looking.release()

    world.serve(faults=Faults(on_request=boundary))
    status = world.push(parallel=1).report.exit_status
    return [status], seen


def test_nobody_sees_a_half_snapshot_as_finished(world: World) -> None:
    """At each request boundary: the disk, a list over REST, another push, one that removes."""
    _fill(world)
    lists: list[int] = []

    def look() -> str:
        problems = half_snapshots(world.there.path)
        with world.target() as target:
            items = target.api.snapshots(Namespace())
        for item in items:
            if item.finished:
                folder = world.there.path / str(item.snapshot)
                names = {file.filename for file in item.files}
                problems += [f"{folder}: {name}" for name in names if not (folder / name).exists()]
        lists.append(len(items))
        return "; ".join(problems)

    statuses, seen = _looking_on(world, look)
    assert statuses == [0]
    assert len(seen) > 60
    assert set(seen) == {""}
    assert max(lists) == 3


@pytest.mark.parametrize("options", [{}, {"remove_vanished": True}])
def test_a_second_push_that_looks_on_disturbs_nothing(
    world: World, options: dict[str, Any]
) -> None:
    _fill(world)
    statuses: set[int] = set()

    def look() -> str:
        with world.target() as target:
            # It shares no lock with the first, and waits for none.
            more = {"group_filters": ["exclude:group:vm/77"], "lock_wait_s": 0, **options}
            report = push(world.datastore(), target, PushOptions(**{"retries": 0, **more}))
        statuses.add(report.exit_status)
        assert report.removed.snapshots == 0
        return "; ".join(half_snapshots(world.there.path))

    first, seen = _looking_on(world, look)
    assert first == [0]
    assert set(seen) == {""}
    assert statuses <= {0, 1, 3}, "locks that it did not wait for"
    assert verify_target(world.source.path, world.there.path).problems == ()


def _fill(world: World) -> None:
    world.source.add("vm/1", 0, 1, client_log=b"log")
    world.source.add("ct/2", 0)
