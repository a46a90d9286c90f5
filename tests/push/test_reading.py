"""In which order a push reads chunk files, and how many at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pbs_push._native.transport import Transport
from pbs_push.formats.keys import CryptKey
from pbs_push.remote.target import Target
from pbs_push.source.datastore import Datastore
from pbs_push.target.session import BackupSession, Turn

from .world import World, whole

PATIENCE_S = 10.0
"""For what must happen; a test that waits so long fails."""
IMAGE = "disk.img.fidx"
READER = "chunk reader"
"""The name of a thread that reads, for the system; of at most 15 bytes."""


def _arriving(monkeypatch: pytest.MonkeyPatch, on_chunk: Callable[[str, Turn], object]) -> None:
    """Have a function called with the digest (hex) and turn of each chunk that the target gets."""
    upload_chunk = BackupSession.upload_chunk

    def told(self: BackupSession, kind: Any, wid: int, digest: str, *args: Any, **more: Any) -> Any:
        on_chunk(digest, more["turn"])
        return upload_chunk(self, kind, wid, digest, *args, **more)

    monkeypatch.setattr(BackupSession, "upload_chunk", told)


class _SlowDisk:
    """A transport for which each chunk file takes long to open.

    Its readers are named: a thread is called by the name of the one that started it.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def attach_uploads(self, chunks_fd: int, **more: Any) -> None:
        Path("/proc/thread-self/comm").write_text(READER)
        self._transport.attach_uploads(chunks_fd, open_delay_s=0.005, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _readers() -> int:
    """How many threads read chunk files now; the one that sends has the same name."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return names.count(READER) - 1


@pytest.mark.parametrize("read_ahead", [1, 3, 12])
def test_as_many_chunk_files_are_read_at_once_as_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch, read_ahead: int
) -> None:
    seen: list[int] = []
    transport = Target.transport
    monkeypatch.setattr(Target, "transport", lambda self: _SlowDisk(transport(self)))
    _arriving(monkeypatch, lambda _digest, _turn: seen.append(_readers()))
    world.source.add("vm/1", 1, archives={"root.pxar.didx": [f"piece {n}" for n in range(100)]})
    assert world.push(read_ahead=read_ahead).report.exit_status == 0
    assert len(seen) == 100
    assert max(seen) == read_ahead


@pytest.mark.parametrize("read_ahead", [1, 3])
def test_as_many_chunks_are_encrypted_at_once_as_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch, read_ahead: int
) -> None:
    reading = most = 0
    lock = threading.Lock()
    together = threading.Barrier(read_ahead, timeout=PATIENCE_S)
    read_chunk = Datastore.read_chunk

    def held(self: Datastore, digest: bytes, *rest: int) -> bytes:
        nonlocal reading, most
        with lock:
            reading += 1
            most = max(most, reading)
        together.wait()
        content = read_chunk(self, digest, *rest)
        with lock:
            reading -= 1
        return content

    monkeypatch.setattr(Datastore, "read_chunk", held)
    world.source.add("vm/1", 1, archives={"root.pxar.didx": [f"piece {n}" for n in range(12)]})
    pushed = world.push(read_ahead=read_ahead, encryption_key=CryptKey(bytes(32)))
    assert pushed.report.exit_status == 0
    assert most == read_ahead


@pytest.mark.parametrize("order", ["index", "inode"])
def test_chunks_come_in_the_order_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    expected = _image_of_many_inodes(world)[order]
    arrived: list[str] = []
    _arriving(monkeypatch, lambda digest, _turn: arrived.append(digest))
    world.push(chunk_order=order, read_ahead=1)  # several readers overtake each other
    assert arrived == expected


@pytest.mark.parametrize("order", ["index", "inode"])
def test_chunks_to_encrypt_are_read_in_the_order_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    expected = _image_of_many_inodes(world)[order]
    read: list[str] = []
    read_chunk = Datastore.read_chunk

    def noting(self: Datastore, digest: bytes, *rest: int) -> bytes:
        read.append(digest.hex())
        return read_chunk(self, digest, *rest)

    monkeypatch.setattr(Datastore, "read_chunk", noting)
    world.push(chunk_order=order, read_ahead=1, encryption_key=CryptKey(bytes(32)))
    assert read == expected


def _image_of_many_inodes(world: World) -> dict[str, list[str]]:
    """Make a snapshot whose index has chunks by falling inode; their digests in either order."""
    pieces = [whole(f"piece {number}") for number in range(30)]
    world.source.add("vm/1", 1, archives={IMAGE: pieces})
    files = [world.source.chunk_of(piece) for piece in pieces]
    _turn_inodes_round(files, world.folder)
    digests = [file.name for file in files]
    return {"index": digests, "inode": digests[::-1]}


def _turn_inodes_round(files: list[Path], folder: Path) -> None:
    """Write files anew, so that the order of their inodes is the reverse of theirs here."""
    copies = [folder / f"copy {number}" for number in range(len(files))]
    for copy in copies:
        copy.touch()
    copies.sort(key=lambda copy: copy.stat().st_ino)
    for file, copy in zip(reversed(files), copies, strict=True):
        copy.write_bytes(file.read_bytes())
        copy.replace(file)
