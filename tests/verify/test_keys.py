"""What is encrypted: checked with its key; without, told as not checked, and never as ok."""

from __future__ import annotations

import hashlib

import pytest

from pbs_push import Namespace, Verdict
from pbs_push.formats.blob import encode_blob
from pbs_push.formats.keys import CryptKey

from .conftest import ARCHIVES, Place

OTHER = CryptKey(bytes(32))


@pytest.fixture
def sealed(place: Place) -> Place:
    """A snapshot that is encrypted, with three chunks and a blob, and one that is not."""
    place.source.add("vm/1", 0, encrypted=True, archives=ARCHIVES)
    place.source.add("vm/2", 0, archives=ARCHIVES)
    return place


def first_sealed_chunk(place: Place) -> bytes:
    """Its digest."""
    datastore = place.datastore
    (group,) = (one for one in datastore.groups(Namespace()) if str(one.group) == "vm/1")
    item = datastore.snapshots(group).snapshots[0]
    with datastore.open_snapshot(item) as opened, opened.open_index("root.pxar.didx") as index:
        return index.digests[0].tobytes()


def swap(place: Place, key: CryptKey) -> None:
    """Another content, encrypted: a blob that is whole."""
    path = place.datastore.chunk_path_of(first_sealed_chunk(place))
    path.write_bytes(encode_blob(bytes(5000), key=key))


def test_without_a_key_it_is_not_checked(sealed: Place) -> None:
    report = sealed.verify()
    assert report.verdicts == {Verdict.NOT_CHECKED: 1, Verdict.OK: 1}
    assert (report.chunks.ok, report.chunks.not_checked) == (3, 3)
    assert report.files_not_checked == 1
    assert report.exit_status == 0, "which alone is no damage"
    assert [verdict for _, verdict in report.not_ok] == [Verdict.NOT_CHECKED]


def test_with_its_key_it_is(sealed: Place) -> None:
    report = sealed.verify(key=sealed.source.key)
    assert report.verdicts == {Verdict.OK: 2}
    assert (report.chunks.ok, report.chunks.not_checked) == (6, 0)
    assert report.files_not_checked == 0


def test_another_key_is_none(sealed: Place) -> None:
    report = sealed.verify(key=OTHER)
    assert report.verdicts == {Verdict.NOT_CHECKED: 1, Verdict.OK: 1}
    assert report.exit_status == 0


def test_bytes_that_went_bad_are_seen_without_a_key(sealed: Place) -> None:
    path = sealed.datastore.chunk_path_of(first_sealed_chunk(sealed))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    report = sealed.verify()
    assert [one.fault for one in report.damaged_chunks] == ["crc"]
    assert report.verdicts == {Verdict.DAMAGED: 1, Verdict.OK: 1}


@pytest.mark.parametrize(
    ("written_with", "fault"), [("its", "digest"), ("other", "content")], ids=["its", "other"]
)
def test_another_content_is_seen_with_the_key(sealed: Place, written_with: str, fault: str) -> None:
    swap(sealed, sealed.source.key if written_with == "its" else OTHER)
    assert sealed.verify().damaged_chunks == [], "nobody can tell without"
    report = sealed.verify(key=sealed.source.key)
    assert [one.fault for one in report.damaged_chunks] == [fault]


def test_a_plain_chunk_where_there_should_be_none(sealed: Place) -> None:
    path = sealed.datastore.chunk_path_of(first_sealed_chunk(sealed))
    path.write_bytes(encode_blob(bytes(5000)))
    for key in (None, sealed.source.key):
        assert [one.fault for one in sealed.verify(key=key).damaged_chunks] == ["crypt-mode"]


def test_a_blob_that_is_none_under_the_key(sealed: Place) -> None:
    folder = sealed.source.folder("vm/1", 0)
    blob = encode_blob(b"text", key=OTHER)
    (folder / "some.conf.blob").write_bytes(blob)
    text = sealed.source.manifest(folder)
    (entry,) = (file for file in text["files"] if file["filename"] == "some.conf.blob")
    entry |= {"size": len(blob), "csum": hashlib.sha256(blob).hexdigest()}
    text["signature"] = None
    sealed.source.write_manifest(folder, text)
    assert sealed.verify().damaged_files == []
    (found,) = sealed.verify(key=sealed.source.key).damaged_files
    assert found.fault == "content"


def test_a_signature_that_is_not_the_keys(sealed: Place) -> None:
    folder = sealed.source.folder("vm/1", 0)
    text = sealed.source.manifest(folder)
    text["signature"] = "00" * 32
    sealed.source.write_manifest(folder, text)
    assert sealed.verify().damaged_files == []
    (found,) = sealed.verify(key=sealed.source.key).damaged_files
    assert (found.place.filename, found.fault) == ("index.json.blob", "crc")


def test_a_chunk_that_a_stranger_names_first_is_checked_all_the_same(sealed: Place) -> None:
    """Of a snapshot that names no key nothing can be checked; its chunks are checked elsewhere."""
    sealed.source.add("ct/1", 0, encrypted=True, archives=ARCHIVES)
    folder = sealed.source.folder("ct/1", 0)
    sealed.source.rewrite_manifest(folder, **{"key-fingerprint": None})
    swap(sealed, sealed.source.key)
    report = sealed.verify(key=sealed.source.key)
    assert report.verdicts == {Verdict.NOT_CHECKED: 1, Verdict.DAMAGED: 1, Verdict.OK: 1}
    assert [str(one.snapshot.snapshot.group) for one in report.damaged_chunks[0].places] == ["vm/1"]
