"""What other code than ours wrote, a real PBS too, read by us."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.references import GOLDEN

from pbs_push.formats.blob import BlobKind, check_blob, decode_blob
from pbs_push.formats.keys import CryptKey, load_key_file
from pbs_push.formats.manifest import Manifest
from pbs_push.names import format_fingerprint

KIND_OF_WORD = {
    "uncompressed": BlobKind.PLAIN,
    "compressed": BlobKind.ZSTD,
    "encrypted": BlobKind.ENCRYPTED,
    "encrypted+compressed": BlobKind.ZSTD_ENCRYPTED,
}


@pytest.fixture(scope="module")
def expected(reference_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((reference_dir / "expected.json").read_text())
    return content


@pytest.fixture(scope="module")
def key(reference_dir: Path) -> CryptKey:
    return load_key_file(reference_dir / "keys" / "enc.key")


def finished(expected: dict[str, Any], base: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folder and expected values of every finished snapshot."""
    for namespace in expected["namespaces"]:
        path = "/".join(f"ns/{name}" for name in namespace["ns"].split("/") if name)
        for group in namespace["groups"]:
            for snapshot in group["snapshots"]:
                if not snapshot["in-progress"]:
                    yield base / path / group["group"] / snapshot["dir"], snapshot


def test_manifests(expected: dict[str, Any], reference_datastore: Path, key: CryptKey) -> None:
    for folder, snapshot in finished(expected, reference_datastore):
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


def test_blobs(expected: dict[str, Any], reference_datastore: Path, key: CryptKey) -> None:
    checked = 0
    for folder, snapshot in finished(expected, reference_datastore):
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


def test_chunks(expected: dict[str, Any], reference_datastore: Path, key: CryptKey) -> None:
    for digest_hex, about in expected["chunks"]["list"].items():
        blob = (reference_datastore / ".chunks" / digest_hex[:4] / digest_hex).read_bytes()
        kind = check_blob(blob)
        content = decode_blob(blob, key=key)
        assert kind is KIND_OF_WORD[about["type"]]
        assert about["size"] in (None, len(content))
        digest = key.digest(content) if kind.encrypted else hashlib.sha256(content).digest()
        assert digest.hex() == digest_hex


def test_manifests_that_an_encrypting_push_wrote(reference_dir: Path, key: CryptKey) -> None:
    paths = sorted((reference_dir / "push").glob("*.manifest.json"))
    assert len(paths) == 2
    for path in paths:
        text = path.read_bytes()
        manifest = Manifest.parse(text)
        assert manifest.verify_signature(key)
        assert manifest.key_fingerprint == key.fingerprint
        assert manifest.to_json() == text.rstrip(b"\n")


def test_each_kind_of_blob() -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text())["blobs"]
    key = load_key_file(GOLDEN / "keys" / "enc.key")
    assert {about["type"] for about in expected.values()} == KIND_OF_WORD.keys()
    for name, about in expected.items():
        blob = (GOLDEN / "blobs" / name).read_bytes()
        assert check_blob(blob) is KIND_OF_WORD[about["type"]]
        content = decode_blob(blob, key=key)
        assert (len(content), hashlib.sha256(content).hexdigest()) == (
            about["size"],
            about["sha256"],
        )


@pytest.mark.parametrize("name", ["enc", "scrypt", "pbkdf2"])
def test_key_files_of_the_golden_set(name: str) -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text())["keys"][name]
    password = None if expected["password"] is None else expected["password"].encode()
    key = load_key_file(GOLDEN / "keys" / f"{name}.key", lambda: password or b"")
    assert key.id_key == CryptKey(bytes.fromhex(expected["enc-key"])).id_key
    assert format_fingerprint(key.fingerprint) == expected["fingerprint"]
