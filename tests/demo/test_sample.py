"""The sample datastore: what it holds, that it is always the same, and what a change adds."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from pbs_push.demo.pieces import Piece, SampleBytes, changed, changed_positions, image_pieces
from pbs_push.demo.sample import SampleSummary, add_snapshot, sample_enc_key, write_sample
from pbs_push.formats.blob import decode_blob
from pbs_push.formats.keys import CryptKey
from pbs_push.formats.manifest import CryptMode
from pbs_push.names import ARCHIVE_SUFFIXES, INDEX_SUFFIXES, Namespace
from pbs_push.source import Datastore, SourceSnapshot

TOTAL = 2 << 20


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> SampleSummary:
    return write_sample(tmp_path_factory.mktemp("sample") / "store1", total_bytes=TOTAL)


def all_snapshots(datastore: Datastore) -> list[SourceSnapshot]:
    return [
        item
        for namespace in datastore.namespaces()
        for group in datastore.groups(namespace)
        for item in datastore.snapshots(group).snapshots
    ]


def test_what_it_holds(summary: SampleSummary) -> None:
    datastore = Datastore(summary.path)
    namespaces = datastore.namespaces()
    groups = [group for namespace in namespaces for group in datastore.groups(namespace)]
    items = all_snapshots(datastore)
    assert (len(namespaces), len(groups), len(items)) == (
        summary.namespaces,
        summary.groups,
        summary.snapshots,
    )
    assert max(namespace.depth for namespace in namespaces) >= 3
    for backup_type in ("vm", "ct", "host"):
        of_type = [group for group in groups if group.group.backup_type == backup_type]
        assert len(of_type) >= 3
        assert max(len(datastore.snapshots(group).snapshots) for group in of_type) >= 2
    assert all(group.owner is not None for group in groups)
    assert sum(datastore.group_notes(group) is not None for group in groups) == 2
    assert sum(item.protected for item in items) == 1
    assert all(item.finished for item in items)


def test_every_archive_is_what_the_manifest_says(summary: SampleSummary) -> None:
    datastore = Datastore(summary.path)
    key = CryptKey(sample_enc_key())
    suffixes, modes, logs = set(), set(), 0
    referenced: set[bytes] = set()
    for item in all_snapshots(datastore):
        with datastore.open_snapshot(item) as opened:
            logs += opened.client_log() is not None
            if opened.manifest.signature is not None:
                assert opened.manifest.verify_signature(key)
            for file in opened.manifest.files:
                suffixes.add(file.filename.partition(".")[2])
                modes.add(file.crypt_mode)
                if not file.filename.endswith(INDEX_SUFFIXES):
                    data = opened.read_blob(file.filename)
                    assert (hashlib.sha256(data).digest(), len(data)) == (file.csum, file.size)
                    continue
                with opened.open_index(file.filename) as index:
                    assert (index.csum(), index.size) == (file.csum, file.size)
                    referenced |= {bytes(row) for row in index.digests}
    assert {"img.fidx", "pxar.didx", "mpxar.didx", "ppxar.didx", "pcat1.didx"} <= suffixes
    assert modes == {CryptMode.NONE, CryptMode.ENCRYPT}
    assert logs == 2
    for digest in referenced:
        content = decode_blob(datastore.read_chunk(digest), key=key)
        assert digest in (hashlib.sha256(content).digest(), key.digest(content))
    assert chunk_names(summary.path) == {digest.hex() for digest in referenced}
    assert len(referenced) == summary.chunks


def test_its_size_is_about_what_was_asked_for(summary: SampleSummary) -> None:
    chunks = [path.stat().st_size for path in (summary.path / ".chunks").glob("*/*")]
    assert sum(chunks) == summary.chunk_bytes
    assert 0.8 * TOTAL < summary.chunk_bytes < 1.25 * TOTAL


def digests_by_snapshot(datastore: Datastore) -> dict[str, set[bytes]]:
    found: dict[str, set[bytes]] = {}
    for item in all_snapshots(datastore):
        with datastore.open_snapshot(item) as opened:
            for file in opened.manifest.files:
                if file.filename.endswith(INDEX_SUFFIXES):
                    with opened.open_index(file.filename) as index:
                        rows = {bytes(row) for row in index.digests}
                    found[f"{item.label}/{file.filename}"] = rows
    return found


def test_chunks_are_shared(summary: SampleSummary) -> None:
    found = digests_by_snapshot(Datastore(summary.path))
    images = {place: rows for place, rows in found.items() if "drive-scsi0" in place}
    first, second, *_ = (rows for place, rows in images.items() if place.startswith("vm/100"))
    other = next(rows for place, rows in images.items() if place.startswith("vm/101"))
    assert first & other
    assert first & second
    assert first != second


def chunk_names(base: Path) -> set[str]:
    return {path.name for path in (base / ".chunks").glob("*/*")}


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(summary: SampleSummary, tmp_path: Path) -> None:
    write_sample(tmp_path / "again", total_bytes=TOTAL)
    assert tree(tmp_path / "again") == tree(summary.path)
    write_sample(tmp_path / "other", seed=2, total_bytes=TOTAL)
    one, other = chunk_names(summary.path), chunk_names(tmp_path / "other")
    assert len(one & other) < len(one) / 10  # those without noise, such as the zeros


def test_a_change_is_small_and_known(summary: SampleSummary, tmp_path: Path) -> None:
    base = tmp_path / "store1"
    shutil.copytree(summary.path, base)
    before = chunk_names(base)
    snapshots_before = len(all_snapshots(Datastore(base)))
    for number in (1, 2):
        change = add_snapshot(base)
        after = chunk_names(base)
        assert after - before == {digest.hex() for digest in change.new_digests}
        new_bytes = sum(
            path.stat().st_size
            for path in (base / ".chunks").glob("*/*")
            if path.name not in before
        )
        assert new_bytes == change.new_chunk_bytes
        assert 2 <= len(change.new_digests) <= 10
        assert len(all_snapshots(Datastore(base))) == snapshots_before + 2 * number
        assert {str(snapshot.group) for _, snapshot in change.snapshots} == {"vm/100", "host/alpha"}
        before = after
    datastore = Datastore(base)
    (group,) = (item for item in datastore.groups(Namespace()) if str(item.group) == "host/alpha")
    newest = datastore.snapshots(group).snapshots[-1]
    assert (Namespace(), newest.snapshot) in change.snapshots
    with datastore.open_snapshot(newest) as opened:
        assert all(opened.has(file.filename) for file in opened.manifest.files)
        assert all(file.filename.endswith(ARCHIVE_SUFFIXES) for file in opened.manifest.files)


def test_it_never_writes_over_a_datastore(summary: SampleSummary) -> None:
    with pytest.raises(FileExistsError):
        write_sample(summary.path)


def test_all_chunk_folders_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbs_push.demo.store_writer.CHUNK_FOLDERS", 300)
    write_sample(tmp_path / "store1", total_bytes=1 << 20, all_chunk_folders=True)
    assert {f"{number:04x}" for number in range(300)} <= {
        path.name for path in (tmp_path / "store1" / ".chunks").iterdir()
    }


def test_pieces_are_reproducible_on_every_machine() -> None:
    content = SampleBytes(1).content(Piece("x", 100, 8))
    assert content[:8].hex() == "cacd0b2ba088eb4d"
    assert len(content) == 100
    assert content[8:].startswith(b"x: nothing to see")


def test_image_pieces_spend_their_budget() -> None:
    for budget in (1000, 1 << 20, 300 << 20):
        pieces = image_pieces("x", budget)
        assert sum(piece.noise for piece in pieces) == pytest.approx(budget, rel=0.15)
        assert len({piece.label for piece in pieces}) == len(pieces) >= 6


def test_changed_positions() -> None:
    assert list(changed_positions(1)) == []
    assert list(changed_positions(2)) == [0]
    assert list(changed_positions(60)) == [20, 36, 52]
    pieces = image_pieces("x", 1000)
    assert sum(a != b for a, b in zip(pieces, changed(pieces, "later"), strict=True)) == 1
