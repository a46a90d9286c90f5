"""The shared lock of a snapshot: which file, and what happens if another process has it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.errors import SnapshotVanished, SourceError, SourceLocked
from pbs_push.names import Group, Namespace, Snapshot
from pbs_push.source.datastore import Datastore
from pbs_push.source.locks import escape_lock_name, lock_file_path

from .small_store import FIRST, SmallStore, open_files

RUN = Path("/run/pbs")
NAME_OF_FIRST = r"vm-100-2026\x2d05\x2d28T20\x3a00\x3a00Z"


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder as a writer does."""
    locked_fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(locked_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(locked_fd)


def is_locked(path: Path) -> bool:
    try:
        with exclusive(path):
            return False
    except BlockingIOError:
        return True


def test_the_example_of_the_specification() -> None:
    escaped = escape_lock_name("vm/100/2022-05-02T08:11:33Z")
    assert escaped == r"vm-100-2022\x2d05\x2d02T08\x3a11\x3a33Z"


@given(st.lists(st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9._-]*\Z"), min_size=1))
def test_escaping_can_be_undone(parts: list[str]) -> None:
    escaped = escape_lock_name("/".join(parts))
    assert "/" not in escaped
    assert [part.replace(r"\x2d", "-") for part in escaped.split("-")] == parts


def test_lock_file_paths() -> None:
    deep = Namespace.parse("a/b-c")
    group = Group("host", "web-1")
    assert lock_file_path(RUN, "store1", Namespace(), FIRST) == (
        RUN / "locks" / "store1" / NAME_OF_FIRST
    )
    assert lock_file_path(RUN, "store1", deep, group) == (
        RUN / "locks" / "store1" / "a:b-c" / r"host-web\x2d1"
    )


def test_long_names_are_hashed() -> None:
    long = Snapshot(Group("vm", "x" * 300), FIRST.backup_time)
    path = lock_file_path(RUN, "store1", Namespace.parse("a"), long)
    assert path.parent == RUN / "locks" / "store1" / "a" / "hashed"
    end = "x" * 49 + r"-2026\x2d05\x2d28T20\x3a00\x3a00Z"
    hashed = hashlib.sha256(f"vm/{'x' * 300}/2026-05-28T20:00:00Z".encode()).hexdigest()
    assert path.name == f"vm-{'x' * 77}...{end[-80:]}-{hashed}"
    short_enough = Group("vm", "x" * 251)
    assert lock_file_path(RUN, "s", Namespace(), short_enough).name == "vm-" + "x" * 251
    just_too_long = Group("vm", "x" * 252)
    assert lock_file_path(RUN, "s", Namespace(), just_too_long).parent.name == "hashed"


def lock_file(store: SmallStore) -> Path:
    return store.lock_root / "locks" / "store1" / NAME_OF_FIRST


def test_without_pbs_the_folder_is_locked(store: SmallStore) -> None:
    with store.open().open_snapshot(store.first()):
        assert is_locked(store.folder)
        with store.open().open_snapshot(store.first()):
            assert is_locked(store.folder)
    assert not is_locked(store.folder)
    assert not store.lock_root.exists()


def test_with_pbs_4_the_lock_file_is_locked(store: SmallStore) -> None:
    (store.lock_root / "locks").mkdir(parents=True)
    with store.open().open_snapshot(store.first()):
        assert is_locked(lock_file(store))
        assert not is_locked(store.folder)
    assert not is_locked(lock_file(store))
    with store.open().open_snapshot(store.first()):
        assert is_locked(lock_file(store))


def test_in_a_namespace(store: SmallStore) -> None:
    (store.lock_root / "locks").mkdir(parents=True)
    store.write("a/b", "ct/1")
    (group,) = store.open().groups(Namespace.parse("a/b"))
    (item,) = store.open().snapshots(group).snapshots
    with store.open().open_snapshot(item):
        (found,) = (store.lock_root / "locks" / "store1" / "a:b").iterdir()
        assert is_locked(found)


def test_old_locking_after_an_upgrade(store: SmallStore) -> None:
    (store.lock_root / "locks").mkdir(parents=True)
    (store.lock_root / "old-locking").touch()
    with store.open().open_snapshot(store.first()):
        assert is_locked(store.folder)
        assert not lock_file(store).exists()


def test_a_pbs_that_may_be_3_or_4_gets_both(store: SmallStore) -> None:
    store.lock_root.mkdir()
    with store.open().open_snapshot(store.first()):
        assert is_locked(store.folder)
        assert is_locked(lock_file(store))


def test_no_lock_if_not_asked_for(store: SmallStore) -> None:
    with store.open().open_snapshot(store.first(), lock=False):
        assert not is_locked(store.folder)


def test_a_locked_folder(store: SmallStore) -> None:
    item = store.first()
    with exclusive(store.folder), pytest.raises(SourceLocked, match="locked by another") as caught:
        store.open().open_snapshot(item)
    assert caught.value.retryable
    with store.open().open_snapshot(item):
        pass


def test_a_locked_lock_file(store: SmallStore) -> None:
    lock_file(store).parent.mkdir(parents=True)
    lock_file(store).touch()
    with exclusive(lock_file(store)), pytest.raises(SourceLocked):
        store.open().open_snapshot(store.first())


def test_another_process_holds_the_lock(store: SmallStore) -> None:
    program = (
        "import fcntl, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "fcntl.flock(fd, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, store.folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(SourceLocked):
            store.open().open_snapshot(store.first())


def test_a_lock_file_removed_meanwhile(store: SmallStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who removes a snapshot removes its lock file too: then our lock is on nothing."""
    (store.lock_root / "locks").mkdir(parents=True)
    item = store.first()
    flock = fcntl.flock

    def flock_and_lose(locked_fd: int, operation: int) -> None:
        flock(locked_fd, operation)
        lock_file(store).unlink()

    monkeypatch.setattr(fcntl, "flock", flock_and_lose)
    before = open_files()
    with pytest.raises(SourceLocked):
        store.open().open_snapshot(item)
    assert open_files() == before


@pytest.mark.parametrize("replaced", [False, True])
def test_a_snapshot_removed_while_it_was_locked(
    store: SmallStore, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    item = store.first()
    flock = fcntl.flock

    def flock_too_late(locked_fd: int, operation: int) -> None:
        store.folder.rename(store.path / "removed")
        if replaced:
            store.folder.mkdir()
        flock(locked_fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock_too_late)
    with pytest.raises(SnapshotVanished):
        store.open().open_snapshot(item)


def test_a_lock_file_that_cannot_be_made(store: SmallStore) -> None:
    store.lock_root.mkdir()
    (store.lock_root / "locks").touch()
    with pytest.raises(SourceError, match=r"lock source snapshot .*: cannot open .*users'"):
        store.open().open_snapshot(store.first())


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP])
@pytest.mark.parametrize("pbs", [True, False], ids=["with a PBS", "without a PBS"])
def test_a_file_system_without_locks(
    store: SmallStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, *, pbs: bool
) -> None:
    """It is none where a PBS runs: that would take its own locks for granted."""

    def none(_descriptor: int, _operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", none)
    lock_root = tmp_path / "run"
    if pbs:
        lock_root.mkdir()
        (lock_root / "old-locking").touch()  # then folders are locked, as here
    opened = Datastore(store.path, lock_root=lock_root)
    if pbs:
        with pytest.raises(SourceError) as caught:
            opened.open_snapshot(store.first())
        assert caught.value.may_pass
        return
    with opened.open_snapshot(store.first()) as snapshot:
        assert not snapshot.locked
