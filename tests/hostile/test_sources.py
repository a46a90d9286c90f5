"""Hostile sources: nothing outside of the datastore is read, nothing ends in a traceback, nothing
that a name or a note holds steers a terminal, and what is sound is pushed all the same.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import zstandard
from tests.push.world import Store
from tests.remote.servers import Identity

from pbs_push.formats.blob import encode_blob
from pbs_push.names import format_backup_time

from .conftest import Cli
from .server import ESCAPE, HostileTarget

Spoil = Callable[[Path, Path], None]
"""Given the folder of the snapshot ``vm/1`` and of the datastore."""
ESC_NAME: Final = "x\x1b[2J\n\u202e"


def blob(content: bytes, *, compress: bool = True) -> bytes:
    return encode_blob(content, compress=compress)


def manifest(change: Callable[[dict[str, Any]], None]) -> Spoil:
    def spoil(folder: Path, store: Path) -> None:
        text = Store(store).manifest(folder)
        change(text)
        (folder / "index.json.blob").write_bytes(blob(json.dumps(text).encode()))

    return spoil


def manifest_text(text: bytes) -> Spoil:
    return lambda folder, _store: written(folder / "index.json.blob", blob(text))


def written(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def instead(name: str, make: Callable[[Path], object]) -> Spoil:
    """Something else where a file of the snapshot should be."""

    def spoil(folder: Path, _store: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return spoil


def to_outside(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def a_loop(path: Path) -> None:
    path.symlink_to(path.name)


def a_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # its path may be too long for one
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def patched(name: str, at: int, content: bytes) -> Spoil:
    def spoil(folder: Path, _store: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.seek(at)
            file.write(content)

    return spoil


def bomb(size: int) -> bytes:
    """A blob that inflates to zeros."""
    packed = zstandard.ZstdCompressor(level=1).compress(bytes(size))
    magic = bytes((49, 185, 88, 66, 111, 182, 163, 127))
    return magic + zlib.crc32(packed).to_bytes(4, "little") + packed


def chunks(make: Callable[[Path], object]) -> Spoil:
    """Something else where the chunks should be."""

    def spoil(_folder: Path, store: Path) -> None:
        for path in list(store.glob(".chunks/*/*")):
            path.unlink()
            make(path)

    return spoil


def beside(name: str, make: Callable[[Path], object] = Path.mkdir) -> Spoil:
    """Something more: below the datastore."""

    def spoil(_folder: Path, store: Path) -> None:
        path = store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)

    return spoil


def linked(store: Path) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(store, target_is_directory=True)


def cyclic(_folder: Path, store: Path) -> None:
    (store / "ns" / "a").mkdir(parents=True)
    (store / "ns" / "a" / "ns").symlink_to(store / "ns")


def files_of(text: dict[str, Any], **values: object) -> None:
    text["files"][0] |= values


def many_files(text: dict[str, Any]) -> None:
    text["files"] = [{**text["files"][0], "filename": f"f{at}.blob"} for at in range(3_000)]


def as_group(name: str, content: bytes) -> Spoil:
    return lambda folder, _store: written(folder.parent / name, content)


def moved_group(name: bytes) -> Spoil:
    def spoil(folder: Path, store: Path) -> None:
        shutil.copytree(folder.parent, os.fsdecode(os.fsencode(store) + b"/vm/" + name))

    return spoil


def moved_snapshot(name: str) -> Spoil:
    return lambda folder, _store: shutil.copytree(folder, folder.parent / name) and None


IMAGE, TREE, CONF = "disk.img.fidx", "root.pxar.didx", "some.conf.blob"
SOURCES: Final[dict[str, Spoil]] = {
    # in place of a file
    "a manifest that is a link": instead("index.json.blob", to_outside),
    "a manifest that is a loop": instead("index.json.blob", a_loop),
    "a manifest that is a FIFO": instead("index.json.blob", os.mkfifo),
    "a manifest that is a folder": instead("index.json.blob", Path.mkdir),
    "a manifest that is a socket": instead("index.json.blob", a_socket),
    "a manifest without end": instead("index.json.blob", huge),
    "a manifest of nothing": instead("index.json.blob", Path.touch),
    "an index that is a link": instead(IMAGE, to_outside),
    "an index that is a FIFO": instead(IMAGE, os.mkfifo),
    "an index without end": instead(IMAGE, huge),
    "an index of nothing": instead(TREE, Path.touch),
    "an index that is a device": instead(TREE, lambda path: path.symlink_to("/dev/zero")),
    "a blob that is a link": instead(CONF, to_outside),
    "a blob that is a FIFO": instead(CONF, os.mkfifo),
    "a blob without end": instead(CONF, huge),
    "chunks that are links": chunks(to_outside),
    "chunks that are FIFOs": chunks(os.mkfifo),
    "chunks that are folders": chunks(Path.mkdir),
    "chunks without end": chunks(huge),
    "chunks of nothing": chunks(Path.touch),
    "chunks that are rubbish": chunks(lambda path: path.write_bytes(b"\x1b[2J" * 999)),
    "chunks that are bombs": chunks(lambda path: path.write_bytes(bomb(256 << 20))),
    "a log that is a FIFO": lambda folder, _store: os.mkfifo(folder / "client.log.blob"),
    "a log that is a link": lambda folder, _store: to_outside(folder / "client.log.blob"),
    # what a file says
    "an index that says it is endless": patched(IMAGE, 64, b"\xff" * 8),
    "an index of chunks of nothing": patched(IMAGE, 72, bytes(8)),
    "an index of huge chunks": patched(IMAGE, 72, b"\xff" * 8),
    "an index with another magic": patched(IMAGE, 0, b"\x1b[2J\x1b[2J"),
    "an index whose ends go back": patched(TREE, 4096, b"\xff" * 8),
    "an index of other digests": patched(TREE, 4104, bytes(32)),
    "a bomb for a manifest": lambda folder, _s: written(folder / "index.json.blob", bomb(1 << 30)),
    "a manifest, deep": manifest_text(b'{"a":' * 100_000),
    "a manifest, wide": manifest_text(b'{"files":[' + b"{}," * 400_000 + b"{}]}"),
    "a manifest of a long number": manifest_text(b'{"backup-time":' + b"9" * 100_000 + b"}"),
    "a manifest that is no UTF-8": manifest_text(b'{"a":"\xff"}'),
    "a manifest that is text": manifest_text(ESCAPE.encode()),
    "a manifest of 3,000 files": manifest(many_files),
    "a file outside": manifest(lambda text: files_of(text, filename="../../../etc/passwd")),
    "a file with escapes": manifest(lambda text: files_of(text, filename=f"{ESC_NAME}.blob")),
    "a file of a negative size": manifest(lambda text: files_of(text, size=-1)),
    "a file of a huge size": manifest(lambda text: files_of(text, size=1 << 80)),
    "a csum with escapes": manifest(lambda text: files_of(text, csum=ESCAPE)),
    "a mode with escapes": manifest(lambda text: files_of(text, **{"crypt-mode": ESCAPE})),
    "a file twice": manifest(lambda text: text["files"].append(text["files"][0])),
    "a type with escapes": manifest(lambda text: text.update({"backup-type": ESCAPE})),
    "an id outside": manifest(lambda text: text.update({"backup-id": "../../x"})),
    "a time from nowhere": manifest(lambda text: text.update({"backup-time": 1 << 62})),
    "notes with escapes": manifest(lambda text: text["unprotected"].update({"notes": ESCAPE})),
    "a verify state with escapes": manifest(
        lambda text: text["unprotected"].update({"verify_state": {"state": ESCAPE, "upid": ESCAPE}})
    ),
    "an owner with escapes": as_group("owner", f"{ESCAPE}@pbs\n".encode()),
    "an owner that is no UTF-8": as_group("owner", b"\xff\xfe@pbs\n"),
    "an owner without end": as_group("owner", b"a" * 4_000_000),
    "an owner that is a FIFO": lambda folder, _s: (
        (folder.parent / "owner").unlink(),
        os.mkfifo(folder.parent / "owner"),
    )[0],
    "notes of a group with escapes": as_group("notes", ESCAPE.encode() * 1000),
    # in the folders
    "a group with escapes": moved_group(b"x\x1b[2J\n"),
    "a group that is no UTF-8": moved_group(b"x\xff\xfe"),
    "a group of a long name": moved_group(b"x" * 250),
    "a group that begins with a dash": moved_group(b"--help"),
    "a snapshot with escapes": moved_snapshot("2026-01-01T00:00:00Z\x1b[2J\n"),
    "a snapshot of no date": moved_snapshot("2026-99-99T00:00:00Z"),
    "a namespace with escapes": beside(f"ns/{ESC_NAME}/vm/1"),
    "a namespace that is a link": lambda folder, store: beside("ns/a", linked(store))(
        folder, store
    ),
    "a namespace that is a FIFO": beside("ns/a", os.mkfifo),
    "namespaces without end": beside("/".join(["ns/a"] * 60)),
    "namespaces in a circle": cyclic,
    "a group that is a link": beside("vm/2", lambda path: path.symlink_to("1")),
    "a group that is a FIFO": beside("vm/2", os.mkfifo),
    "a type that is a link": beside("ct", lambda path: path.symlink_to("/")),
    "a snapshot that is a link": lambda folder, _s: (
        folder.parent / format_backup_time(1_700_000_000)
    ).symlink_to("/etc"),
    "a file with escapes in a snapshot": lambda folder, _s: (folder / ESC_NAME).touch(),
    "no chunks at all": lambda _folder, store: shutil.rmtree(store / ".chunks"),
    "chunks that are a link": lambda _folder, store: (
        shutil.rmtree(store / ".chunks"),
        (store / ".chunks").symlink_to("/etc"),
    )[0],
}
HARMLESS: Final = frozenset(
    name
    for name in SOURCES
    if name.startswith(
        ("a log", "a namespace", "namespaces", "a group", "notes", "a snapshot", "a type that")
    )
    or name in ("a verify state with escapes", "a file with escapes in a snapshot")
)
"""Those that leave the snapshot as it is, or are just beside it."""


def test_there_are_enough() -> None:
    assert len(SOURCES) >= 60


@pytest.fixture
def store(tmp_path: Path, source: Path) -> Path:
    """A datastore of two snapshots, in two groups: one is spoiled, the other stays sound."""
    path = Path(shutil.copytree(source, tmp_path / "source", symlinks=True))
    Store(path).add("vm/7", 0, archives={"other.img.fidx": ("z",)})
    return path


@pytest.mark.timeout(40)
@pytest.mark.parametrize("name", SOURCES)
def test_a_hostile_source(name: str, store: Path, identity: Identity, cli: Cli) -> None:
    folder = next((store / "vm" / "1").glob("*Z"))
    SOURCES[name](folder, store)
    for more in ((), ("--json",)):
        listed = cli("list", store, *more)
        assert listed.status in (0, 1, 3), listed
    with HostileTarget(identity) as target:
        tracemalloc.start()
        try:
            ran = cli(
                "push", store, target.repository(), "--fingerprint", identity.fingerprint.hex(),
                "--timeout", "5s", "--retries", "0", "--sync-metadata",
            )  # fmt: skip
            _now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 200 << 20, peak >> 20
    assert ran.status in (0, 1, 3, 5), ran
    if name in HARMLESS:
        assert "pushed vm/1/" in ran.err, ran
    elif "chunks" not in name:
        assert ran.status != 0, ran
    if "chunks" not in name:
        assert "pushed vm/7/" in ran.err, "one group keeps no other back"
    assert b"root:" not in target.received, "nothing of /etc/passwd went out"
