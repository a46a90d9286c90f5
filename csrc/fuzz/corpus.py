"""The inputs that fuzzing begins with: seeds, made here, and what runs have found beyond them.

    corpus.py unpack corpus/TARGET.zip FOLDER    seeds and found ones into a folder
    corpus.py pack FOLDER corpus/TARGET.zip      some inputs of a folder, as they are kept

`make -C csrc/fuzz keep` packs some that reach much. What the bytes of an input mean is said in each
target.
"""

from __future__ import annotations

import hashlib
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

MOST_BYTES = 18 << 10
"""Of a packed target: all of them stay below 200 KB."""

SETTINGS, ACK = b"\0\0\0\x04\0\0\0\0\0", b"\0\0\0\x04\x01\0\0\0\0"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def answers() -> bytes:
    """What a server says to three requests."""
    return b"".join(
        [
            SETTINGS,
            ACK,
            frame(8, 0, 0, b"\0\1\0\0"),
            frame(1, 0x4, 1, b"\x88\x5f\x1dapplication/json;charset=utf-8"[:32]),
            frame(0, 0x1, 1, b'{"data":null}'),
            frame(1, 0x5, 3, b"\x88"),
            frame(1, 0, 5, b"\x48\x03"),
            frame(9, 0x4, 5, b"400"),
            frame(0, 0x9, 5, b"\2no\0\0"),
            frame(6, 0, 0, b"pingping"),
            frame(3, 0, 7, b"\0\0\0\7"),
            frame(7, 0, 0, b"\0\0\0\x09\0\0\0\0"),
        ]
    )


def said(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """An operation of talk.h: the server says a frame."""
    how = kind | {0: 0x00, 1: 0x10, 4: 0x20}.get(flags, 0x30)
    return (
        bytes([9, how, stream, len(payload)])
        + payload
        + (bytes([flags]) if how & 0x30 == 0x30 else b"")
    )


FLUSH = b"\x04"
END = 0x80


def status(number: int, stream: int) -> bytes:
    """Another: HEADERS with a status of the static table, 200 as number 0, or 1xx as 8 to 15."""
    return bytes([6, number, stream])


def talk() -> bytes:
    """Requests, and what a server may say to them."""
    call = bytes([0, 3, 0x10, 0, 0xE8, 3])
    large = bytes([9, 0x40, 5, 0x42])  # 8,448 bytes of zeros: half of a stream's window
    calls = FLUSH + call + FLUSH + call + call + FLUSH
    answer = status(8, 1) + status(0, 1) + said(0, 1, 1, b"hello") + FLUSH
    windows = said(8, 0, 0, b"\0\1\0\0") + said(4, 0, 0, b"\0\4\0\0\0\1") + FLUSH
    download = status(0, 5) + large + FLUSH + large + FLUSH + large + FLUSH
    end = said(3, 0, 3, b"\0\0\0\7") + FLUSH + said(7, 0, 0, b"\0\0\0\1\0\0\0\0") + FLUSH
    return calls + answer + windows + download + end


def uploads() -> bytes:
    """Answers to uploads, of which the third is refused, and read and given again."""
    answered = FLUSH + status(0, 1 | END) + status(5, 3 | END) + said(3, 0, 5, b"\0\0\0\7") + FLUSH
    return answered + b"\x0f\4\x0f\4" + FLUSH + status(0, 7 | END) + FLUSH


def seeds(target: str) -> Iterator[bytes]:
    """Inputs of a target that reach what is deep in it."""
    blocks = [b"\x88", b"\x3f\xe1\x1f\x40\x01n\x05value\xbe", b"\x48\x82\x64\x02\x0f\x0d\x023\x34"]
    match target:
        case "frames":
            yield b"\7\7" + answers()
        case "hpack":
            yield b"\0" + b"".join(struct.pack("<H", len(block)) + block for block in blocks)
            yield b"\1" + b"\2\x10\0/api2/json/admin\3\4\0text"
        case "http2":
            start = bytes([1, 0, 0x10, 0, 0x10])
            yield b"\x87" + start + b"\0\xe8\3" * 3 + b"\x20" + answers()  # pieces of 32 bytes
            yield b"\1" + start + talk()
            yield b"\1" + start + b"\x0f\0\x20" * 4 + uploads() + talk()
        case "nomem":
            yield bytes([9, 0, 1, 1, 0, 0x10, 0, 0x10]) + talk()
        case "upload":
            for how in (0xE0, 0xE8, 0x07):  # by hand, with a margin, by a reader
                start = bytes([how, 1, 0, 0x10, 0, 0x10, 1, 4, 0, 1, 2, 3, 4])
                # By hand, three chunks are read and given, and a fourth is read.
                start += b"\x0f\x0f" if how == 0x07 else bytes([0, 1, 2, 0, 1, 2, 3])
                yield start + uploads()
                yield start + uploads() + talk()
        case "index":
            for how in (1, 2, 3):
                yield bytes([2, how, 0x56]) + struct.pack("<Q", 9) + bytes(range(1, 81)) * 2
        case "entries":
            yield bytes([0x41, 9, 0, 9, 0x10, 4, 1, 0, 0, 0, 22]) + bytes(range(40))
            yield bytes([0x40, 9, 0, 9, 0x10, 4, 1, 0, 0, 0]) + bytes(range(80))
        case "blob" | "chunk":
            for kind in range(4):
                yield bytes([8 + kind if target == "blob" else 0x20 + kind, 5, 0]) + bytes(
                    range(90)
                )
        case "digests":
            yield bytes([7, *range(60), 1, 0, 5, 1, 2, 3, 1, 2, 8, 0x18, 4, 1, 2, 9, 9, 3, 0, 1, 2])


def unpack(packed: Path, folder: Path) -> None:
    """Write the seeds of a target, and what is packed, into a folder."""
    found = list(seeds(packed.stem))
    if packed.exists():
        with zipfile.ZipFile(packed) as archive:
            found += [archive.read(name) for name in archive.namelist()]
    for content in found:
        (folder / hashlib.sha1(content, usedforsecurity=False).hexdigest()).write_bytes(content)


def pack(folder: Path, packed: Path) -> None:
    """Pack files of a folder, from the largest on every n-th, so that they fit."""
    contents = sorted({path.read_bytes() for path in folder.iterdir()}, key=lambda c: (len(c), c))
    step = 1
    while True:
        with zipfile.ZipFile(packed, "w") as archive:
            for number, content in enumerate(contents[::-step]):
                archive.writestr(zipfile.ZipInfo(f"{number}"), content, zipfile.ZIP_DEFLATED)
        if packed.stat().st_size <= MOST_BYTES:
            break
        step += 1


if __name__ == "__main__":
    _, what, source, destination = sys.argv
    (unpack if what == "unpack" else pack)(Path(source), Path(destination))
