"""Recorded sessions of a PBS 4.2.3, replayed: what needs no writer, manifests, and the end."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from .recordings import session_of
from .replays import FILE, HOST, Address, open_two_entry_writer, replays, steps
from .samples import (
    ENCRYPTED,
    blob,
    content,
    dynamic_csum,
    finish,
    manifest,
    send_blob,
    send_chunk,
)


@pytest.mark.parametrize(
    "name",
    [
        "blob-ok",
        "blob-errors",
        "blob-size-limit",
        "previous-no-previous",
        "session-root-listing",
        "speedtest",
        "unknown-path",
        "finish-no-files",
    ],
)
def test_in_a_fresh_session(address: Address, recordings: Path, name: str) -> None:
    with session_of(address) as replay:
        replay.run(steps(recordings, name))


replays("blob-ok", "blob-errors", "blob-size-limit", "previous-no-previous")


replays("session-root-listing", "speedtest", "unknown-path", "finish-no-files")


@replays("query-length-in-session")
def test_query_length(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        session = replay.session
        for step in steps(recordings, "query-length-in-session"):
            name = "x" * (step["request"]["query-bytes"] - len("archive-name="))
            reply = session.call("GET", "/previous", {"archive-name": name})
            assert reply.status == step["status"], step
        assert session.gone


@replays("finish-after-speedtest-only", "finish-manifest-missing-only-blobs")
def test_finish_with_too_little(address: Address, recordings: Path) -> None:
    with session_of(address, backup_id="speed") as replay:
        replay.session.call("POST", "/speedtest", None, b"x")
        replay.run(steps(recordings, "finish-after-speedtest-only"))
    with session_of(address, backup_id="blobs") as replay:
        send_blob(replay.session, "a.blob", blob(b"a"))
        replay.run(steps(recordings, "finish-manifest-missing-only-blobs"))


@replays("finish-manifest-missing")
def test_finish_without_manifest(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        open_two_entry_writer(replay)()
        replay.run(steps(recordings, "finish-manifest-missing"))


MANIFESTS = {
    "finish-manifest-crypt-mode-bad": manifest(HOST, [{**FILE, "crypt-mode": "bogus"}]),
    "finish-manifest-encrypted-blob": ENCRYPTED + bytes(136),
    "finish-manifest-lists-missing-file": manifest(HOST, [FILE], unprotected={}),
    "finish-manifest-missing-fields": blob(b'{"files":[]}'),
    "finish-manifest-no-files": manifest(HOST),
    "finish-manifest-not-json": blob(b"nonsense"),
    "finish-manifest-of-other-snapshot": manifest({**HOST, "backup-id": "other"}),
    "finish-manifest-without-unprotected": manifest(HOST),
    "finish-manifest-wrong-csum": manifest(HOST, [{**FILE, "filename": "a.blob"}]),
}


replays(*MANIFESTS)


def with_crc(raw: bytes) -> bytes:
    """The blob with a right CRC, also where its header is the long one."""
    head = 44 if raw[:8] == ENCRYPTED else 12
    return raw[:8] + zlib.crc32(raw[head:]).to_bytes(4, "little") + raw[12:]


@pytest.mark.parametrize("name", MANIFESTS)
def test_finish_with_a_manifest(address: Address, recordings: Path, name: str) -> None:
    with session_of(address) as replay:
        replay.bodies = {0: with_crc(MANIFESTS[name])}
        replay.run(steps(recordings, name))


@replays("finish-open-writer-then-ok")
def test_finish_with_an_open_writer(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        session = replay.session
        session.call("POST", "/dynamic_index", {"archive-name": "o.pxar.didx"})
        digest = send_chunk(session, "dynamic", 1, content("o", 500))
        session.put("dynamic", 1, [digest], [0])
        recorded = steps(recordings, "finish-open-writer-then-ok")
        replay.subst[recorded[1]["request"]["params"]["csum"]] = dynamic_csum([digest], [500])
        replay.bodies = {2: manifest(HOST)}
        replay.run(recorded)


@replays("after-finish")
def test_after_finish(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        finish(replay.session, HOST)
        replay.bodies = {4: manifest(HOST)}
        replay.run(steps(recordings, "after-finish"))
