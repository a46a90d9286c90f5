"""The verification as a whole: each chunk once, what is no damage, ends before the time."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pbs_push import (
    Cancelled,
    SnapshotVerified,
    SourceError,
    Verdict,
    VerifyBegan,
    VerifyEvent,
    VerifyOptions,
    VerifyProgress,
    verify_source,
)
from pbs_push.access.filters import GroupFilter, GroupFilters
from pbs_push.errors import ConfigError
from pbs_push.formats import chunk_files
from pbs_push.names import Namespace
from pbs_push.verify import chunks, walk

from .conftest import ARCHIVES, Place


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    counted: Counter[str] = Counter()

    def read(fd: int, digest: bytes, path: str, memory: bytearray) -> int:
        counted[digest.hex()] += 1
        return chunk_files.read_chunk_into(fd, digest, path, memory)

    monkeypatch.setattr(chunks, "read_chunk_into", read)
    return counted


def nothing_left(place: Place, open_below: Callable[[Path], list[str]]) -> bool:
    names = [thread.name for thread in threading.enumerate()]
    return open_below(place.source.path) == [] and "verify" not in names


def test_a_sample_is_all_right(
    sample_datastore: Path, open_below: Callable[[Path], list[str]]
) -> None:
    events: list[VerifyEvent] = []
    report = verify_source(sample_datastore, VerifyOptions(parallel=3), events.append)
    assert report.verdicts == {Verdict.OK: 25, Verdict.NOT_CHECKED: 1}
    assert report.exit_status == 0
    assert open_below(sample_datastore) == []
    assert isinstance(events[0], VerifyBegan)
    assert events[0].snapshots == sum(isinstance(event, SnapshotVerified) for event in events)


def test_what_a_real_server_wrote(reference_datastore: Path) -> None:
    report = verify_source(reference_datastore)
    assert report.damaged_chunks == []
    assert report.damaged_files == []


@pytest.mark.parametrize("parallel", [1, 2, 16])
def test_each_chunk_is_read_once(place: Place, reads: Counter[str], parallel: int) -> None:
    pieces = [f"piece {number}" for number in range(50)]
    for number in range(6):
        archives = {"a.pxar.didx": pieces[number * 8 :], "b.img.fidx": (pieces[0],)}
        place.source.add("vm/1", number, archives=archives)
        place.source.add("vm/2", number, ns="a/b", archives=archives)
    report = place.verify(parallel=parallel)
    assert set(reads) == {path.name for path in place.source.chunk_files()}
    assert set(reads.values()) == {1}
    assert report.chunks.ok == len(reads)
    assert report.chunks.read_bytes == sum(
        path.stat().st_size for path in place.source.chunk_files()
    )
    assert report.verdicts == {Verdict.OK: 12}


def test_no_more_waits_than_may(
    place: Place, monkeypatch: pytest.MonkeyPatch, reads: Counter[str]
) -> None:
    monkeypatch.setattr(chunks, "WAITING", 4)
    monkeypatch.setattr(walk, "MOST_OPEN", 2)
    monkeypatch.setattr("pbs_push.verify.snapshots.BLOCK", 3)
    for number in range(5):
        pieces = [f"{number} {piece}" for piece in range(30)]
        place.source.add("vm/1", number, archives={"a.pxar.didx": pieces})
    report = place.verify()
    assert report.chunks.ok == len(reads) == 150
    assert any(isinstance(event, VerifyProgress) for event in place.events)


def test_what_is_asked_for(place: Place) -> None:
    place.source.add("vm/1", 0)
    place.source.add("ct/1", 0)
    place.source.add("vm/1", 0, ns="a")
    place.source.add("vm/1", 0, ns="a/b")
    assert place.verify(namespace=Namespace.parse("a")).verdicts[Verdict.OK] == 2
    assert place.verify(namespace=Namespace.parse("a"), max_depth=0).verdicts[Verdict.OK] == 1
    filters = GroupFilters((GroupFilter.parse("type:ct"),))
    assert place.verify(group_filters=filters).groups == 1
    with pytest.raises(ConfigError, match="has no namespace z"):
        place.verify(namespace=Namespace.parse("z"))


@pytest.mark.parametrize("wrong", [{"parallel": 0}, {"parallel": 257}, {"max_depth": 8}])
def test_wrong_options(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        VerifyOptions(**wrong)  # type: ignore[arg-type]


def test_what_is_in_progress_is_no_damage(place: Place) -> None:
    folder = place.source.add("vm/1", 0)
    (folder / "index.json.blob").unlink()
    report = place.verify()
    assert report.verdicts == {Verdict.IN_PROGRESS: 1}
    assert (report.exit_status, report.not_ok) == (0, [])


def removed_by(place: Place, what: Callable[[], object]) -> Callable[[VerifyEvent], None]:
    """A listener that does this once everything was listed."""

    def listener(event: VerifyEvent) -> None:
        place.events.append(event)
        if isinstance(event, VerifyBegan):
            what()

    return listener


def test_a_snapshot_that_vanishes_is_no_damage(place: Place) -> None:
    folder = place.source.add("vm/1", 0)
    place.source.add("vm/1", 1)
    report = place.verification(removed_by(place, partial(shutil.rmtree, folder))).run()
    assert report.verdicts == {Verdict.VANISHED: 1, Verdict.OK: 1}
    assert report.exit_status == 0


def test_one_whose_manifest_went_first(place: Place) -> None:
    folder = place.source.add("vm/1", 0)
    listener = removed_by(place, (folder / "index.json.blob").unlink)
    assert place.verification(listener).run().verdicts == {Verdict.VANISHED: 1}


def test_one_that_vanishes_with_its_chunks_while_they_are_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where nobody heeds locks: a chunk is missing, but nothing is left that needs it."""
    folder = place.source.add("vm/1", 0)
    place.source.add("vm/2", 0, archives={"root.pxar.didx": ("other",)})
    chunk = place.source.chunk_of("b")

    def read(fd: int, digest: bytes, path: str, memory: bytearray) -> int:
        if digest.hex() == chunk.name:
            shutil.rmtree(folder, ignore_errors=True)
            chunk.unlink(missing_ok=True)
        return chunk_files.read_chunk_into(fd, digest, path, memory)

    monkeypatch.setattr(chunks, "read_chunk_into", read)
    report = place.verify()
    assert report.verdicts == {Verdict.VANISHED: 1, Verdict.OK: 1}
    assert report.damaged_chunks == []
    assert (report.chunks.damaged, report.exit_status) == (0, 0)


def test_one_that_is_locked_is_looked_at_again_and_told(place: Place) -> None:
    folders = [place.source.add("vm/1", number) for number in (0, 1)]
    held = [os.open(folder, os.O_RDONLY) for folder in folders]
    for fd in held:
        fcntl.flock(fd, fcntl.LOCK_EX)

    def listener(event: VerifyEvent) -> None:
        if isinstance(event, VerifyBegan):
            return
        if held and isinstance(event, VerifyProgress):  # the first round is over
            os.close(held.pop(0))

    report = place.verification(listener).run()
    for fd in held:
        os.close(fd)
    assert report.verdicts == {Verdict.OK: 1, Verdict.LOCKED: 1}
    assert report.exit_status == 0


def test_a_snapshot_is_locked_while_its_chunks_are_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place.source.add("vm/1", 0)
    refused = []

    def read(fd: int, digest: bytes, path: str, memory: bytearray) -> int:
        lock_fd = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            refused.append(digest)
        finally:
            os.close(lock_fd)
        return chunk_files.read_chunk_into(fd, digest, path, memory)

    monkeypatch.setattr(chunks, "read_chunk_into", read)
    place.verify()
    assert len(refused) == 3


def test_a_source_that_is_gone_is_an_error_and_no_damage(
    place: Place, tmp_path: Path, open_below: Callable[[Path], list[str]]
) -> None:
    place.source.add("vm/1", 0)
    listener = removed_by(place, lambda: place.source.path.rename(tmp_path / "elsewhere"))
    verification = place.verification(listener)
    with pytest.raises(SourceError, match=r"is not what it was in the beginning|chunk store"):
        verification.run()
    assert verification.report.damaged_chunks == []
    assert verification.report.exit_status == 1
    assert nothing_left(place, open_below)


def failing(code: int, times: int) -> Callable[[int, bytes, str, bytearray], int]:
    from pbs_push import ChunkError

    left = Counter[bytes]()

    def read(fd: int, digest: bytes, path: str, memory: bytearray) -> int:
        left[digest] += 1
        if left[digest] <= times:
            text = f"unreadable: {os.strerror(code)}"
            raise ChunkError(digest.hex(), path, text, fault="unreadable", errno=code)
        return chunk_files.read_chunk_into(fd, digest, path, memory)

    return read


def test_an_error_of_the_disk_twice_is_damage(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.source.add("vm/1", 0, archives=ARCHIVES)
    monkeypatch.setattr(chunks, "read_chunk_into", failing(errno.EIO, 1))
    assert place.verify().exit_status == 0
    monkeypatch.setattr(chunks, "read_chunk_into", failing(errno.EIO, 2))
    assert [one.fault for one in place.verify().damaged_chunks] == ["unreadable"] * 3


@pytest.mark.parametrize("code", [errno.EACCES, errno.EMFILE])
def test_an_error_that_is_not_the_chunks_ends_it(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    open_below: Callable[[Path], list[str]],
    code: int,
) -> None:
    place.source.add("vm/1", 0, archives=ARCHIVES)
    monkeypatch.setattr(chunks, "read_chunk_into", failing(code, 9))
    verification = place.verification()
    with pytest.raises(SourceError, match="unreadable"):
        verification.run()
    assert verification.report.exit_status == 1
    assert verification.report.damaged is False
    assert nothing_left(place, open_below)


def test_a_manifest_that_may_not_be_read_ends_it(
    place: Place, no_free_descriptor: Callable[[], object]
) -> None:
    place.source.add("vm/1", 0)
    verification = place.verification()
    with no_free_descriptor(), pytest.raises(SourceError):  # type: ignore[attr-defined]
        verification.run()


def test_an_index_that_shrinks_is_damage_of_the_index_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place.source.add("vm/1", 0, archives={"a.pxar.didx": [str(n) for n in range(200)]})

    def read(fd: int, digest: bytes, path: str, memory: bytearray) -> int:
        os.truncate(folder / "a.pxar.didx", 0)
        return chunk_files.read_chunk_into(fd, digest, path, memory)

    monkeypatch.setattr(chunks, "read_chunk_into", read)
    place.source.chunk_of("7").unlink()
    report = place.verify()
    assert [one.place.filename for one in report.damaged_files] == ["a.pxar.didx"]
    assert report.damaged_chunks == []


def test_cancelled_while_chunks_are_read(
    place: Place, monkeypatch: pytest.MonkeyPatch, open_below: Callable[[Path], list[str]]
) -> None:
    place.source.add("vm/1", 0, archives={"a.pxar.didx": [str(n) for n in range(30)]})
    verification = place.verification()

    def read(fd: int, digest: bytes, path: str, memory: bytearray) -> int:
        verification.cancel()
        return chunk_files.read_chunk_into(fd, digest, path, memory)

    monkeypatch.setattr(chunks, "read_chunk_into", read)
    with pytest.raises(Cancelled):
        verification.run()
    assert verification.report.verdicts == {}
    assert nothing_left(place, open_below)


def test_a_listener_that_fails_ends_it(
    place: Place, open_below: Callable[[Path], list[str]]
) -> None:
    place.source.add("vm/1", 0)

    def listener(event: VerifyEvent) -> None:
        if isinstance(event, SnapshotVerified):
            raise OverflowError("of the listener's own")

    with pytest.raises(OverflowError, match="own"):
        place.verification(listener).run()
    assert nothing_left(place, open_below)


def test_threads_that_cannot_be_had(
    place: Place, monkeypatch: pytest.MonkeyPatch, open_below: Callable[[Path], list[str]]
) -> None:
    place.source.add("vm/1", 0)
    real, started = threading.Thread.start, []

    def start(self: threading.Thread) -> None:
        started.append(self)
        if len(started) > 1:
            raise RuntimeError("can't start new thread")
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="thread"):
        place.verify()
    assert nothing_left(place, open_below)


def test_a_group_that_cannot_be_read_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from pbs_push.source import datastore

    place.source.add("vm/1", 0)
    place.source.add("vm/2", 0)
    real = datastore._snapshots_in

    def snapshots_in(namespace: object, group: object, fd: int) -> object:
        if str(group) == "vm/1":
            raise OSError(errno.EIO, "Input/output error")
        return real(namespace, group, fd)  # type: ignore[arg-type]

    monkeypatch.setattr(datastore, "_snapshots_in", snapshots_in)
    report = place.verify()
    assert [one.what for one in report.unlisted] == ["source group vm/1"]
    assert (report.exit_status, report.verdicts) == (3, {Verdict.OK: 1})
