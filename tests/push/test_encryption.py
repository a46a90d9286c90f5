"""Encrypting on the way (protocol/push.md, "With a key"): the values, and whole pushes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push import Datastore, Push, PushOptions, Result, Target
from pbs_push.errors import BlobFormatError, ChunkError, FormatError, StatusError
from pbs_push.formats import blob as blob_module
from pbs_push.formats.blob import (
    MAX_PROTOCOL_BLOB,
    BlobKind,
    decode_blob,
    encode_blob,
    encrypt_blob,
)
from pbs_push.formats.index import open_index
from pbs_push.formats.keys import CryptKey, load_key_file
from pbs_push.formats.manifest import Manifest, Protection
from pbs_push.names import CLIENT_LOG_NAME, MANIFEST_NAME, Group, Snapshot, format_fingerprint
from pbs_push.push.encryption import (
    encrypt_chunk,
    encrypt_log,
    is_copy_of,
    is_ours,
    source_signature,
)
from pbs_push.push.keyed_indexes import DigestMap
from pbs_push.push.outcome import Skip
from pbs_push.push.transfer import Transfer
from pbs_push.remote import target as target_module
from pbs_push.remote.session import BackupSession, Call

from .imitation import ImitationServer
from .world import MY_USER, SECRET, STORE, Store, World, content_of, whole

KEY = CryptKey(bytes(range(100, 132)))
OTHER = CryptKey(bytes(32))
IMAGE = "disk.img.fidx"


# -- values --


@given(st.binary(max_size=300), st.booleans())
def test_a_blob_is_encrypted_as_it_is(content: bytes, compress: bool) -> None:
    blob = encode_blob(content, compress=compress)
    encrypted = encrypt_blob(blob, KEY)
    assert decode_blob(encrypted, key=KEY) == content
    assert len(encrypted) == len(blob) + 32  # IV and tag: nothing is compressed anew
    with pytest.raises(BlobFormatError, match="encrypted already"):
        encrypt_blob(encrypted, KEY)


def test_a_chunk_is_checked_before_it_is_encrypted() -> None:
    content = b"some content" * 99
    digest = hashlib.sha256(content).digest()
    blob = encode_blob(content)
    keyed, encrypted = encrypt_chunk(blob, digest, len(content), KEY)
    assert keyed == KEY.digest(content)
    assert BlobKind(encrypted[:8]) is BlobKind.ZSTD_ENCRYPTED
    for wrong_digest, size, data in (
        (bytes(32), len(content), blob),
        (digest, len(content) + 1, blob),
        (digest, len(content), encrypted),
    ):
        with pytest.raises(BlobFormatError):
            encrypt_chunk(data, wrong_digest, size, KEY)


Row = st.binary(min_size=32, max_size=32)


@given(st.dictionaries(Row, Row, max_size=30), st.lists(Row, max_size=10))
def test_digest_map_is_a_dictionary(pairs: dict[bytes, bytes], others: list[bytes]) -> None:
    def rows(digests: list[bytes]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)

    asked = [*pairs, *others, *reversed(list(pairs))]
    made = DigestMap.of([(rows(list(pairs)), rows(list(pairs.values())))])
    keyed, found = made.look_up(rows(asked))
    assert [bytes(row) for row in keyed] == [pairs.get(name, bytes(32)) for name in asked]
    assert found.tolist() == [name in pairs for name in asked]


def test_digest_map_tells_digests_apart_that_end_in_zeros() -> None:
    short = np.zeros((2, 32), dtype=np.uint8)
    short[1, 30] = 1
    keyed, found = DigestMap.of([(short[:1], short[1:])]).look_up(short)
    assert found.tolist() == [True, False]
    assert keyed[0].tolist() == short[1].tolist()


THEIR_PUSHES = [
    ("golden", "host-pc", "host/pc"),
    ("golden", "vm-3", "vm/3"),
    ("real", "encpush-host-mixed-1", "host/mixed"),
    ("real", "encpush-vm-9", "vm/9"),
]
"""Manifests that an encrypting push has written which is not ours, and of which group."""


@pytest.mark.parametrize(
    ("reference_dir", "name", "group"), THEIR_PUSHES, indirect=["reference_dir"]
)
def test_the_source_signature_is_that_of_their_push(
    reference_dir: Path, reference_datastore: Path, name: str, group: str
) -> None:
    key = load_key_file(reference_dir / "keys" / "enc.key")
    pushed = Manifest.parse((reference_dir / "push" / f"{name}.manifest.json").read_bytes())
    folder = sorted(path for path in (reference_datastore / group).iterdir() if path.is_dir())[0]
    source = Manifest.decode((folder / MANIFEST_NAME).read_bytes())
    assert pushed.unprotected["sync-source-signature"] == source_signature(source, key)
    assert is_ours(pushed, key)
    assert not is_copy_of(pushed, source, key), "only a copy of our own proves what it is made of"
    assert not is_ours(replace(pushed, signature="00" * 32), key), "anybody can name a key"


# -- whole pushes --


def check_encrypted(world: World, group: str, number: int, key: CryptKey = KEY) -> Manifest:
    """Compare a snapshot that was encrypted on the way with its source; the copy's manifest."""
    here, there = world.source.folder(group, number), world.there.folder(group, number)
    source = Manifest.decode((here / MANIFEST_NAME).read_bytes())
    copy = Manifest.decode((there / MANIFEST_NAME).read_bytes())
    assert is_ours(copy, key)
    assert is_copy_of(copy, source, key)
    assert Protection.of(copy) is Protection.FULL
    assert [file.filename for file in copy.files] == [file.filename for file in source.files]
    for file in copy.files:
        path = there / file.filename
        if file.filename.endswith(".blob"):
            assert hashlib.sha256(path.read_bytes()).digest() == file.csum
        else:
            with open_index(path) as index:
                assert (index.csum(), index.size) == (file.csum, file.size)
        assert content_of(world.source.path, here, file.filename, None) == content_of(
            world.there.path, there, file.filename, key
        )
    return copy


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The digests of the chunks that are read at the source."""
    found: list[bytes] = []
    original = Datastore.read_chunk

    def read(self: Datastore, digest: bytes, *rest: int) -> bytes:
        found.append(digest)
        return original(self, digest, *rest)

    monkeypatch.setattr(Datastore, "read_chunk", read)
    return found


ARCHIVES = {
    IMAGE: (whole("a"), whole("b"), whole("a"), "tail"),
    "root.pxar.didx": ("c", whole("a"), "d"),
}
DISTINCT = 5


def test_unencrypted_and_signed_snapshots_are_encrypted(world: World, reads: list[bytes]) -> None:
    world.source.add(
        "vm/1", 1, archives=ARCHIVES, client_log=b"log\n", unprotected={"notes": "n", "new": 1}
    )
    world.source.sign_only(world.source.add("host/signed", 1))

    pushed = world.push(encryption_key=KEY)
    assert pushed.report.exit_status == 0
    assert pushed.report.counts == {Result.PUSHED: 2}
    copy = check_encrypted(world, "vm/1", 1)
    assert (copy.notes, copy.unprotected["new"]) == ("n", 1)
    check_encrypted(world, "host/signed", 1)
    log = (world.there.folder("vm/1", 1) / CLIENT_LOG_NAME).read_bytes()
    assert decode_blob(log, key=KEY) == b"log\n"
    assert len(reads) == len(set(reads)) + 1, "each chunk once a snapshot; the two share one"
    stats = pushed.report.stats
    assert (stats.sent_chunks, stats.fallbacks) == (len(reads), 0)
    assert pushed.counted.chunks == len(reads)
    assert stats.reused_entries == 2


def test_nothing_unencrypted_reaches_the_target(world: World) -> None:
    world.source.add("vm/1", 1, archives=ARCHIVES, client_log=b"log\n")
    world.push(encryption_key=KEY)
    blobs = [path for path in world.there.path.rglob("*.blob") if path.name != MANIFEST_NAME]
    files = [*world.there.chunk_files(), *blobs]
    assert len(files) == DISTINCT + 2
    assert all(BlobKind(path.read_bytes()[:8]).encrypted for path in files)


def test_cost_follows_change(world: World, reads: list[bytes]) -> None:
    pieces = [whole(f"piece {i % 5}") for i in range(50)]
    world.source.add("vm/1", 1, archives={IMAGE: pieces, "root.pxar.didx": ("c", "d")})
    world.push(encryption_key=KEY)
    assert len(reads) == 7
    changed = [*pieces]
    changed[3] = whole("changed")
    changed[10], changed[11] = changed[11], changed[10]
    world.source.add("vm/1", 2, 3, archives={IMAGE: changed, "root.pxar.didx": ("c", "e")})
    reads.clear()
    pushed = world.push(encryption_key=KEY)
    assert len(reads) == 2, "what the previous snapshot has is neither read nor sent"
    assert pushed.counted.requests["POST fixed_chunk"] == 1
    assert pushed.counted.requests["POST dynamic_chunk"] == 1
    assert pushed.counted.requests["PUT fixed_index"] == 1, "a copy, and three changed entries"
    assert pushed.report.stats.fallbacks == 0
    check_encrypted(world, "vm/1", 2)
    check_encrypted(world, "vm/1", 3)


def test_chunks_of_another_key_or_of_no_key_are_not_reused(world: World) -> None:
    for number, key in enumerate((None, KEY, OTHER), start=1):
        world.source.add("vm/1", number, archives=ARCHIVES)
        pushed = world.push(encryption_key=key)
        assert pushed.report.stats.sent_chunks == DISTINCT
        assert pushed.report.exit_status == 0
    check_encrypted(world, "vm/1", 2)
    check_encrypted(world, "vm/1", 3, OTHER)


def test_a_named_key_without_its_signature_is_not_trusted(world: World) -> None:
    world.source.add("vm/1", 1, archives=ARCHIVES)
    world.push(encryption_key=KEY)
    folder = world.there.folder("vm/1", 1)
    manifest = world.there.manifest(folder)
    manifest["signature"] = "00" * 32
    world.there.write_manifest(folder, manifest)
    world.source.add("vm/1", 2, archives=ARCHIVES)
    assert world.push(encryption_key=KEY).report.stats.sent_chunks == DISTINCT
    check_encrypted(world, "vm/1", 2)


def give(world: World, ns: str, number: int, to_ns: str, to: int) -> None:
    """A hostile target passes one snapshot off as another: all its files but what is unsigned."""
    one = world.there.folder("vm/1", number, ns=ns)
    other = world.there.folder("vm/1", to, ns=to_ns)
    forged = world.there.manifest(one)
    forged["unprotected"] = world.there.manifest(other)["unprotected"]
    shutil.copy(one / IMAGE, other / IMAGE)
    world.there.write_manifest(other, forged)


@pytest.mark.parametrize("ns", ["", "x"], ids=["an older one", "one of another namespace"])
def test_a_snapshot_of_ours_cannot_pass_for_another(
    world: World, reads: list[bytes], ns: str
) -> None:
    def image(middle: str) -> dict[str, Any]:
        return {IMAGE: (whole("a"), whole(middle), whole("c"))}

    first = 2 if ns else 1
    world.source.add("vm/1", first, ns=ns, archives=image("first"))
    world.source.add("vm/1", 2, archives=image("second"))
    world.push(encryption_key=KEY)
    give(world, ns, first, "", 2)
    world.source.add("vm/1", 3, archives=image("second"))
    reads.clear()
    assert world.push(encryption_key=KEY).report.exit_status == 0
    assert len(reads) == 3, "which chunks are which is not taken from the target"
    check_encrypted(world, "vm/1", 3)


def test_the_source_may_have_lost_the_previous_snapshot(world: World, reads: list[bytes]) -> None:
    folder = world.source.add("vm/1", 1, archives=ARCHIVES)
    world.push(encryption_key=KEY)
    shutil.rmtree(folder)
    world.source.add("vm/1", 2, archives=ARCHIVES)
    reads.clear()
    pushed = world.push(encryption_key=KEY)
    assert (len(reads), pushed.report.stats.sent_chunks) == (DISTINCT, 0), (
        "read, known, and not sent"
    )
    check_encrypted(world, "vm/1", 2)


def test_encrypted_snapshots_go_as_they_are_and_partly_encrypted_ones_do_not(
    world: World,
) -> None:
    whole_one = world.source.add("vm/1", 1, encrypted=True)
    partly = world.source.add("vm/2", 1, encrypted=True)
    manifest = world.source.manifest(partly)
    manifest["files"][-1]["crypt-mode"] = "none"
    world.source.write_manifest(partly, manifest)
    world.source.add("vm/2", 2)
    pushed = world.push(encryption_key=KEY)
    assert pushed.outcomes == {
        "vm/1/2026-05-29T20:26:40Z": "pushed",
        "vm/2/2026-05-29T20:26:40Z": "skipped partly_encrypted",
        "vm/2/2026-05-30T20:26:40Z": "pushed",
    }
    assert pushed.report.exit_status == 3
    there = world.there.folder("vm/1", 1)
    for path in whole_one.iterdir():
        if path.name != MANIFEST_NAME:
            start = 0 if path.suffix == ".blob" else 4096  # an index has a uuid of its own
            assert path.read_bytes()[start:] == (there / path.name).read_bytes()[start:]
    check_encrypted(world, "vm/2", 2)
    assert world.push().report.stats.sent_chunks == 0


def partly(store: Store, group: str, number: int) -> Path:
    """A snapshot with one file that is not encrypted."""
    folder = store.add(group, number, encrypted=True)
    manifest = store.manifest(folder)
    manifest["files"][-1]["crypt-mode"] = "none"
    store.write_manifest(folder, manifest)
    return folder


def test_a_partly_encrypted_snapshot_is_known_before_a_push(world: World) -> None:
    """A dry run tells it, and nothing is removed for the sake of a snapshot that is not pushed."""
    partly(world.source, "vm/1", 2)
    world.there.add("vm/1", 0)
    dead = world.there.folder("vm/1", 2)
    dead.mkdir()
    options = {"encryption_key": KEY, "remove_vanished": True}
    plan, _ = world.plan(**options)
    ((outcome,),) = ([*plan.namespaces[0].outcomes()],)
    assert (plan.to_push, plan.removals, outcome.skip) == (0, 0, Skip.PARTLY_ENCRYPTED)
    pushed = world.push(**options)
    assert pushed.outcomes == {"vm/1/2026-05-30T20:26:40Z": "skipped partly_encrypted"}
    assert pushed.report.exit_status == 3, "what vanished is held back"
    assert dead.is_dir()
    assert world.there.times("vm/1") == [0, 2]


def test_what_became_partly_encrypted_since_the_plan_is_not_pushed(world: World) -> None:
    folder = world.source.add("vm/1", 1, encrypted=True)
    plan, _ = world.plan(encryption_key=KEY)
    manifest = world.source.manifest(folder)
    manifest["files"][-1]["crypt-mode"] = "none"
    world.source.write_manifest(folder, manifest)
    pushed = world.push(plan=plan, encryption_key=KEY)
    assert pushed.outcomes == {"vm/1/2026-05-29T20:26:40Z": "skipped partly_encrypted"}


LATE_LOGS: dict[str, tuple[str, CryptKey | None, CryptKey | None, str]] = {
    "plain": ("plain", None, None, "as it is"),
    "encrypted on the way": ("plain", KEY, KEY, "encrypted"),
    "encrypted on the way, then without the key": ("plain", KEY, None, "not"),
    "encrypted on the way with another key": ("plain", KEY, OTHER, "not"),
    "pushed plain before there was a key": ("plain", None, KEY, "not"),
    "signed with this key, and pushed plain before": ("signed", None, KEY, "not"),
    "signed with this key, encrypted, then without": ("signed", KEY, None, "not"),
    "partly encrypted": ("partly", None, None, "as it is"),
    "partly encrypted, then a key": ("partly", None, KEY, "not"),
    "encrypted at the source": ("full", KEY, KEY, "as it is"),
    "encrypted at the source, another key": ("full", None, OTHER, "as it is"),
}


@pytest.mark.parametrize("case", LATE_LOGS)
def test_a_late_log_fits_the_copy_that_it_comes_to(world: World, case: str) -> None:
    kind, first, then, expected = LATE_LOGS[case]
    if kind == "partly":
        folder = partly(world.source, "vm/1", 1)
    else:
        folder = world.source.add("vm/1", 1, encrypted=kind == "full")
    if kind == "signed":
        signed = Manifest.decode((folder / MANIFEST_NAME).read_bytes())
        signed = replace(signed, signature=signed.sign(KEY))
        world.source.write_manifest(folder, json.loads(signed.to_json()))
        world.source.rewrite_manifest(
            folder, **{"key-fingerprint": format_fingerprint(KEY.fingerprint)}
        )
    world.push(encryption_key=first)
    late = encode_blob(b"late")
    (folder / CLIENT_LOG_NAME).write_bytes(late)

    plan, _ = world.plan(encryption_key=then)
    pushed = world.push(encryption_key=then)

    added = expected != "not"
    assert [group.log_for is not None for group in plan.namespaces[0].groups] == [added]
    assert pushed.report.logs_added == added
    assert any("client log" in note for note in pushed.notes)
    assert pushed.report.exit_status == 0
    log = world.there.folder("vm/1", 1) / CLIENT_LOG_NAME
    assert log.exists() == added
    if expected == "encrypted":
        assert decode_blob(log.read_bytes(), key=KEY) == b"late"
    elif added:
        assert log.read_bytes() == late


def test_logs_that_fit_no_copy_cost_one_list(world: World) -> None:
    folders = [world.source.add(f"vm/{number}", 1) for number in range(5)]
    world.push(encryption_key=KEY)
    for folder in folders:
        (folder / CLIENT_LOG_NAME).write_bytes(encode_blob(b"late"))
    pushed = world.push(encryption_key=OTHER)
    assert pushed.told("is not added") == 5
    assert pushed.counted.requests["GET snapshots"] == 1


def test_a_copy_that_changed_since_the_plan_gets_no_log(world: World) -> None:
    folder = world.source.add("vm/1", 1)
    world.push(encryption_key=KEY)
    (folder / CLIENT_LOG_NAME).write_bytes(encode_blob(b"late"))
    plan, _ = world.plan(encryption_key=KEY)
    named = {"key-fingerprint": format_fingerprint(OTHER.fingerprint)}
    world.there.rewrite_manifest(world.there.folder("vm/1", 1), **named)
    pushed = world.push(plan=plan, encryption_key=KEY)
    assert pushed.report.logs_added == 0
    assert pushed.told("its client log is not added: ") == 1


def test_a_log_that_cannot_be_encrypted_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest(Snapshot(Group("vm", "1"), 1), ())
    log = encode_blob(bytes(1000), compress=False)
    monkeypatch.setattr(blob_module, "MAX_BLOB_FILE", len(log) + 31)
    for wrong in (log, log[:-1]):
        with pytest.raises(FormatError, match=rf"{CLIENT_LOG_NAME}: "):
            encrypt_log(wrong, manifest, KEY)


def test_a_blob_that_grows_too_long_fails_before_the_upgrade(world: World) -> None:
    content = os.urandom(MAX_PROTOCOL_BLOB - 12 - 31)
    world.source.add("vm/1", 1, blobs={"large.blob": content})
    pushed = world.push(encryption_key=KEY)
    (outcome,) = pushed.report.outcomes
    assert "large.blob: encrypted, the blob is too long" in str(outcome.error)
    assert "upgrade" not in pushed.counted.requests
    assert world.push().report.exit_status == 0, "as it is it fits"


@pytest.mark.parametrize(("archives", "sessions"), [([IMAGE], 1), ([*ARCHIVES], 2)])
def test_a_refusal_is_tried_again_only_after_a_shortcut(
    world: World, monkeypatch: pytest.MonkeyPatch, archives: list[str], sessions: int
) -> None:
    """Of a first snapshot, that is to share what is known between its writers."""
    refused = Call("POST fixed_close")

    def refuse() -> bytes:
        raise StatusError(refused.request, 400, "no")

    monkeypatch.setattr(refused, "body", refuse)
    monkeypatch.setattr(Transfer, "_close", lambda self: self._checked(refused))
    world.source.add("vm/1", 1, archives={name: ARCHIVES[name] for name in archives})
    pushed = world.push(encryption_key=KEY)
    (outcome,) = pushed.report.outcomes
    assert "POST fixed_close: no" in str(outcome.error)
    assert pushed.counted.sessions == sessions


def test_a_late_log_is_encrypted_too(world: World) -> None:
    folder = world.source.add("vm/1", 1)
    world.push(encryption_key=KEY)
    (folder / CLIENT_LOG_NAME).write_bytes(encode_blob(b"late"))
    assert world.push(encryption_key=KEY).report.logs_added == 1
    log = (world.there.folder("vm/1", 1) / CLIENT_LOG_NAME).read_bytes()
    assert decode_blob(log, key=KEY) == b"late"


@pytest.mark.parametrize("damage", ["missing", "corrupt", "another's content"])
def test_a_damaged_chunk_fails_the_snapshot(world: World, damage: str) -> None:
    world.source.add("vm/1", 1, archives=ARCHIVES)
    path = world.source.chunk_of("c")
    if damage == "missing":
        path.unlink()
    elif damage == "corrupt":
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    else:
        path.write_bytes(encode_blob(b"other"))
    pushed = world.push(encryption_key=KEY)
    (outcome,) = pushed.report.outcomes
    assert isinstance(outcome.error, ChunkError)
    assert path.name in str(outcome.error)
    assert world.there.snapshots() == set()


def test_a_refused_copy_falls_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.source.add("vm/1", 1, archives=ARCHIVES)
    world.push(encryption_key=KEY)
    world.source.add("vm/1", 2, archives=ARCHIVES)
    create = BackupSession.create_fixed

    def wrong(self: BackupSession, name: str, size: int, csum: bytes | None = None) -> Call:
        return create(self, name, size, None if csum is None else bytes(32))

    monkeypatch.setattr(BackupSession, "create_fixed", wrong)
    pushed = world.push(encryption_key=KEY)
    assert pushed.report.exit_status == 0
    assert pushed.report.stats.fallbacks == 1
    check_encrypted(world, "vm/1", 2)


def test_a_server_that_imitates_pbs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.source.add("vm/1", 1, 2, archives=ARCHIVES)
    server = ImitationServer({STORE: world.there.path}, user=MY_USER, secret=SECRET, quiet=False)
    monkeypatch.setattr(target_module, "sleep", lambda _seconds: server.paused.release())
    with (
        server,
        Target(server.repository(STORE, MY_USER), SECRET, server.fingerprint) as target,
    ):
        report = Push(world.datastore(), target, PushOptions(encryption_key=KEY, max_depth=0)).run()
    assert report.counts == {Result.PUSHED: 2}
    check_encrypted(world, "vm/1", 1)
    check_encrypted(world, "vm/1", 2)


@pytest.mark.parametrize(
    ("reference_dir", "name", "group"), THEIR_PUSHES, indirect=["reference_dir"]
)
def test_what_their_push_made_of_the_same_snapshot(
    reference_dir: Path, reference_datastore: Path, tmp_path: Path, name: str, group: str
) -> None:
    key = load_key_file(reference_dir / "keys" / "enc.key")
    theirs = Manifest.parse((reference_dir / "push" / f"{name}.manifest.json").read_bytes())
    with World(tmp_path, source=reference_datastore) as world:
        pushed = world.push(encryption_key=key, group_filters=[f"group:{group}"], max_depth=0)
        assert not pushed.errors
        folder = sorted((world.there.path / group).glob("*Z"))[0]
        ours = Manifest.decode((folder / MANIFEST_NAME).read_bytes())
    indexes = [file for file in theirs.files if not file.filename.endswith(".blob")]
    assert indexes == [file for file in ours.files if not file.filename.endswith(".blob")]
    facts = [(file.filename, file.size, file.crypt_mode) for file in theirs.files]
    assert facts == [(file.filename, file.size, file.crypt_mode) for file in ours.files]
    kept = {**theirs.unprotected, **ours.unprotected}
    kept.pop("verify_state", None)  # the source's, which a push of ours does not claim
    assert kept == ours.unprotected
