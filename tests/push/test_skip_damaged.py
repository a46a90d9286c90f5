"""``--skip-damaged``: one damaged snapshot does not end its group for ever."""

from __future__ import annotations

import codecs
import ctypes
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pbs_push import Datastore, Result, Skip
from pbs_push.formats.keys import CryptKey
from pbs_push.push.outcome import Outcome

from .world import Pushed, World

LOST = {"disk.img.fidx": ("a",), "root.pxar.didx": ("b", "lost")}
KEY = CryptKey(bytes(range(32)))

FLIP = -1
SYS_SETRESUID = 117


def _flip(world: World) -> None:
    path = world.source.chunk_of("lost")
    content = bytearray(path.read_bytes())
    content[FLIP] ^= 1
    path.write_bytes(content)


def _index(world: World) -> None:
    path = world.source.folder("vm/1", 0) / "root.pxar.didx"
    content = bytearray(path.read_bytes())
    content[FLIP] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[World], object], str]] = {
    "a chunk is missing": (lambda world: world.source.chunk_of("lost").unlink(), "root.pxar.didx"),
    "a chunk is corrupt": (_flip, "root.pxar.didx"),
    "a chunk was set aside": (
        lambda world: (path := world.source.chunk_of("lost")).rename(f"{path}.0.bad"),
        "renamed it to .bad",
    ),
    "an index is missing": (
        lambda world: (world.source.folder("vm/1", 0) / "root.pxar.didx").unlink(),
        "file root.pxar.didx is missing",
    ),
    "an index is damaged": (_index, "root.pxar.didx: the index is damaged"),
    "a blob is damaged": (
        lambda world: (world.source.folder("vm/1", 0) / "some.conf.blob").write_bytes(b"x"),
        "some.conf.blob",
    ),
}


def damaged(world: World, damage: str) -> str:
    world.source.add("vm/1", 0, archives=LOST)
    world.source.add("vm/1", 1, 2)
    world.source.add("vm/2", 0)
    do, words = DAMAGES[damage]
    do(world)
    return words


def failed(done: Pushed) -> Outcome:
    (found,) = (one for one in done.report.outcomes if one.result is Result.FAILED)
    return found


@pytest.mark.parametrize("options", [{}, {"encryption_key": KEY}], ids=["plain", "encrypting"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_without_it_the_group_stops_and_the_option_is_named(
    world: World, damage: str, options: dict[str, Any]
) -> None:
    words = damaged(world, damage)
    for _ in range(2):
        done = world.push(**options)
        assert words in str(failed(done).error)
        assert done.report.skips == {Skip.NOT_TRIED: 2}
        assert done.told("--skip-damaged would leave it behind for good") == 1
        assert done.report.exit_status == 3
    assert world.there.times("vm/1") == []
    assert world.there.times("vm/2") == [0]


@pytest.mark.parametrize("options", [{}, {"encryption_key": KEY}], ids=["plain", "encrypting"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_with_it_the_group_goes_on(world: World, damage: str, options: dict[str, Any]) -> None:
    words = damaged(world, damage)
    done = world.push(skip_damaged=True, **options)
    assert words in str(failed(done).error)
    assert done.report.counts == {Result.PUSHED: 3, Result.FAILED: 1}
    assert done.told("left behind, since it is damaged at the source") == 1
    assert done.report.exit_status == 3, "in the run that leaves it behind"
    assert world.there.times("vm/1") == [1, 2]
    assert world.push(skip_damaged=True, **options).report.exit_status == 0


def test_it_is_looked_at_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that is there on a second look is not damage."""
    world.source.add("vm/1", 0, archives=LOST)
    world.source.add("vm/1", 1, 2)
    path = world.source.chunk_of("lost")
    away = path.rename(world.folder / "away")
    real = Datastore.read_chunk

    def mended(self: Datastore, digest: bytes, *rest: int) -> bytes:
        away.rename(path)
        return real(self, digest, *rest)

    monkeypatch.setattr(Datastore, "read_chunk", mended)
    done = world.push(skip_damaged=True)
    assert done.report.counts == {Result.PUSHED: 3}
    assert done.report.exit_status == 0
    assert world.there.times("vm/1") == [0, 1, 2]


def readable_by_all(world: World) -> None:
    for folder in (world.folder, *world.folder.parents[:-1]):
        folder.chmod(folder.stat().st_mode | 0o55)
    for path in (world.source.path, *world.source.path.rglob("*")):
        path.chmod(path.stat().st_mode | (0o55 if path.is_dir() else 0o44))


@contextmanager
def as_nobody() -> Iterator[None]:
    """Take its rights from this thread, and from those that it starts, but not from the target's.

    glibc would change all threads of the process.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def become(user: int) -> None:
        assert libc.syscall(SYS_SETRESUID, -1, user, -1) == 0

    become(65534)
    try:
        yield
    finally:
        become(0)


@pytest.mark.skipif(
    os.geteuid() != 0 or platform.machine() != "x86_64",
    reason="takes root, and its own system call",
)
@pytest.mark.parametrize("options", [{}, {"encryption_key": KEY}], ids=["plain", "encrypting"])
def test_an_unreadable_chunk_folder_is_not_missing(world: World, options: dict[str, Any]) -> None:
    """A later push may read it: the group stops, whatever was asked for."""
    world.source.add("vm/1", 0, archives=LOST)
    world.source.add("vm/1", 1)
    world.source.add("vm/2", 0)
    world.push(group_filters=["group:vm/2"], **options)  # imports what it needs, as root
    codecs.lookup("ascii")
    folder = world.source.chunk_of("lost").parent
    readable_by_all(world)
    mode = folder.stat().st_mode
    folder.chmod(0)
    with as_nobody():
        done = world.push(skip_damaged=True, **options)
    folder.chmod(mode)
    error = failed(done).error
    assert error is not None
    assert "missing" not in str(error)
    assert "root.pxar.didx: unreadable: Permission denied" in str(error)
    assert not error.damage
    assert world.there.times("vm/1") == [], "it waits for the next push"
    assert done.told("--skip-damaged") == 0
    assert world.push(**options).report.exit_status == 0
    assert world.there.times("vm/1") == [0, 1]
