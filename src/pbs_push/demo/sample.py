"""A sample datastore, the same for the same seed: for the demonstration, tests and benchmarks.

It holds several groups of each type in nested namespaces, a few snapshots each: images, legacy file
archives with catalogs, split archives; chunks shared between archives, groups and snapshots; an
encrypted group, a protected snapshot, notes, logs, verification states. The digests are the same on
every machine; the encoded bytes are too, as far as zstd's version is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pbs_push.demo.pieces import (
    ZEROS,
    Piece,
    SampleBytes,
    changed,
    changed_positions,
    image_pieces,
    stream_pieces,
)
from pbs_push.demo.store_writer import Chunk, SampleSnapshot, StoreWriter
from pbs_push.formats.keys import CryptKey
from pbs_push.formats.strict_json import JsonValue
from pbs_push.names import INDEX_SUFFIXES, Group, Namespace, Snapshot
from pbs_push.source.datastore import Datastore
from pbs_push.source.items import SourceSnapshot

DEFAULT_TOTAL_BYTES: Final = 300 << 20

_DAY: Final = 24 * 60 * 60
_FIRST_BACKUP: Final = 1_780_000_000  # 2026-05-28T20:26:40Z
_CATALOG_BYTES: Final = 3000
_TAIL_BYTES: Final = 700_001


@dataclass(frozen=True, slots=True)
class _GroupPlan:
    """A group of the sample; ``share`` of the total bytes is what it shares with no other group."""

    namespace: str
    group: str
    share: float
    snapshots: int = 2
    owner: str = "root@pam"
    notes: str | None = None
    split: bool = False
    encrypted: bool = False
    protected: bool = False
    notes_of_last: str | None = None
    log_of_last: bool = False
    verified: str | None = None


_TEMPLATE_SHARE: Final = 0.08
"""Part of the total bytes that all images, and again that all file archives, have in common.

All shares together are less than 1: changes between snapshots take the rest."""

_GROUPS: Final = (
    _GroupPlan(
        "", "vm/100", 0.17, 3, protected=True, verified="ok", log_of_last=True,
        notes_of_last="before the upgrade äö\nsecond line\n",
    ),
    _GroupPlan("", "vm/101", 0.05, verified="failed"),
    _GroupPlan("", "ct/200", 0.07, 3),
    _GroupPlan("", "ct/1001", 0.03),
    _GroupPlan("", "host/alpha", 0.12, 3, split=True, notes="Alpha, first line ✓\nsecond line"),
    _GroupPlan("", "host/beta", 0.03),
    _GroupPlan("", "host/secret", 0.05, 1, encrypted=True, log_of_last=True),
    _GroupPlan("prod", "vm/100", 0.09, 2, owner="ops@pbs!backup", notes="production"),
    _GroupPlan("prod", "host/web-1", 0.04, 2, owner="ops@pbs", split=True),
    _GroupPlan("prod/eu", "ct/300", 0.04, 2, owner="ops@pbs"),
    _GroupPlan("prod/eu", "host/db.eu", 0.03, 2, owner="ops@pbs", verified="ok"),
    _GroupPlan("lab/a/b", "vm/900", 0.03, 1),
    _GroupPlan("lab/a/b", "host/deep", 0.02, 1, split=True),
)  # fmt: skip

_CHANGING: Final = ((Namespace(), Group("vm", "100")), (Namespace(), Group("host", "alpha")))
"""The groups that ``add_snapshot`` adds to."""


@dataclass(frozen=True, slots=True)
class SampleSummary:
    """What was written; ``chunk_bytes`` is what the distinct chunks take on disk."""

    path: Path
    namespaces: int
    groups: int
    snapshots: int
    archives: int
    blobs: int
    chunks: int
    chunk_bytes: int


@dataclass(frozen=True, slots=True)
class SampleChange:
    """What ``add_snapshot`` added: the snapshots, and the chunks that no other one has."""

    snapshots: tuple[tuple[Namespace, Snapshot], ...]
    new_digests: frozenset[bytes]
    new_chunk_bytes: int


def sample_enc_key(seed: int = 1) -> bytes:
    """The 32 bytes of the key of the sample's encrypted group: no secret, made of the seed."""
    return SampleBytes(seed).noise("encryption key", 32)


def write_sample(
    path: str | os.PathLike[str],
    *,
    seed: int = 1,
    total_bytes: int = DEFAULT_TOTAL_BYTES,
    all_chunk_folders: bool = False,
) -> SampleSummary:
    """Write the sample datastore into the new directory ``path``.

    ``total_bytes``: what its chunks take on disk, about; at least 1 MiB to be near the mark. A real
    PBS opens only a datastore with ``all_chunk_folders`` (65,536 of them). Raises OSError, also
    where ``path`` is a datastore already.
    """
    base = Path(path)
    source = SampleBytes(seed)
    writer = StoreWriter(base, source)
    writer.create(all_chunk_folders=all_chunk_folders)
    written = []
    for plan in _GROUPS:
        namespace = Namespace.parse(plan.namespace)
        writer.group(namespace, plan.group, plan.owner, plan.notes)
        for item in _snapshots(plan, writer, source, total_bytes):
            writer.snapshot(item)
            written.append(item)
    chunks = writer.new_chunks.values()
    return SampleSummary(
        path=base,
        namespaces=len(_namespaces()),
        groups=len(_GROUPS),
        snapshots=len(written),
        archives=sum(len(item.archives) for item in written),
        blobs=sum(len(item.blobs) for item in written),
        chunks=len(chunks),
        chunk_bytes=sum(chunk.encoded_size for chunk in chunks),
    )


def _namespaces() -> set[Namespace]:
    """The namespaces of the groups and all above them, the root included."""
    found = {Namespace()}
    for plan in _GROUPS:
        components = Namespace.parse(plan.namespace).components
        found |= {Namespace(components[:depth]) for depth in range(1, len(components) + 1)}
    return found


def _snapshots(
    plan: _GroupPlan, writer: StoreWriter, source: SampleBytes, total_bytes: int
) -> Iterator[SampleSnapshot]:
    namespace, group = Namespace.parse(plan.namespace), Group.parse(plan.group)
    key = CryptKey(sample_enc_key(source.seed)) if plan.encrypted else None
    archives = _first_archives(plan, source, total_bytes)
    for number in range(plan.snapshots):
        time = _FIRST_BACKUP + number * _DAY + source.number(f"time of {group}", 0, 3600)
        snapshot = Snapshot(group, time)
        if number:
            archives = {
                name: changed(pieces, snapshot.time_text) for name, pieces in archives.items()
            }
        last = number == plan.snapshots - 1
        yield SampleSnapshot(
            namespace,
            snapshot,
            {name: writer.chunks(pieces, key) for name, pieces in archives.items()},
            _blobs(group, snapshot),
            key,
            _unprotected(plan, last=last),
            f"{snapshot}: backup finished\n".encode() if last and plan.log_of_last else None,
            protected=plan.protected and number == 0,
        )


def _first_archives(
    plan: _GroupPlan, source: SampleBytes, total_bytes: int
) -> dict[str, list[Piece]]:
    """The archives of a group's first snapshot, by file name."""
    label = f"{plan.namespace}:{plan.group}"
    own, common = int(plan.share * total_bytes), int(_TEMPLATE_SHARE * total_bytes)
    if plan.group.startswith("vm/"):
        template = [*image_pieces("image template", common), ZEROS, ZEROS]
        tail = Piece(f"{label} tail", _TAIL_BYTES, 0)
        return {
            "drive-scsi0.img.fidx": [*template, *image_pieces(label, own), tail],
            "drive-efidisk0.img.fidx": [Piece(f"{label} efi", 540_672, 1000)],
        }
    template = [] if plan.encrypted else stream_pieces(source, "file template", common)
    files = [*template, *stream_pieces(source, label, own)]
    if plan.split:
        listing = stream_pieces(source, f"{label} metadata", min(own // 50, 8 << 20))
        return {"root.ppxar.didx": files, "root.mpxar.didx": listing}
    catalog = Piece(f"{label} catalog", _CATALOG_BYTES, 100)
    return {"root.pxar.didx": files, "catalog.pcat1.didx": [catalog]}


def _blobs(group: Group, snapshot: Snapshot) -> dict[str, bytes]:
    name = {"vm": "qemu-server.conf.blob", "ct": "pct.conf.blob", "host": "etc.conf.blob"}
    text = "".join(f"# {group}, option {number}: default\n" for number in range(8))
    blobs = {name[group.backup_type]: text.encode()}
    if group.backup_type == "vm":
        blobs["fw.conf.blob"] = f"[OPTIONS]\nenable: 1 # {snapshot.time_text}\n".encode()
    return blobs


def _unprotected(plan: _GroupPlan, *, last: bool) -> dict[str, JsonValue]:
    unprotected: dict[str, JsonValue] = {}
    if plan.verified is not None:
        unprotected["verify_state"] = {"state": plan.verified, "upid": "UPID:sample:verify"}
    if last and plan.notes_of_last is not None:
        unprotected["notes"] = plan.notes_of_last
    return unprotected


def add_snapshot(path: str | os.PathLike[str], *, seed: int = 1) -> SampleChange:
    """Add a snapshot with few changes to a vm group and a host group of a sample datastore.

    A day after the last one of the group; in each archive one chunk of 16 is new, at least one.
    May be called again and again. Raises SourceError or FormatError where it is not a sample.
    """
    datastore = Datastore(path)
    source = SampleBytes(seed)
    writer = StoreWriter(datastore.path, source)
    added = []
    for namespace, group in _CHANGING:
        groups = datastore.groups(namespace)
        (found,) = (item for item in groups if item.group == group)
        last = datastore.snapshots(found).snapshots[-1]
        snapshot = Snapshot(group, last.snapshot.backup_time + _DAY)
        archives = {
            name: _changed_chunks(chunks, writer, f"{namespace}:{snapshot}/{name}")
            for name, chunks in _archives_of(datastore, last).items()
        }
        blobs = _blobs(group, snapshot)
        writer.snapshot(SampleSnapshot(namespace, snapshot, archives, blobs))
        added.append((namespace, snapshot))
    new = writer.new_chunks
    return SampleChange(
        tuple(added), frozenset(new), sum(chunk.encoded_size for chunk in new.values())
    )


def _archives_of(datastore: Datastore, item: SourceSnapshot) -> dict[str, list[Chunk]]:
    """The chunks of the archives of a snapshot, by file name."""
    archives = {}
    with datastore.open_snapshot(item, lock=False) as opened:
        for name in (file.filename for file in opened.manifest.files):
            if not name.endswith(INDEX_SUFFIXES):
                continue
            with opened.open_index(name) as index:
                ends = [0, *index.end_offsets.tolist()]
                digests = [bytes(row) for row in index.digests]
            archives[name] = [
                Chunk(digest, end - start, datastore.chunk_path_of(digest).stat().st_size)
                for digest, start, end in zip(digests, ends, ends[1:], strict=False)
            ]
    return archives


def _changed_chunks(chunks: list[Chunk], writer: StoreWriter, label: str) -> list[Chunk]:
    later = list(chunks)
    for position in changed_positions(len(chunks)):
        size = chunks[position].size
        piece = Piece(f"{label}#{position}", size, min(size, chunks[position].encoded_size))
        later[position : position + 1] = writer.chunks([piece])
    return later
