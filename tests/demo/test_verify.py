"""The verifier: silent about a faithful copy, and loud about every kind of difference."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pbs_push.demo.sample import sample_enc_key, write_sample
from pbs_push.demo.verify import VerifyReport, verify_target
from pbs_push.formats.blob import decode_blob, encode_blob
from pbs_push.formats.index import open_index
from pbs_push.formats.keys import CryptKey
from pbs_push.formats.manifest import Manifest

VM = "vm/100/2026-05-28T20:30:03Z"
SECRET = "host/secret/2026-05-28T20:42:19Z"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("source") / "s", total_bytes=1 << 20).path


@pytest.fixture(scope="module")
def faithful(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a push would make of the source."""
    copy = tmp_path_factory.mktemp("target") / "t"
    shutil.copytree(source, copy)
    for path in copy.glob("**/index.json.blob"):
        path.write_bytes(Manifest.decode(path.read_bytes()).without_source_state().encode())
    return copy


@pytest.fixture
def target(faithful: Path, tmp_path: Path) -> Path:
    """A faithful copy that the test may spoil; chunks are links to the same files."""
    copy = tmp_path / "t"
    shutil.copytree(faithful, copy, copy_function=_link)
    return copy


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def overwrite(path: Path, data: bytes) -> None:
    """Write a file anew: the old one may be linked from elsewhere."""
    path.unlink()
    path.write_bytes(data)


def test_a_faithful_copy(source: Path, target: Path) -> None:
    report = verify_target(source, target, enc_key=sample_enc_key())
    assert report.ok
    assert report.problems == ()
    chunks = [path.stat().st_size for path in (source / ".chunks").glob("*/*")]
    assert (report.chunks, report.encoded_bytes) == (len(chunks), sum(chunks))
    assert report.unverifiable_chunks == report.extra_snapshots == 0
    assert (report.snapshots, report.indexes) == (26, 52)
    assert report.plain_bytes > report.encoded_bytes


def test_without_the_key_encrypted_chunks_are_counted(source: Path, target: Path) -> None:
    report = verify_target(source, target)
    assert report.ok
    assert report.unverifiable_chunks == 7


def test_namespaces_can_be_mapped(source: Path, target: Path) -> None:
    (target / "ns" / "prod").rename(target / "ns" / "moved")
    report = verify_target(source, target, source_ns="prod", target_ns="moved")
    assert report.ok
    assert report.snapshots == 8
    report = verify_target(source, target)
    assert len(report.problems) == report.extra_snapshots == 8
    assert "ns/prod/vm/100/2026-05-28T20:30:03Z: not at the target" in report.problems
    assert verify_target(source, target, all_snapshots=False).ok


def one_problem(report: VerifyReport, *words: str) -> None:
    assert not report.ok
    assert any(all(word in problem for word in words) for problem in report.problems), (
        report.problems
    )


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    overwrite(path, bytes(data))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda base: flip(base / VM / "drive-scsi0.img.fidx", -1), ["the indexes differ"]),
        (lambda base: flip(base / VM / "drive-scsi0.img.fidx", 40), ["csum in the index's header"]),
        (lambda base: flip(base / VM / "drive-scsi0.img.fidx", 0), ["magic"]),
        (lambda base: (base / VM / "drive-scsi0.img.fidx").unlink(), ["No such file"]),
        (lambda base: flip(base / VM / "fw.conf.blob", -1), ["fw.conf.blob", "the blobs differ"]),
        (lambda base: (base / VM / "fw.conf.blob").unlink(), ["fw.conf.blob", "No such file"]),
        (lambda base: (base / VM / "x.tmp_fidx").touch(), ["x.tmp_fidx that nothing lists"]),
        (lambda base: (base / VM / "index.json.blob").unlink(), [VM, "not at the target"]),
        (lambda base: (base / "vm/100/owner").unlink(), [VM, "not at the target"]),
        (lambda base: overwrite(base / VM / "index.json.blob", b"junk"), [VM, "blob of 4"]),
        (lambda base: flip(base / SECRET / "client.log.blob", -1), ["client logs differ"]),
        (lambda base: (base / SECRET / "client.log.blob").unlink(), ["client.log.blob"]),
    ],
)
def test_spoiled_files(
    source: Path, target: Path, spoil: Callable[[Path], object], words: list[str]
) -> None:
    spoil(target)
    one_problem(verify_target(source, target), *words)


def chunk_of(base: Path, place: str) -> Path:
    with open_index(base / place) as index:
        digest_hex = bytes(index.digests[0]).hex()
    return base / ".chunks" / digest_hex[:4] / digest_hex


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), ["No such file"]),
        (lambda path: overwrite(path, b""), ["blob of 0 bytes"]),
        (lambda path: flip(path, -1), ["CRC-32"]),
        (lambda path: overwrite(path, encode_blob(b"other")), ["its content has digest"]),
    ],
)
def test_spoiled_chunks(
    source: Path, target: Path, spoil: Callable[[Path], object], words: list[str]
) -> None:
    path = chunk_of(target, f"{VM}/drive-scsi0.img.fidx")
    spoil(path)
    one_problem(verify_target(source, target), path.name, *words)


def test_an_encrypted_chunk_that_only_the_key_shows_to_be_wrong(source: Path, target: Path) -> None:
    path = chunk_of(target, f"{SECRET}/root.pxar.didx")
    overwrite(path, encode_blob(b"other " * 999, key=CryptKey(sample_enc_key())))
    assert verify_target(source, target).ok
    one_problem(verify_target(source, target, enc_key=sample_enc_key()), path.name, "digest")


def test_crypt_mode_and_chunks_must_agree(source: Path, target: Path) -> None:
    path = chunk_of(target, f"{SECRET}/root.pxar.didx")
    overwrite(path, encode_blob(b"not encrypted"))
    one_problem(verify_target(source, target), path.name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda top: top.update({"backup-id": "7"}), "differ in backup-id"),
        (lambda top: top.update({"signature": "ab"}), "signatures differ"),
        (lambda top: top["files"].pop(), "file lists differ"),
        (lambda top: top["files"].reverse(), "file lists differ"),
        (lambda top: top["files"][0].update({"crypt-mode": "encrypt"}), "file lists differ"),
        (lambda top: top["unprotected"].pop("notes"), "'notes' of the manifest did not arrive"),
        (
            lambda top: top["unprotected"].update(verify_state={"state": "ok"}),
            "claims a verification",
        ),
    ],
)
def test_spoiled_manifests(
    source: Path, target: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    path = target / "vm/100/2026-05-30T20:30:03Z/index.json.blob"
    fields = json.loads(decode_blob(path.read_bytes()))
    change(fields)
    overwrite(path, encode_blob(json.dumps(fields).encode()))
    one_problem(verify_target(source, target), words)


def test_statistics_of_the_target_are_its_own(source: Path, target: Path) -> None:
    path = target / "vm/100/2026-05-30T20:30:03Z/index.json.blob"
    fields = json.loads(decode_blob(path.read_bytes()))
    fields["unprotected"]["chunk_upload_stats"] = {"count": 99}
    overwrite(path, encode_blob(json.dumps(fields).encode()))
    assert verify_target(source, target).ok


def test_it_shares_no_code_with_the_push() -> None:
    folder = Path(__file__).parents[2] / "src" / "pbs_push" / "demo"
    for name in ("verify.py", "disk_formats.py"):
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        imported = [line for line in lines if line.startswith(("from pbs_push", "import pbs_push"))]
        assert all("pbs_push.demo.disk_formats" in line for line in imported)


def test_a_datastore_of_other_making_verifies_against_itself(
    reference_datastore: Path, reference_dir: Path
) -> None:
    report = verify_target(reference_datastore, reference_datastore)
    claims = [problem for problem in report.problems if "never made" in problem]
    assert len(claims) == len(report.problems) > 0
    expected = json.loads((reference_dir / "expected.json").read_text())
    assert report.chunks == expected["chunks"]["count"] > 15
