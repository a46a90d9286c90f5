"""Upload a file as a snapshot of its own, and read it back: python own_snapshot.py [FILE]."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

from place import place

import pbs_push
from pbs_push import Group, Snapshot


def upload(target: pbs_push.Target, snapshot: Snapshot, path: Path) -> None:
    """As an image, of which a later snapshot sends only what has changed."""
    with target.create_snapshot(snapshot) as writer, path.open("rb") as file:
        writer.add_blob("origin.conf.blob", f"{path.absolute()}\n".encode())
        writer.add_image("file.img.fidx", file, path.stat().st_size)
        writer.finish(notes=f"a copy of {path.name}")
        print(f"{snapshot}: {writer.sent_chunks} chunks sent")


def download(target: pbs_push.Target, snapshot: Snapshot) -> str:
    """The SHA-256 of the content; each chunk is checked on the way."""
    found = hashlib.sha256()
    with target.open_snapshot(snapshot) as reader:
        for chunk in reader.read_archive("file.img.fidx"):
            found.update(chunk)
    return found.hexdigest()


def main() -> int:
    """Upload it twice; the second time, nothing of it is sent."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else __file__)
    group, now = Group("host", "own-files"), int(time.time())
    with place() as (_source, target):
        for moment in (now, now + 1):
            upload(target, Snapshot(group, moment), path)
        same = (
            download(target, Snapshot(group, now + 1))
            == hashlib.sha256(path.read_bytes()).hexdigest()
        )
    print("read back: " + ("the same" if same else "something else"))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
