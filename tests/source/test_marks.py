"""Marks that protect snapshots until they are copied: whose they are, and what befalls them."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.errors import SnapshotVanished, SourceError, SourceLocked
from pbs_push.source import marks as marks_module
from pbs_push.source.items import SourceSnapshot
from pbs_push.source.marks import protection_in

from .small_store import SECOND, SmallStore, open_files
from .test_locks import exclusive

A, B = "a.example:8007:tank", "b.example:8007:tank:x/y"


def item(store: SmallStore) -> SourceSnapshot:
    """The second snapshot, which nobody protects."""
    return store.open().snapshots(store.group()).snapshots[1]


def mark_of(store: SmallStore) -> Path:
    return store.path / str(SECOND) / ".protected"


def waits(store: SmallStore) -> tuple[str, ...]:
    found = item(store)
    assert not found.protected, "no mark of ours is taken for a user's"
    return found.waits_for


def test_each_place_has_its_own_mark(store: SmallStore) -> None:
    marks, before = store.open().marks(), open_files()
    assert marks.set(item(store), A)
    assert waits(store) == (A,)
    assert not marks.set(item(store), A), "it has that one"
    assert marks.set(item(store), B)
    assert waits(store) == (A, B)
    assert not marks.take_away(item(store), "c.example:8007:tank")
    assert marks.take_away(item(store), A)
    assert waits(store) == (B,)
    assert mark_of(store).exists(), "prune still leaves it alone"
    assert marks.take_away(item(store), B)
    assert not mark_of(store).exists()
    assert not marks.take_away(item(store), B)
    assert open_files() == before
    assert not list(mark_of(store).parent.glob(".protected*"))


@pytest.mark.parametrize("place", ["", "a b", "a\nb", "ä"])
def test_what_is_no_place(store: SmallStore, place: str) -> None:
    with pytest.raises(ValueError, match="cannot be the place of a mark"):
        store.open().marks().set(item(store), place)


def test_it_says_to_people_what_it_is(store: SmallStore) -> None:
    store.open().marks().set(item(store), B)
    text = mark_of(store).read_text()
    assert text == f"Kept by pbs-push until it is copied to\n{B}\n"


def test_mode_and_owner_are_as_the_server_has_them(store: SmallStore) -> None:
    if os.geteuid() == 0:
        os.chown(mark_of(store).parent, 34, 34)
    before = os.umask(0o077)
    try:
        store.open().marks().set(item(store), A)
    finally:
        os.umask(before)
    found, folder = mark_of(store).stat(), mark_of(store).parent.stat()
    assert found.st_mode & 0o777 == 0o644
    assert (found.st_uid, found.st_gid) == (folder.st_uid, folder.st_gid)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"mine\n",
        b"Kept by pbs-push until it is copied to\n",
        b"\xff",
        b"x" * 99_999,
    ],
    ids=["empty", "text", "no place", "bytes", "long"],
)
def test_what_somebody_else_protects_is_left_alone(store: SmallStore, content: bytes) -> None:
    mark_of(store).write_bytes(content)
    found = item(store)
    assert (found.protected, found.waits_for) == (True, ())
    assert not store.open().marks().set(found, A)
    assert not store.open().marks().take_away(found, A)
    assert mark_of(store).read_bytes() == content


def test_a_mark_that_a_user_takes_over_is_the_users(store: SmallStore) -> None:
    marks = store.open().marks()
    marks.set(item(store), A)
    mark_of(store).open("w").close()  # as PBS protects it
    assert item(store).protected
    assert not marks.take_away(item(store), A)
    assert mark_of(store).exists()


def test_one_that_a_user_ends_is_not_missed(store: SmallStore) -> None:
    marks = store.open().marks()
    marks.set(item(store), A)
    mark_of(store).unlink()
    assert not marks.take_away(item(store), A)


@pytest.mark.parametrize("kind", ["link", "folder", "fifo"])
def test_what_is_no_file_is_not_touched(store: SmallStore, kind: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("kept")
    mark = mark_of(store)
    {"link": lambda: mark.symlink_to(other), "folder": mark.mkdir, "fifo": lambda: os.mkfifo(mark)}[
        kind
    ]()
    found = item(store)
    assert not found.protected
    assert not store.open().marks().set(found, A)
    assert not store.open().marks().take_away(found, A)
    assert os.path.lexists(mark)
    assert other.read_text() == "kept"


def test_a_snapshot_that_is_read_can_be_marked(store: SmallStore) -> None:
    with store.open().open_snapshot(item(store)):
        assert store.open().marks().set(item(store), A)


def test_one_that_is_written_or_removed_is_left_alone(store: SmallStore) -> None:
    with exclusive(store.path / str(SECOND)), pytest.raises(SourceLocked):
        store.open().marks().set(item(store), A)
    assert not mark_of(store).exists()


def test_the_servers_lock_is_held_while_it_is_changed(
    store: SmallStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []
    fsync = os.fsync

    def looking(written_fd: int) -> None:
        with pytest.raises(BlockingIOError), exclusive(store.path / str(SECOND)):
            pass  # so prune, and a user's change, wait
        refused.append(True)
        fsync(written_fd)

    monkeypatch.setattr(os, "fsync", looking)
    store.open().marks().set(item(store), A)
    assert refused == [True]


def test_one_that_is_gone(store: SmallStore) -> None:
    found = item(store)
    (store.path / str(SECOND)).rename(store.path / "elsewhere")
    with pytest.raises(SnapshotVanished):
        store.open().marks().set(found, A)


def test_what_cannot_be_written_is_told(store: SmallStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    found = item(store)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SourceError, match=r"protect source snapshot .*No space left on device"):
        store.open().marks().set(found, A)
    assert not list(mark_of(store).parent.glob(".protected*"))


def test_a_mark_that_another_push_holds(store: SmallStore, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = store.open().marks()
    marks.set(item(store), A)
    monkeypatch.setattr(marks_module, "_PAUSE_S", 0)
    with exclusive(mark_of(store)), pytest.raises(SourceLocked, match="another push holds"):
        marks.set(item(store), B)
    assert waits(store) == (A,)


@pytest.mark.parametrize("errno", [37, 95])
def test_a_file_system_without_locks(
    store: SmallStore, monkeypatch: pytest.MonkeyPatch, errno: int
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno, "no locks")

    marks = store.open().marks()
    monkeypatch.setattr(fcntl, "flock", none)
    assert marks.set(item(store), A)
    assert marks.set(item(store), B)
    assert marks.take_away(item(store), A)
    assert waits(store) == (B,)


@pytest.mark.parametrize("when", ["opened", "locked"])
def test_a_mark_that_goes_while_it_is_looked_at(
    store: SmallStore, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    marks = store.open().marks()
    marks.set(item(store), A)
    place, name = (os, "open") if when == "opened" else (fcntl, "flock")
    call = getattr(place, name)

    def gone_before(*given: object, **more: object) -> object:
        if given[0] == ".protected" or (when == "locked" and given[1] & fcntl.LOCK_EX):  # type: ignore[operator]
            mark_of(store).unlink(missing_ok=True)
        return call(*given, **more)

    monkeypatch.setattr(place, name, gone_before)
    assert marks.set(item(store), B)
    monkeypatch.undo()
    assert waits(store) == (B,)


def test_a_lock_that_fails(store: SmallStore, monkeypatch: pytest.MonkeyPatch) -> None:
    marks, flock = store.open().marks(), fcntl.flock
    marks.set(item(store), A)

    def fails(locked_fd: int, how: int) -> None:
        if how & fcntl.LOCK_EX:
            raise OSError(5, "Input/output error")
        flock(locked_fd, how)

    monkeypatch.setattr(fcntl, "flock", fails)
    with pytest.raises(SourceError, match="Input/output error"):
        marks.set(item(store), B)
    assert waits(store) == (A,)


def test_many_at_once_lose_nothing(store: SmallStore) -> None:
    places = [f"host{number}:8007:tank" for number in range(6)]
    marks, found = store.open().marks(), item(store)

    def come_and_go(place: str) -> None:
        for _ in range(3):
            assert marks.set(found, place)
            assert marks.take_away(found, place)
        assert marks.set(found, place)

    threads = [threading.Thread(target=come_and_go, args=(place,)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits(store)) == sorted(places)


_KILLED = """
import os, signal, sys
from pathlib import Path
from pbs_push.source.datastore import Datastore

store = Datastore(sys.argv[1], name="store1", lock_root=Path(sys.argv[2]))
(group,) = store.groups(store.namespaces()[0])
item = store.snapshots(group).snapshots[1]
call = getattr(os, sys.argv[3])
def killed(*given, **more):
    if sys.argv[4] == "after":
        call(*given, **more)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, sys.argv[3], killed)
store.marks().set(item, sys.argv[5])
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["write", "fsync", "link", "unlink"])
def test_killed_at_any_step(store: SmallStore, call: str, when: str) -> None:
    told = [sys.executable, "-c", _KILLED, store.path, store.lock_root, call, when, A]
    assert subprocess.run(told, check=False).returncode == -signal.SIGKILL
    marked = waits(store)
    assert marked == ((A,) if call == "unlink" or (call, when) == ("link", "after") else ())
    folder = mark_of(store).parent
    for left in folder.glob(".protected.tmp_*"):
        os.utime(left, (0, time.time() - 61))
    marks = store.open().marks()
    marks.set(item(store), B)
    assert marks.take_away(item(store), A) == bool(marked)
    assert marks.take_away(item(store), B)
    assert not list(folder.glob(".protected*")), "the next push cleans"


def test_may_it_be_written_to(store: SmallStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.open().marks().may_set(item(store))
    asked = []

    def read_only(path: Path, mode: int, *, effective_ids: bool) -> bool:
        asked.append((path, mode, effective_ids))
        return False

    monkeypatch.setattr(os, "access", read_only)
    assert not store.open().marks().may_set(item(store))
    assert asked == [(store.path / str(SECOND), os.W_OK | os.X_OK, True)]


@given(
    st.binary(max_size=200) | st.text().map(lambda text: f"{marks_module._HEAD}\n{text}".encode())
)
def test_any_bytes_are_a_users_or_whole_marks(content: bytes) -> None:
    places = marks_module._parsed(content)
    if places is not None:
        assert places
        assert content == "".join(f"{line}\n" for line in (marks_module._HEAD, *places)).encode()


def test_a_mark_that_cannot_be_read_is_a_users(
    store: SmallStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.open().marks().set(item(store), A)

    def denied(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(marks_module, "read_file", denied)
    folder_fd = os.open(mark_of(store).parent.parent, os.O_RDONLY)
    try:
        assert protection_in(SECOND.time_text, folder_fd) == (True, ())
    finally:
        os.close(folder_fd)
