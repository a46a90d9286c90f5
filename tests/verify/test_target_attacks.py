"""Targets that lie to who reads them back: bounded memory, an honest report, no traceback."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.push.world import ME, SECRET, STORE, World

from pbs_push import Target
from pbs_push.errors import ConnectError, TlsError
from pbs_push.formats.blob import BlobKind, encode_blob
from pbs_push.names import MANIFEST_NAME
from pbs_push.target import reader as reading_side
from pbs_push.target.certificate import server_context
from pbs_push.target.reader import ReaderSession
from pbs_push.target.stored_files import read_stored_file
from pbs_push.verify.target import TargetVerification
from pbs_push.verify.target_events import TargetVerifyBegan, TargetVerifyEvent
from pbs_push.verify.target_options import TargetVerifyOptions
from pbs_push.verify.target_report import CopyVerdict

from .target_world import ALL, DIDX, FIDX, VM, counts, only_result, verify

V = CopyVerdict
MIB = 1 << 20


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        made.source.add(VM, 1)
        made.push()
        yield made


@pytest.fixture
def lie(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], None]:
    """Let the target answer this, where a file is asked for."""
    lies: dict[str, bytes] = {}

    def read(path: Path) -> bytes:
        return lies.get(path.name) or read_stored_file(path)

    monkeypatch.setattr(reading_side, "read_stored_file", read)
    return lies.__setitem__


def most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.mark.parametrize(
    "text",
    [
        b'{"files":[' + b"{}," * 3_000_000 + b"{}]}",
        b"[" * 2_000_000,
        b'{"files":' + b'"' + b"a" * (20 * MIB) + b'"}',
        b'{"a":' * 100_000,
        b"\xff\xfe",
        b"null",
        b"",
    ],
    ids=["values", "depth", "long", "nested", "not-utf-8", "null", "empty"],
)
def test_manifests_that_are_bombs(
    world: World, lie: Callable[[str, bytes], None], text: bytes
) -> None:
    verify(world)  # what is imported when it is used
    lie(MANIFEST_NAME, encode_blob(text))
    before = most_memory()
    only_result(verify(world), V.DIFFERENT, MANIFEST_NAME)
    assert most_memory() - before < 120 * MIB


@pytest.mark.parametrize("name", [FIDX, DIDX, "some.conf.blob", MANIFEST_NAME])
@pytest.mark.parametrize("size", [1, 100, 70_000, 20 * MIB])
def test_files_of_any_length(
    world: World, lie: Callable[[str, bytes], None], name: str, size: int
) -> None:
    lie(name, b"\x01" * size)
    before = most_memory()
    only_result(verify(world), V.DIFFERENT, name)
    assert most_memory() - before < 120 * MIB


def zeros(size: int) -> bytes:
    return encode_blob(bytes(size))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (zeros(127 * MIB), "length"),
        (zeros(5001), "length"),
        (zeros(4999), "digest"),
        (zeros(5000), "digest"),
        (BlobKind.ZSTD.value + bytes(4), "content"),
        (BlobKind.PLAIN.value, "format"),
        (BlobKind.ENCRYPTED.value + bytes(20), "format"),
        (encode_blob(bytes(5000), compress=False), "digest"),
        (b"\x01" * (20 * MIB), "length"),
    ],
)
def test_chunks_that_are_bombs(
    world: World, monkeypatch: pytest.MonkeyPatch, content: bytes, fault: str
) -> None:
    monkeypatch.setattr(ReaderSession, "chunk", lambda _self, _digest, _turn: content)
    before = most_memory()
    report = verify(world, sample=ALL)
    assert {one.fault for one in report.bad_chunks} == {fault}
    assert counts(report) == {"damaged": 1}
    assert most_memory() - before < 200 * MIB


def test_a_target_that_never_answers_ends_it(world: World) -> None:
    world.server.faults.delays_s = {"GET download": 2.0}
    repository, fingerprint = world.server.repository(STORE, ME), world.server.fingerprint
    with Target(repository, SECRET, fingerprint, timeout_s=0.3) as target:
        verification = TargetVerification(world.datastore(), target, TargetVerifyOptions(retries=0))
        with pytest.raises(ConnectError, match="has not answered for"):
            verification.run()


def test_each_connection_is_checked_by_itself(world: World) -> None:
    """The certificate changes between what is listed and what is read."""

    def swap(event: TargetVerifyEvent) -> None:
        if isinstance(event, TargetVerifyBegan):
            world.server._context = server_context(None)[0]

    with pytest.raises(TlsError):
        verify(world, listener=swap)
    assert world.server.counters.snapshot().requests.get("GET reader", 0) == 0


def test_texts_of_the_target_are_one_printable_line(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(5, "\x1b[31mred\nline\x07 " * 400)

    monkeypatch.setattr(reading_side, "read_stored_file", refuse)
    (result,) = verify(world).results
    for difference in result.differences:
        assert difference.what.isprintable()
        assert len(difference.what) < 700


@pytest.mark.parametrize("streams", ["GET download", "GET chunk"])
def test_streams_that_are_reset(world: World, streams: str) -> None:
    world.server.faults.reset_streams = {streams: 1}
    with world.target() as target:
        verification = TargetVerification(
            world.datastore(), target, TargetVerifyOptions(retries=0, sample=ALL)
        )
        report = verification.run()
    assert counts(report) == {"unreadable": 1}
    assert report.exit_status == 3
