"""What a checkpoint holds (protocol/push.md, "Checkpoints"): values in, values out.

It is a snapshot of its own, of part of another: up to a cut through all entries of its indexes, in
the manifest's order, it has what that has; behind it what the target knows already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from pbs_push._native.digests import DigestSet
from pbs_push.formats.index import FIXED_CHUNK_SIZE, parse_index
from pbs_push.formats.index_writer import dynamic_entries, index_header
from pbs_push.push.archives import Archives, IndexArchive
from pbs_push.push.writers import alike
from pbs_push.remote.spool import Spool

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from pbs_push.formats.index import Index
    from pbs_push.formats.manifest import FileInfo, Manifest
    from pbs_push.names import Snapshot
    from pbs_push.push.checkpoint_mark import Mark

    Positions = NDArray[np.uint32]
    Pieces = Callable[[], Iterable[Buffer]]

_IN_MEMORY: Final = 8 << 20
"""Bytes of an index up to which it is not worth a file."""
_BLOCK: Final = 1 << 16
"""Entries that are put together at once."""

Indexes = Mapping[str, IndexArchive]
"""By name, those of a snapshot that the target has."""


@dataclass(frozen=True, slots=True)
class Missing:
    """The entries of one index, at ``positions``, whose chunks are to be sent: each chunk once."""

    archive: IndexArchive
    positions: Positions

    @property
    def size(self) -> int:
        """Plain bytes of these chunks."""
        return self.archive.plain_size(self.positions)

    def up_to(self, size: int) -> int:
        """How many of them, from the first on, it takes to reach ``size`` bytes; all if too few."""
        sizes = np.cumsum(sizes_at(self.archive.index, self.positions))
        return min(int(np.searchsorted(sizes, size)) + 1, len(self.positions))


def missing_chunks(archives: Archives, there: Indexes) -> list[Missing]:
    """What of a snapshot's chunks is in none of the indexes that are ``there``, index by index."""
    looked_at = [
        (archive, _changed(archive, there.get(name))) for name, archive in archives.indexes.items()
    ]
    needed = DigestSet(sum(len(positions) for _archive, positions in looked_at))
    for archive, positions in looked_at:
        needed.insert(archive.index.digests, at=positions)
    known = DigestSet(len(needed))
    for old in there.values():
        known.insert(old.index.digests, at=_places(needed.contains(old.index.digests)))
    return [
        Missing(archive, known.difference(archive.index.digests, at=positions, insert=True))
        for archive, positions in looked_at
    ]


def cut_after(missing: Iterable[Missing], size: int) -> int:
    """Where to cut so that ``size`` bytes of missing chunks lie before, or a little more.

    Counted in entries over all indexes.
    """
    before = cut = 0
    for one in missing:
        if len(one.positions):
            count = one.up_to(size)
            size -= one.archive.plain_size(one.positions[:count])
            cut = before + int(one.positions[count - 1]) + 1
            if size <= 0:
                break
        before += len(one.archive.index)
    return cut


def part_of(archives: Archives, base: Indexes, mark: Mark, snapshot: Snapshot) -> Archives:
    """The archives of the checkpoint ``snapshot`` of a snapshot with these ``archives``.

    ``base`` are the indexes of the real snapshot that the target has before it. Whoever calls this
    closes what is returned. Raises PbsPushError where there is no room for a large index.
    """
    known = _KnownBefore(base)
    made: list[IndexArchive] = []
    before = 0
    try:
        for name, archive in archives.indexes.items():
            cut = min(max(mark.entries - before, 0), len(archive.index))
            before += len(archive.index)
            old = base.get(name)
            if old is not None and alike(archive.index, old.index):
                made.append(_spliced(archive, old, cut))
            elif (one := _picked(archive, cut, known)) is not None:
                made.append(one)
        infos = [one.info for one in made]
        return Archives.made(_manifest(archives.manifest, infos, mark, snapshot), made)
    except BaseException:
        for one in made:
            one.index.close()
        raise


def sizes_at(index: Index, positions: Positions) -> NDArray[np.int64]:
    """Plain bytes of the chunk of each entry at these positions."""
    if index.kind == "fixed":
        sizes = np.full(len(positions), index.chunk_size, dtype=np.int64)
        if index.size % index.chunk_size:
            sizes[positions == len(index) - 1] = index.size % index.chunk_size
        return sizes
    ends = index.end_offsets
    starts = np.where(positions > 0, ends[positions.astype(np.int64) - 1], 0)
    return (ends[positions] - starts).astype(np.int64)


class _KnownBefore:
    """The digests in the indexes of a snapshot; put together when first asked for."""

    def __init__(self, base: Indexes) -> None:
        self._base = base
        self._digests: DigestSet | None = None

    def has(self, rows: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """For each digest whether it is one of them."""
        if self._digests is None:
            self._digests = DigestSet(sum(len(old.index) for old in self._base.values()))
            for old in self._base.values():
                self._digests.insert(old.index.digests)
        return self._digests.contains(rows)


def _spliced(archive: IndexArchive, old: IndexArchive, cut: int) -> IndexArchive:
    """A fixed index like both: up to the cut the new one's entries, behind it the old one's.

    So it starts at the target as a copy of the old one, and what goes over it as a copy of this.
    """
    size = archive.index.size if cut == len(archive.index) else old.index.size

    def pieces() -> Iterator[Buffer]:
        yield archive.index.digests[:cut].data
        yield old.index.digests[cut:].data

    return _made(archive, size, pieces)


def _picked(archive: IndexArchive, cut: int, known: _KnownBefore) -> IndexArchive | None:
    """Those entries whose chunks the target has, or gets before the cut: each chunk once.

    None if there is no such.
    """
    rows = archive.index.digests
    behind = _places(known.has(rows[cut:])) + np.uint32(cut)
    held = np.concatenate([np.arange(cut, dtype=np.uint32), behind]).astype(np.uint32)
    held = DigestSet(len(held)).difference(rows, at=held, insert=True)
    if not len(held):
        return None
    sizes = sizes_at(archive.index, held)
    ends = np.cumsum(sizes).astype(np.uint64)

    def pieces() -> Iterator[Buffer]:
        for begin in range(0, len(held), _BLOCK):
            chosen = rows[held[begin : begin + _BLOCK]]
            if archive.kind == "fixed":
                yield chosen.data
            else:
                yield dynamic_entries(ends[begin : begin + _BLOCK], chosen)

    return _made(archive, int(ends[-1]), pieces)


def _made(archive: IndexArchive, size: int, pieces: Pieces) -> IndexArchive:
    """An index of these ``pieces`` of entries, in memory or in a file without a name."""
    hasher = hashlib.sha256()
    length = 0
    for piece in pieces():
        hasher.update(piece)
        length += memoryview(piece).nbytes
    csum = hasher.digest()
    chunk_size = FIXED_CHUNK_SIZE if archive.kind == "fixed" else 0
    header = index_header(archive.kind, csum, size=size, chunk_size=chunk_size)
    name = f"{archive.info.filename}, the part of it in a checkpoint"
    if length <= _IN_MEMORY:
        index = parse_index(b"".join([header, *map(bytes, pieces())]), name)
    else:
        spool = Spool()
        try:
            spool.write(header)
            for piece in pieces():
                spool.write(piece)
            index = spool.index(name)
        finally:
            spool.close()
    return IndexArchive(replace(archive.info, size=size, csum=csum), index)


def _manifest(whole: Manifest, files: list[FileInfo], mark: Mark, snapshot: Snapshot) -> Manifest:
    """No signature fits a part; of what is not signed, the key's fingerprint goes along."""
    kept = {"key-fingerprint"} & set(whole.unprotected)
    unprotected = {name: whole.unprotected[name] for name in kept} | {"notes": mark.notes}
    return replace(
        whole, snapshot=snapshot, files=tuple(files), unprotected=unprotected, signature=None
    )


def _changed(archive: IndexArchive, old: IndexArchive | None) -> Positions:
    """The positions of an index that a copy of the old one would not have."""
    if old is not None and alike(archive.index, old.index):
        return archive.index.changed(old.index)
    return np.arange(len(archive.index), dtype=np.uint32)


def _places(found: NDArray[np.bool_]) -> Positions:
    return np.flatnonzero(found).astype(np.uint32)
