"""Whatever lies in a datastore: a verdict, and never an exception or a chunk taken for checked."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.push.world import Store

from pbs_push import Datastore, Verdict, VerifyOptions, verify_source
from pbs_push.formats.index import HEADER_SIZE, open_index
from pbs_push.formats.index_writer import dynamic_index_bytes
from pbs_push.verify.seen import Mode, Seen

FILES = ("index.json.blob", "root.pxar.didx", "disk.img.fidx", "some.conf.blob", "chunk")


def make(folder: Path) -> tuple[Store, Path]:
    store = Store(folder / "source")
    return store, store.add("vm/1", 0, archives={"disk.img.fidx": ("a",), "root.pxar.didx": "bcd"})


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(FILES),
    st.integers(0, 1 << 14),
    st.binary(min_size=1, max_size=40),
    st.booleans(),
)
def test_any_bytes_anywhere(name: str, at: int, noise: bytes, cuts: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store, snapshot = make(Path(folder))
        path = store.chunk_of("b") if name == "chunk" else snapshot / name
        before = path.read_bytes()
        at %= len(before)
        after = before[:at] + noise + (b"" if cuts else before[at + len(noise) :])
        path.write_bytes(after)
        report = verify_source(
            Datastore(store.path, lock_root=Path(folder) / "run"), VerifyOptions(parallel=2)
        )
        is_free = name.endswith("idx") and at < HEADER_SIZE  # a uuid, a time, what nobody uses
        if after != before and (cuts or not is_free):
            assert report.verdicts == {Verdict.DAMAGED: 1}
            assert report.exit_status == 3


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 17 << 20), st.binary(min_size=32, max_size=32)), max_size=8)
)
def test_any_entries_that_the_manifest_confirms(entries: list[tuple[int, bytes]]) -> None:
    """Chunks that nobody has: each is missing, unless the index itself is impossible."""
    with tempfile.TemporaryDirectory() as folder:
        store, snapshot = make(Path(folder))
        ends = np.cumsum([size for size, _ in entries], dtype=np.uint64)
        content = dynamic_index_bytes(ends, b"".join(digest for _, digest in entries))
        (snapshot / "root.pxar.didx").write_bytes(content)
        text = store.manifest(snapshot)
        (entry,) = (one for one in text["files"] if one["filename"] == "root.pxar.didx")
        with open_index(snapshot / "root.pxar.didx") as index:
            entry |= {"size": index.size, "csum": index.csum().hex()}
        store.write_manifest(snapshot, text)
        report = verify_source(
            Datastore(store.path, lock_root=Path(folder) / "run"), VerifyOptions(parallel=2)
        )
        if max((size for size, _ in entries), default=0) > 16 << 20:
            assert [one.fault for one in report.damaged_files] == ["format"]
        else:
            assert len(report.damaged_chunks) == len(set(entries))
            assert {one.fault for one in report.damaged_chunks} <= {"missing"}


def test_no_entry_can_be_made_to_look_like_another() -> None:
    """A digest that differs from a known one by what its length does is not known."""
    seen = Seen()
    digest = np.arange(32, dtype=np.uint8).reshape(1, 32)
    size = np.array([5000], dtype=np.uint64)
    assert len(seen.add(seen.rows(digest, size, Mode.PLAIN))) == 1
    other = digest.copy().view(np.uint64)
    other ^= np.uint64(5000 ^ 4999)
    rows = seen.rows(other.view(np.uint8), size - np.uint64(1), Mode.PLAIN)
    assert len(seen.add(rows)) == 1
    for mode in (Mode.SEALED, Mode.KEYED):
        assert len(seen.add(seen.rows(digest, size, mode))) == 1, "it was not checked so"
    assert len(seen.add(seen.rows(digest, size, Mode.PLAIN))) == 0
    another = Seen()
    assert (seen.rows(digest, size, Mode.PLAIN) != another.rows(digest, size, Mode.PLAIN)).any()
