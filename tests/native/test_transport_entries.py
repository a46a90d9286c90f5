"""Entries of indexes: what differs between two indexes, and the entry lists that a PUT carries."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pbs_push._native.transport import Transport
from pbs_push.formats.index import Index, open_index
from pbs_push.formats.index_writer import write_dynamic_index, write_fixed_index

from .h2_peer import LARGEST, ChunkFolder, Peer, Request, positions

MIB = 1 << 20
REAL_LIMIT = 524_287  # of a real server (protocol/rest.md, "Body limit")
Digests = NDArray[np.uint8]


def digests(n: int, seed: int = 1) -> Digests:
    return np.random.default_rng(seed).integers(0, 256, (n, 32), np.uint8)


def fixed(folder: Path, rows: Digests, size: int | None = None, chunk_size: int = 4 * MIB) -> Index:
    path = folder / "a.fidx"
    path.unlink(missing_ok=True)  # one that is mapped stays as it is
    write_fixed_index(
        path, rows, len(rows) * chunk_size if size is None else size, chunk_size=chunk_size
    )
    return open_index(path)


def dynamic(folder: Path, rows: Digests, ends: list[int]) -> Index:
    path = folder / "a.didx"
    path.unlink(missing_ok=True)
    write_dynamic_index(path, np.array(ends, np.uint64), rows)
    return open_index(path)


def put(table: Index, limit: int, **which: object) -> tuple[int, Request]:
    """The PUT as an `h2` server gets it, and how many entries it is said to carry."""
    transport = Transport("target:8007")
    peer = Peer(transport, window=LARGEST, frame=MIB)
    peer.open_window(LARGEST - 65535)
    taken = transport.put_entries(5, "/fixed_index", table, writer_id=258, limit=limit, **which)  # type: ignore[arg-type]
    peer.settle()
    (request,) = peer.requests.values()
    assert request.ended
    assert (request.method, request.path) == ("PUT", "/fixed_index")
    assert request.headers["content-type"] == "application/json"
    peer.answer(request, 200, b'{"data":null}')
    peer.settle()
    assert [(a.tag, a.status) for a in peer.answers] == [(5, 200)]
    return taken, request


def expected(rows: Digests, starts: list[int]) -> dict[str, object]:
    return {"digest-list": [bytes(row).hex() for row in rows], "offset-list": starts, "wid": 258}


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 1 << 40), min_size=1, max_size=40),
    limit=st.integers(0, 3000),
    first=st.integers(0, 39),
    chosen=st.none() | st.lists(st.integers(0, 39), min_size=1, max_size=60),
)
def test_a_list_holds_what_fits_and_no_more(
    sizes: list[int],
    limit: int,
    first: int,
    chosen: list[int] | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    ends = [int(end) for end in np.cumsum(sizes, dtype=np.uint64)]
    rows = digests(len(sizes))
    table = dynamic(tmp_path_factory.getbasetemp(), rows, ends)
    first %= len(sizes)
    numbers = list(range(first, len(sizes))) if chosen is None else [n % len(sizes) for n in chosen]
    which: dict[str, object] = (
        {"first": first, "count": len(numbers)}
        if chosen is None
        else {"positions": positions(*numbers)}
    )
    bodies = []
    for n in range(len(numbers) + 1):
        part = numbers[:n]
        wanted = expected(rows[part], [([0, *ends])[pos] for pos in part])
        bodies.append(json.dumps(wanted, separators=(",", ":")).encode())
    fitting = max((n for n, body in enumerate(bodies) if n and len(body) <= limit), default=0)
    if not fitting:
        with pytest.raises(ValueError, match="entry list"):
            put(table, limit, **which)
        return
    taken, request = put(table, limit, **which)
    assert (taken, bytes(request.body)) == (fitting, bodies[fitting])


@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
@pytest.mark.parametrize("spare", [0, 1, -1])
def test_a_real_servers_limit_is_used_up(tmp_path: Path, kind: str, spare: int) -> None:
    """68 N + the offsets' digits + 40 + the writer id's digits are at most 524,287.

    See protocol/backup.md, "Entry lists".
    """
    n = 8000
    rows = digests(n)
    starts = [i * 4 * MIB for i in range(n)]
    if kind == "fixed":
        table = fixed(tmp_path, rows)
    else:
        table = dynamic(tmp_path, rows, [*starts[1:], n * 4 * MIB])
    lengths = np.cumsum([68 + len(str(start)) for start in starts]) + 40 + len("258")
    fitting = int(np.searchsorted(lengths, REAL_LIMIT, side="right"))
    limit = int(lengths[fitting - 1]) + spare if spare else REAL_LIMIT
    taken, request = put(table, limit, count=n)
    assert taken == (fitting if spare >= 0 else fitting - 1)
    assert len(request.body) == lengths[taken - 1] <= limit
    assert request.json == expected(rows[:taken], starts[:taken])


def test_lists_in_a_row_cover_the_index(tmp_path: Path) -> None:
    rows = digests(1000)
    table = fixed(tmp_path, rows, size=1000 * 4096 - 1, chunk_size=4096)
    hexes: list[str] = []
    offsets: list[int] = []
    while len(hexes) < 1000:
        taken, request = put(table, 10_000, first=len(hexes), count=1000 - len(hexes))
        assert taken == len(request.json["digest-list"])
        hexes += request.json["digest-list"]
        offsets += request.json["offset-list"]
    assert hexes == [bytes(row).hex() for row in rows]
    assert offsets == list(range(0, 1000 * 4096, 4096))


def test_what_is_not_in_the_index_is_refused(tmp_path: Path) -> None:
    table = fixed(tmp_path, digests(3))
    transport = Transport("target:8007")
    for which in (
        {"positions": positions(3)},
        {"positions": positions()},
        {"first": 0, "count": 0},
        {"first": 0, "count": 4},
        {"first": 3, "count": 1},
        {"first": 4, "count": 1},
        {"first": (1 << 64) - 1, "count": 2},
        {"first": 1, "count": (1 << 64) - 1},
    ):
        with pytest.raises(ValueError, match="entr"):
            transport.put_entries(1, "/", table, writer_id=1, limit=9999, **which)
    assert transport.state().calls_waiting == 0
    with pytest.raises(ValueError, match="dtype"):
        transport.put_entries(
            1,
            "/",
            table,
            writer_id=1,
            limit=9999,
            positions=np.array([1], np.int64),
        )


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 200),
    different=st.sets(st.integers(0, 199)),
    cut=st.booleans(),
)
def test_changes_are_found(
    n: int, different: set[int], cut: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    rows = digests(n)
    changed = {pos for pos in different if pos < n}
    other = rows.copy()
    for pos in changed:
        other[pos, hashlib.sha256(bytes([pos])).digest()[0] % 32] ^= 1
    old = fixed(folder, rows, chunk_size=4096)
    new = fixed(folder, other, size=n * 4096 - cut, chunk_size=4096)
    assert len(new) == n
    if cut:
        changed.add(n - 1)
    assert list(new.changed(old)) == sorted(changed)
    assert len(new.changed(new)) == 0


def test_only_alike_indexes_are_compared(tmp_path: Path) -> None:
    rows = digests(3)
    table = fixed(tmp_path, rows)
    for other in (
        fixed(tmp_path, rows[:2]),
        fixed(tmp_path, rows, chunk_size=4096),
        dynamic(tmp_path, rows, [1, 2, 3]),
    ):
        with pytest.raises(ValueError, match="compared"):
            table.changed(other)
        with pytest.raises(ValueError, match="compared"):
            other.changed(table)


def test_an_index_lasts_longer_than_its_file(tmp_path: Path) -> None:
    rows = digests(5)
    index = fixed(tmp_path, rows)
    (tmp_path / "a.fidx").unlink()
    _, request = put(index, 9999, count=5)
    assert request.json == expected(rows, [i * 4 * MIB for i in range(5)])


def test_a_closed_index_is_refused(tmp_path: Path) -> None:
    index, other = fixed(tmp_path, digests(5)), fixed(tmp_path, digests(5))
    index.close()
    transport = Transport("target:8007")
    transport.attach_uploads(-1, readers=1, buffer_bytes=1)
    for use in (
        lambda: transport.put_entries(1, "/", index, writer_id=1, limit=9999, count=5),
        lambda: transport.add_chunks(index, positions(0), writer_id=1, encrypted=False),
        lambda: index.changed(other),
        lambda: other.changed(index),
        lambda: index.inodes(0, positions(0)),
    ):
        with pytest.raises(ValueError, match="is closed"):
            use()


def test_inodes_are_those_of_the_chunk_files(tmp_path: Path) -> None:
    folder = ChunkFolder(tmp_path)
    table = folder.dynamic(bytes([i]) * 10 for i in range(5))
    files = [folder.file(digest) for digest in folder.contents]
    files[3].unlink()
    numbers = [0 if i == 3 else file.stat().st_ino for i, file in enumerate(files)]
    fd = os.open(folder.path, os.O_RDONLY)
    try:
        assert list(table.inodes(fd, positions(4, 0, 3, 0))) == [numbers[i] for i in (4, 0, 3, 0)]
        assert len(table.inodes(fd, positions())) == 0
        with pytest.raises(ValueError, match="position 5"):
            table.inodes(fd, positions(5))
    finally:
        os.close(fd)
