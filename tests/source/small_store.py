"""A small source datastore that each test may spoil."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pbs_push.demo.pieces import Piece, SampleBytes
from pbs_push.demo.store_writer import SampleSnapshot, StoreWriter
from pbs_push.names import Namespace, Snapshot
from pbs_push.source import Datastore, SourceGroup, SourceSnapshot

FIRST = Snapshot.parse("vm/100/2026-05-28T20:00:00Z")
SECOND = Snapshot.parse("vm/100/2026-05-29T20:00:00Z")
ROOT = Namespace()


@dataclass(frozen=True)
class SmallStore:
    """A datastore with one group of two snapshots; no PBS on its host."""

    path: Path
    lock_root: Path

    def open(self) -> Datastore:
        return Datastore(self.path, name="store1", lock_root=self.lock_root)

    @property
    def folder(self) -> Path:
        """The first snapshot's folder."""
        return self.path / str(FIRST)

    def group(self) -> SourceGroup:
        (group,) = self.open().groups(ROOT)
        return group

    def first(self) -> SourceSnapshot:
        return self.open().snapshots(self.group()).snapshots[0]

    def write(self, namespace: str, name: str, owner: str = "root@pam") -> None:
        """Write one more group with one small snapshot."""
        snapshot = Snapshot.parse(f"{name}/2026-05-28T20:00:00Z")
        writer = StoreWriter(self.path, SampleBytes(2))
        writer.group(Namespace.parse(namespace), name, owner, None)
        writer.snapshot(small_snapshot(writer, snapshot, Namespace.parse(namespace)))


def small_snapshot(
    writer: StoreWriter, snapshot: Snapshot, namespace: Namespace = ROOT, **changes: bool | bytes
) -> SampleSnapshot:
    """An image of one short chunk, a stream of two, a blob."""
    archives = {
        "disk.img.fidx": [Piece("image", 5000, 100)],
        "root.pxar.didx": [Piece("one", 3000, 100), Piece(f"of {snapshot}", 2000, 2000)],
    }
    chunks = {name: writer.chunks(pieces) for name, pieces in archives.items()}
    blobs = {"some.conf.blob": b"line\n" * 30}
    return SampleSnapshot(namespace, snapshot, chunks, blobs, **changes)  # type: ignore[arg-type]


def write_small_store(folder: Path) -> SmallStore:
    """Write the datastore below an empty folder."""
    small = SmallStore(folder / "store1", folder / "run")
    writer = StoreWriter(small.path, SampleBytes(1))
    writer.create(all_chunk_folders=False)
    writer.group(ROOT, "vm/100", "root@pam", "notes ä\nmore")
    writer.snapshot(small_snapshot(writer, FIRST, protected=True))
    writer.snapshot(small_snapshot(writer, SECOND, client_log=b"done"))
    return small


def open_files() -> int:
    """How many descriptors this process has open, one for looking included."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
