"""What a real PBS wrote, read by us (see the fixtures' README)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pbs_push.formats.blob import BlobKind, check_blob, decode_blob
from pbs_push.formats.keys import CryptKey, load_key_file
from pbs_push.formats.manifest import Manifest

KIND_OF_WORD = {
    "uncompressed": BlobKind.PLAIN,
    "compressed": BlobKind.ZSTD,
    "encrypted": BlobKind.ENCRYPTED,
    "encrypted+compressed": BlobKind.ZSTD_ENCRYPTED,
}


@pytest.fixture(scope="module")
def expected(fixtures_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((fixtures_dir / "expected.json").read_text())
    return content


@pytest.fixture(scope="module")
def key(fixtures_dir: Path) -> CryptKey:
    return load_key_file(fixtures_dir / "keys" / "enc.key")


def finished(expected: dict[str, Any], base: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folder and expected values of every finished snapshot."""
    for namespace in expected["namespaces"]:
        path = "/".join(f"ns/{name}" for name in namespace["ns"].split("/") if name)
        for group in namespace["groups"]:
            for snapshot in group["snapshots"]:
                if not snapshot["in-progress"]:
                    yield base / path / group["group"] / snapshot["dir"], snapshot


def test_manifests(expected: dict[str, Any], fixture_datastore: Path, key: CryptKey) -> None:
    for folder, snapshot in finished(expected, fixture_datastore):
        blob = (folder / "index.json.blob").read_bytes()
        manifest = Manifest.decode(blob)
        assert manifest.to_json() == decode_blob(blob), folder
        assert check_blob(manifest.encode()) is BlobKind.ZSTD
        assert manifest.snapshot.time_text == snapshot["dir"]
        assert manifest.unprotected == snapshot["manifest"]["unprotected"]
        assert manifest.signature == snapshot["manifest"]["signature"]
        assert manifest.verify_signature(key) is (manifest.signature is not None)
        listed = [(file.filename, file.size, file.csum.hex()) for file in manifest.files]
        assert listed == [
            (file["filename"], file["size"], file["csum"]) for file in snapshot["files"]
        ]


def test_blobs(expected: dict[str, Any], fixture_datastore: Path, key: CryptKey) -> None:
    checked = 0
    for folder, snapshot in finished(expected, fixture_datastore):
        for file in snapshot["files"]:
            if "blob" not in file:
                continue
            about = file["blob"]
            blob = (folder / file["filename"]).read_bytes()
            assert check_blob(blob) is KIND_OF_WORD[about["type"]]
            content_hash = hashlib.sha256(decode_blob(blob, key=key)).hexdigest()
            assert content_hash == (about["content-sha256"] or about["decrypted-sha256"])
            checked += 1
    assert checked


def test_chunks(expected: dict[str, Any], fixture_datastore: Path, key: CryptKey) -> None:
    for digest_hex, about in expected["chunks"]["list"].items():
        blob = (fixture_datastore / ".chunks" / digest_hex[:4] / digest_hex).read_bytes()
        kind = check_blob(blob)
        content = decode_blob(blob, key=key)
        assert kind is KIND_OF_WORD[about["type"]]
        assert about["size"] in (None, len(content))
        digest = key.digest(content) if kind.encrypted else hashlib.sha256(content).digest()
        assert digest.hex() == digest_hex


@pytest.mark.parametrize("name", ["encpush-host-mixed-1", "encpush-vm-9"])
def test_manifests_that_an_encrypting_push_wrote(
    fixtures_dir: Path, key: CryptKey, name: str
) -> None:
    text = (fixtures_dir / "push" / f"{name}.manifest.json").read_bytes()
    manifest = Manifest.parse(text)
    assert manifest.verify_signature(key)
    assert manifest.key_fingerprint == key.fingerprint
    assert manifest.to_json() == text.rstrip(b"\n")
