"""A verification that ended before its time: the next one reads what was not read, no more."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pbs_push import Cancelled, Note, VerifyBegan, VerifyEvent, VerifyProgress
from pbs_push.errors import ConfigError
from pbs_push.formats import chunk_files
from pbs_push.verify import chunks, record

from .conftest import Place

PIECES = [f"piece {number}" for number in range(40)]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each chunk was read."""
    counted: Counter[str] = Counter()

    def read(fd: int, digest: bytes, path: str, memory: bytearray) -> int:
        counted[digest.hex()] += 1
        return chunk_files.read_chunk_into(fd, digest, path, memory)

    monkeypatch.setattr(chunks, "read_chunk_into", read)
    return counted


@pytest.fixture
def many(place: Place) -> Place:
    for number in range(8):
        pieces = PIECES[number * 5 : number * 5 + 6]
        place.source.add("vm/1", number, archives={"root.pxar.didx": pieces})
    return place


def stopped_after(number: int, place: Place, **options: object) -> None:
    """Cancel behind the first snapshots."""
    seen = 0

    def listener(event: VerifyEvent) -> None:
        nonlocal seen
        seen += type(event).__name__ == "SnapshotVerified"
        if seen >= number:
            verification.cancel()

    verification = place.verification(listener, **options)
    with pytest.raises(Cancelled):
        verification.run()
    assert verification.report.exit_status == 130


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def a_snapshot_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbs_push.verify.walk.MOST_OPEN", 0)


@pytest.mark.usefixtures("a_snapshot_at_once")
def test_the_second_run_reads_the_rest(many: Place, state: Path, reads: Counter[str]) -> None:
    stopped_after(3, many, state_file=state)
    first = dict(reads)
    assert 16 <= len(first) < 40
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    report = many.verify(state_file=state)
    assert set(reads.values()) == {1}, "each chunk once over both"
    assert len(reads) == 40
    assert report.chunks.resumed == len(first)
    assert report.chunks.ok == 40 - len(first)
    assert not state.exists(), "it was all"
    begins = [event for event in many.events if isinstance(event, VerifyBegan)]
    assert [event.resumed for event in begins] == [len(first)]
    assert len(list(state.parent.glob(".state*"))) == 0


@pytest.mark.usefixtures("a_snapshot_at_once")
def test_what_was_damaged_is_read_again_and_told_again(
    many: Place, state: Path, reads: Counter[str]
) -> None:
    bad = many.source.chunk_of(PIECES[0])
    bad.unlink()
    stopped_after(3, many, state_file=state)
    report = many.verify(state_file=state)
    assert [one.digest_hex for one in report.damaged_chunks] == [bad.name]
    assert reads[bad.name] == 4, "twice in each run"
    assert report.exit_status == 3
    assert not state.exists()


@pytest.mark.usefixtures("a_snapshot_at_once")
def test_a_key_that_comes_later_reads_what_could_not_be_checked(
    place: Place, state: Path, reads: Counter[str]
) -> None:
    place.source.add("vm/1", 0, encrypted=True, archives={"root.pxar.didx": ("a", "b")})
    place.source.add("vm/1", 1, archives={"root.pxar.didx": ("a", "b")})
    stopped_after(1, place, state_file=state)
    report = place.verify(state_file=state, key=place.source.key)
    assert report.chunks.ok >= 2
    assert report.exit_status == 0
    assert max(reads.values()) == 2


def test_it_is_written_now_and_then(many: Place, state: Path) -> None:
    sizes: set[int] = set()

    def listener(event: VerifyEvent) -> None:
        if isinstance(event, VerifyProgress) and state.exists():
            sizes.add(state.stat().st_size)

    many.verification(listener, state_file=state, save_every_s=0, parallel=1).run()
    assert sizes, "it is there from the beginning"


def test_a_large_state_is_written_less_often(
    many: Place, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "_LEAST_PART", 1e-9)
    many.verify(state_file=state, save_every_s=0)


def spoil_byte(state: Path) -> None:
    data = bytearray(state.read_bytes())
    data[-40] ^= 1
    state.write_bytes(data)


def written_by_others(state: Path) -> None:
    state.chmod(0o666)


def another_kind(state: Path) -> None:
    import hashlib

    body = b'{"format": "pbs-push-verify-state", "version": 99}\n'
    state.write_bytes(body + hashlib.sha256(body).digest())


def no_json(state: Path) -> None:
    import hashlib

    body = b"[" * 100_000
    state.write_bytes(body + hashlib.sha256(body).digest())


@pytest.mark.usefixtures("a_snapshot_at_once")
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (spoil_byte, "it is damaged"),
        (lambda state: state.write_bytes(b""), "it is damaged"),
        (lambda state: os.truncate(state, 90), "it is damaged"),
        (written_by_others, "others than its user may have written it"),
        (another_kind, "of another datastore, or of another version"),
        (no_json, "of another datastore, or of another version"),
    ],
)
def test_a_state_that_cannot_be_used_is_told_and_not_used(
    many: Place, state: Path, reads: Counter[str], spoil: Callable[[Path], object], why: str
) -> None:
    stopped_after(3, many, state_file=state)
    spoil(state)
    reads.clear()
    report = many.verify(state_file=state)
    (told,) = [event.text for event in many.events if isinstance(event, Note)]
    assert why in told
    assert told.endswith("beginning anew")
    assert len(reads) == 40
    assert report.chunks.resumed == 0


@pytest.mark.usefixtures("a_snapshot_at_once")
def test_the_state_of_another_datastore(
    many: Place, tmp_path: Path, state: Path, reads: Counter[str]
) -> None:
    stopped_after(3, many, state_file=state)
    many.source.path.rename(tmp_path / "elsewhere")
    many.source.path.symlink_to(tmp_path / "elsewhere")
    reads.clear()
    assert many.verify(state_file=state).chunks.resumed == 0
    assert len(reads) == 40


def test_a_mode_that_there_is_none_of(many: Place, state: Path) -> None:
    import hashlib

    stopped_after(1, many, state_file=state)
    body = bytearray(state.read_bytes()[:-32])
    assert len(body.partition(b"\n")[2]) >= 37
    body[-1] = 9
    state.write_bytes(bytes(body) + hashlib.sha256(body).digest())
    assert many.verify(state_file=state).chunks.resumed == 0


def test_one_that_cannot_be_written_is_an_error_before_anything_is_read(
    many: Place, tmp_path: Path, reads: Counter[str]
) -> None:
    for path in (tmp_path / "none" / "state", tmp_path):
        with pytest.raises(ConfigError, match=r"state file .* cannot be written|Is a directory"):
            many.verify(state_file=path)
    assert not reads
    assert not list(tmp_path.glob(".*"))


def test_one_in_the_source_is_refused(many: Place) -> None:
    with pytest.raises(ConfigError, match="lies in the source"):
        many.verify(state_file=many.source.path / "state")


def test_one_that_cannot_be_read(many: Place, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="state file"):
        many.verify(state_file=link)


def test_a_disk_that_gets_full_ends_nothing(
    many: Place, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pbs_push.verify.state import StateFile

    real, calls = StateFile.save, []

    def save(self: StateFile, parts: object) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise ConfigError("state file x cannot be written: No space left on device")
        real(self, [])

    monkeypatch.setattr(StateFile, "save", save)
    report = many.verify(state_file=state, save_every_s=0)
    assert report.exit_status == 0
    told = [event.text for event in many.events if isinstance(event, Note)]
    assert told == ["state file x cannot be written: No space left on device"]
