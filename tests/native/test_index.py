"""Index files against plain Python (protocol/datastore.md), and mappings that lose their file."""

from __future__ import annotations

import copy
import gc
import hashlib
import os
import pickle
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push._native.index import Index, open_index, parse_index
from pbs_push.errors import IndexFormatError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

HEADER = 4096
FIXED_MAGIC = hashlib.sha256(b"Proxmox Backup fixed sized chunk index v1.0").digest()[:8]
DYNAMIC_MAGIC = hashlib.sha256(b"Proxmox Backup dynamic sized chunk index v1.0").digest()[:8]


def header(magic: bytes, size: int = 0, chunk_size: int = 0, *, ctime: int = -5) -> bytes:
    fields = struct.pack(
        "<8s16sq32sQQ", magic, b"uuid" * 4, ctime, b"claimed." * 4, size, chunk_size
    )
    return fields.ljust(HEADER, b"\0")


def fixed_file(digests: list[bytes], size: int, chunk_size: int) -> bytes:
    return header(FIXED_MAGIC, size, chunk_size) + b"".join(digests)


def dynamic_file(entries: list[tuple[int, bytes]]) -> bytes:
    return header(DYNAMIC_MAGIC) + b"".join(struct.pack("<Q32s", *entry) for entry in entries)


def digests_of(n: int) -> list[bytes]:
    return [hashlib.sha256(bytes([i % 256, i // 256])).digest() for i in range(n)]


@dataclass(frozen=True)
class Oracle:
    kind: str
    size: int
    chunk_size: int
    digests: list[bytes]
    ends: list[int]


def oracle(content: bytes) -> Oracle | None:
    """What the file says, or None where it is not valid."""
    if len(content) < HEADER:
        return None
    if content[:8] == FIXED_MAGIC:
        size, chunk_size = struct.unpack_from("<QQ", content, 64)
        return fixed_oracle(size, chunk_size, content[HEADER:])
    return dynamic_oracle(content[HEADER:]) if content[:8] == DYNAMIC_MAGIC else None


def fixed_oracle(size: int, chunk_size: int, entries: bytes) -> Oracle | None:
    if chunk_size.bit_count() != 1 or size == 0:
        return None
    n = -(-size // chunk_size)
    if len(entries) != n * 32:
        return None
    ends = [min((i + 1) * chunk_size, size) for i in range(n)]
    digests = [entries[i * 32 : i * 32 + 32] for i in range(n)]
    return Oracle("fixed", size, chunk_size, digests, ends)


def dynamic_oracle(entries: bytes) -> Oracle | None:
    if len(entries) % 40 != 0:
        return None
    pairs = list(struct.iter_unpack("<Q32s", entries))
    ends = [end for end, _ in pairs]
    if any(end <= start for start, end in zip([0, *ends], ends, strict=False)):
        return None
    return Oracle("dynamic", ends[-1] if ends else 0, 0, [d for _, d in pairs], ends)


def check_against_oracle(content: bytes, read: Callable[[], Index]) -> None:
    expected = oracle(content)
    if expected is None:
        with pytest.raises(IndexFormatError):
            read()
        return
    with read() as index:
        assert (index.kind, index.size, index.chunk_size) == (
            expected.kind,
            expected.size,
            expected.chunk_size,
        )
        assert len(index) == len(expected.digests)
        assert index.digests.shape == (len(index), 32)
        assert [row.tobytes() for row in index.digests] == expected.digests
        assert index.end_offsets.dtype == numpy.uint64
        assert index.end_offsets.tolist() == expected.ends
        assert index.entries.tobytes() == content[HEADER:]
        assert index.csum() == hashlib.sha256(content[HEADER:]).digest()
        starts = [0, *expected.ends]
        sizes = (end - start for start, end in zip(starts, expected.ends, strict=False))
        assert index.largest_chunk == max(sizes, default=0)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture
def dynamic_path(tmp_path: Path) -> Path:
    entries = [(1000 * (i + 1), d) for i, d in enumerate(digests_of(2000))]
    return write(tmp_path / "a.didx", dynamic_file(entries))


@pytest.fixture
def fixed_path(tmp_path: Path) -> Path:
    return write(tmp_path / "a.fidx", fixed_file(digests_of(2000), 2000 * 4096 - 1, 4096))


fixed_contents = st.builds(
    lambda n, short, exponent, extra: fixed_file(
        digests_of(n + extra), min(max(n * 2**exponent - short, 0), 2**64 - 1), 2**exponent
    ),
    st.integers(0, 5),
    st.integers(0, 3),
    st.integers(0, 63),
    st.sampled_from([0, 0, 0, 1]),
)
dynamic_contents = st.lists(
    st.tuples(st.integers(0, 2**64 - 1), st.binary(min_size=32, max_size=32)), max_size=5
).flatmap(
    lambda entries: st.sampled_from(
        [dynamic_file(entries), dynamic_file(sorted(entries)), dynamic_file(entries[:1])]
    )
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    content = bytearray(draw(fixed_contents | dynamic_contents))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, 95) | st.integers(HEADER - 8, HEADER + 200))
        if at < len(content):
            content[at] = draw(st.integers(0, 255))
    length = draw(st.just(len(content)) | st.integers(0, len(content)))
    return bytes(content[:length])


@given(damaged())
def test_any_bytes_give_what_the_oracle_says_or_index_format_error(content: bytes) -> None:
    check_against_oracle(content, lambda: parse_index(content, "in memory"))


@given(content=damaged())
def test_files_are_read_like_bytes(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "hypothesis.idx", content)
    check_against_oracle(content, lambda: open_index(path))


@pytest.mark.parametrize(
    "content",
    [fixed_file(digests_of(3), 3 * 4096, 4096), dynamic_file([(1, b"a" * 32), (2, b"b" * 32)])],
    ids=["fixed", "dynamic"],
)
def test_truncated_at_every_byte(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "cut", content)
    for length in range(len(content), -1, -1):
        os.truncate(path, length)
        check_against_oracle(content[:length], lambda: open_index(path))


def test_header_fields(fixed_path: Path) -> None:
    with open_index(str(fixed_path)) as index:
        assert index.path == str(fixed_path)
        assert index.uuid == b"uuid" * 4
        assert index.ctime == -5
        assert index.header_csum == b"claimed." * 4
        assert repr(index) == f"<Index {str(fixed_path)!r} fixed, 2000 entries>"


def resident_kib(path: Path) -> int:
    """What of a mapped file is this process's memory."""
    inside, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.split(maxsplit=1)[0].count("-") == 1:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
def test_a_pass_over_a_large_index_leaves_little_of_it_in_memory(tmp_path: Path, kind: str) -> None:
    n = 500_000
    entries = numpy.zeros((n, 32 if kind == "fixed" else 40), numpy.uint8)
    if kind == "dynamic":
        entries[:, :8].view("<u8")[:, 0] = numpy.arange(1, n + 1)
    magic = FIXED_MAGIC if kind == "fixed" else DYNAMIC_MAGIC
    path = write(tmp_path / "large", header(magic, n, 1) + entries.tobytes())
    with open_index(path) as index:
        assert index.csum() == hashlib.sha256(entries).digest()
        assert resident_kib(path) < 5 * 1024
        assert numpy.count_nonzero(index.digests) == 0
        assert resident_kib(path) > 15 * 1024


def test_names_are_relative_to_the_directory(fixed_path: Path) -> None:
    descriptor = os.open(fixed_path.parent, os.O_RDONLY)
    try:
        with open_index("a.fidx", dir_fd=descriptor) as index:
            assert len(index) == 2000
        with pytest.raises(SourceError, match="no such file"):
            open_index("b.fidx", dir_fd=descriptor)
    finally:
        os.close(descriptor)


def test_what_cannot_be_opened_is_a_source_error(tmp_path: Path, fixed_path: Path) -> None:
    (tmp_path / "link").symlink_to(fixed_path)
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "link", "pipe"):
        with pytest.raises(SourceError, match="not a regular file"):
            open_index(tmp_path / name)
    with pytest.raises(SourceError, match="Not a directory"):
        open_index(fixed_path / "below")
    with pytest.raises(SourceError, match="NUL"):
        open_index("a\0b")


def test_messages_name_file_and_entry(tmp_path: Path) -> None:
    content = dynamic_file([(5, b"a" * 32), (7, b"b" * 32), (7, b"c" * 32)])
    with pytest.raises(IndexFormatError, match=r"odd\.didx': end offsets .* at entry 2"):
        open_index(write(tmp_path / "odd.didx", content))
    with pytest.raises(IndexFormatError, match=r"the list': it does not begin with"):
        parse_index(bytes(5000), "the list")


def test_views_are_read_only_and_no_copies(fixed_path: Path, dynamic_path: Path) -> None:
    for path, stride in ((fixed_path, 32), (dynamic_path, 40)):
        with open_index(path) as index:
            views = [index.digests, index.entries]
            if index.kind == "dynamic":
                views.append(index.end_offsets.reshape(-1, 1).view(numpy.uint8))
            assert index.digests.strides == (stride, 1)
            assert index.digests.base is not None
            assert numpy.shares_memory(index.digests, index.entries)
            assert index.digests is index.digests
            for view in views:
                with pytest.raises(ValueError, match="read-only"):
                    view[0] = 0
                with pytest.raises(ValueError, match="WRITEABLE"):
                    view.flags.writeable = True
                assert view.data.readonly
            with pytest.raises(ValueError, match="read-only"):
                index.end_offsets[0] = 0
    with open_index(dynamic_path) as index:
        assert numpy.shares_memory(index.end_offsets, index.entries)


def mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_views_keep_the_mapping_and_the_last_one_ends_it(dynamic_path: Path) -> None:
    index = open_index(dynamic_path)
    row = index.digests[1999]
    ends = index.end_offsets[:3]
    index.close()
    index.close()
    del index
    gc.collect()
    assert mapped(dynamic_path)
    assert row.tobytes() == digests_of(2000)[1999]
    del row
    gc.collect()
    assert ends.tolist() == [1000, 2000, 3000]
    del ends
    gc.collect()
    assert not mapped(dynamic_path)


def test_no_descriptor_is_left_behind(dynamic_path: Path, tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.didx", b"x" * 5000)
    before = len(list(Path("/proc/self/fd").iterdir()))
    open_index(dynamic_path).close()
    with pytest.raises(IndexFormatError):
        open_index(bad)
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not mapped(bad)


def test_a_closed_index_says_so(fixed_path: Path) -> None:
    index = open_index(fixed_path)
    index.close()
    assert len(index) == 2000
    assert index.size == 2000 * 4096 - 1
    uses: list[Callable[[], object]] = [
        lambda: index.digests,
        lambda: index.end_offsets,
        lambda: index.entries,
        index.csum,
        index.check_unchanged,
        index.__enter__,
    ]
    for use in uses:
        with pytest.raises(ValueError, match="is closed"):
            use()


def test_an_index_cannot_be_copied_or_pickled(fixed_path: Path) -> None:
    with open_index(fixed_path) as index:
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                copied(index)


def test_an_index_is_made_by_its_functions_only() -> None:
    with pytest.raises(TypeError, match="open_index"):
        Index()


def test_a_file_that_shrinks_is_told_and_survived(dynamic_path: Path, fixed_path: Path) -> None:
    for path in (dynamic_path, fixed_path):
        with open_index(path) as index:
            index.check_unchanged()
            os.truncate(path, 8192)
            with pytest.raises(IndexFormatError, match="shrank or became unreadable"):
                index.check_unchanged()
            assert not index.digests[-1].any()
            assert index.digests[0].tobytes() == digests_of(1)[0]
            with pytest.raises(IndexFormatError, match="shrank"):
                index.csum()


def test_a_file_cut_and_restored_is_told_by_whoever_read_it(fixed_path: Path) -> None:
    content = fixed_path.read_bytes()
    with open_index(fixed_path) as index:
        os.truncate(fixed_path, 0)
        assert not index.digests.any()
        fixed_path.write_bytes(content)
        with pytest.raises(IndexFormatError, match="shrank"):
            index.csum()


def test_threads_survive_a_file_that_shrinks(fixed_path: Path) -> None:
    content = fixed_path.read_bytes()
    for _ in range(10):
        fixed_path.write_bytes(content)
        index = open_index(fixed_path)
        outcomes: list[bytes | IndexFormatError] = []

        def read(index: Index = index, outcomes: list[bytes | IndexFormatError] = outcomes) -> None:
            for _ in range(5):
                try:
                    outcomes.append(index.csum())
                except IndexFormatError as error:
                    outcomes.append(error)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        os.truncate(fixed_path, HEADER)
        for thread in threads:
            thread.join()
        good = hashlib.sha256(content[HEADER:]).digest()
        assert len(outcomes) == 15
        assert all(isinstance(o, IndexFormatError) or o == good for o in outcomes)
        index.close()


SHRINKING_CHILD = """
import faulthandler, os, sys
from pbs_push._native.index import open_index
from pbs_push.errors import IndexFormatError
if "before" in sys.argv:
    faulthandler.enable()
index = open_index(sys.argv[1])
if "after" in sys.argv:
    faulthandler.enable()
os.truncate(sys.argv[1], 4096)
index.digests.any()
for _ in range(2):
    try:
        index.csum()
    except IndexFormatError as error:
        print("told:", error)
if "foreign" in sys.argv:
    import mmap
    with open(sys.argv[1], "rb+") as file:
        other = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        file.truncate(0)
    other[0]
"""


def run_child(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SHRINKING_CHILD, str(path), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("faulthandler_when", ["never", "before", "after"])
def test_shrinking_with_faulthandler(dynamic_path: Path, faulthandler_when: str) -> None:
    child = run_child(dynamic_path, faulthandler_when)
    assert child.returncode == 0
    assert child.stdout.count("told: ") == 2
    # One enabled later comes first: it reports the fault once, then leaves it to us.
    assert child.stderr.count("Bus error") == (faulthandler_when == "after")


@pytest.mark.parametrize("faulthandler_when", ["never", "before", "after"])
def test_a_fault_that_is_not_ours_still_kills(dynamic_path: Path, faulthandler_when: str) -> None:
    child = run_child(dynamic_path, faulthandler_when, "foreign")
    assert child.returncode == -7
    assert child.stdout.count("told: ") == 2
    assert child.stderr.count("Python error: Bus error") == (faulthandler_when != "never")
