"""Manifests: reading, writing, signing, and whatever else one may find in such a file."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.errors import ManifestError
from pbs_push.formats.blob import BlobKind, check_blob, encode_blob
from pbs_push.formats.keys import CryptKey
from pbs_push.formats.manifest import MAX_MANIFEST_SIZE, CryptMode, FileInfo, Manifest
from pbs_push.names import Group, Snapshot

SNAPSHOT = Snapshot.parse("host/elsa/2020-06-26T13:56:05Z")
KEY = CryptKey(bytes(range(32)))
FILES = (
    FileInfo("test1.img.fidx", CryptMode.ENCRYPT, 200, b"\1" * 32),
    FileInfo("abc.blob", CryptMode.NONE, 200, b"\2" * 32),
)

GOLDEN = b"""{
  "backup-id": "elsa",
  "backup-time": 1593179765,
  "backup-type": "host",
  "files": [
    {
      "crypt-mode": "none",
      "csum": "0202020202020202020202020202020202020202020202020202020202020202",
      "filename": "abc.blob",
      "size": 200
    }
  ],
  "signature": null,
  "unprotected": {
    "notes": "\xc3\xa4"
  }
}"""


def test_known_answer_of_a_signature() -> None:
    """The example of protocol/datastore.md, "Signature": a key from the password ``test``."""
    enc_key = hashlib.scrypt(b"test", salt=b"", n=65536, r=8, p=1, maxmem=80 << 20, dklen=32)
    signature = Manifest(SNAPSHOT, FILES).sign(CryptKey(enc_key))
    assert signature == "d7b446fb7db081662081d4b40fedd858a1d6307a5aff4ecff7d5bf4fd35679e9"


def test_golden_json() -> None:
    manifest = Manifest(SNAPSHOT, (FILES[1],), {"notes": "ä"})
    assert manifest.to_json() == GOLDEN
    assert Manifest.parse(GOLDEN) == manifest


def fields(**changes: object) -> dict[str, Any]:
    """A manifest's JSON with changes; ``...`` takes a key away."""
    entry = {"filename": "a.blob", "crypt-mode": "none", "size": 1, "csum": "ab" * 32}
    top: dict[str, Any] = {
        "backup-type": "host",
        "backup-id": "elsa",
        "backup-time": 1593179765,
        "files": [entry],
        "unprotected": {},
        "signature": None,
    }
    file_changes = changes.pop("file", {})
    entry.update(file_changes)  # type: ignore[call-overload]
    top.update({name.replace("_", "-"): value for name, value in changes.items()})
    for part in (entry, top):
        for name in [name for name, value in part.items() if value is ...]:
            del part[name]
    return top


def parse(**changes: object) -> Manifest:
    return Manifest.parse(json.dumps(fields(**changes)).encode())


def test_unknown_keys_are_kept() -> None:
    manifest = parse(
        file={"new-in-file": [1, {"a": None}]},
        new_at_top={"b": 2.5},
        unprotected={"new-below": "x", "notes": "n"},
    )
    again = Manifest.parse(manifest.to_json())
    assert again == manifest
    written = json.loads(again.to_json())
    assert written["new-at-top"] == {"b": 2.5}
    assert written["files"][0]["new-in-file"] == [1, {"a": None}]
    assert written["unprotected"] == {"new-below": "x", "notes": "n"}


def test_what_old_manifests_lack_is_filled_in() -> None:
    manifest = parse(file={"crypt-mode": ...}, unprotected=..., signature=...)
    assert manifest.files[0].crypt_mode is CryptMode.NONE
    written = json.loads(manifest.to_json())
    assert written["files"][0]["crypt-mode"] == "none"
    assert written["signature"] is None
    assert written["unprotected"] == {}
    assert parse(unprotected=None) == manifest
    assert parse(file={"crypt-mode": ...}).sign(KEY) == parse().sign(KEY)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backup_type": "qemu"}, "not a backup type"),
        ({"backup_type": ...}, "'backup-type' is missing"),
        ({"backup_id": "../up"}, "not a valid backup id"),
        ({"backup_id": 100}, "'backup-id' is missing or no text"),
        ({"backup_time": "2020"}, "'backup-time'"),
        ({"backup_time": 1.5}, "'backup-time'"),
        ({"backup_time": True}, "'backup-time'"),
        ({"backup_time": 1 << 62}, "not a backup time"),
        ({"files": ...}, "'files' is missing"),
        ({"files": {}}, "'files' is missing or no list"),
        ({"files": ["a.blob"]}, "not an object"),
        ({"file": {"filename": ...}}, "'filename'"),
        ({"file": {"filename": None}}, "'filename'"),
        ({"file": {"crypt-mode": "rot13"}}, "'a.blob': unknown 'crypt-mode'"),
        ({"file": {"crypt-mode": None}}, "crypt-mode"),
        ({"file": {"crypt-mode": []}}, "crypt-mode"),
        ({"file": {"size": ...}}, "'a.blob': 'size'"),
        ({"file": {"size": -1}}, "negative"),
        ({"file": {"size": 2.0}}, "'size'"),
        ({"file": {"csum": "ab" * 31}}, "'csum'"),
        ({"file": {"csum": "ab " * 32}}, "'csum'"),
        ({"file": {"csum": "zz" * 32}}, "'csum'"),
        ({"file": {"csum": ...}}, "'csum'"),
        ({"signature": 7}, "'signature'"),
        ({"unprotected": []}, "'unprotected' is neither"),
        ({"unprotected": "x"}, "'unprotected' is neither"),
    ],
)
def test_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        parse(**changes)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_a_manifest_or_our_error(data: bytes, as_blob: bool) -> None:
    with pytest.raises(ManifestError):
        Manifest.decode(encode_blob(data) if as_blob else data)


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just([]), st.just({})
)


@given(
    st.dictionaries(
        st.sampled_from([*fields(), "more"]), ANYTHING | st.lists(ANYTHING, max_size=3)
    ),
    st.dictionaries(st.sampled_from(["filename", "crypt-mode", "size", "csum", "x"]), ANYTHING),
)
def test_any_values_give_a_manifest_or_our_error(
    top: dict[str, object], entry: dict[str, object]
) -> None:
    text = json.dumps({**fields(file=entry), **top}).encode()
    try:
        manifest = Manifest.parse(text)
    except ManifestError:
        return
    assert Manifest.parse(manifest.to_json()) == manifest
    assert manifest.verify_state is None or isinstance(manifest.verify_state, str)


NAMES = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9._-]{0,20}\Z")
MANIFESTS = st.builds(
    Manifest,
    st.builds(
        Snapshot,
        st.builds(Group, st.sampled_from(["ct", "host", "vm"]), NAMES),
        st.integers(0, 4_000_000_000),
    ),
    st.lists(
        st.builds(
            FileInfo,
            st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
            st.sampled_from(CryptMode),
            st.integers(0, (1 << 63) - 1),
            st.binary(min_size=32, max_size=32),
        ),
        max_size=4,
    ).map(tuple),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    st.none() | st.text(max_size=5),
)


@given(MANIFESTS)
def test_round_trip(manifest: Manifest) -> None:
    assert Manifest.parse(manifest.to_json()) == manifest
    assert Manifest.decode(manifest.encode()) == manifest


@given(MANIFESTS)
def test_signing(manifest: Manifest) -> None:
    signed = Manifest(manifest.snapshot, manifest.files, {}, manifest.sign(KEY))
    assert signed.verify_signature(KEY)
    assert not signed.verify_signature(CryptKey(bytes(32)))
    assert Manifest.decode(signed.encode()).verify_signature(KEY)


def test_what_the_signature_covers() -> None:
    plain = parse()
    assert parse(unprotected={"notes": "x"}, more=1).sign(KEY) == plain.sign(KEY)
    assert parse(file={"csum": "AB" * 32, "x": 1}).sign(KEY) == plain.sign(KEY)
    for change in ({"size": 2}, {"filename": "b.blob"}, {"csum": "ac" * 32}):
        assert parse(file=change).sign(KEY) != plain.sign(KEY)
    assert parse(backup_time=1593179766).sign(KEY) != plain.sign(KEY)


@pytest.mark.parametrize("signature", [None, "", "no hex", "ü" * 64, "ab" * 32])
def test_signatures_that_are_none(signature: str | None) -> None:
    assert not parse(signature=signature).verify_signature(KEY)


def test_signature_in_upper_case() -> None:
    assert parse(signature=parse().sign(KEY).upper()).verify_signature(KEY)


def test_without_source_state() -> None:
    manifest = parse(
        unprotected={
            "notes": "stay",
            "key-fingerprint": "ab",
            "sync-source-signature": "cd",
            "future": {"verify_state": 1},
            "verify_state": {"state": "ok", "upid": "UPID:x"},
            "chunk_upload_stats": {"count": 1},
        },
        signature="ab",
    )
    pushed = manifest.without_source_state()
    assert sorted(pushed.unprotected) == [
        "future",
        "key-fingerprint",
        "notes",
        "sync-source-signature",
    ]
    assert pushed.signature == "ab"
    assert manifest.verify_state == "ok"
    assert pushed.verify_state is None


def test_properties() -> None:
    fingerprint = ":".join(["ab"] * 32)
    manifest = parse(unprotected={"key-fingerprint": fingerprint, "notes": "a\nb"})
    assert manifest.key_fingerprint == b"\xab" * 32
    assert manifest.notes == "a\nb"
    assert manifest.file("a.blob") == manifest.files[0]
    assert manifest.file("b.blob") is None
    odd = parse(unprotected={"key-fingerprint": "ab", "notes": 7, "verify_state": "ok"})
    assert (odd.key_fingerprint, odd.notes, odd.verify_state) == (None, None, None)
    assert {manifest, odd}


def test_encoded_as_pbs_does() -> None:
    manifest = Manifest(SNAPSHOT, FILES * 5)
    assert check_blob(manifest.encode()) is BlobKind.ZSTD


def test_blobs_that_hold_no_manifest() -> None:
    text = Manifest(SNAPSHOT, FILES).to_json()
    with pytest.raises(ManifestError, match="encrypted"):
        Manifest.decode(encode_blob(text, key=KEY))
    with pytest.raises(ManifestError, match="more than"):
        Manifest.decode(encode_blob(bytes(MAX_MANIFEST_SIZE + 1)))
    with pytest.raises(ManifestError, match="levels deep"):
        Manifest.decode(encode_blob(b'{"a":' * 100_000))
